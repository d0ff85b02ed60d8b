"""Seconds that intervals, floor, p and the detectable gap take for a data set of many classes.

One prediction of Fitzpatrick17k's size: 1,657 test images, 114 classes, two groups, each image a
patient of its own, half of them taken for another class.

    python benchmarks/resampling.py [--replicates 10000] [--classes 114] [--images 1657] [--runs 3]
"""

import argparse
import statistics
import time

import numpy as np

from trainables.metrics.corrected_gap import gap_debiased
from trainables.metrics.detectable import smallest_detectable_gap
from trainables.metrics.floor import permutation_floor
from trainables.metrics.replicates import replicate_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=114)
    parser.add_argument("--images", type=int, default=1_657)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, asked.classes, asked.images)
    other_N = rng.integers(0, asked.classes, asked.images)
    prediction_N = np.where(rng.random(asked.images) < 0.5, label_N, other_N)
    group_N = rng.integers(0, 2, asked.images)
    shape = {"num_classes": asked.classes, "num_groups": 2}
    drawn = shape | {"num_replicates": asked.replicates}
    images = (label_N, prediction_N[None], group_N, None)
    steps = {
        "intervals of all figures": lambda: replicate_metrics(
            label_N, group_N, np.arange(asked.images), prediction_N[None, None], **drawn
        ),
        "floor and p of all gaps": lambda: permutation_floor(*images, **drawn),
        "debiased gaps": lambda: gap_debiased(*images, **shape),
        "detectable gap, Eopp1": lambda: smallest_detectable_gap(*images, **drawn, gap="eopp1"),
        "detectable gap, Eodd (Hardt)": lambda: smallest_detectable_gap(
            *images, **drawn, gap="eodd_hardt"
        ),
    }
    print(f"{asked.classes} classes, {asked.images} images, {asked.replicates} replicates\n")
    print("| step | seconds, median | fastest | slowest |")
    print("|---|---:|---:|---:|")
    for name, step in steps.items():
        seconds = []
        for _ in range(asked.runs):
            begun = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - begun)
        middle = statistics.median(seconds)
        print(f"| {name} | {middle:.1f} | {min(seconds):.1f} | {max(seconds):.1f} |")


if __name__ == "__main__":
    main()
