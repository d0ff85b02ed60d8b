"""What one trial does: make a node from its parents.

Runs alone, without Ray. ``run_trial`` is idempotent: a node that is stored is returned, not
computed again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from trainables.baselines.base import Baseline, Batch, Task, cross_entropy
from trainables.data.base import SPLITS, Dataset
from trainables.data.device import DeviceData
from trainables.models.classifier import Classifier
from trainables.predictions import FILES, Predictions, split_predictions
from trainables.pruning.base import lowest, num_to_remove
from trainables.pruning.surgery import ChannelPlan, apply_plan, cut, extend_plan, num_channels
from trainables.registry import backbones, baselines
from trainables.scoring import score_channels
from trainables.store import Store
from trainables.streams import stream
from trainables.training import Trainer
from trainables.trial_spec import DataIdentity, Prune, Trial, digest, node_key

Report = Callable[[str, int, int], None]
WEIGHTS, MASKS = "weights.safetensors", "masks.safetensors"
CURVES, SCORES = "curves.json", "scores.json"


Parents: TypeAlias = list[tuple[Trial, dict[str, Any]]]
"""Parent trials with their nodes' documents."""


def identity(dataset: Dataset) -> DataIdentity:
    """What keys know of a data set."""
    return DataIdentity(dataset.fingerprint, dataset.group_digest)


class _CrossEntropy(Baseline):
    """Fine-tuning with plain cross-entropy; inference stays the baseline's."""

    def __init__(self, baseline: Baseline) -> None:
        super().__init__(baseline.config, baseline.task)
        self._baseline = baseline

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        logits_NK = self._baseline.logits(model, batch.image_NCHW, batch.group_N)
        return cross_entropy(logits_NK, batch.label_N)


def make_baseline(trial: Trial, dataset: Dataset) -> Baseline:
    """The trial's baseline, told about the data."""
    task = Task(num_classes=len(dataset.classes), num_groups=len(dataset.groups))
    baseline = baselines.get(trial.baseline.name)(trial.baseline, task)
    assert isinstance(baseline, Baseline)
    return baseline


def empty_model(trial: Trial, baseline: Baseline, plan: ChannelPlan) -> Classifier:
    """A classifier of the shape a plan describes, with no trained weights."""
    net = backbones.get(trial.backbone.name).skeleton(trial.backbone, baseline.num_outputs())
    return _planned(Classifier(net), baseline, plan)


def _planned(model: Classifier, baseline: Baseline, plan: ChannelPlan) -> Classifier:
    model.extra = baseline.extra_modules(model.head.in_features)
    apply_plan(model.net, plan, baseline.feature_heads(model))
    return model


