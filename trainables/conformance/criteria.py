"""What every channel criterion must hold; see ``trainables.conformance``.

Shape legend: N images, C channels, H height, W width, I inputs, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainables.conformance import NotConforming, check_config, require
from trainables.pruning.base import Criterion, ScoringBatch, ScoringContext, ScoringError
from trainables.pruning.coupling import CoupledParameter
from trainables.registry import criteria
from trainables.specs import Spec

NUM_CHANNELS, NUM_GROUPS, NUM_IMAGES = 7, 2, 96
CONSTANT, ZERO, TWIN, TWIN_OF = 4, 5, 6, 1
"""Special channels: constant maps, all-zero maps (a dead channel), a copy of channel 1."""
TOLERANCE = 1e-5

FURTHER = "other attribute"
Batches = list[ScoringBatch]


def example() -> tuple[Tensor, Tensor]:
    """Feature maps (N, C, H, W), channel 0 going with the group, and groups, some unknown (-1)."""
    generator = torch.Generator().manual_seed(20)
    group_N = (torch.rand(NUM_IMAGES, generator=generator) < 0.4).long()
    group_N[::16] = -1
    feature_NCHW = torch.randn(NUM_IMAGES, NUM_CHANNELS, 4, 4, generator=generator)
    feature_NCHW[:, 0] += 2.0 * group_N[:, None, None]
    feature_NCHW = feature_NCHW.relu()
    feature_NCHW[:, CONSTANT] = 0.25
    feature_NCHW[:, ZERO] = 0.0
    feature_NCHW[:, TWIN] = feature_NCHW[:, TWIN_OF]
    return feature_NCHW, group_N


def _class(config: Spec) -> Any:
    return criteria.get(config.name)  # type: ignore[attr-defined]


def _criterion(config: Spec) -> Criterion:
    """The criterion, told no more than its class asks for."""
    cls = _class(config)
    context = ScoringContext(
        NUM_CHANNELS,
        NUM_GROUPS,
        torch.Generator().manual_seed(9),
        attribute="group",
        groups=tuple(f"group {number}" for number in range(NUM_GROUPS)),
        weights=_weights() if cls.needs_weights else (),
        curvature=_curvature if cls.needs_curvature else None,
        better_served=lambda: 0,
    )
    made = cls(config, context)
    require(isinstance(made, Criterion), f"{type(made).__name__} is not a Criterion")
    return made  # type: ignore[no-any-return]


def _weights() -> tuple[CoupledParameter, ...]:
    """A filter, its bias and what reads the channels; rows of the special channels are special."""
    generator = torch.Generator().manual_seed(21)
    every_C = torch.arange(NUM_CHANNELS)
    filter_CI = torch.randn(NUM_CHANNELS, 12, generator=generator)
    bias_C = torch.randn(NUM_CHANNELS, generator=generator)
    reader_KC = torch.randn(3, NUM_CHANNELS, generator=generator)
    for value in (filter_CI, bias_C, reader_KC.T):
        value[ZERO] = 0
        value[TWIN] = value[TWIN_OF]
    return (
        CoupledParameter("net.conv.weight", filter_CI, 0, "filter", every_C, torch.ones(1)),
        CoupledParameter("net.conv.bias", bias_C, 0, "bias", every_C),
        CoupledParameter("net.head.weight", reader_KC, 1, "reader", every_C),
    )


def _curvature(
    kind: Any, max_images: int, *, grouped: bool, balance: bool
) -> dict[str, Tensor]:
    """Squares of the parameters, twice as large in each further group."""
    return {
        each.name: torch.stack(
            [each.value.square() * 2**group for group in range(NUM_GROUPS if grouped else 1)]
        )
        for each in _weights()
    }


def _batches(config: Spec, feature_NCHW: Tensor, group_N: Tensor) -> Batches:
    """What the scoring pass feeds, in the criterion's own order."""
    cls = _class(config)
    if not (cls.needs_features or cls.needs_gradients):
        return []
    order = cls.scoring_order(config, group_N, torch.Generator().manual_seed(4))
    return [_batch(config, feature_NCHW, group_N, rows) for rows in order]


