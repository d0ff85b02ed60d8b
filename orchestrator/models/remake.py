"""Models of the front's members that were dropped to save disk, made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.ledger.manifest import read_sweep
from trainables.errors import UserError
from trainables.store import Store


def remake_models(
    folder: Path, keys: Iterable[str], store: Store, manifest: Mapping[str, Any]
) -> int:
    """Train the missing models of stored nodes again, on the kind of device that the sweep ran on.

    Records stay as they are: nothing is scored or measured anew (``trainables.trial``).

    Args:
        folder: the sweep.
        keys: nodes, each in ``store``; those whose model is there are left alone.
        store: holds the nodes.
        manifest: of the sweep.

    Returns:
        How many were made.

    Raises:
        UserError: the data set or the GPU that the sweep was run on is not here, or training
            fails.
    """
    from orchestrator.single import check_device
    from trainables.data.load import load_dataset
    from trainables.node import has_model
    from trainables.pruning.base import ScoringError
    from trainables.store import StoreError
    from trainables.training import TrainingError
    from trainables.trial import identity, remake_model
    from trainables.trial_spec import Trial, node_key

    nodes = {key: store.node(key) for key in keys if not has_model(store, key)}
    if not nodes:
        return 0
    device = str(manifest["device"])
    check_device(device, "--remake")
    dataset = load_dataset(read_sweep(folder).data)
    for key, node in nodes.items():
        if node is None:
            raise UserError(f"--remake: node {key} is not in {store.uri}")
        trial = Trial.model_validate(node["trial"])
        if node_key(trial, identity(dataset)) != key:
            raise UserError(
                f"--remake: node {key} was computed by another version or from other data than "
                "are here, and would not be the same again"
            )
        if trial.compute.world_size > 1:
            raise UserError(f"--remake: node {key} was trained on several GPUs together; not here")
        try:
            remake_model(trial, dataset, store, device=device)
        except (TrainingError, ScoringError, StoreError) as error:
            raise UserError(f"--remake: node {key}: {error}") from None
    return len(nodes)
