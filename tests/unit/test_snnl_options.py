"""SNNL-Fair beyond two groups and the cosine: brute force, closed forms, and what a scale does."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from trainables.errors import UserError
from trainables.pruning.base import ScoringBatch, ScoringContext, ScoringError
from trainables.pruning.snnl import SNNL, chance_level, snnl_fair
from trainables.specs import canonical, validate

torch.set_num_threads(1)
NUM = 24
GROUP = [0, 1, 0, 2, 1, 0, 0, 2, 1, 1, 0, 2, 0, -1, 1, 0, 2, 0, 0, 1, 2, 0, 1, 0]
# class 2 holds group 0 only, class 3 one image
LABEL = [0, 0, 1, 1, 0, 1, 2, 0, 1, 0, 1, 1, 3, 0, 1, 0, 0, 2, 0, 1, 0, 1, 1, 0]


def features(channels: int = 5, scale: float = 1.0) -> Tensor:
    """Random maps; channel 0 is zero, channel 1 constant."""
    feature_NCHW = torch.randn(NUM, channels, 3, 2, generator=torch.Generator().manual_seed(5))
    feature_NCHW[:, 0] = 0
    feature_NCHW[:, 1] = 0.7
    return scale * feature_NCHW


def plain(a: list[float], b: list[float], distance: str) -> float:
    if distance == "euclidean":
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 1.0


def loop(
    map_NP: list[list[float]], groups: list[int], labels: list[int], temperature: float,
    distance: str = "cosine", scale: str = "none",
) -> float:  # fmt: skip
    """One channel, image by image in double precision; sums over images of the same class."""
    known = [i for i, group in enumerate(groups) if group >= 0]
    unit = 1.0
    if scale == "mean":
        pairs = [(i, j) for i, j in product(known, known) if i != j]
        unit = sum(plain(map_NP[i], map_NP[j], distance) for i, j in pairs) / len(pairs) or 1.0
    losses = []
    for i in known:
        near = [j for j in known if j != i and labels[j] == labels[i]]
        partners = [j for j in near if groups[j] == groups[i]]
        if not partners or len(partners) == len(near):
            continue
        term = {
            j: math.exp(-plain(map_NP[i], map_NP[j], distance) / unit / temperature) for j in near
        }
        losses.append(-math.log(sum(term[j] for j in partners) / sum(term.values())))
    return sum(losses) / len(losses)


CASES = {
    "euclidean": {"distance": "euclidean", "temperature": 3.0},
    "euclidean, scaled": {"distance": "euclidean", "scale": "mean", "temperature": 0.5},
    "cosine, scaled": {"scale": "mean", "temperature": 0.2},
    "within classes": {"label_N": torch.tensor(LABEL), "temperature": 0.5},
    "euclidean within classes": {
        "label_N": torch.tensor(LABEL), "distance": "euclidean", "temperature": 2.0
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_equals_a_double_loop_with_three_groups(case: str) -> None:
    options = dict(CASES[case])
    score_C = snnl_fair(features(), torch.tensor(GROUP), **options)
    labels = LABEL if options.pop("label_N", None) is not None else [0] * NUM
    expected = [
        loop(features()[:, c].flatten(1).double().tolist(), GROUP, labels, **options)
        for c in range(5)
    ]
    assert score_C.tolist() == pytest.approx(expected, abs=2e-6, rel=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_constant_channel_scores_the_chance_level(case: str) -> None:
    """Also where its maps are large, so that rounding would be a distance."""
    label_N = CASES[case].get("label_N")
    labels = LABEL if label_N is not None else [0] * NUM
    total, number = 0.0, 0
    for label in set(labels):
        own = [g for g, y in zip(GROUP, labels, strict=True) if g >= 0 and y == label]
        sizes = {g: own.count(g) for g in own}
        if len(sizes) > 1:  # -(1/b') sum_y sum_g n_yg log((n_yg - 1) / (n_y - 1)), n_yg >= 2
            cells = [n for n in sizes.values() if n >= 2]
            total -= sum(n * math.log((n - 1) / (len(own) - 1)) for n in cells)
            number += sum(cells)
    expected = total / number
    assert chance_level(torch.tensor(GROUP), label_N=label_N) == pytest.approx(expected, abs=1e-6)
    for scale in (1.0, 1e4):
        score_C = snnl_fair(features(scale=scale), torch.tensor(GROUP), **CASES[case])
        assert score_C[:2].tolist() == pytest.approx([expected] * 2, abs=1e-5)


def test_euclidean_distances_have_the_scale_of_the_maps_unless_told() -> None:
    group_N, score = torch.tensor(GROUP), {}
    for scale in ("none", "mean"):
        options = {"distance": "euclidean", "scale": scale, "temperature": 2.0}
        small_C = snnl_fair(features(), group_N, **options)
        large_C = snnl_fair(features(scale=3.0), group_N, **options)
        score[scale] = (small_C[2:], large_C[2:])
    assert not torch.allclose(*score["none"], rtol=0.05)
    torch.testing.assert_close(*score["mean"], rtol=1e-5, atol=1e-6)
    # a times as large = T / a^2
    colder_C = snnl_fair(features(), group_N, distance="euclidean", temperature=2.0 / 9)
    torch.testing.assert_close(colder_C[2:], score["none"][1], rtol=1e-5, atol=1e-6)


def test_a_disease_more_frequent_in_a_group_is_no_sensitivity_within_classes() -> None:
    """A channel that shows the disease and nothing else tells the group, until images of one
    disease are compared.
    """
    label_N = torch.tensor([0] * 40 + [1] * 40)
    group_N = torch.tensor(([0] * 32 + [1] * 8) + ([0] * 8 + [1] * 32))
    disease_N = 2.0 * label_N - 1
    feature_NCHW = disease_N[:, None, None, None].expand(80, 1, 2, 2).clone()
    # compared with all, the channel is well below chance
    whole = snnl_fair(feature_NCHW, group_N, temperature=0.2).item() / chance_level(group_N)
    within = snnl_fair(feature_NCHW, group_N, temperature=0.2, label_N=label_N).item()
    assert whole < 0.75
    assert within / chance_level(group_N, label_N=label_N) == pytest.approx(1, abs=1e-5)


def criterion(context: dict | None = None, **options: object) -> SNNL:
    known = {"num_channels": 5, "num_groups": 3, "attribute": "tone"} | (context or {})
    return SNNL(
        SNNL.Config(**options), ScoringContext(generator=torch.Generator(), **known)
    )  # fmt: skip


def batch(**further: list[int]) -> ScoringBatch:
    group_N, label_N = torch.tensor(GROUP), torch.tensor(LABEL)
    told = {name: torch.tensor(value) for name, value in further.items()}
    return ScoringBatch(features(), None, label_N, group_N, further=told)


def test_three_groups_through_the_criterion() -> None:
    fed = criterion(normalise="none", temperature=0.5)
    fed.update(batch())
    expected = [
        loop(features()[:, c].flatten(1).double().tolist(), GROUP, [0] * NUM, 0.5)
        for c in range(5)
    ]
    assert fed.score().tolist() == pytest.approx(expected, abs=2e-6)


def test_within_classes_small_cells_are_left_out() -> None:
    """min_group counts images of one group and one diagnosis; then the class needs two groups."""
    fed = criterion(condition="class", min_group=3, normalise="none")
    fed.update(batch())
    sizes = {
        (y, g): sum((y, g) == pair for pair in zip(LABEL, GROUP, strict=True))
        for y in set(LABEL) for g in range(3)
    }  # fmt: skip
    kept = [g if g >= 0 and sizes[y, g] >= 3 else -1 for y, g in zip(LABEL, GROUP, strict=True)]
    left = {cell: n for cell, n in sizes.items() if n >= 3}
    assert left == {(0, 0): 4, (0, 1): 3, (0, 2): 3, (1, 0): 4, (1, 1): 4}
    expected = [
        loop(features()[:, c].flatten(1).double().tolist(), kept, LABEL, 1.0) for c in range(5)
    ]
    assert fed.score().tolist() == pytest.approx(expected, abs=2e-6)


AGE = [1, 0, 0, 1, -1, 0, 1, 1, 0, 1, 0, 0, 1, -1, 0, 1, 0, 1, 1, 0, 1, 0, -1, 0]


def test_several_attributes_are_the_weighted_sum_of_each_over_its_chance() -> None:
    fed = criterion(attributes={"tone": 2.0, "age": 0.5})
    fed.update(batch(age=AGE, sex=[0] * NUM))
    feature_NCHW = features()
    each = {
        name: snnl_fair(feature_NCHW, torch.tensor(groups)) / chance_level(torch.tensor(groups))
        for name, groups in (("tone", GROUP), ("age", AGE))
    }
    expected_C = 2.0 * each["tone"] + 0.5 * each["age"]
    torch.testing.assert_close(fed.score(), expected_C, rtol=1e-6, atol=1e-6)
    alone = criterion(attributes={"tone": 1.0})
    alone.update(batch(age=AGE))
    default = criterion()
    default.update(batch())
    assert torch.equal(alone.score(), default.score())


def test_an_attribute_that_is_never_seen_twice_is_named() -> None:
    fed = criterion(attributes={"tone": 1.0, "age": 1.0})
    fed.update(batch(age=[0] * NUM))
    with pytest.raises(ScoringError, match="no batch of 128 holds two groups by age of 2 images"):
        fed.score()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": {"age": 0}}, "weight of 'age' must be positive but got 0"),
        ({"attributes": {"age": float("inf")}}, "age: input should be a finite number"),
        ({"self_pair": True, "condition": "class"}, "self_pair is the released code's"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(SNNL.Config, options, place="test")


def test_attributes_the_data_lack_are_named_with_those_they_have() -> None:
    config = SNNL.Config(attributes={"tone": 1.0, "aeg": 1.0})
    with pytest.raises(UserError, match=r"no attribute 'aeg' \(they have: tone, age;"):
        SNNL.check_attributes(config, ("tone", "age"))
    SNNL.check_attributes(SNNL.Config(attributes={"age": 1.0}), ("tone", "age"))
    SNNL.check_attributes(SNNL.Config(), ("tone",))


def test_labels_do_not_go_with_the_released_computation() -> None:
    with pytest.raises(ValueError, match="does not look at classes"):
        snnl_fair(
            features(), torch.tensor(GROUP), mode="paper", label_N=torch.tensor(LABEL)
        )  # fmt: skip


def test_new_options_leave_old_keys_alone() -> None:
    assert canonical(SNNL.Config()) == {"name": "snnl"}
    weighted = SNNL.Config(attributes={"b": 1, "a": 0.5}, distance="euclidean")
    assert canonical(weighted)["attributes"] == {"a": 0.5, "b": 1.0}
    assert SNNL.Config.model_validate_json(weighted.model_dump_json()) == weighted