def _batch(config: Spec, feature_NCHW: Tensor, group_N: Tensor, rows: Tensor) -> ScoringBatch:
    """Some rows, with labels, a further attribute and, where asked for, gradients."""
    generator = torch.Generator().manual_seed(22)
    label_N = torch.randint(3, group_N.shape, generator=generator)
    gradient_NCHW = torch.randn(feature_NCHW.shape, generator=generator)
    gradient_NCHW[:, TWIN] = gradient_NCHW[:, TWIN_OF]
    return ScoringBatch(
        feature_NCHW[rows].clone(),
        gradient_NCHW[rows] if _class(config).needs_gradients else None,
        label_N[rows],
        group_N[rows].clone(),
        further={FURTHER: group_N.roll(1)[rows]},
    )


def _score(config: Spec, batches: Batches) -> Tensor:
    criterion = _criterion(config)
    with torch.inference_mode():
        for batch in batches:
            criterion.update(batch)
    return criterion.score()


def _is_fed(config: Spec) -> bool:
    cls = _class(config)
    return bool(cls.needs_features or cls.needs_gradients)


def check_config_round_trip(config: Spec) -> None:
    """The config prints and re-reads; the class says what it is."""
    check_config(criteria, config)
    cls = _class(config)
    require(issubclass(cls, Criterion), f"{cls.__name__} is not a Criterion")
    require(
        isinstance(cls.VERSION, int) and cls.VERSION >= 1, f"{cls.name}: VERSION must be 1 or more"
    )


def check_one_finite_score_per_channel(config: Spec) -> None:
    """``score`` gives (C,) floats on the CPU, finite also for constant and dead channels."""
    score_C = _score(config, _batches(config, *example()))
    require(
        score_C.shape == (NUM_CHANNELS,)
        and score_C.is_floating_point()
        and score_C.device.type == "cpu",
        f"score must be {NUM_CHANNELS} floats on the CPU, got {score_C.dtype} "
        f"{tuple(score_C.shape)} "
        f"on {score_C.device}",
    )
    bad = torch.nonzero(~score_C.isfinite()).flatten().tolist()
    require(
        not bad,
        f"scores of channels {bad} are not finite "
        f"(constant channel: {CONSTANT}, dead channel: {ZERO})",
    )


def check_constant_features(config: Spec) -> None:
    """Where every channel is constant: finite scores or a ``ScoringError``, never NaN."""
    feature_NCHW, group_N = example()
    for value in (0.0, 3.0):
        try:
            score_C = _score(
                config, _batches(config, torch.full_like(feature_NCHW, value), group_N)
            )
        except ScoringError:
            continue
        require(
            bool(score_C.isfinite().all()), f"maps that are all {value}: scores {score_C.tolist()}"
        )


def check_one_group(config: Spec) -> None:
    """With images of one group only: finite scores or a ``ScoringError``, never NaN."""
    feature_NCHW, group_N = example()
    try:
        score_C = _score(config, _batches(config, feature_NCHW, torch.zeros_like(group_N)))
    except ScoringError:
        return
    require(bool(score_C.isfinite().all()), f"images of one group: scores {score_C.tolist()}")


def check_repeatable(config: Spec) -> None:
    """The same stream and images give the same scores, whatever the global random state."""
    scores = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            scores.append(_score(config, _batches(config, *example())))
    require(
        torch.equal(scores[0], scores[1]),
        f"two runs differ: {scores[0].tolist()}, {scores[1].tolist()}",
    )


def check_batch_order(config: Spec) -> None:
    """The order in which batches arrive does not matter (to 1e-5, relative)."""
    feature_NCHW, group_N = example()
    rows = torch.nonzero(group_N >= 0).flatten()
    if not _is_fed(config):
        return
    batches = [_batch(config, feature_NCHW, group_N, part) for part in rows.split(24)]
    forward_C, backward_C = _score(config, batches), _score(config, batches[::-1])
    near = torch.allclose(forward_C, backward_C, rtol=TOLERANCE, atol=TOLERANCE)
    require(near, f"batches backwards: {backward_C.tolist()} instead of {forward_C.tolist()}")


