"""Summaries of several seeds as one: figures are means over seeds, as in a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mean_summary(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One summary of several of the same images and groups.

    Numbers are means, undefined where one seed's is; ``skipped_classes`` are the same for all
    seeds; ``worst_pair`` is None where seeds do not agree on it.
    """
    first = summaries[0]
    if len(summaries) == 1:
        return first
    merged = {name: _mean([s[name] for s in summaries]) for name in first}
    merged["groups"] = {
        group: {key: _mean([s["groups"][group][key] for s in summaries]) for key in figures}
        for group, figures in first["groups"].items()
    }
    merged["worst_pair"] = {
        gap: pair if all(s["worst_pair"][gap] == pair for s in summaries) else None
        for gap, pair in first["worst_pair"].items()
    }
    merged["undefined"] = {name: why for s in summaries for name, why in s["undefined"].items()}
    return merged


def _mean(values: list[Any]) -> Any:
    """The mean of floats; what is no float is alike in all seeds."""
    if any(value is None for value in values):
        return None
    if isinstance(values[0], float):
        return sum(values) / len(values)
    return values[0]
