"""Metrics of a stored node, from its predictions and the groups; the test split stays sealed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from trainables.data.base import Dataset
from trainables.metrics.fairness import Mode
from trainables.predictions import FILES, OPEN_SPLITS, Predictions, measure, split_counts
from trainables.store import Store


def measure_node(
    store: Store, key: str, dataset: Dataset, mode: Mode, splits: tuple[str, ...] = OPEN_SPLITS
) -> dict[str, Any]:
    """``trainables.predictions.measure`` of a node's stored predictions.

    A node does not depend on the sensitive attribute unless a step reads it, so the same node is
    measured by sex in one sweep and by age in another.

    Raises:
        StoreError: the predictions are gone or damaged.
    """
    predictions = {
        split: Predictions.from_bytes(store.read(key, FILES[split])) for split in splits
    }
    if set(splits) <= set(OPEN_SPLITS):
        _put_counts(store, key, dataset, predictions)
    return measure(dataset, predictions, mode)


def counts_path(store: Store, key: str, group_digest: str) -> str:
    """Where the counts of a node by one attribute lie, beside its ``node.json``."""
    return f"{store.folder(key)}/counts-{group_digest[:16]}.json"


def _put_counts(
    store: Store, key: str, dataset: Dataset, predictions: dict[str, Predictions]
) -> None:
    """Write the confusion counts that are not zero as [group, true class, predicted class, n]."""
    path = counts_path(store, key, dataset.group_digest)
    if store.storage.exists(path):
        return
    sparse = {}
    for split, stored in predictions.items():
        count_GCC = split_counts(dataset, split, stored)
        cells = [cell.tolist() for cell in np.argwhere(count_GCC)]
        sparse[split] = [[*cell, int(count_GCC[tuple(cell)])] for cell in cells]
    document = {
        "key": key,
        "attribute": dataset.attribute,
        "groups": list(dataset.groups),
        "classes": list(dataset.classes),
        "counts": sparse,
    }
    store.put_if_absent(path, json.dumps(document).encode())
