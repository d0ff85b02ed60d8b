"""Metrics of a stored node, from its predictions and the data set's groups; the test split stays
sealed.
"""

from __future__ import annotations

from typing import Any

from trainables.data.base import Dataset
from trainables.metrics.fairness import Mode
from trainables.predictions import FILES, OPEN_SPLITS, Predictions, measure
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
    return measure(dataset, predictions, mode)
