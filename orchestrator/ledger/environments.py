"""Which versions and processors a sweep's starts and results come from, read from its ledger, and
in what they differ.

Results are promised to be the same for the same versions on one family of processors; where they
are of several the manifest keeps all, and `run`, `status` and the report say so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import Ledger
from trainables.environment import PACKAGES, environment_id, package_versions, processor
from trainables.storage import write_whole
from trainables.store import Store

DRIVER_PACKAGES = (*PACKAGES, "optuna", "ray", "mlflow", "pandas", "pyarrow", "pydantic")
"""Those that compute nodes, propose them, hand them out, and read tables."""
MOST_SHOWN = 40

Versions = dict[str, str]
Event = Mapping[str, Any]


def driver_environment(device: str) -> Versions:
    """Of a start: what this process has; the GPU is known to those that compute on it."""
    return package_versions(DRIVER_PACKAGES) | {"cpu": processor(), "device": device}


class Environments:
    """Puts versions into the ledger, each once, before the first event that names them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._known = ledger, set(known(ledger.events))

    def note(self, versions: Mapping[str, str]) -> str:
        """Their id, which from now on stands in the ledger."""
        name = environment_id(versions)
        if name not in self._known:
            self._ledger.append("environment", id=name, versions=dict(versions))
            self._known.add(name)
        return name

    def note_node(self, store: Store, key: str, execution: Mapping[str, Any]) -> None:
        """Those of a node that was computed, by a worker or by another sweep."""
        if execution.get("environment") in (None, *self._known):
            return
        versions = (store.node(key) or {}).get("environment")
        if isinstance(versions, dict):
            self.note(versions)


def known(events: Iterable[Event]) -> dict[str, Versions]:
    """Id -> versions."""
    return {e["id"]: dict(e["versions"]) for e in events if e["event"] == "environment"}


def starts(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The first start and each later one with other versions than the one before it: ``time``,
    ``versions`` and what ``differs`` (name -> before, now). Starts of an older fatefront, of which
    nothing is known, are left out.
    """
    by_id = known(events)
    found: list[dict[str, Any]] = []
    for event in events:
        noted = str(event.get("environment", "")) if event["event"] == "started" else ""
        versions = by_id.get(noted)
        if versions is None:
            continue
        differs = differences(found[-1]["versions"], versions) if found else {}
        if differs or not found:
            time = event.get("time", 0.0)
            found.append({"time": time, "versions": versions, "differs": differs})
    return found


def of_nodes(events: Sequence[Event], records: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the results were computed with, the most frequent first: ``versions``, ``num_nodes``,
    and ``num_cached`` of them, which the store had.
    """
    by_id = known(events)
    nodes: Counter[str] = Counter()
    cached: Counter[str] = Counter()
    for record in records.values():
        if record["status"] != "done":
            continue
        execution = record.get("execution") or {}
        versions = by_id.get(execution.get("environment", ""))
        if versions is None:  # of an older fatefront
            versions = {"torch": str(execution["torch"])} if "torch" in execution else {}
        text = json.dumps(versions)
        nodes[text] += 1
        cached[text] += bool(execution.get("cached"))
    return [
        {"versions": json.loads(text), "num_nodes": num, "num_cached": cached[text]}
        for text, num in nodes.most_common()
    ]


def differences(before: Versions, now: Versions) -> dict[str, list[str]]:
    """Name -> both, for names that both have; what only one knows is no difference."""
    both = [name for name in before if name in now]
    return {name: [before[name], now[name]] for name in both if before[name] != now[name]}


def difference_line(events: Sequence[Event], records: Mapping[str, Any]) -> str | None:
    """In one line in what the results, and the starts, of a sweep differ; None: in nothing."""
    nodes = of_nodes(events, records)
    among_nodes = _differing([entry["versions"] for entry in nodes])
    begun = [entry["versions"] for entry in starts(events)]
    among_starts = [name for name in _differing(begun) if name not in among_nodes]
    told = [_of_nodes_line(name, nodes) for name in among_nodes]
    told += [f"{name} {_in_turn(name, begun)}" for name in among_starts]
    if not told:
        return None
    return f"versions differ (manifest.json): {'; '.join(told)}"


def _differing(all_versions: Sequence[Versions]) -> list[str]:
    names = dict.fromkeys(name for versions in all_versions for name in versions)
    return [n for n in names if len({v[n] for v in all_versions if n in v}) > 1]


def _of_nodes_line(name: str, nodes: Sequence[Mapping[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    cached: Counter[str] = Counter()
    for entry in nodes:
        value = entry["versions"].get(name, "unknown")
        counts[value] += entry["num_nodes"]
        cached[value] += entry["num_cached"]
    parts = [
        f"{_short(value)} ({num} {'result' if num == 1 else 'results'}"
        + (f", {cached[value]} from the store)" if cached[value] else ")")
        for value, num in counts.most_common()
    ]
    return f"{name} {', '.join(parts)}"


def _in_turn(name: str, begun: Sequence[Versions]) -> str:
    values = [versions[name] for versions in begun if name in versions]
    changes = [v for i, v in enumerate(values) if i == 0 or v != values[i - 1]]
    return ", then ".join(map(_short, changes))


def _short(value: str) -> str:
    return value if len(value) <= MOST_SHOWN else f"{value[: MOST_SHOWN - 3]}..."


def update_manifest(folder: Path, events: Sequence[Event], records: Mapping[str, Any]) -> None:
    """Put the history of starts and the versions of the results into ``manifest.json``."""
    document = read_manifest(folder)
    document |= {"starts": starts(events), "results": of_nodes(events, records)}
    write_whole(folder / "manifest.json", json.dumps(document, indent=1).encode())
