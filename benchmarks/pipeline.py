"""Images a second of one training process: real images, images already on the device, DataLoader.

    python -m benchmarks.pipeline --root PATH

ResNet-18 at 128 px with the step that sweeps use (``trainables/training_rate.py``): augmented real
images from fatefront's array; the same step on one fixed batch on the device, which is the most
any pipeline can reach; and JPEG files through PIL and a DataLoader with every CPU core. Each row
is the median of ``--repeats``; rows take turns, so that a slow minute slows all.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.usual_way.loader import LoaderTrainer, jpeg_paths
from search_spaces.ham10000 import ham10000
from trainables.baselines.base import Batch
from trainables.data.load import load_dataset
from trainables.training_rate import TrainingRate
from trainables.trial_spec import Trial


class _Fixed(TrainingRate):
    """The same batch again and again."""

    def endless(self) -> Iterator[Batch]:
        first = next(iter(self.trainer.training_batches(self.recipe, 0)))
        return itertools.repeat(first)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="HAM10000's images and metadata")
    parser.add_argument("--batch-size", type=int, action="append", help="may be repeated")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--backbone", default="resnet18")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1 if device == "cuda" else len(os.sched_getaffinity(0)))
    cores = len(os.sched_getaffinity(0))
    spec = ham10000()
    spec = spec.model_copy(
        update={
            "data": spec.data.model_copy(
                update={"root": str(options.root), "image_size": options.image_size}
            )
        }
    )
    dataset = load_dataset(spec.data)
    paths = jpeg_paths(options.root, dataset.image_id_N.tolist())
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{options.backbone}, {options.image_size} px, one process, {where}, {cores} cores")
    print("| batch | fixed batch on the device | real images | of it | DataLoader | real / it |")
    print("|---|---|---|---|---|---|")
    for size in options.batch_size or (64, 256):
        trial = Trial(
            backbone={"name": options.backbone},
            baseline={
                "name": "vanilla",
                "training": spec.training.model_copy(update={"batch_size": size}),
            },
            seed=0,
        ).resolved(device)
        fixed = _Fixed(trial, dataset, device)
        real = TrainingRate(trial, dataset, device)
        usual = TrainingRate(
            trial, dataset, device,
            lambda data, t: LoaderTrainer(
                data, t.compute, t.seed, 0, paths=paths, loader_workers=cores
            ),
        )  # fmt: skip
        rates: dict[str, list[float]] = {"fixed": [], "real": [], "usual": []}
        for _ in range(options.repeats):
            for name, rate in (("fixed", fixed), ("real", real), ("usual", usual)):
                if name == "usual":  # what its workers had ready while the others ran
                    rate.run_steps(4 * cores)
                measured = rate.run(options.seconds)
                rates[name].append(measured.images / measured.seconds)
        a, b, c = (statistics.median(rates[name]) for name in ("fixed", "real", "usual"))
        ratios = f"{b / a:.2f} | {c:,.0f} | {b / c:.1f}"
        print(f"| {size} | {a:,.0f} | {b:,.0f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
