"""One point of a sweep as one trial of its own: train, then score, prune and fine-tune n times."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.usual_way.loader import LoaderTrainer, jpeg_paths
from trainables.data.base import Dataset
from trainables.data.device import DeviceData
from trainables.metrics.summary import summarise
from trainables.node import make_baseline, to_device
from trainables.predictions import split_counts, split_predictions
from trainables.pruning.remove import choose, remove
from trainables.scoring import score_criteria
from trainables.trial import initial_model, prepare_device
from trainables.trial_spec import Recipe, Trial


def run_point(
    trial: Trial, dataset: Dataset, jpeg_root: Path, device: str, loader_workers: int
) -> dict[str, Any]:
    """Compute a resolved trial from scratch.

    Returns:
        Validation figures of the root (``root_f1``, ...) and of the pruned net, and seconds.

    Raises:
        ValueError: a baseline that needs other trained models, which a trial here does not have.
    """
    begun = time.perf_counter()
    root = trial.chain[0]
    if root.parents:
        raise ValueError(f"{root.baseline.name} starts from another baseline's weights")
    where = torch.device(device)
    prepare_device(where, trial)
    data = DeviceData(dataset, where)
    paths = jpeg_paths(jpeg_root, dataset.image_id_N.tolist())

    def trainer(step: Trial) -> LoaderTrainer:
        return LoaderTrainer(
            data, step.compute, step.seed, step.n, paths=paths, loader_workers=loader_workers
        )

    baseline = make_baseline(root, dataset)
    model = initial_model(root, baseline, where)
    baseline.begin(model, [])
    now = trainer(root)
    now.fit(model, baseline, root.baseline.training)
    figures = _figures(now, model, baseline, root.baseline.training, dataset, "root_")
    plan: dict[str, Any] = {}
    for step in trial.chain[1:]:
        prune = step.prune
        assert prune is not None
        now = trainer(step)
        if prune.cuts:
            (scores,) = score_criteria(model, [prune], now, baseline)
            plan = remove(model, prune, plan, choose(prune, plan, scores), baseline)
            model.plan = plan
            model = to_device(model, where)
        baseline.begin(model, [])
        now.fit(model, baseline, prune.finetune)
    recipe = trial.prune.finetune if trial.prune else root.baseline.training
    figures |= _figures(now, model, baseline, recipe, dataset, "")
    return figures | {"seconds": time.perf_counter() - begun}


def _figures(
    trainer: LoaderTrainer, model: Any, baseline: Any, recipe: Recipe, dataset: Dataset, name: str
) -> dict[str, float]:
    rows = dataset.indices(1)
    logits_NK = trainer.predict(model, baseline, recipe, rows)
    counts = split_counts(
        dataset, "validation", split_predictions(dataset, "validation", logits_NK)
    )
    found = summarise(counts, groups=dataset.groups, classes=dataset.classes, mode="corrected")
    return {f"{name}{key}": float(found[key]) for key in ("f1", "eodd_hardt")}
