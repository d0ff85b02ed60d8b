"""What every baseline must hold; see ``trainables.conformance``.

The checks train a ResNet-18 on one batch of small random images on the CPU.

Shape legend: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from trainables.baselines.base import Baseline, Batch, Task
from trainables.checkpoint import Standing, pack, restore, unpack
from trainables.conformance import NotConforming, check_config, require
from trainables.deriving import TrainingImages
from trainables.metrics.confusion import confusion_counts
from trainables.models.classifier import Classifier
from trainables.pruning.surgery import apply_plan, cut, extend_plan
from trainables.registry import backbones, baselines
from trainables.specs import Spec
from trainables.trial_spec import Recipe

TASK = Task(num_classes=3, num_groups=2, groups=("first", "second"))
BACKBONE, IMAGE_SIZE, NUM_IMAGES = "resnet18", 32, 12
NUM_STEPS = 3
LEARNING_RATE = 1e-3


def example() -> Batch:
    """A batch of random images; each class and group is there, two groups are unknown (-1)."""
    generator = torch.Generator().manual_seed(30)
    group_N = torch.tensor([0, 1, 1, 0, 0, 1, -1, 1, 0, 0, 1, -1])
    return Batch(
        image_NCHW=torch.rand(NUM_IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator),
        label_N=torch.arange(NUM_IMAGES) % TASK.num_classes,
        group_N=group_N,
        progress=0.5,
    )


def make(config: Spec) -> Baseline:
    """The config's baseline, told of a small task."""
    made = baselines.get(config.name)(config, TASK)  # type: ignore[attr-defined]
    require(isinstance(made, Baseline), f"{type(made).__name__} is not a Baseline")
    return made  # type: ignore[no-any-return]


def _empty(baseline: Baseline, plan: dict[str, dict]) -> Classifier:
    """What a stored model is loaded into: a skeleton, the baseline's modules, the plan's shape."""
    backbone = backbones.get(BACKBONE)
    model = Classifier(backbone.skeleton(backbone.Config(), baseline.num_outputs()))
    baseline.adapt(model)
    model.extra = baseline.extra_modules(model.head.in_features)
    apply_plan(model.net, plan, baseline.feature_heads(model))
    return model


def _sources(config: Spec, seed: int) -> list[Classifier]:
    cls = baselines.get(config.name)  # type: ignore[attr-defined]
    return [trained(source, example(), seed=seed + 1)[1].eval() for source in cls.sources(config)]


