"""How many trials a cluster takes at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.cluster.attach import launched_from
from orchestrator.running.resources import Resources, check_gpus_per_trial, trials_on_gpus
from trainables.errors import UserError
from trainables.trial_spec import Compute


def cluster_resources(given: Resources, compute: Compute) -> Resources:
    """Defaults from the cluster this process is connected to: one GPU a trial where there are
    GPUs, as many trials as fit into the nodes that are up or that the autoscaler may add.

    Raises:
        UserError: what is asked for fits on no node.
    """
    import ray

    up = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [*up, *_may_come(launched_from(), len(up))]
    cpus = compute.threads * compute.world_size
    gpus = given.gpus_per_trial
    if gpus is None:
        gpus = float(compute.world_size) if any(node.get("GPU", 0) for node in nodes) else 0.0
    check_gpus_per_trial(gpus, compute.world_size)
    fits = sum(trials_on(node, cpus, gpus) for node in nodes)
    workers = fits if given.workers is None else given.workers
    if workers < 1 and given.workers is not None:
        raise UserError(f"--workers must be at least 1 but got {workers}")
    if not fits and given.workers is None:
        need = f"{cpus} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        raise UserError(
            f"--address {given.address}: no node has {need}, which one trial needs; where nodes "
            "come on demand and not by `ray up`, say how many trials at once: --workers"
        )
    return replace(given, workers=workers, gpus_per_trial=gpus)


def trials_on(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Trials that a node has room for."""
    room = int(node.get("CPU", 0) / cpus + 1e-9)
    return min(room, trials_on_gpus(node.get("GPU", 0), gpus)) if gpus else room


def _may_come(file: Mapping[str, Any] | None, num_up: int) -> Iterable[Mapping[str, float]]:
    """Workers that the autoscaler may still start: the largest kinds first, as far as
    ``max_workers`` goes. Those of a fixed list of machines are there already.
    """
    if file is None or file.get("provider", {}).get("type") == "local":
        return []
    left = max(0, int(file.get("max_workers", 0)) - (num_up - 1))
    kinds = [
        (kind.get("resources", {}), int(kind.get("max_workers", 0)))
        for name, kind in file.get("available_node_types", {}).items()
        if name != file.get("head_node_type")
    ]
    kinds.sort(key=lambda kind: (kind[0].get("GPU", 0), kind[0].get("CPU", 0)), reverse=True)
    found: list[Mapping[str, float]] = []
    for resources, most in kinds:
        number = min(left, most)
        found += [resources] * number
        left -= number
    return found