def load_model(
    store: Store, key: str, trial: Trial, baseline: Baseline
) -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a stored node (on the CPU) and the node's document.

    Raises:
        StoreError: the node, or its weights, are not there or damaged.
    """
    state = load_tensors(store.read(key, WEIGHTS))
    node = store.node(key)
    assert node is not None
    model = empty_model(trial, baseline, node["plan"])
    model.load_state_dict(state)
    if MASKS in node["files"]:
        model.masks = load_tensors(store.read(key, MASKS))
    return model, node


def run_trial(
    trial: Trial,
    dataset: Dataset,
    store: Store,
    *,
    device: str = "cpu",
    report: Report | None = None,
) -> dict[str, Any]:
    """Compute (or find) the node of a resolved trial and return its document.

    Missing parents are computed first, so that a single trial can be run by itself.

    Raises:
        TrainingError, ScoringError: this trial cannot be computed; it would fail again.
        StoreError: a parent's weights are damaged.
    """
    key = node_key(trial, identity(dataset))
    node = store.node(key)
    if node is not None:
        return node
    torch.set_num_threads(trial.compute.threads)
    parents: Parents = [
        (parent, run_trial(parent, dataset, store, device=device, report=report))
        for parent in trial.parents
    ]
    started = time.time()
    clock = _Clock()
    if torch.device(device).type == "cuda":
        torch.backends.cudnn.benchmark = True
        # on Ampere and later "float32" convolutions are rounded to TF32 unless told otherwise
        torch.backends.cudnn.allow_tf32 = trial.compute.precision != "float32"
        torch.cuda.reset_peak_memory_stats()
    baseline = make_baseline(trial, dataset)
    trainer = Trainer(
        DeviceData(dataset, torch.device(device)), trial.compute, trial.seed, trial.n
    )
    clock.lap("data")
    if trial.n:
        model, plan, extra = _prune(trial, parents, baseline, trainer, store, clock, report)
    else:
        model, plan, extra = _train(trial, parents, baseline, trainer, store, clock, report)
    model.eval()
    recipe = trial.prune.finetune if trial.prune else trial.baseline.training
    predictions = {
        split: split_predictions(
            dataset, split, trainer.predict(model, baseline, recipe, dataset.indices(number))
        )
        for number, split in enumerate(SPLITS)
    }
    clock.lap("predict")
    return _commit(
        trial,
        key,
        parents,
        model,
        plan,
        extra,
        predictions,
        dataset,
        store,
        clock,
        started,
        device,
    )


def _sources(parents: Parents, trainer: Trainer, store: Store) -> list[Classifier]:
    """Models of the sources on the device, in eval mode."""
    models = []
    for parent, node in parents:
        baseline = make_baseline(parent, trainer.data.dataset)
        model, _ = load_model(store, node["key"], parent, baseline)
        models.append(_to(model, trainer.data.device).eval())
    return models


def _train(
    trial: Trial,
    parents: Parents,
    baseline: Baseline,
    trainer: Trainer,
    store: Store,
    clock: _Clock,
    report: Report | None,
) -> tuple[Classifier, ChannelPlan, dict[str, Any]]:
    device = trainer.data.device
    backbone = backbones.get(trial.backbone.name)
    generator = stream(trial.seed, "init")
    net = backbone.build(trial.backbone, baseline.num_outputs(), generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed() + 1)
        model = _planned(Classifier(net), baseline, {})
    model = _to(model, device)
    sources = _sources(parents, trainer, store)
    baseline.begin(model, sources)
    curves: list[dict[str, float]] = []
    if baseline.derives:
        model.load_state_dict(sources[0].state_dict())
        recipe = trial.baseline.training
        baseline.derive(model, list(trainer.train_batches(recipe)))
        clock.lap("derive")
    else:
        curves = trainer.fit(model, baseline, trial.baseline.training, report)
        clock.lap("train")
    return model, {}, {CURVES: curves}


def _prune(
    trial: Trial,
    parents: Parents,
    baseline: Baseline,
    trainer: Trainer,
    store: Store,
    clock: _Clock,
    report: Report | None,
) -> tuple[Classifier, ChannelPlan, dict[str, Any]]:
    prune = trial.prune
    assert prune is not None
    (parent, document), *others = parents
    model, node = load_model(store, document["key"], parent, baseline)
    model = _to(model, trainer.data.device)
    plan: ChannelPlan = node["plan"]
    extra: dict[str, Any] = {}
    clock.lap("load")
    if prune.cuts:
        score_C = score_channels(model, prune, trainer)
        removed = _choose(model, prune, plan, score_C)
        clock.lap("score")
        extra[SCORES] = {"layer": prune.layer, "score": score_C.tolist(), "removed": removed}
        plan = _remove(model, prune, plan, removed, baseline)
        model = _to(model, trainer.data.device)
        clock.lap("surgery")
    baseline.begin(model, _sources(others, trainer, store))
    loss = baseline if prune.finetune_loss == "baseline" else _CrossEntropy(baseline)
    extra[CURVES] = trainer.fit(model, loss, prune.finetune, report)
    clock.lap("train")
    return model, plan, extra


def _choose(model: Classifier, prune: Prune, plan: ChannelPlan, score_C: Tensor) -> list[int]:
    """Positions (among the channels the layer has now) that this iteration removes."""
    entry = plan.get(prune.layer, {"num_channels": len(score_C), "removed": [], "masked": []})
    masked = entry.get("masked", [])
    score_C = score_C.clone()
    score_C[masked] = torch.inf  # masked channels are still there; they must not be picked again
    num_left = entry["num_channels"] - len(entry["removed"]) - len(masked)
    return lowest(score_C, num_to_remove(prune.ratio, entry["num_channels"], num_left))


def _remove(
    model: Classifier, prune: Prune, plan: ChannelPlan, removed: list[int], baseline: Baseline
) -> ChannelPlan:
    total = num_channels(model.net, prune.layer)
    if prune.surgery == "cut":
        masks = _masks_after_cut(model, prune, removed, baseline)
        cut(model.net, prune.layer, prune.site, removed, baseline.feature_heads(model))
        model.masks = masks
        return extend_plan(plan, prune.layer, prune.site, removed, total)
    # the published way: filter weights are zero for good, the bias and everything after it live on
    name = f"net.{prune.layer}.weight"
    weight = model.get_parameter(name)
    mask = model.masks.get(name, torch.ones_like(weight)).to(weight.device)
    mask[removed] = 0
    model.masks[name] = mask
    model.apply_masks()
    entry = plan.get(
        prune.layer, {"site": prune.site, "num_channels": total, "removed": [], "masked": []}
    )
    return plan | {prune.layer: entry | {"masked": sorted({*entry["masked"], *removed})}}


def _masks_after_cut(
    model: Classifier, prune: Prune, removed: list[int], baseline: Baseline
) -> dict[str, Tensor]:
    """The masks of the weights that are left: cut like the weights, in a twin that holds them."""
    if not model.masks:
        return {}
    twin = copy.deepcopy(model)
    for name, mask in model.masks.items():
        twin.get_parameter(name).data.copy_(mask)
    cut(twin.net, prune.layer, prune.site, removed, baseline.feature_heads(twin))
    return {name: twin.get_parameter(name).detach() for name in model.masks}


def _commit(
    trial: Trial,
    key: str,
    parents: Parents,
    model: Classifier,
    plan: ChannelPlan,
    extra: dict[str, Any],
    predictions: dict[str, Predictions],
    dataset: Dataset,
    store: Store,
    clock: _Clock,
    started: float,
    device: str,
) -> dict[str, Any]:
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    weights = save_tensors(state)
    files = {WEIGHTS: weights} | {FILES[split]: p.to_bytes() for split, p in predictions.items()}
    files |= {
        name: json.dumps(content, allow_nan=False).encode() for name, content in extra.items()
    }
    if model.masks:
        files[MASKS] = save_tensors({n: m.cpu().contiguous() for n, m in model.masks.items()})
    document = {
        "trial": trial.model_dump(mode="json"),
        "classes": list(dataset.classes),
        "image_size": dataset.image_size,
        "parents": [
            {"key": node["key"], "weights_sha256": node["model"]["weights_sha256"]}
            for _, node in parents
        ],
        "plan": plan,
        "model": {
            "weights_sha256": store_digest(weights),
            "plan_sha256": digest(plan),
            "predictions_sha256": {split: p.digest() for split, p in predictions.items()},
            "num_params": sum(p.numel() for p in model.parameters())
            - sum(int((m == 0).sum()) for m in model.masks.values()),
            "flops": count_flops(model, dataset.image_size),
            "channels": {
                layer: [entry["num_channels"], entry["num_channels"] - len(entry["removed"])]
                for layer, entry in plan.items()
            },
        },
        "execution": {
            "seconds": clock.laps,
            "started": started,
            "host": platform.node(),
            "pid": os.getpid(),
            "device": _device_name(device),
            "torch": torch.__version__,
            "peak_gpu_bytes": torch.cuda.max_memory_allocated()
            if device.startswith("cuda")
            else 0,
        },
    }
    return store.commit(key, files, document)


def store_digest(data: bytes) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


@torch.no_grad()
def count_flops(model: Classifier, image_size: int) -> int:
    """Floating point operations (two a multiply-add) of one image's forward pass."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, image_size, image_size, device=device))
    return int(counter.get_total_flops())


def _to(model: Classifier, device: torch.device) -> Classifier:
    if device.type == "cuda":
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    return model.to(device)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"


class _Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(self.laps.get(name, 0.0) + now - self._last, 4)
        self._last = now
