"""What a report reads from the store: epoch curves and channel scores of single nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.store import Store, StoreError


@dataclass(frozen=True)
class LayerScores:
    """Scores of one layer's channels before a pruning step, and which of them went."""

    layer: str
    scores: tuple[float | None, ...]
    removed: frozenset[int]


def read_curves(store: Store, key: str) -> list[Mapping[str, Any]] | None:
    """One object an epoch; None where the file is gone, damaged or was never written."""
    found = _read(store, key, "curves.json")
    return list(found) if isinstance(found, list) and found else None


def read_scores(store: Store, key: str) -> list[LayerScores]:
    """Scores of every layer that was pruned in this step; empty where there are none."""
    found = _read(store, key, "scores.json")
    if not isinstance(found, dict):
        return []
    layers: Sequence[Mapping[str, Any]] = found.get("layers") or [found]
    return [
        LayerScores(str(one["layer"]), tuple(one["score"]), frozenset(one["removed"]))
        for one in layers
        if one.get("score")
    ]


def _read(store: Store, key: str, name: str) -> Any:
    try:
        return json.loads(store.read(key, name))
    except (StoreError, json.JSONDecodeError):
        return None
