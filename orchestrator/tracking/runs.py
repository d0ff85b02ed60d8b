"""What MLflow is told of a node and of a sweep: names, parameters, metrics and tags. Pure; no
MLflow here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.tracking.names import trial_name
from orchestrator.tracking.view import LEVEL

SWEEP = "sweep"
"""Stands for the parent run where a node's key stands for a child run."""

CONFIGURATION, CONFIGURATION_KEY = "configuration", "fatefront.configuration_key"
"""The kind of a run of all seeds of a configuration, and which one it is of."""

KEY, SWEEP_ID, KIND = "fatefront.key", "fatefront.sweep_id", "fatefront.kind"
SYNCED, CONTENT, ERROR, UNDEFINED = (
    "fatefront.synced",
    "fatefront.content",
    "fatefront.error",
    "fatefront.undefined",
)
STORE, FRONT, CURVES = "fatefront.store", "fatefront.front", "fatefront.curves"

DOUBLE_OF = "fatefront.double_of"
"""On a deleted run that MLflow made twice: the run that stays."""

RUN_NAME = "mlflow.runName"
"""MLflow's tag of a run's name; a run of an older version gets its new name by it."""

MAX_PARAM, MAX_TAG, MAX_NAME = 6000, 8000, 250
"""Characters that MLflow keeps."""

NOT_PRUNED = "not pruned"
"""Tag ``criterion`` of a baseline."""

STATES = {"done": "FINISHED", "failed": "FAILED"}


@dataclass(frozen=True)
class RunContent:
    """One run as it should be; times in ms since 1970."""

    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    status: str
    start: int
    end: int | None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        content = [self.name, self.params, self.metrics, self.tags, self.status]
        text = json.dumps(content, sort_keys=True)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest()[:16])


@dataclass
class Times:
    """When a node was handed out and when it was settled, from the ledger, in seconds."""

    scheduled: float | None = None
    settled: float | None = None


def times_of(events: Iterable[Mapping[str, Any]]) -> dict[str, Times]:
    """Key -> when it last started and when it was first done (else last failed)."""
    times: dict[str, Times] = {}
    done: set[str] = set()
    for event in events:
        key = event.get("key")
        if event["event"] not in ("scheduled", "done", "failed") or key in done:
            continue
        entry = times.setdefault(str(key), Times())
        if event["event"] == "scheduled":
            entry.scheduled = event["time"]
        else:
            entry.settled = event["time"]
            if event["event"] == "done":
                done.add(str(key))
    return times


def node_content(
    record: Mapping[str, Any],
    times: Times,
    backbone: str,
    node_uri: str,
    beside: Mapping[str, float] | None = None,
) -> RunContent:
    """The child run of a settled node.

    Args:
        record: of the ledger's projection, ``done`` or ``failed``.
        times: of the node.
        backbone: its name.
        node_uri: where the node's files are.
        beside: what stands beside its gaps: their floors and p-values, by metric.
    """
    trial = record["trial"]
    metrics, missing = _figures(record)
    metrics |= beside or {}
    tags = {
        KEY: record["key"],
        KIND: "node",
        LEVEL: "trial",
        "role": trial["role"],
        "baseline": trial["baseline"]["name"],
        "criterion": trial["criterion"] or NOT_PRUNED,
        "seed": str(trial["seed"]),
        "iteration": str(trial["n"]),
        "configuration": trial["label"],
        CONFIGURATION_KEY: trial["configuration"],
    }
    if record["status"] == "done":
        tags[STORE] = node_uri
        tags["fatefront.cached"] = str(bool(record["execution"].get("cached"))).lower()
    if record.get("fate"):
        tags["fatefront.groups"] = record["fate"]["tag"]
    if missing:
        tags[UNDEFINED] = "; ".join(f"{name}: {reason}" for name, reason in missing.items())[
            :MAX_TAG
        ]
    if record.get("error"):
        tags[ERROR] = f"{record['error']['type']}: {record['error']['reason']}"[:MAX_TAG]
    start, end = _span(record.get("execution") or {}, times)
    return RunContent(
        name=trial_name(trial),
        params=_params(trial, backbone),
        metrics=metrics,
        tags=tags,
        status=STATES[record["status"]],
        start=start,
        end=end,
    )


