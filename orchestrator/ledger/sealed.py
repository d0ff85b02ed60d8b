"""Opening the test split: the one place where sealed predictions are read, and the ledger says so.

What was opened never decides anything: members and their order are fixed by validation before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.fronts.aggregate import GAPS, aggregate
from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import is_running
from orchestrator.ledger.stored_ledger import open_ledger
from orchestrator.merging.nodes import open_store
from trainables.data.base import Dataset
from trainables.errors import UserError
from trainables.metrics.fairness import Mode
from trainables.metrics.summary import compare
from trainables.store import Store, StoreError

KEYS_PER_EVENT = 80
"""Keys in one line of the ledger, which stays below 4 KB."""

FIGURES = ("f1", *GAPS, *(f"fate_{gap}" for gap in GAPS))
COLUMNS = ("test_num_seeds", *(f"test_{name}" for name in FIGURES))

Records = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Opened:
    """Test figures by configuration, and what could not be read."""

    figures: dict[str, dict[str, Any]]  # configuration key -> the columns of ``COLUMNS``
    problems: tuple[str, ...]
    num_keys: int
    num_new: int


def with_references(keys: Iterable[str], records: Records) -> list[str]:
    """The keys and those of their FATE references, each once."""
    found = list(keys)
    return list(
        dict.fromkeys([*found, *(records[k]["compares_with"]["reference"] for k in found)])
    )


def opened_keys(events: Iterable[Mapping[str, Any]]) -> set[str]:
    """Keys whose test predictions have been read."""
    return {key for event in events if event["event"] == "test_opened" for key in event["keys"]}


def adaptive_keys(events: Sequence[Mapping[str, Any]]) -> set[str]:
    """Nodes that finished after a test split had been looked at: somebody may have learned from
    it.
    """
    first = min((e["seq"] for e in events if e["event"] == "test_opened"), default=None)
    if first is None:
        return set()
    before = {e["key"] for e in events if e["event"] == "done" and e["seq"] < first}
    return {e["key"] for e in events if e["event"] == "done" and e["seq"] > first} - before


def record_opening(folder: Path, keys: Sequence[str]) -> int:
    """Write ``test_opened`` for the keys that were not opened before; returns how many these are.

    Raises:
        UserError: a driver is at work in the folder.
    """
    if is_running(folder):
        raise UserError(
            f"a sweep is being run in {folder}: the test split is opened when it has ended "
            "(wait, or export with --no-test)"
        )
    manifest = read_manifest(folder)
    with open_ledger(folder, open_store(folder, manifest)) as (ledger, stored):
        known = opened_keys(ledger.events)
        new = [key for key in keys if key not in known]
        if new and stored is not None:
            stored.mirror(ledger, manifest)
        for start in range(0, len(new), KEYS_PER_EVENT):
            ledger.append("test_opened", keys=new[start : start + KEYS_PER_EVENT])
    return len(new)


def open_test(
    folder: Path, keys: Sequence[str], records: Records, store: Store, dataset: Dataset, mode: Mode
) -> Opened:
    """Test figures of the configurations that ``keys`` belong to; the ledger is written first.

    Means over the seeds whose node and reference can be read, and FATE of those means, as on
    validation.

    Raises:
        UserError: a driver is at work in the folder.
    """
    opened, problems, num_new = open_records(folder, keys, records, store, dataset, mode)
    asked = {records[key]["trial"]["configuration"] for key in keys}
    figures = {
        name: {"test_num_seeds": len(point.seeds)}
        | {f"test_{figure}": point.figures.get(figure) for figure in FIGURES}
        for name, point in aggregate(opened).items()
        if name in asked
    }
    return Opened(figures, problems, len(with_references(keys, records)), num_new)


def open_records(
    folder: Path, keys: Sequence[str], records: Records, store: Store, dataset: Dataset, mode: Mode
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...], int]:
    """Records of ``keys`` and their references with test figures where those of validation stood.

    The ledger is written first. Also returns what could not be read, and how many keys are opened
    for the first time.

    Raises:
        UserError: a driver is at work in the folder.
    """
    wanted = with_references(keys, records)
    num_new = record_opening(folder, wanted)
    opened: dict[str, dict[str, Any]] = {}
    problems = []
    for key in wanted:
        try:
            opened[key] = _with_test(key, records[key], store, dataset, mode)
        except StoreError as error:
            problems.append(str(error))
    for record in opened.values():
        reference = opened.get(record["compares_with"]["reference"])
        record["fate"] = None if reference is None else _compare(record, reference)
    return opened, tuple(problems), num_new


def _with_test(
    key: str, record: Mapping[str, Any], store: Store, dataset: Dataset, mode: Mode
) -> dict[str, Any]:
    """The record with its test figures where those of validation stood, so that both aggregate
    alike.
    """
    from trainables.measurement import measure_node
    from trainables.predictions import FILES, Predictions

    stored = Predictions.from_bytes(store.read(key, FILES["test"])).digest()
    if stored != record["result"]["model"]["predictions_sha256"]["test"]:
        raise StoreError(
            f"test predictions of node {key} are not those of its record (computed again "
            f"elsewhere?)"
        )
    measured = measure_node(store, key, dataset, mode, splits=("test",))
    result = {
        "model": record["result"]["model"],
        "metrics": {"validation": measured["metrics"]["test"]},
    }
    return dict(record) | {"result": result}


def _compare(record: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    ours, theirs = (r["result"]["metrics"]["validation"] for r in (record, reference))
    return compare(ours, theirs)
