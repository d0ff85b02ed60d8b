"""SNNL-Fair against a double Python loop, closed forms and its registered criterion."""

import math

import pytest
import torch
from torch import Tensor

from trainables.pruning.base import ScoringBatch, ScoringContext, ScoringError, lowest
from trainables.pruning.snnl import PAPER, PAPER_EPS, SNNL, chance_level, snnl_fair

torch.set_num_threads(1)


def distance(a: list[float], b: list[float]) -> float:
    norm_a, norm_b = math.sqrt(sum(x * x for x in a)), math.sqrt(sum(x * x for x in b))
    if norm_a == 0 or norm_b == 0:
        return 1.0  # cosine with a zero vector is 0
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (norm_a * norm_b)


def loop(
    map_NP: list[list[float]], groups: list[int], temperature: float, mode: str, weight: str
) -> float:
    """Method 1.2, one channel, image by image in double precision."""
    rows = [i for i, group in enumerate(groups) if group >= 0]
    losses: dict[int, list[float]] = {}
    for i in rows:
        above, below, partners = 0.0, 0.0, 0
        for j in rows:
            if i == j:
                continue
            term = math.exp(-distance(map_NP[i], map_NP[j]) / temperature)
            below += term
            if groups[i] == groups[j]:
                above += term
                partners += 1
        if mode == "paper":
            losses.setdefault(groups[i], []).append(-math.log((1 + above + PAPER_EPS) / below))
        elif partners:
            losses.setdefault(groups[i], []).append(-math.log(above / below))
    if weight == "group":
        return sum(sum(part) / len(part) for part in losses.values()) / len(losses)
    every = [value for part in losses.values() for value in part]
    return sum(every) / len(every)


GROUPS = {
    "two groups": [0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1],
    "three groups": [0, 2, 1, 1, 2, 1, 0, 0, 1, 2, 0, 1],
    "unknown groups": [0, -1, 1, 1, -1, 1, 0, 0, 1, 0, -1, 1],
    "one image of a group": [0, 0, 1, 0, 0, 0, 0, 2, 2, 0, 0, 0],
}


def features(num: int, channels: int = 6) -> Tensor:
    """Random maps; channel 0 is zero, channel 1 zero for some images, channel 2 constant."""
    feature_NCHW = torch.randn(num, channels, 3, 2, generator=torch.Generator().manual_seed(5))
    feature_NCHW[:, 0] = 0
    feature_NCHW[::3, 1] = 0
    feature_NCHW[:, 2] = 0.7
    feature_NCHW[:, 3] = feature_NCHW[:, 3].relu() * 1e4  # the scale of a map must not matter
    return feature_NCHW


