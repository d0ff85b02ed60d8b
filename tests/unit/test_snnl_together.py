"""Batches that are scored together against the loss of each, pair by pair."""

from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.pruning.base import ScoringBatch, ScoringContext
from trainables.pruning.snnl import SNNL

NUM_BATCHES, SIZE, NUM_CHANNELS = 4, 48, 6

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "cold": {"temperature": 0.05},
    "as they are": {"normalise": "none"},
    "groups alike": {"anchor_weight": "group"},
    "of one class": {"condition": "class"},
    "of one class, groups alike": {"condition": "class", "anchor_weight": "group"},
    "large groups": {"min_group": 6},
    "large cells": {"min_group": 3, "condition": "class"},
    "two attributes": {"attributes": {"own": 1.0, "other": 0.5}},
    "highest": {"direction": "highest"},
    # these have no faster way
    "self pairs": {"self_pair": True, "normalise": "none"},
    "colder": {"temperature": 0.01},
    "Euclidean": {"distance": "euclidean", "scale": "mean"},
}


def example(dtype: torch.dtype) -> ScoringBatch:
    """Groups and classes of unequal size, some unknown, one batch of a single group."""
    generator = torch.Generator().manual_seed(3)
    num = NUM_BATCHES * SIZE
    feature_NCHW = torch.randn(num, NUM_CHANNELS, 3, 3, generator=generator)
    feature_NCHW[:, 1], feature_NCHW[:, 2] = 0, 1
    group_N = torch.randint(-1, 3, (num,), generator=generator)
    group_N[group_N == 2] = torch.randint(0, 3, (int((group_N == 2).sum()),), generator=generator)
    group_N[:SIZE] = 1
    other_N = torch.randint(-1, 2, (num,), generator=generator)
    label_N = torch.randint(0, 4, (num,), generator=generator)
    feature_NCHW[:, 3] += group_N[:, None, None]
    feature_NCHW = feature_NCHW.to(dtype).contiguous(memory_format=torch.channels_last)
    return ScoringBatch(feature_NCHW, None, label_N, group_N, further={"other": other_N})


def scores(options: dict[str, Any], sizes: list[int], *, together: bool, dtype: Any) -> Tensor:
    """Scores of the example's first images, in batches of these sizes."""
    context = ScoringContext(NUM_CHANNELS, 3, torch.Generator(), attribute="own")
    criterion, batch = SNNL(SNNL.Config(**options), context), example(dtype)
    if together:
        criterion.update_together(batch.at(slice(0, sum(sizes))), sizes)
    else:
        start = 0
        for size in sizes:
            criterion.update(batch.at(slice(start, start + size)))
            start += size
    return criterion.score()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sizes", [[SIZE] * NUM_BATCHES, [SIZE] * 3 + [SIZE - 5]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_together_is_one_by_one(case: str, sizes: list[int], dtype: torch.dtype) -> None:
    expected_C = scores(CASES[case], sizes, together=False, dtype=dtype)
    found_C = scores(CASES[case], sizes, together=True, dtype=dtype)
    torch.testing.assert_close(found_C, expected_C, rtol=1e-4, atol=1e-6)
    assert len(found_C.unique()) > NUM_CHANNELS // 2  # the channels differ at all


def test_however_little_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [SIZE] * NUM_BATCHES
    whole_C = scores({}, sizes, together=True, dtype=torch.float32)
    monkeypatch.setattr("trainables.pruning.base.AT_ONCE", SIZE * SIZE * NUM_CHANNELS * 2)
    in_parts_C = scores({}, sizes, together=True, dtype=torch.float32)
    monkeypatch.setattr("trainables.pruning.base.AT_ONCE", 1)
    one_by_one_C = scores({}, sizes, together=True, dtype=torch.float32)
    torch.testing.assert_close(in_parts_C, whole_C, rtol=1e-5, atol=0)
    torch.testing.assert_close(one_by_one_C, whole_C, rtol=1e-5, atol=0)
