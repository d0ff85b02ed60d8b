"""``fatefront exits``: share and accuracy of each exit by threshold and group, for every model of
baseline ``multi_exit`` in a sweep.

Validation only: the stored models are run over that split again, the test split stays sealed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.datasets.of_sweep import dataset_of_sweep
from orchestrator.exits.models import Counted, run_model, wanted_records
from orchestrator.exits.rows import About, row
from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import load_records
from orchestrator.merging.nodes import open_store
from orchestrator.single import check_device
from trainables.data.base import VALIDATION
from trainables.errors import UserError
from trainables.store import StoreError


@dataclass(frozen=True)
class ExitsOptions:
    """The verb's options."""

    key: str | None = None
    thresholds: tuple[float, ...] = ()
    device: str = "auto"


def sweep_exits(folder: Path, options: ExitsOptions | None = None) -> dict[str, Any]:
    """Run every model with exits of a sweep over its validation split and count who leaves where.

    Args:
        folder: of the sweep.
        options: the ``key`` of one node; ``thresholds`` (the paper's six and the model's own, if
            none); ``device``.

    Returns:
        A document of ``schemas/exits.json``.

    Raises:
        UserError: no sweep, no such model in it, thresholds that make no sense, or the images or
            all of the models are not here.
    """
    options = options or ExitsOptions()
    _check_thresholds(options.thresholds)
    device = _device(options.device)
    manifest, spec = read_manifest(folder), read_sweep(folder)
    records = wanted_records(load_records(folder), options.key, folder)
    dataset = dataset_of_sweep(spec.data, manifest, folder, asked_by=f"exits of {folder}")
    store = open_store(folder, manifest)
    found: dict[str, list[Counted]] = defaultdict(list)
    missing = []
    for record in records:
        trial = record["trial"]
        try:
            model = run_model(store, record, dataset, options.thresholds, device)
        except StoreError as error:
            named = {"key": record["key"], "configuration": trial["label"], "seed": trial["seed"]}
            missing.append(named | {"reason": str(error)})
        else:
            found[trial["configuration"]].append(model)
    if not found:
        raise UserError(f"exits of {folder}: no model is here ({missing[0]['reason']})")
    about = About(dataset.groups, dataset.classes, manifest["mode"])
    group_N = dataset.group_N[dataset.indices(VALIDATION)]
    num_exits = next(iter(found.values()))[0].num_exits
    configurations = [_configuration(models, about) for models in found.values()]
    return {
        "sweep": manifest["sweep"],
        "folder": str(folder),
        "split": "validation",
        "mode": manifest["mode"],
        "device": device,
        "attribute": manifest["data"]["attribute"],
        "groups": list(dataset.groups),
        "exits": [*(f"exit{number}" for number in range(1, num_exits)), "head"],
        "num_images": int((group_N >= 0).sum()),
        "num_unknown_group": int((group_N < 0).sum()),
        "configurations": configurations,
        "missing": missing,
        "notes": _notes(configurations, int((group_N < 0).sum())),
    }


def _check_thresholds(thresholds: Sequence[float]) -> None:
    for value in thresholds:
        if not 0 <= value < math.inf:
            raise UserError(
                f"--threshold must be at least 0 and finite but got {value:g} (a probability; "
                "above 1 every image goes to the head)"
            )


def _device(device: str) -> str:
    import torch

    if device not in ("cpu", "auto") and not device.startswith("cuda"):
        raise UserError(f"--device must be cpu, cuda or auto but got {device!r}")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return device


def _configuration(models: Sequence[Counted], about: About) -> dict[str, Any]:
    trial = models[0].record["trial"]
    thresholds = list(models[0].counts)
    return {
        "configuration": trial["label"],
        "configuration_key": trial["configuration"],
        "role": trial["role"],
        "n": trial["n"],
        "own_threshold": models[0].own_threshold,
        "num_seeds": len(models),
        "rows": [row(t, [model.counts[t] for model in models], about) for t in thresholds],
        "models": [
            {
                "seed": model.record["trial"]["seed"],
                "key": model.record["key"],
                "num_differ": model.num_differ,
                "rows": [row(t, [model.counts[t]], about) for t in thresholds],
            }
            for model in models
        ],
    }


def _notes(configurations: Sequence[dict[str, Any]], num_unknown: int) -> list[str]:
    notes = [
        "validation, the test split was not read; shares and accuracies are of all seeds' images "
        "together, F1 and gaps means over seeds, all without intervals"
    ]
    if num_unknown:
        notes.append(f"{num_unknown} images of unknown group are left out")
    differ = [m["num_differ"] or 0 for c in configurations for m in c["models"]]
    if any(differ):
        notes.append(
            f"up to {max(differ)} images of a model get another class than its node has stored: "
            "it ran on another device"
        )
    return notes