def begun(config: Spec, seed: int = 0) -> tuple[Baseline, Classifier]:
    """A baseline before its first step; its sources had some steps on the example batch."""
    baseline = make(config)
    sources = _sources(config, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = backbones.get(BACKBONE)
        generator = torch.Generator().manual_seed(seed)
        model = Classifier(backbone.build(backbone.Config(), baseline.num_outputs(), generator))
        baseline.adapt(model)
        model.extra = baseline.extra_modules(model.head.in_features)
    baseline.begin(model, sources)
    if baseline.derives:
        model.load_state_dict(sources[0].state_dict())
        model.masks = dict(sources[0].masks)
    return baseline, model


def _training_images(
    model: Classifier, baseline: Baseline, batch: Batch, seed: int
) -> TrainingImages:
    """What ``derive`` is given: the batch, which is the validation split as well."""

    def make_part(rows: Tensor) -> Batch:
        return Batch(
            batch.image_NCHW[rows], batch.label_N[rows], batch.group_N[rows], batch.progress
        )

    def validation_counts() -> np.ndarray:
        prediction_N = _logits(baseline, model, batch).argmax(1)
        return confusion_counts(
            batch.label_N.numpy(),
            prediction_N.numpy(),
            batch.group_N.numpy(),
            num_classes=TASK.num_classes,
            num_groups=TASK.num_groups,
        )

    return TrainingImages(
        label_N=batch.label_N,
        group_N=batch.group_N,
        batch_size=len(batch.label_N) // 2,
        make=make_part,
        generator=torch.Generator().manual_seed(seed),
        validation_counts=validation_counts,
        note=lambda text: None,
    )


def trained(
    config: Spec, batch: Batch, *, seed: int = 0, num_steps: int = NUM_STEPS
) -> tuple[Baseline, Classifier, list[float]]:
    """A baseline after some steps on one batch, or derived from it.

    The third result is the loss at each step; the last is the loss after ``num_steps`` updates.
    """
    baseline, model = begun(config, seed)
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if baseline.derives:
            baseline.derive(model, _training_images(model, baseline, batch, seed))
            return baseline, model, losses
        # a small rate: what is checked is the direction of the descent, not the recipe
        recipe: Recipe = config.training  # type: ignore[attr-defined]
        rate = min(recipe.learning_rate, LEARNING_RATE)
        recipe = recipe.model_copy(update={"learning_rate": rate})
        optimizer = baseline.optimizer(model, recipe)
        model.train()
        for _ in range(num_steps + 1):
            torch.manual_seed(seed)  # the same dropout in every step: losses can be compared
            logs = baseline.step(model, batch, optimizer, torch.autocast("cpu", enabled=False))
            model.apply_masks()
            require("loss" in logs, f"step must return its loss, got {sorted(logs)}")
            require(
                all(not value.requires_grad and value.numel() == 1 for value in logs.values()),
                "step must return detached scalars",
            )
            losses.append(float(logs["loss"]))
    return baseline, model, losses


@torch.inference_mode()
def _logits(
    baseline: Baseline, model: Classifier, batch: Batch, group_N: Tensor | None = None
) -> Tensor:
    model.eval()
    return baseline.logits(model, batch.image_NCHW, batch.group_N if group_N is None else group_N)


def _known(batch: Batch) -> Batch:
    return Batch(batch.image_NCHW, batch.label_N, batch.group_N.clamp(min=0), batch.progress)


def check_config_round_trip(config: Spec) -> None:
    """The config prints and re-reads; the class says what it is."""
    check_config(baselines, config)
    cls: Any = baselines.get(config.name)  # type: ignore[attr-defined]
    require(issubclass(cls, Baseline), f"{cls.__name__} is not a Baseline")
    require(
        isinstance(cls.VERSION, int) and cls.VERSION >= 1, f"{cls.name}: VERSION must be 1 or more"
    )
    sources = cls.sources(config)
    require(
        not cls.derives or len(sources) > 0, f"{cls.name} derives but has no source to derive from"
    )
    for source in sources:
        check_config(baselines, source)


def check_loss_falls(config: Spec) -> None:
    """Three steps on a fixed batch lower the loss; parameters change and stay finite."""
    _, start = begun(config)
    baseline, model, losses = trained(config, example())
    if not baseline.derives:
        require(losses[-1] < losses[0], f"the loss does not fall on a fixed batch: {losses}")
    before, after = start.state_dict(), model.state_dict()
    require(
        any(not torch.equal(before[name], after[name]) for name in before),
        "training changes no parameter",
    )
    require(
        all(bool(value.isfinite().all()) for value in after.values()), "parameters are not finite"
    )


def check_logits(config: Spec) -> None:
    """Inference gives finite (N, K) logits that do not depend on the rest of the batch."""
    batch = _known(example())
    baseline, model, _ = trained(config, batch)
    logits_NK = _logits(baseline, model, batch)
    shape = (NUM_IMAGES, TASK.num_classes)
    require(
        tuple(logits_NK.shape) == shape, f"logits must be {shape} but are {tuple(logits_NK.shape)}"
    )
    require(bool(logits_NK.isfinite().all()), "logits are not finite")
    half = Batch(batch.image_NCHW[:4], batch.label_N[:4], batch.group_N[:4], batch.progress)
    near = torch.allclose(_logits(baseline, model, half), logits_NK[:4], rtol=1e-4, atol=1e-4)
    require(near, "logits of an image depend on the other images of its batch")


def check_group_at_inference(config: Spec) -> None:
    """Logits depend on the group only where ``needs_group_at_inference`` says so."""
    batch = _known(example())
    baseline, model, _ = trained(config, batch)
    if baseline.needs_group_at_inference:
        return
    own_NK = _logits(baseline, model, batch)
    for group_N in (1 - batch.group_N, torch.full_like(batch.group_N, -1)):
        require(
            torch.equal(own_NK, _logits(baseline, model, batch, group_N)),
            "needs_group_at_inference is False but logits depend on the group",
        )


def check_deterministic(config: Spec) -> None:
    """Two runs from one seed give the same parameters, bit for bit."""
    first, second = (trained(config, example())[1].state_dict() for _ in range(2))
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    require(not differing, f"two runs of one seed differ in {differing[:3]}")


def check_reads_group(config: Spec) -> None:
    """A baseline that says it does not read the group trains the same with shuffled groups."""
    if baselines.get(config.name).reads_group(config):  # type: ignore[attr-defined]
        return
    batch = example()
    other = Batch(batch.image_NCHW, batch.label_N, batch.group_N.flip(0), batch.progress)
    own, shuffled = (trained(config, b)[1].state_dict() for b in (batch, other))
    differing = [name for name in own if not torch.equal(own[name], shuffled[name])]
    require(not differing, f"reads_group is False but groups change {differing[:3]}")


def check_state_round_trip(config: Spec) -> None:
    """A stored state rebuilt into an empty classifier gives the same logits."""
    batch = _known(example())
    baseline, model, _ = trained(config, batch)
    _rebuilt(config, baseline, model, batch, {})


def check_resumes(config: Spec) -> None:
    """A training that is packed up and taken up by another process goes on as if nothing had
    been: the same parameters, to the bit.
    """
    straight, model = begun(config)
    if straight.derives:
        return
    optimizer = _some_steps(straight, model, None, range(NUM_STEPS + 1))
    expected = pack(model, optimizer, straight, Standing(), {})
    first, model = begun(config)
    optimizer = _some_steps(first, model, None, range(2))
    kept = pack(model, optimizer, first, Standing(), {})
    second, model = begun(config, seed=0)
    optimizer = second.optimizer(model, config.training)  # type: ignore[attr-defined]
    restore(unpack(kept), model, optimizer, second)
    optimizer = _some_steps(second, model, optimizer, range(2, NUM_STEPS + 1))
    found = unpack(pack(model, optimizer, second, Standing(), {})).tensors
    wanted = unpack(expected).tensors
    require(set(found) == set(wanted), "a resumed training keeps other tensors")
    differing = [name for name in wanted if not torch.equal(found[name], wanted[name])]
    require(
        not differing,
        f"resumed, training gives another {differing[:3]}: state_dict must hold what the baseline "
        "keeps between steps",
    )


def _some_steps(
    baseline: Baseline,
    model: Classifier,
    optimizer: torch.optim.Optimizer | None,
    numbers: range,
) -> torch.optim.Optimizer:
    """Steps on the example batch, each with a stream of its own; returns the optimizer."""
    if optimizer is None:
        optimizer = baseline.optimizer(model, baseline.config.training)
    model.train()
    for number in numbers:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            baseline.step(model, example(), optimizer, torch.autocast("cpu", enabled=False))
            model.apply_masks()
    return optimizer


def check_survives_pruning(config: Spec) -> None:
    """With channels of the last block cut the model is stored, rebuilt and trained further."""
    batch = _known(example())
    baseline, model, _ = trained(config, batch)
    model.masks = {}  # masks of a derived baseline are cut by the trial
    layer, removed = backbones.get(BACKBONE).last_conv, [0, 5, 9]
    cut(model.net, layer, "block", removed, baseline.feature_heads(model))
    model.plan = plan = extend_plan({}, layer, "block", removed, 512)
    _rebuilt(config, baseline, model, batch, plan)
    if baseline.keeps_sources:  # as before every fine-tuning
        baseline.begin(model, _sources(config, seed=0))
    if not baseline.derives:
        optimizer = baseline.optimizer(model, config.training)  # type: ignore[attr-defined]
        logs = baseline.step(model.train(), batch, optimizer, torch.autocast("cpu", enabled=False))
        require(bool(logs["loss"].isfinite()), "the loss after pruning is not finite")


def _rebuilt(
    config: Spec, baseline: Baseline, model: Classifier, batch: Batch, plan: dict[str, dict]
) -> None:
    expected_NK = _logits(baseline, model, batch)
    stored = save_tensors(
        {name: t.detach().contiguous() for name, t in model.state_dict().items()}
    )
    other = make(config)
    rebuilt = _empty(other, plan)
    try:
        rebuilt.load_state_dict(load_tensors(stored))
    except RuntimeError as error:
        raise NotConforming(f"the state does not fit an empty classifier: {error}") from None
    near = torch.equal(_logits(other, rebuilt, batch), expected_NK)
    require(near, "the rebuilt classifier gives other logits: something is kept outside its state")


CHECKS: tuple[Callable[[Spec], None], ...] = (
    check_config_round_trip,
    check_loss_falls,
    check_logits,
    check_group_at_inference,
    check_deterministic,
    check_reads_group,
    check_state_round_trip,
    check_resumes,
    check_survives_pruning,
)
"""Every check of this kit; each takes a baseline's config."""

__all__ = [
    "CHECKS",
    "NotConforming",
    "begun",
    "example",
    "trained",
    *(check.__name__ for check in CHECKS),
]
