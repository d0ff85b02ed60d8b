"""What one trial does: make a node from its parents.

Runs alone, without Ray. ``run_trial`` is idempotent: a node that is stored is returned, not
computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.baselines.base import Baseline, Batch
from trainables.data.base import SPLITS, Dataset
from trainables.data.device import DeviceData
from trainables.deriving import training_images
from trainables.environment import environment
from trainables.metrics.groups import group_scores
from trainables.models.classifier import Classifier
from trainables.node import (
    CURVES,
    SCORES,
    Clock,
    Made,
    Parents,
    commit,
    execution,
    has_model,
    load_model,
    make_baseline,
    measure_latency,
    model_files,
    to_device,
    with_plan,
)
from trainables.predictions import FILES, Predictions, split_counts, split_predictions
from trainables.pruning.base import ScoringError
from trainables.pruning.remove import choose, remove
from trainables.pruning.surgery import ChannelPlan, removed_between
from trainables.registry import backbones, criteria
from trainables.replicas import ALONE, Replicas
from trainables.resuming import Checkpoints
from trainables.scoring import score_criteria
from trainables.store import Store
from trainables.streams import stream
from trainables.training import Trainer, TrainingError
from trainables.trial_spec import DataIdentity, Prune, Trial, node_key

Report = Callable[[str, int, int], None]


def identity(dataset: Dataset) -> DataIdentity:
    """What keys know of a data set."""
    return DataIdentity(dataset.fingerprint, dataset.group_digest)


def run_trial(
    trial: Trial,
    dataset: Dataset,
    store: Store,
    *,
    device: str = "cpu",
    report: Report | None = None,
    replicas: Replicas = ALONE,
    checkpoint_every: float = 0.0,
) -> dict[str, Any]:
    """Compute (or find) the node of a resolved trial and return its document.

    Missing parents are computed first, so that a single trial can be run by itself. Where several
    processes compute it together, all call this with the same arguments but ``replicas`` and
    ``device``. A training of more than ``checkpoint_every`` seconds leaves a checkpoint in the
    store, from which another attempt goes on (0: none is written or read).

    Raises:
        ValueError: not as many processes as the trial says.
        TrainingError, ScoringError: this trial cannot be computed; it would fail again.
        StoreError: a parent's weights are damaged.
        UserError: the baseline cannot be used with this data set.
    """
    if replicas.size != trial.compute.world_size:
        raise ValueError(
            f"{replicas.size} processes for a trial of world_size {trial.compute.world_size}"
        )
    key = node_key(trial, identity(dataset))
    node = replicas.same(store.node(key))
    if node is not None:
        return node
    step = _prepare(trial, dataset, store, device, report, replicas, checkpoint_every)
    made = step.make()
    recipe = trial.prune.finetune if trial.prune else trial.baseline.training
    predictions = {}
    for number, split in enumerate(SPLITS):
        rows = dataset.indices(number)
        logits_NK = step.trainer.predict(made.model, step.baseline, recipe, rows)
        predictions[split] = split_predictions(dataset, split, logits_NK)
    step.clock.lap("predict")
    latency = measure_latency(made.model, step.baseline, dataset.image_size)
    how = execution(step.clock, step.device, step.trainer.notes) | {"latency": latency}
    how |= step.checkpoints.told
    document = None
    if replicas.is_first:
        document = commit(
            store, key, trial, step.parents, made, predictions, dataset, how,
            environment(step.device),
        )  # fmt: skip
    committed = replicas.same(document)
    assert committed is not None
    step.checkpoints.remove()
    return committed


def remake_model(
    trial: Trial,
    dataset: Dataset,
    store: Store,
    *,
    device: str = "cpu",
    report: Report | None = None,
    replicas: Replicas = ALONE,
    checkpoint_every: float = 0.0,
) -> dict[str, Any]:
    """Compute the model of a stored node again where it was dropped or is damaged, and the models
    of its ancestors as far as they are missing; returns the node's document.

    The record stays: nothing is measured again, and the channels that the record names are
    removed, not scored anew. On one CPU family the weights are the same to the bit; a GPU's differ
    by its rounding, and the document then names the checksum of those that are there.

    Raises:
        as ``run_trial``.
    """
    key = node_key(trial, identity(dataset))
    node, is_whole = replicas.same((store.node(key), has_model(store, key)))
    if node is None:
        return run_trial(
            trial, dataset, store, device=device, report=report, replicas=replicas,
            checkpoint_every=checkpoint_every,
        )  # fmt: skip
    if is_whole:
        return node
    step = _prepare(trial, dataset, store, device, report, replicas, checkpoint_every)
    step.recorded_plan = node["plan"]
    files = model_files(step.make().model)
    replaced = replicas.same(store.replace(key, files) if replicas.is_first else None)
    assert replaced is not None
    step.checkpoints.remove()
    return replaced


def _prepare(
    trial: Trial,
    dataset: Dataset,
    store: Store,
    device: str,
    report: Report | None,
    replicas: Replicas,
    checkpoint_every: float,
) -> _Step:
    """The step with its parents' models in the store and its data on the device."""
    baseline = make_baseline(trial, dataset)  # refuses unfit data before anything is trained
    _check_criterion(trial, dataset)
    torch.set_num_threads(trial.compute.threads)
    parents: Parents = [
        (
            parent,
            remake_model(
                parent, dataset, store, device=device, report=report, replicas=replicas,
                checkpoint_every=checkpoint_every,
            ),
        )
        for parent in trial.parents
    ]  # fmt: skip
    clock = Clock()
    prepare_device(torch.device(device), trial)
    data = DeviceData(dataset, torch.device(device))
    trainer = Trainer(data, trial.compute, trial.seed, trial.n, replicas=replicas)
    clock.lap("data")
    key = node_key(trial, identity(dataset))
    checkpoints = Checkpoints(
        store, key, checkpoint_every, replicas, versions=environment(torch.device(device))
    )
    return _Step(trial, parents, baseline, trainer, store, clock, report, checkpoints)


