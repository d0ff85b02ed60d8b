"""A node's files: what a finished trial leaves behind, and how a model comes back from it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from trainables.baselines.base import Baseline, Task
from trainables.data.base import Dataset
from trainables.environment import environment_id
from trainables.models.classifier import Classifier
from trainables.predictions import FILES, Predictions
from trainables.pruning.surgery import ChannelPlan, apply_plan
from trainables.registry import backbones, baselines
from trainables.store import Store
from trainables.trial_spec import Trial, digest

WEIGHTS, MASKS = "weights.safetensors", "masks.safetensors"
MODEL_FILES = (WEIGHTS, MASKS)
"""What may be dropped: the rest of a node is its result, these can be computed again."""
CURVES, SCORES = "curves.json", "scores.json"

Parents: TypeAlias = list[tuple[Trial, dict[str, Any]]]
"""Parent trials with their nodes' documents."""


@dataclass
class Made:
    """What a step made: a model, its channel plan, and files beside the weights."""

    model: Classifier
    plan: ChannelPlan
    files: dict[str, Any] = field(default_factory=dict)  # name -> JSON content


class Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.started = time.time()
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to ``name``."""
        now = time.perf_counter()
        self.laps[name] = round(self.laps.get(name, 0.0) + now - self._last, 4)
        self._last = now


def make_baseline(trial: Trial, dataset: Dataset) -> Baseline:
    """The trial's baseline, told about the data."""
    names = sorted(set(dataset.coarse))
    task = Task(
        num_classes=len(dataset.classes),
        num_groups=len(dataset.groups),
        coarse_C=tuple(map(names.index, dataset.coarse)) if names else None,
        groups=tuple(dataset.groups),
    )
    baseline = baselines.get(trial.baseline.name)(trial.baseline, task)
    assert isinstance(baseline, Baseline)
    return baseline


def empty_model(trial: Trial, baseline: Baseline, plan: ChannelPlan) -> Classifier:
    """A classifier of the shape a plan describes, for weights that are loaded into it."""
    net = backbones.get(trial.backbone.name).shell(trial.backbone, baseline.num_outputs())
    return with_plan(Classifier(net), baseline, plan)


def with_plan(model: Classifier, baseline: Baseline, plan: ChannelPlan) -> Classifier:
    """The classifier with its baseline's modules, cut to the plan."""
    baseline.adapt(model)
    model.extra = baseline.extra_modules(model.head.in_features)
    apply_plan(model.net, plan, baseline.feature_heads(model))
    model.plan = plan
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


def to_device(model: Classifier, device: torch.device) -> Classifier:
    """The model on the device; channels_last on a GPU, where convolutions are faster in it."""
    if device.type == "cuda":
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    return model.to(device)


def model_files(model: Classifier) -> dict[str, bytes]:
    """The files a model comes back from, but for its plan."""
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    files = {WEIGHTS: save_tensors(state)}
    if model.masks:
        files[MASKS] = save_tensors({n: m.cpu().contiguous() for n, m in model.masks.items()})
    return files


def has_model(store: Store, key: str) -> bool:
    """Whether the model of a committed node is there and undamaged (all of it is read)."""
    node = store.node(key)
    return node is not None and all(
        store.is_whole(key, name) for name in MODEL_FILES if name in node["files"]
    )


def commit(
    store: Store,
    key: str,
    trial: Trial,
    parents: Parents,
    made: Made,
    predictions: dict[str, Predictions],
    dataset: Dataset,
    execution: dict[str, Any],
    versions: dict[str, str],
) -> dict[str, Any]:
    """Put a finished trial into the store; returns the node's document (of the first commit)."""
    model = made.model
    files = model_files(model)
    weights = files[WEIGHTS]
    files |= {FILES[split]: p.to_bytes() for split, p in predictions.items()}
    files |= {
        n: json.dumps(content, allow_nan=False).encode() for n, content in made.files.items()
    }
    num_masked = sum(int((mask == 0).sum()) for mask in model.masks.values())
    document = {
        "trial": trial.model_dump(mode="json"),
        "classes": list(dataset.classes),
        "image_size": dataset.image_size,
        "parents": [
            {"key": node["key"], "weights_sha256": node["files"][WEIGHTS]["sha256"]}
            for _, node in parents
        ],
        "plan": made.plan,
        "model": {
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "plan_sha256": digest(made.plan),
            "predictions_sha256": {split: p.digest() for split, p in predictions.items()},
            "num_params": sum(p.numel() for p in model.parameters()),
            "num_masked": num_masked,
            "flops": count_flops(model, make_baseline(trial, dataset), dataset.image_size),
            "channels": {
                layer: [entry["num_channels"], entry["num_channels"] - len(entry["removed"])]
                for layer, entry in made.plan.items()
            },
        },
        "execution": execution | {"environment": environment_id(versions)},
        "environment": versions,
    }
    return store.commit(key, files, document)


def execution(clock: Clock, device: torch.device, notes: list[str]) -> dict[str, Any]:
    """When, where and how long: never part of what is compared."""
    on_gpu = device.type == "cuda"
    return {
        "seconds": dict(clock.laps),
        "started": clock.started,
        "host": platform.node(),
        "pid": os.getpid(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "torch": torch.__version__,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if on_gpu else 0,
        "notes": list(notes),
    }


LATENCY_BATCH, LATENCY_REPEATS = 32, 5


@torch.no_grad()
def measure_latency(
    model: Classifier, baseline: Baseline, image_size: int
) -> dict[str, float | int]:
    """Seconds of the forward pass of one float32 batch: the median of several after one to warm
    up, with the size of the batch.

    What else runs on the machine is in it, so compare only trials of one sweep run alike.
    """
    device = next(model.parameters()).device
    image_NCHW = torch.zeros(LATENCY_BATCH, 3, image_size, image_size, device=device)
    group_N = torch.zeros(LATENCY_BATCH, dtype=torch.int64, device=device)
    seconds = []
    for _ in range(1 + LATENCY_REPEATS):
        start = time.perf_counter()
        baseline.logits(model, image_NCHW, group_N)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": round(statistics.median(seconds[1:]), 6),
        "batch_size": LATENCY_BATCH,
        "repeats": LATENCY_REPEATS,
    }


@torch.no_grad()
def count_flops(model: Classifier, baseline: Baseline, image_size: int) -> int:
    """Floating point operations (two a multiply-add) of inference on one image."""
    from torch.utils.flop_counter import FlopCounterMode  # it takes Triton along

    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        image = torch.zeros(1, 3, image_size, image_size, device=device)
        baseline.logits(model, image, torch.zeros(1, dtype=torch.int64, device=device))
    return int(counter.get_total_flops())
