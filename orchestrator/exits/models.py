"""Which trials of a sweep have exits, and one stored model run over the validation split.

Shape legend: E exits (the last is the net's own head), N images, K classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.baselines.multi_exit import MultiExit
from trainables.data.base import VALIDATION, Dataset
from trainables.errors import UserError
from trainables.models.exits import THRESHOLDS, ExitCounts, exit_counts, exit_logits, exits_taken
from trainables.portable import load_portable, save_portable
from trainables.predictions import FILES, Predictions
from trainables.store import Store, StoreError

BASELINE = "multi_exit"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Counted:
    """One model: its counts by threshold.

    ``num_differ``: images that get another class than the node has stored (another device, another
    order of sums); None where its predictions are gone.
    """

    record: Record
    own_threshold: float
    num_exits: int
    counts: Mapping[float, ExitCounts]
    num_differ: int | None


def wanted_records(
    records: Mapping[str, Record], key: str | None, folder: Path
) -> list[Record]:
    """Finished trials with exits: roots first, then by iterations and seed; or the one of ``key``.

    Raises:
        UserError: there is none, or ``key`` is of another trial.
    """
    if key is not None:
        return [_of_key(records, key, folder)]
    found = [record for record in records.values() if has_exits(record["trial"]["baseline"])]
    done = [record for record in found if record["status"] == "done"]
    if not done:
        state = f"none of {len(found)} is done" if found else "it has none"
        raise UserError(
            f"exits of {folder}: only models of baseline {BASELINE} have exits, and {state} "
            f"(--set baseline={BASELINE} runs one)"
        )
    return sorted(done, key=lambda record: (record["trial"]["n"], record["trial"]["seed"]))


def _of_key(records: Mapping[str, Record], key: str, folder: Path) -> Record:
    record = records.get(key)
    if record is None:
        raise UserError(f"--key {key}: no trial of {folder} has this key")
    trial = record["trial"]
    if not has_exits(trial["baseline"]):
        raise UserError(
            f"--key {key}: {trial['label']} has no exits, only models of baseline {BASELINE} have"
        )
    if record["status"] != "done":
        raise UserError(f"--key {key}: {trial['label']} is not done but {record['status']}")
    return record


def has_exits(baseline: Mapping[str, Any]) -> bool:
    """Whether a baseline, by its canonical spec, is ``multi_exit`` or made of one."""
    source = baseline.get("source")
    return baseline["name"] == BASELINE or (isinstance(source, Mapping) and has_exits(source))


def own_threshold(baseline: Mapping[str, Any]) -> float:
    """The threshold at which a model's own predictions are made."""
    while baseline["name"] != BASELINE:
        baseline = baseline["source"]
    return float(baseline.get("threshold", MultiExit.Config.model_fields["threshold"].default))


def run_model(
    store: Store,
    record: Record,
    dataset: Dataset,
    thresholds: Sequence[float],
    device: str,
) -> Counted:
    """Run a stored model over the validation split; the paper's thresholds and the model's own
    where none are given.

    Raises:
        StoreError: its files are gone or damaged.
    """
    height, width = dataset.images_NHWC.shape[1:3]
    extra = {"groups": dataset.groups, "aspect": width / height}
    with tempfile.TemporaryDirectory() as folder:
        saved = save_portable(store, record["key"], Path(folder), extra)
        portable = load_portable(saved, device)
    rows = dataset.indices(VALIDATION)
    parts = portable.read(
        lambda model, image_NCHW, _: exit_logits(model, image_NCHW), dataset.images_NHWC[rows]
    )
    logits_ENK = np.concatenate(parts, axis=1)
    own = own_threshold(record["trial"]["baseline"])
    label_N, group_N = dataset.label_N[rows], dataset.group_N[rows]
    counts = {
        value: exit_counts(logits_ENK, label_N, group_N, value, len(dataset.groups))
        for value in sorted(set(thresholds or (*THRESHOLDS, own)))
    }
    num_differ = _num_differ(store, record["key"], logits_ENK, own)
    return Counted(record, own, len(logits_ENK), counts, num_differ)


def _num_differ(store: Store, key: str, logits_ENK: np.ndarray, own: float) -> int | None:
    import torch

    try:
        stored = Predictions.from_bytes(store.read(key, FILES["validation"]))
    except StoreError:
        return None
    exit_N = exits_taken(torch.from_numpy(logits_ENK), own).numpy()
    ours_N = logits_ENK[exit_N, np.arange(len(exit_N))].astype(np.float16).argmax(1)
    return int((ours_N != stored.prediction_N()).sum())
