"""A fake sweep whose nodes have stored predictions, made up for each arm's strength: counts, draws
and evidence are then the real ones.
"""

import numpy as np
from fake_sweep import CLASSES, FakeSweep

from orchestrator.datasets.images import SplitImages
from orchestrator.judging.evidence import Evidence
from trainables.metrics.confusion import confusion_counts, counts_digest
from trainables.metrics.summary import summarise

GROUPS = ("light", "dark")
NUM = 240
LABEL_N, GROUP_N = np.arange(NUM) % 2, np.arange(NUM) // 2 % 2
IMAGES = SplitImages(LABEL_N, GROUP_N, np.arange(NUM), "digest", len(CLASSES), len(GROUPS))


def strengths(trial):
    """Share of images that are hit in the light and the dark group."""
    if trial.prune is None or not trial.prune.cuts:
        return 0.90, 0.70
    if trial.prune.criterion.name == "random":
        return 0.70, 0.50  # worse in everything
    return 0.90, 0.70 + 0.10 * (trial.prune.ratio > 0.2)


class Predicted(FakeSweep):
    """Nodes whose counts are those of stored predictions."""

    def __init__(self, folder, strength=strengths):
        super().__init__(folder)
        self.trials = {}
        self.strength = strength
        self.measure = self.measured

    def start(self, spec, budget=None, **options):
        schedule = super().start(
            spec,
            budget,
            evidence=lambda: PredictedEvidence(self, schedule.records),
            **options,
        )
        self.trials = schedule.tree.nodes
        return schedule

    def prediction_N(self, key):
        rng = np.random.default_rng(int(key[:8], 16))
        hit_N = rng.random(NUM) < np.array(self.strength(self.trials[key].trial))[GROUP_N]
        return np.where(hit_N, LABEL_N, 1 - LABEL_N).astype(np.int16)

    def measured(self, key):
        counts = confusion_counts(
            LABEL_N, self.prediction_N(key), GROUP_N, num_groups=2, num_classes=2
        )
        figures = summarise(counts, groups=GROUPS, classes=CLASSES)
        return {
            "metrics": {"train": figures, "validation": figures},
            "counts_sha256": dict.fromkeys(("train", "validation"), counts_digest(counts)),
        }


class PredictedEvidence(Evidence):
    def __init__(self, sweep, records):
        super().__init__(sweep.store, IMAGES, records)
        self.sweep = sweep

    def prediction_N(self, key):
        return self.sweep.prediction_N(key)
