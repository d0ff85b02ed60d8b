"""`obd` and `fairprune` per channel against one gradient per image, class and parameter."""

import pytest
import torch
from three_channels import (
    GROUP,
    NUM_CLASSES,
    dataset,
    images,
    model,
    prune,
    scores,
    train_rows,
    trainer,
    vanilla,
)
from torch.nn import functional

from trainables.errors import UserError
from trainables.pruning.fairprune import FairPruneChannels
from trainables.scoring import score_criteria

torch.set_num_threads(1)
# of channel k: the filter and its bias, the norm's scale and shift, the columns that read it
PARTS = ("first.weight", "first.bias", "norm.weight", "norm.bias", "second.weight")


def diagonals(rows: list[int], kind: str) -> dict[str, torch.Tensor]:
    """Sum over images of h_jj, one backward pass a class (or the label's) and image."""
    net = model(with_norm=True).net.double()
    named = {name: net.get_parameter(name) for name in PARTS}
    total = {name: torch.zeros_like(value) for name, value in named.items()}
    for row in rows:
        log_p_K = functional.log_softmax(
            net(torch.tensor(images([row]), dtype=torch.float64))[0], dim=0
        )
        for k in range(NUM_CLASSES):
            weight = log_p_K[k].exp().item()
            if kind == "fisher":
                weight = float(k == dataset().label_N[row])
            parts = torch.autograd.grad(log_p_K[k], list(named.values()), retain_graph=True)
            for name, part in zip(named, parts, strict=True):
                total[name] += weight * part.square()
    return total


def by_channel(diagonal: dict[str, torch.Tensor]) -> list[float]:
    net = model(with_norm=True).net
    found = []
    for k in range(3):
        value = 0.0
        for name in PARTS:
            theta, h = net.get_parameter(name), diagonal[name]
            own, curved = (theta[:, k], h[:, k]) if name == "second.weight" else (theta[k], h[k])
            pairs = zip(own.flatten().tolist(), curved.flatten().tolist(), strict=True)
            value += sum(0.5 * t * t * c for t, c in pairs)
        found.append(value)
    return found


@pytest.mark.parametrize("kind", ["gauss_newton", "fisher"])
def test_obd_equals_a_loop(kind: str) -> None:
    rows = train_rows()  # also those of unknown group
    diagonal = {name: h / len(rows) for name, h in diagonals(rows, kind).items()}
    found = scores("obd", with_norm=True, curvature=kind)
    expected = by_channel(diagonal)
    assert found == pytest.approx(expected, rel=1e-4)
    assert min(expected) > 1e-3
    assert max(expected) > 1.5 * min(expected)


def of_group(group: int, kind: str) -> dict[str, torch.Tensor]:
    rows = [row for row in train_rows(known=True) if GROUP[row] == group]
    return {name: h / len(rows) for name, h in diagonals(rows, kind).items()}


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"privileged": "light", "beta": 0.5}, (1.0, -0.5)),
        ({"privileged": "dark"}, (-0.33, 1.0)),
        ({"group_weights": {"light": 2.0, "dark": -1.0}}, (-1.0, 2.0)),
    ],
)
def test_fairprune_equals_a_loop(options: dict, weights: tuple[float, float]) -> None:
    dark, light = of_group(0, "gauss_newton"), of_group(1, "gauss_newton")
    diagonal = {name: weights[0] * dark[name] + weights[1] * light[name] for name in dark}
    found = scores(
        "fairprune", with_norm=True, curvature="gauss_newton", balance=False, **options
    )
    expected = by_channel(diagonal)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert max(map(abs, expected)) > 1e-3


def test_balanced_groups_give_equally_many_images() -> None:
    """Nine dark images and ten light ones: the curvature is of nine of each."""
    sizes = [sum(GROUP[row] == group for row in train_rows()) for group in (0, 1)]
    assert sizes == [9, 10]

    def only(balance: bool, **weights: float) -> list[float]:
        options = {"curvature": "gauss_newton", "group_weights": weights, "balance": balance}
        return scores("fairprune", with_norm=True, **options)

    assert only(True, dark=1.0, light=0.0) == only(False, dark=1.0, light=0.0)
    nine, ten = only(True, dark=0.0, light=1.0), only(False, dark=0.0, light=1.0)
    # one image of ten is left out, and its curvature is at least 0
    assert all(0 < 0.9 * a <= b != a for a, b in zip(nine, ten, strict=True))


def test_auto_asks_which_group_is_better_served() -> None:
    arm = prune("fairprune", curvature="fisher")
    asked = []

    def better() -> int:
        asked.append(1)
        return 1

    (auto,) = score_criteria(model(), [arm], trainer(), vanilla(), better)
    named = prune("fairprune", curvature="fisher", privileged="light")
    (given,) = score_criteria(model(), [named], trainer(), vanilla())
    assert torch.equal(auto["first"], given["first"])
    assert asked == [1]


def test_drawn_classes_come_from_the_trial_s_stream() -> None:
    assert scores("obd") == scores("obd")
    exact = scores("obd", curvature="gauss_newton")
    assert scores("obd") != exact
    assert scores("obd") == pytest.approx(exact, rel=0.75)


def test_obd_and_fairprune_need_the_baseline() -> None:
    with pytest.raises(ValueError, match="obd needs the baseline"):
        score_criteria(model(), [prune("obd")], trainer())


@pytest.mark.parametrize(
    ("options", "groups", "message"),
    [
        ({"privileged": "lihgt"}, ("dark", "light"), "'lihgt', did you mean 'light'"),
        ({"group_weights": {"dark": 1.0}}, ("dark", "light"), "no weight for group 'light'"),
        ({}, ("dark",), "needs at least two groups but got 1"),
    ],
)
def test_groups_are_checked_by_name(options: dict, groups: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FairPruneChannels.check_groups(FairPruneChannels.Config(**options), groups)
