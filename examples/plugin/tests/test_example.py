"""The checks that every part of fatefront passes, and the mathematics of these three."""

import pytest
import torch
from fatefront_example.apoz import APoZ
from fatefront_example.label_smoothing import LabelSmoothing
from fatefront_example.worst_recall import RecallOfTheWorstGroup
from torch.nn import functional

from trainables.baselines.base import Batch, Task
from trainables.conformance import baselines, criteria
from trainables.pruning.base import ScoringBatch, ScoringContext


@pytest.mark.parametrize("check", criteria.CHECKS)
def test_the_criterion_conforms(check):
    check(APoZ.Config())


@pytest.mark.parametrize("check", baselines.CHECKS)
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_the_baseline_conforms(check, epsilon):
    check(LabelSmoothing.Config(epsilon=epsilon))


def test_apoz_is_a_share_of_positions():
    feature_NCHW = torch.tensor([[[[1.0, 0.0], [2.0, -1.0]], [[0.0, 0.0], [0.0, 3.0]]]])
    criterion = APoZ(APoZ.Config(), ScoringContext(2, 2, torch.Generator()))
    label_N = torch.zeros(1, dtype=torch.int64)
    for _ in range(2):
        criterion.update(ScoringBatch(feature_NCHW, None, label_N, label_N))
    assert criterion.score().tolist() == [0.5, 0.25]


def test_label_smoothing_is_the_mixture_of_two_cross_entropies():
    logits_NK = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    label_N = torch.tensor([0, 1, 2, 3, 0])
    baseline = LabelSmoothing(LabelSmoothing.Config(epsilon=0.3), Task(4, 2))
    batch = Batch(torch.zeros(5, 3, 8, 8), label_N, label_N, 0.0)
    found = baseline.loss(lambda image_NCHW: logits_NK, batch)
    uniform = -logits_NK.log_softmax(1).mean()
    torch.testing.assert_close(
        found, 0.7 * functional.cross_entropy(logits_NK, label_N) + 0.3 * uniform
    )


def test_the_objective_is_the_lowest_of_the_groups_that_are_assessed():
    groups = {"a": {"recall": 0.8}, "b": {"recall": 0.6}, "few": {"recall": None}}
    assert RecallOfTheWorstGroup.value({"groups": groups}, {}) == 0.6
    assert RecallOfTheWorstGroup.value({"groups": {"few": {"recall": None}}}, {}) is None