def _span(execution: Mapping[str, Any], times: Times) -> tuple[int, int]:
    """Start and end in ms: as the worker measured them, else as the ledger saw them."""
    settled = times.settled or times.scheduled or 0.0
    start = execution.get("started") or times.scheduled or settled
    seconds = execution.get("seconds")
    end = start + sum(seconds.values()) if seconds and execution.get("started") else settled
    return int(1000 * start), int(1000 * max(start, end))


def _params(trial: Mapping[str, Any], backbone: str) -> dict[str, str]:
    """Figures people filter by under their own names, every other option by its path."""
    chosen = {name: trial[name] for name in ("criterion", "site", "layer", "ratio", "n", "seed")}
    nested = {"baseline": {k: v for k, v in trial["baseline"].items() if k != "name"}}
    if trial["prune"]:
        own = ("ratio", "site", "layer")
        nested["prune"] = {k: v for k, v in trial["prune"].items() if k not in own}
    flat = {"baseline": trial["baseline"]["name"], "backbone": backbone} | chosen | flatten(nested)
    return {plain_name(k): _text(v) for k, v in flat.items() if v is not None}


def _figures(record: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Metric -> value, and metric -> why it has none."""
    if record["status"] != "done":
        return {}, {}
    result = record["result"]
    validation, train = result["metrics"]["validation"], result["metrics"]["train"]
    found: dict[str, Any] = {
        name: value
        for name, value in validation.items()
        if name not in ("mode", "groups", "undefined", "num_samples")
    }
    for group, name in zip(validation["groups"], unique_names(validation["groups"]), strict=True):
        found |= {f"group.{name}.{k}": v for k, v in validation["groups"][group].items()}
    found |= {f"train.{name}": value for name, value in train.items()}
    found |= {name: result["model"][name] for name in ("num_params", "flops")}
    reasons = dict(validation["undefined"])
    fate = record.get("fate")
    if fate:
        found |= {name: value for name, value in fate.items() if name.startswith("fate_")}
        reasons |= fate["undefined"]
    seconds = record["execution"].get("seconds") or {}
    found |= {f"seconds.{phase}": value for phase, value in seconds.items()}
    metrics = {plain_name(k): float(v) for k, v in found.items() if v is not None}
    return metrics, {k: reasons.get(k, "undefined") for k, v in found.items() if v is None}


def sweep_params(spec: Mapping[str, Any]) -> dict[str, str]:
    """A sweep's spec as parameters: ``search.sampler``, ``data.name`` and so on; lists as JSON."""
    return {plain_name(k): _text(v) for k, v in flatten(spec).items() if v is not None}


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, paths joined by dots; an empty mapping stays a leaf."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def plain_name(name: str) -> str:
    """A name that MLflow takes: letters, digits, ``_ - .`` and spaces, else ``_``."""
    return re.sub(r"[^\w\- .]|\.(?=\.)", "_", name).strip()[:MAX_NAME] or "_"


def unique_names(names: Iterable[str]) -> list[str]:
    """Plain names, one each: those that would coincide get a number."""
    taken: list[str] = []
    for name in names:
        plain, number = plain_name(name), 2
        while plain in taken:
            plain, number = f"{plain_name(name)}-{number}", number + 1
        taken.append(plain)
    return taken


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text[:MAX_PARAM]


def curve_metrics(curves: Iterable[Mapping[str, Any]]) -> list[tuple[str, float, int]]:
    """(name, value, step) of a node's epochs; the first epoch is step 1."""
    return [
        (f"epoch.{plain_name(name)}", float(value), step)
        for step, epoch in enumerate(curves, start=1)
        for name, value in epoch.items()
        if isinstance(value, int | float)
    ]
