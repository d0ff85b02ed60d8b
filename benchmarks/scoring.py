"""What the scoring pass costs against a plain forward pass over the same images.

    python -m benchmarks.scoring --root PATH

ResNet-18 at 128 px, the criterion's own number of images, bf16 on a GPU. A plain pass runs the net
in inference over the images that SNNL reads, as many at once as the scoring pass. "All criteria"
are scored together, as one statistics pass does; the one backward pass that some of them need is
in the row before.
Medians of ``--repeats``; rows take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from search_spaces.ham10000 import ham10000
from trainables.data.device import DeviceData
from trainables.data.load import load_dataset
from trainables.node import make_baseline
from trainables.scoring import images_at_once, score_criteria, scoring_rows
from trainables.training import Trainer
from trainables.trial import initial_model, prepare_device
from trainables.trial_spec import Prune

STATISTICS = ("snnl", "hsic", "skewness", "magnitude", "random")
GRADIENTS = ("taylor",)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="HAM10000's images and metadata")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=128)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = ham10000()
    data = spec.data.model_copy(
        update={"root": str(options.root), "image_size": options.image_size}
    )
    dataset = load_dataset(data)
    arm = {"criterion": "snnl", "ratio": 0.02}
    trial = spec.trial("vanilla", arm, 1, 0).resolved(device.type)
    assert trial.prune is not None
    prepare_device(device, trial)
    trainer = Trainer(DeviceData(dataset, device), trial.compute, trial.seed, 1)
    baseline = make_baseline(trial, dataset)
    model = initial_model(trial.chain[0], baseline, device).eval()

    def prune(criterion: str) -> Prune:
        found = spec.trial("vanilla", arm | {"criterion": criterion}, 1, 0).resolved(device.type)
        assert found.prune is not None
        return found.prune

    order = scoring_rows(model, trial.prune, trainer, baseline)

    at_once = images_at_once(options.image_size, gradients=False)
    plain_order = torch.cat(order).split(at_once)

    @torch.inference_mode()
    def plain() -> None:
        for rows in plain_order:
            image_NCHW = trainer.eval_images(trial.baseline.training, rows)
            group_N = trainer.data.group_N[trainer.data.on_device(rows)]
            with trainer.autocast():
                baseline.logits(model, image_NCHW, group_N)

    def backward() -> None:
        score_criteria(model, [prune(name) for name in GRADIENTS], trainer, baseline)

    several = [prune(name) for name in (*STATISTICS, *GRADIENTS)]
    rows: dict[str, Callable[[], object]] = {
        "plain forward pass": plain,
        "snnl": lambda: score_criteria(model, [trial.prune], trainer, baseline),
        "gradients alone (taylor)": backward,
        f"all together ({', '.join((*STATISTICS, *GRADIENTS))})": lambda: score_criteria(
            model, several, trainer, baseline
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(options.repeats + 1):
        for name, action in rows.items():
            begun = time.perf_counter()
            action()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first of each looks for algorithms
                times[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(found) for name, found in times.items()}
    base = medians["plain forward pass"]
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{sum(map(len, order)):,} images, {options.image_size} px, {where}")
    print("| pass | ms | of a plain forward pass |")
    print("|---|---|---|")
    for name, seconds in medians.items():
        print(f"| {name} | {seconds * 1000:.1f} | {seconds / base:.2f} |")


if __name__ == "__main__":
    main()
