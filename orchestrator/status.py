"""``fatefront status``: where a sweep stands, read from its ledger; works while it runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.fronts.aggregate import aggregate
from orchestrator.fronts.constraints import is_feasible
from orchestrator.fronts.front import sweep_front
from orchestrator.fronts.headline import why_empty
from orchestrator.fronts.objectives import signs
from orchestrator.ledger.environments import difference_line
from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import is_running, load_records, read_events
from search_spaces.sweep_spec import CONFIRMATION, Search, SweepSpec
from trainables.errors import UserError


def sweep_status(folder: Path) -> dict[str, Any]:
    """Counts by state, the best configuration of each objective so far, and every failure in one
    line.

    Raises:
        UserError: there is no sweep in this folder.
    """
    manifest = read_manifest(folder)
    records = load_records(folder)
    alive = is_running(folder)
    events = list(read_events(folder))
    states = Counter(_state(record, alive) for record in records.values())
    try:
        spec = read_sweep(folder)
    except (UserError, OSError) as error:
        raise UserError(f"{folder}/sweep.yaml cannot be read: {error}") from None
    return {
        "sweep": manifest["sweep"],
        "folder": str(folder),
        "driver_running": alive,
        "num_done": states["done"],
        "num_cached": sum(bool(r.get("execution", {}).get("cached")) for r in records.values()),
        "num_running": states["running"],
        "num_interrupted": states["interrupted"],
        "num_failed": states["failed"],
        "num_chains_stopped": sum(event["event"] == "stopped" for event in events),
        "num_racing_rounds": max((e["round"] for e in events if e["event"] == "raced"), default=0),
        "num_confirmed": len({e["configuration"] for e in events if e["event"] == "confirmed"}),
        "best": _best(records, spec.search),
        "empty_because": _empty_because(records, spec),
        "errors": [
            {
                "key": key,
                "trial": f"{record['trial']['label']} (seed {record['trial']['seed']})",
                "type": record["error"]["type"],
                "reason": record["error"]["reason"],
            }
            for key, record in records.items()
            if record["status"] == "failed"
        ],
        "warnings": manifest["data"]["warnings"],
        "versions": difference_line(events, records),
    }


def _state(record: dict[str, Any], alive: bool) -> str:
    if record["status"] == "running" and not alive:
        return "interrupted"
    return str(record["status"])


def _empty_because(records: dict[str, dict[str, Any]], spec: SweepSpec) -> str | None:
    """Why nothing is on the front; None: something is, or nothing is done yet."""
    if not any(record["status"] == "done" for record in records.values()):
        return None
    front = sweep_front(records, spec)
    return None if front.members else why_empty(front)


def _best(
    records: dict[str, dict[str, Any]], search: Search
) -> dict[str, dict[str, Any] | None]:
    """Objective -> the configuration with the best value; None where it has none so far.

    Of the seeds that select, not of those that confirm; what may not be on the front is left out.
    """
    best: dict[str, dict[str, Any] | None] = {}
    selecting = {k: r for k, r in records.items() if r["trial"]["seed"] < CONFIRMATION}
    candidates = [
        point
        for point in aggregate(selecting).values()
        if is_feasible(point.figures["f1_loss"], search.max_f1_loss)
    ]
    for name in search.resolved_objectives:
        defined = [a for a in candidates if a.figures.get(name) is not None]
        sign = float(signs([name])[0])
        top = max(defined, key=lambda a: sign * (a.figures[name] or 0.0)) if defined else None
        best[name] = None
        if top is not None:
            best[name] = {
                "configuration": top.trial["label"],
                "value": top.figures[name],
                "num_seeds": len(top.seeds),
            }
    return best


def render_status(document: dict[str, Any]) -> Group:
    """For people."""
    table = Table(title=f"{document['sweep']} in {document['folder']}")
    for state in ("done", "cached", "running", "interrupted", "failed"):
        table.add_column(state, justify="right")
    table.add_row(
        *(
            str(document[f"num_{s}"])
            for s in ("done", "cached", "running", "interrupted", "failed")
        )
    )
    lines = [_best_line(name, found) for name, found in document["best"].items()]
    for name, told in (
        ("num_chains_stopped", "chains stopped"), ("num_racing_rounds", "rounds of racing"),
        ("num_confirmed", "configurations given fresh seeds"),
    ):  # fmt: skip
        if document[name]:
            lines.append(f"{told}: {document[name]}")
    if document["empty_because"]:
        lines.append(f"nothing on the front: {document['empty_because']}")
    lines += [f"failed: {e['trial']}: {e['type']}: {e['reason']}" for e in document["errors"]]
    lines += [f"warning: {warning}" for warning in document["warnings"]]
    if document["versions"]:
        lines.append(f"note: {document['versions']}")
    return Group(table, Text("\n".join(lines), no_wrap=True, overflow="ignore"))


def _best_line(name: str, found: dict[str, Any] | None) -> str:
    if found is None:
        return f"best {name}: none so far, or undefined"
    seeds = "1 seed" if found["num_seeds"] == 1 else f"{found['num_seeds']} seeds"
    return f"best {name}: {found['value']:+.4f}  {found['configuration']} ({seeds}, validation)"