@pytest.mark.parametrize("weight", ["image", "group"])
@pytest.mark.parametrize("mode", ["corrected", "paper"])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("case", GROUPS)
def test_equals_a_double_loop(case: str, temperature: float, mode: str, weight: str) -> None:
    groups = GROUPS[case]
    feature_NCHW = features(len(groups))
    score_C = snnl_fair(
        feature_NCHW,
        torch.tensor(groups),
        temperature=temperature,
        mode=mode,
        anchor_weight=weight,
    )
    expected = [
        loop(feature_NCHW[:, c].flatten(1).double().tolist(), groups, temperature, mode, weight)
        for c in range(feature_NCHW.shape[1])
    ]
    # 1e-6 absolute, and relative where a small temperature makes the loss itself large
    assert score_C.tolist() == pytest.approx(expected, abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_constant_and_zero_channels_score_the_chance_level(case: str, temperature: float) -> None:
    groups = [g for g in GROUPS[case] if g >= 0]
    sizes = {g: groups.count(g) for g in groups if groups.count(g) >= 2}
    # -(1/b') sum_g n_g log((n_g - 1) / (b - 1)), written out
    expected = -sum(n * math.log((n - 1) / (len(groups) - 1)) for n in sizes.values())
    expected /= sum(sizes.values())
    assert chance_level(torch.tensor(GROUPS[case])) == pytest.approx(expected, abs=1e-6)
    score_C = snnl_fair(
        features(len(GROUPS[case])), torch.tensor(GROUPS[case]), temperature=temperature
    )
    assert score_C[0].item() == pytest.approx(expected, abs=1e-5)
    assert score_C[2].item() == pytest.approx(expected, abs=1e-5)


def test_chance_level_of_equal_groups_weighs_groups_as_images() -> None:
    group_N = torch.tensor([0] * 8 + [1] * 8)
    expected = -math.log(7 / 15)
    assert chance_level(group_N) == pytest.approx(expected, abs=1e-6)
    assert chance_level(group_N, anchor_weight="group") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mode", ["corrected", "paper"])
def test_the_channel_that_is_the_group_scores_lowest(mode: str) -> None:
    generator = torch.Generator().manual_seed(0)
    group_N = torch.arange(32) % 2
    feature_NCHW = torch.randn(32, 9, 4, 4, generator=generator)
    sign_N = (2.0 * group_N - 1)[:, None, None]
    feature_NCHW[:, 4] = sign_N * torch.ones(4, 4)
    score_C = snnl_fair(feature_NCHW, group_N, mode=mode)
    assert lowest(score_C, 1) == [4]
    if mode == "corrected":
        # 15 partners at distance 0, 16 others at distance 2
        assert score_C[4].item() == pytest.approx(
            -math.log(15 / (15 + 16 * math.exp(-2))), abs=1e-6
        )


@pytest.mark.parametrize("mode", ["corrected", "paper"])
@pytest.mark.parametrize("temperature", [0.05, 0.005])
def test_small_temperatures_stay_finite(mode: str, temperature: float) -> None:
    group_N = torch.arange(24) % 2
    feature_NCHW = torch.randn(24, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    feature_NCHW[:, 0] = (1.0 - 2 * group_N)[:, None, None]  # the other group lies at distance 2
    feature_NCHW[:, 1] = torch.where(torch.arange(24) < 12, 1.0, -1.0)[:, None, None]
    score_C = snnl_fair(feature_NCHW, group_N, temperature=temperature, mode=mode)
    assert bool(score_C.isfinite().all())


def test_one_group_has_no_score() -> None:
    feature_NCHW = torch.randn(6, 3, 2, 2)
    assert bool(snnl_fair(feature_NCHW, torch.zeros(6, dtype=torch.int64)).isnan().all())
    assert bool(snnl_fair(feature_NCHW, torch.full((6,), -1)).isnan().all())
    assert bool(snnl_fair(feature_NCHW, torch.arange(6)).isnan().all())  # nobody has a partner


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature must be positive but got 0"):
        snnl_fair(torch.zeros(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]), temperature=0)


def criterion(num_channels: int, num_groups: int = 2, **options: object) -> SNNL:
    context = ScoringContext(num_channels, num_groups, torch.Generator().manual_seed(0))
    return SNNL(SNNL.Config(**options), context)


def feed(fed: SNNL, feature_NCHW: Tensor, group_N: Tensor) -> None:
    fed.update(ScoringBatch(feature_NCHW, None, torch.zeros_like(group_N), group_N))


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    sizes = ([0, 1] * 5, [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0, 0])
    return [(torch.randn(len(g), 4, 2, 3, generator=generator), torch.tensor(g)) for g in sizes]


def test_score_is_the_mean_over_batches_weighted_by_images() -> None:
    fed = criterion(4, temperature=0.5)
    for feature_NCHW, group_N in batches():
        feed(fed, feature_NCHW, group_N)
    expected = [0.0] * 4
    for feature_NCHW, group_N in batches():
        groups = group_N.tolist()
        sizes = {g: groups.count(g) for g in groups}
        chance = -sum(n * math.log((n - 1) / (len(groups) - 1)) for n in sizes.values()) / len(
            groups
        )
        for c in range(4):
            maps = feature_NCHW[:, c].flatten(1).double().tolist()
            expected[c] += (
                len(groups) / 24 * loop(maps, groups, 0.5, "corrected", "image") / chance
            )
    assert fed.score().tolist() == pytest.approx(expected, abs=1e-6)


def test_paper_options_give_the_released_computation() -> None:
    """Plain mean over equal batches, self-pair counted, no normalisation, data order."""
    group_N = torch.tensor([1, 0, 0, 1, 1, 1, 0, 0, 0, 1])
    fed = criterion(4, batch_size=4, **PAPER)
    order = SNNL.scoring_order(fed.config, group_N, torch.Generator())
    assert [batch.tolist() for batch in order] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    feature_NCHW = torch.randn(10, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    for batch in order:
        feed(fed, feature_NCHW[batch], group_N[batch])
    maps_CNP = feature_NCHW.flatten(2).transpose(0, 1).double()
    expected = [
        sum(
            loop(maps_CNP[c, b].tolist(), group_N[b].tolist(), 1.0, "paper", "image")
            for b in order
        ) / 2
        for c in range(4)
    ]  # fmt: skip
    assert fed.score().tolist() == pytest.approx(expected, abs=1e-6)


def test_a_constant_channel_scores_one_after_normalising_and_highest_is_the_negative() -> None:
    fed, inverted = criterion(4), criterion(4, direction="highest")
    for feature_NCHW, group_N in batches():
        feature_NCHW[:, 0] = 1
        feed(fed, feature_NCHW, group_N)
        feed(inverted, feature_NCHW, group_N)
    assert fed.score()[0].item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(inverted.score(), -fed.score())


def test_batches_without_two_groups_are_left_out_and_alone_they_are_an_error() -> None:
    (feature_NCHW, group_N), *_ = batches()
    fed = criterion(4, min_group=3)
    feed(fed, feature_NCHW, torch.zeros_like(group_N))
    feed(fed, feature_NCHW, torch.tensor([0] * 8 + [1] * 2))
    with pytest.raises(ScoringError, match="no batch of 128 holds two groups of 3 images"):
        fed.score()
    feed(fed, feature_NCHW, group_N)
    alone = criterion(4, min_group=3)
    feed(alone, feature_NCHW, group_N)
    assert torch.equal(fed.score(), alone.score())


def test_stratified_batches_hold_the_groups_shares() -> None:
    generator = torch.Generator().manual_seed(11)
    group_N = torch.tensor([0] * 300 + [1] * 60 + [2] * 24 + [-1] * 16)
    group_N = group_N[torch.randperm(400, generator=generator)]
    order = SNNL.scoring_order(SNNL.Config(batch_size=64), group_N, generator)
    assert [len(batch) for batch in order] == [64] * 6  # 384 known
    rows = torch.cat(order)
    assert sorted(rows.tolist()) == torch.nonzero(group_N >= 0).flatten().tolist()
    for batch in order:
        counts = torch.bincount(group_N[batch], minlength=3)
        for group, share in enumerate((50, 10, 4)):  # 64 / 384 of 300, 60, 24
            assert abs(int(counts[group]) - share) <= 1
    assert rows.tolist() != sorted(rows.tolist())


@pytest.mark.parametrize("sampling", ["stratified", "shuffled", "sequential"])
def test_the_last_partial_batch_is_dropped_unless_it_is_the_only_one(sampling: str) -> None:
    group_N = torch.tensor([0, 1, -1, 0, 1, 0, 1, 1, 0, 0, 1])
    config = SNNL.Config(batch_size=4, sampling=sampling)
    sizes = [len(b) for b in SNNL.scoring_order(config, group_N, torch.Generator().manual_seed(0))]
    assert sizes == [4, 4]
    small = SNNL.scoring_order(
        SNNL.Config(sampling=sampling), group_N, torch.Generator().manual_seed(0)
    )
    assert [sorted(b.tolist()) for b in small] == [[0, 1, 3, 4, 5, 6, 7, 8, 9, 10]]
