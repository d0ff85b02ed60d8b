"""Intervals for a metric, a paired difference and FATE, each averaged over seeds.

How they are made: ``trainables.metrics.crossed``. What a seed contributes to a difference or to
FATE, and the same for arms with different seeds: ``trainables.metrics.figures``.
"""

from __future__ import annotations

from trainables.metrics.crossed import CONFIDENCE, MIN_IMAGES, MIN_SEEDS, Interval, interval
from trainables.metrics.figures import contrast_figure, fate_figure, metric_figure
from trainables.metrics.replicates import Replicates

__all__ = [
    "CONFIDENCE",
    "MIN_IMAGES",
    "MIN_SEEDS",
    "Interval",
    "difference_interval",
    "fate_interval",
    "interval",
    "metric_interval",
]


def metric_interval(
    replicates: Replicates, name: str, arm: int, *, confidence: float = CONFIDENCE
) -> Interval:
    """The interval of one of ``METRICS`` in one arm."""
    return metric_figure(replicates, name).interval(arm, confidence=confidence)


def difference_interval(
    replicates: Replicates, name: str, arm: int, other: int, *, confidence: float = CONFIDENCE
) -> Interval:
    """The interval of ``arm`` less ``other``, paired by seed and by patient."""
    figure = contrast_figure(metric_figure(replicates, name), [(arm, other)])
    return figure.interval(0, confidence=confidence)


def fate_interval(
    replicates: Replicates,
    gap: str,
    arm: int,
    reference: int,
    *,
    floor: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The interval of an arm's FATE; not determined where the reference's gap reaches ``floor``.

    See ``figures.fate_figure``, which gives all arms at once and takes the same arguments.
    """
    figure = fate_figure(replicates, gap, reference, floor=floor, confidence=confidence)
    return figure.interval(arm, confidence=confidence)
