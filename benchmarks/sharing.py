"""What prefix sharing alone is worth: the same points with and without it, everything else equal.

    python -m benchmarks.sharing --root PATH --sample 16

Both sides run ``trainables.trial.run_trial`` in as many processes on each GPU as ``--share`` says.
With sharing the nodes of the space of ``benchmarks/whole_sweep.py`` are computed once; without it
each point has an empty store and computes its own root and chain. ``--sample`` points are run
without, scaled by epochs of training to all. Beside it the ratio that ``fatefront plan`` predicts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util import ActorPool

from benchmarks.whole_sweep import (
    BASELINES,
    CRITERIA,
    ITERATIONS,
    RATIOS,
    SEEDS,
    all_epochs,
    scaled,
)
from orchestrator.plan import plan_space
from orchestrator.spaces import load_space
from trainables.data.load import load_dataset
from trainables.store import Store
from trainables.training_rate import TrainingRate
from trainables.trial import run_trial
from trainables.trial_spec import Trial


@ray.remote
class Runner:
    """One process that computes trials, warm like a worker in the middle of a sweep."""

    def __init__(self, dataset: Any, device: str, first: Trial) -> None:
        torch.set_num_threads(1)
        self.dataset, self.device = dataset, device
        TrainingRate(first, dataset, device)

    def run(self, trial: Trial, store: str | None) -> float:
        """Compute a node in a store, or a whole chain in a store of its own; returns seconds."""
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="alone-") as alone:
            run_trial(trial, self.dataset, Store(store or alone), device=self.device)
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="HAM10000's images and metadata")
    parser.add_argument("--sample", type=int, default=16)
    parser.add_argument("--share", type=float, default=0.125, help="of a GPU for each process")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--finetune-epochs", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], help="override of the space")
    options = parser.parse_args()
    spec = load_space(f"{Path(__file__).with_name('whole_sweep.py')}:headline", scaled(options))
    dataset = load_dataset(spec.data)
    num_gpus = torch.cuda.device_count()
    device = "cuda" if num_gpus else "cpu"
    cores = len(os.sched_getaffinity(0))
    number = int(num_gpus / options.share + 1e-9) if num_gpus else cores
    ray.init(
        address="local", num_cpus=max(cores, number), include_dashboard=False, log_to_driver=False
    )
    arms = [
        (baseline, {"criterion": criterion, "ratio": ratio}, seed)
        for baseline, criterion, ratio, seed in itertools.product(
            BASELINES, CRITERIA, RATIOS, SEEDS
        )
    ]

    def trial(arm: tuple[str, dict[str, Any], int], n: int) -> Trial:
        return spec.trial(arm[0], arm[1], n, arm[2]).resolved(device)

    roots = [trial((name, arms[0][1], seed), 0) for name in BASELINES for seed in SEEDS]
    reference = ray.put(dataset)
    share = options.share if num_gpus else 0
    made = Runner.options(num_cpus=1, num_gpus=share)  # type: ignore[attr-defined]
    runners = [made.remote(reference, device, roots[0]) for _ in range(number)]
    ray.get([runner.__ray_ready__.remote() for runner in runners])

    def wall(jobs: list[tuple[Trial, str | None]]) -> float:
        begun = time.monotonic()
        pool = ActorPool(runners)
        list(pool.map_unordered(lambda actor, job: actor.run.remote(*job), jobs))
        return time.monotonic() - begun

    with tempfile.TemporaryDirectory(prefix="shared-") as store:
        shared = wall([(root, store) for root in roots])
        for n in range(1, ITERATIONS + 1):
            shared += wall([(trial(arm, n), store) for arm in arms])
    points = [(arm, n) for arm in arms for n in range(1, ITERATIONS + 1)]
    points += [((name, arms[0][1], seed), 0) for name in BASELINES for seed in SEEDS]
    sample = random.Random(0).sample(points, min(options.sample, len(points)))
    alone = wall([(trial(arm, n), None) for arm, n in sample])
    epochs = sum(options.epochs + n * options.finetune_epochs for _, n in sample)
    scale = (all_epochs(options) + len(roots) * options.epochs) / epochs
    plan = plan_space(spec)
    where = torch.cuda.get_device_name() if num_gpus else "CPU"
    print(f"{max(1, num_gpus)} x {where}, {number} processes, {len(points)} points")
    print("| | seconds | |")
    print("|---|---|---|")
    how = f"{len(sample)} points in {alone:.0f}, x {scale:.2f}"
    print(f"| shared | {shared:.0f} | all measured |")
    print(f"| not shared | {alone * scale:.0f} | {how} |")
    print(f"| ratio | {alone * scale / shared:.2f} | predicted by plan: {plan['sharing']} |")


if __name__ == "__main__":
    main()