def initial_model(trial: Trial, baseline: Baseline, device: torch.device) -> Classifier:
    """The classifier as training starts with it: a function of the trial's seed alone."""
    backbone = backbones.get(trial.backbone.name)
    generator = stream(trial.seed, "init")
    net = backbone.build(trial.backbone, baseline.num_outputs(), generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed() + 1)
        model = with_plan(Classifier(net), baseline, {})
    return to_device(model, device)


def prepare_device(device: torch.device, trial: Trial) -> None:
    """How a GPU computes a trial's convolutions; nothing on a CPU."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        # on Ampere and later "float32" convolutions are rounded to TF32 unless told otherwise
        torch.backends.cudnn.allow_tf32 = trial.compute.precision != "float32"
        torch.cuda.reset_peak_memory_stats()


@dataclass
class _Step:
    """The one step that makes this node from its parents."""

    trial: Trial
    parents: Parents
    baseline: Baseline
    trainer: Trainer
    store: Store
    clock: Clock
    report: Report | None
    checkpoints: Checkpoints
    recorded_plan: ChannelPlan | None = None
    """Of a node that is made again: which channels it removed."""
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.trainer.data.device

    def make(self) -> Made:
        """The model in eval mode, and what it leaves beside its weights."""
        try:
            made = self.prune() if self.trial.n else self.train()
        except (TrainingError, ScoringError):  # another attempt would come to the same
            self.checkpoints.remove()
            raise
        made.model.eval()
        return made

    def train(self) -> Made:
        """Steps ``train`` and ``derive``: a baseline from data, or from its first source."""
        trial, baseline = self.trial, self.baseline
        model = initial_model(trial, baseline, self.device)
        sources = self._sources(self.parents)
        baseline.begin(model, sources)
        curves: list[dict[str, float]] = []
        if baseline.derives:
            source = make_baseline(self.parents[0][0], self.trainer.data.dataset)
            images = training_images(self.trainer, trial.baseline.training, sources[0], source)
            model.load_state_dict(sources[0].state_dict())
            model.masks = {n: mask.to(self.device) for n, mask in sources[0].masks.items()}
            baseline.derive(model, images)
            self.trainer.replicas.agree([*model.state_dict().values(), *model.masks.values()])
            self.clock.lap("derive")
        else:
            recipe = trial.baseline.training
            curves = self.trainer.fit(model, baseline, recipe, self.report, self.checkpoints)
            self.clock.lap("train")
        return Made(model, {}, {CURVES: curves})

    def prune(self) -> Made:
        """Step ``prune``: score the channels, remove the lowest, fine-tune."""
        prune = self.trial.prune
        assert prune is not None
        (parent, document), *sources = self.parents
        model, node = load_model(self.store, document["key"], parent, self.baseline)
        made = Made(to_device(model, self.device), node["plan"])
        self.clock.lap("load")
        if prune.cuts:
            removed = self._removed(made, prune)
            made.plan = remove(made.model, prune, made.plan, removed, self.baseline)
            made.model.plan = made.plan
            made.model = to_device(made.model, self.device)
            self.clock.lap("surgery")
        self.baseline.begin(made.model, self._sources(sources))
        plain = prune.finetune_loss == "cross_entropy"
        loss = _CrossEntropy(self.baseline) if plain else self.baseline
        self.checkpoints.about = {"plan": made.plan, "files": dict(made.files)}
        made.files[CURVES] = self.trainer.fit(
            made.model, loss, prune.finetune, self.report, self.checkpoints
        )
        self.clock.lap("train")
        return made

    def _removed(self, made: Made, prune: Prune) -> dict[str, list[int]]:
        """Layer -> positions to remove: by their scores, or as recorded."""
        known = self.checkpoints.known
        made.files |= known.get("files", {})
        plan = self.recorded_plan or known.get("plan")
        if plan is not None:
            return removed_between(made.plan, plan)
        (scores,) = score_criteria(
            made.model, [prune], self.trainer, self.baseline, self._better_served
        )
        self.clock.lap("score")
        removed = choose(prune, made.plan, scores)
        made.files[SCORES] = _scores_document(prune, scores, removed)
        return removed

    def _better_served(self) -> int:
        """The group with the highest validation macro F1 of the chain's root, of equal ones the
        first.

        Raises:
            ScoringError: no validation image of a known group.
        """
        root, dataset = self.trial.chain[0], self.trainer.data.dataset
        document = run_trial(
            root, dataset, self.store, device=str(self.device), replicas=self.trainer.replicas
        )
        stored = Predictions.from_bytes(self.store.read(document["key"], FILES["validation"]))
        f1_G = group_scores(split_counts(dataset, "validation", stored)).f1_G
        if np.isnan(f1_G).all():
            raise ScoringError("no validation image of a known group to compare F1 by")
        best = int(np.nanargmax(f1_G))
        told = ", ".join(f"{g} {f1:.4f}" for g, f1 in zip(dataset.groups, f1_G, strict=True))
        self.trainer.note(
            f"privileged group is {dataset.groups[best]} (validation macro F1 of the trained "
            f"baseline: {told})"
        )
        return best

    def _sources(self, parents: Parents) -> list[Classifier]:
        """Models of the sources on the device, in eval mode."""
        models = []
        for parent, node in parents:
            baseline = make_baseline(parent, self.trainer.data.dataset)
            model, _ = load_model(self.store, node["key"], parent, baseline)
            models.append(to_device(model, self.device).eval())
        return models


def _check_criterion(trial: Trial, dataset: Dataset) -> None:
    """Whether the criterion can be computed on this data, before anything is trained.

    Raises:
        UserError: it cannot.
    """
    if trial.prune is None:
        return
    config = trial.prune.criterion
    cls = criteria.get(config.name)
    cls.check_attributes(config, (dataset.attribute, *dataset.further))
    cls.check_groups(config, dataset.groups)


def _scores_document(
    prune: Prune, scores: Mapping[str, Tensor], removed: Mapping[str, list[int]]
) -> dict[str, Any]:
    """What ``scores.json`` holds: of one layer, or of each."""
    each = [
        {"layer": layer, "score": score_C.tolist(), "removed": removed[layer]}
        for layer, score_C in scores.items()
    ]
    return {"layer": prune.layer, "layers": each} if prune.several else each[0]


class _CrossEntropy(Baseline):
    """Fine-tuning with plain cross-entropy; inference stays the baseline's."""

    def __init__(self, baseline: Baseline) -> None:
        super().__init__(baseline.config, baseline.task)
        self._baseline = baseline

    def loss(self, model: Classifier, batch: Batch) -> Tensor:
        return self._baseline.plain_cross_entropy(model, batch)

    def state_dict(self) -> dict[str, Tensor]:
        return self._baseline.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._baseline.load_state_dict(state)

    def logits(self, model: Classifier, image_NCHW: Tensor, group_N: Tensor) -> Tensor:
        return self._baseline.logits(model, image_NCHW, group_N)