def check_together(config: Spec) -> None:
    """Batches that went through the net together score as they do one by one (to 1e-4,
    relative); the last of other size, then all of one size.
    """
    feature_NCHW, group_N = example()
    rows = torch.nonzero(group_N >= 0).flatten()
    if not _is_fed(config):
        return
    for chosen in (rows, rows[: len(rows) // 24 * 24]):
        parts = chosen.split(24)
        together = _criterion(config)
        with torch.inference_mode():
            together.update_together(
                _batch(config, feature_NCHW, group_N, chosen), list(map(len, parts))
            )
        one_by_one_C = _score(
            config, [_batch(config, feature_NCHW, group_N, part) for part in parts]
        )
        near = torch.allclose(together.score(), one_by_one_C, rtol=1e-4, atol=1e-6)
        require(near, f"together: {together.score().tolist()} not {one_by_one_C.tolist()}")


def check_uses_group(config: Spec) -> None:
    """With ``uses_group = False`` rows and scores stay the same when the groups are shuffled."""
    if _class(config).uses_group:
        return
    feature_NCHW, group_N = example()
    other_N = group_N[torch.randperm(NUM_IMAGES, generator=torch.Generator().manual_seed(5))]
    if _is_fed(config):
        orders = [
            type(_criterion(config)).scoring_order(
                config, groups, torch.Generator().manual_seed(4)
            )
            for groups in (group_N, other_N)
        ]
        same = [a.tolist() for a in orders[0]] == [b.tolist() for b in orders[1]]
        require(same, "uses_group is False but scoring_order depends on the groups")
    own_C = _score(config, _batches(config, feature_NCHW, group_N))
    other_C = _score(config, _batches(config, feature_NCHW, other_N))
    require(torch.equal(own_C, other_C), "uses_group is False but the scores depend on the groups")


def check_scoring_order(config: Spec) -> None:
    """Rows to score exist, come at most once, and have a known group where groups are used."""
    if not _is_fed(config):
        return
    _, group_N = example()
    cls = type(_criterion(config))
    order = cls.scoring_order(config, group_N, torch.Generator().manual_seed(4))
    rows = torch.cat(list(order))
    require(len(rows) > 0, "scoring_order gives no rows")
    require(len(rows.unique()) == len(rows), "scoring_order gives a row twice")
    require(
        int(rows.min()) >= 0 and int(rows.max()) < NUM_IMAGES,
        "scoring_order gives rows that do not exist",
    )
    require(
        not cls.uses_group or bool((group_N[rows] >= 0).all()),
        "scoring_order gives rows of unknown group",
    )


def check_duplicated_channels(config: Spec) -> None:
    """Two channels with the same maps, gradients and weights get the same score (criteria that
    read any of these).
    """
    if not _is_fed(config) and not _class(config).needs_weights:
        return
    score_C = _score(config, _batches(config, *example()))
    near = torch.allclose(score_C[TWIN], score_C[TWIN_OF], rtol=TOLERANCE, atol=TOLERANCE)
    require(near, f"the same maps score {score_C[TWIN_OF].item()} and {score_C[TWIN].item()}")


def check_leaves_features_alone(config: Spec) -> None:
    """``update`` does not write into anything it is given."""
    batches = _batches(config, *example())
    before = [[tensor.clone() for tensor in _tensors(batch)] for batch in batches]
    _score(config, batches)
    for old, batch in zip(before, batches, strict=True):
        same = all(torch.equal(a, b) for a, b in zip(old, _tensors(batch), strict=True))
        require(same, "update writes into its arguments")


def _tensors(batch: ScoringBatch) -> list[Tensor]:
    gradient = [] if batch.gradient_NCHW is None else [batch.gradient_NCHW]
    return [
        batch.feature_NCHW, *gradient, batch.label_N, batch.group_N, *batch.further.values()
    ]  # fmt: skip


CHECKS: tuple[Callable[[Spec], None], ...] = (
    check_config_round_trip,
    check_one_finite_score_per_channel,
    check_constant_features,
    check_one_group,
    check_repeatable,
    check_batch_order,
    check_together,
    check_uses_group,
    check_scoring_order,
    check_duplicated_channels,
    check_leaves_features_alone,
)
"""Every check of this kit; each takes a criterion's config."""

__all__ = ["CHECKS", "NotConforming", "example", *(check.__name__ for check in CHECKS)]
