"""Validation figures of stored nodes in another mode, from the counts that lie beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainables.errors import UserError
from trainables.measurement import counts_path
from trainables.metrics.confusion import counts_digest
from trainables.metrics.fairness import Mode, check_mode
from trainables.metrics.summary import summarise
from trainables.store import Store


def validation_figures(
    records: Mapping[str, Mapping[str, Any]], store: Store, data: Mapping[str, Any], mode: Mode
) -> dict[str, dict[str, Any]]:
    """Key -> ``summarise`` of the validation counts of every finished node.

    Args:
        records: key -> record.
        store: where the nodes lie.
        data: ``data`` of the sweep's manifest.
        mode: how a class that a group lacks is read.

    Raises:
        UserError: ``paper`` with other than two groups, or counts are gone or not the record's.
    """
    check_mode(mode, len(data["groups"]))
    return {
        key: summarise(
            _counts(key, record, store, data),
            groups=data["groups"],
            classes=data["classes"],
            mode=mode,
        )
        for key, record in records.items()
        if record["status"] == "done"
    }


def _counts(
    key: str, record: Mapping[str, Any], store: Store, data: Mapping[str, Any]
) -> np.ndarray:
    """``count_GCC`` (group, true class, predicted class) of the validation split."""
    try:
        stored = json.loads(store.storage.read(counts_path(store, key, data["group_digest"])))
    except FileNotFoundError:
        raise UserError(
            f"--mode needs the counts of node {key} by {data['attribute']}, which are not in "
            f"{store.uri}"
        ) from None
    num_classes = len(data["classes"])
    count_GCC = np.zeros((len(data["groups"]), num_classes, num_classes), dtype=np.int64)
    for group, label, prediction, number in stored["counts"]["validation"]:
        count_GCC[group, label, prediction] = number
    if counts_digest(count_GCC) != record["result"]["counts_sha256"]["validation"]:
        raise UserError(
            f"the counts of node {key} in {store.uri} are not those of its record (computed "
            "again elsewhere?)"
        )
    return count_GCC
