"""Measured coverage of the intervals of trainables/metrics/uncertainty.py; prints one table.

Data sets are drawn from a known model with crossed random effects of seeds and patients, and it is
counted how often the 95 % interval holds

* the expected value of the figure on a test set of this size ("t"; beside it the percentile
  bootstrap that redraws seeds and patients),
* its value with endless patients ("endless data"), above which noise lifts a mean of absolute
  gaps.

    python benchmarks/coverage.py [--sets 1000] [--replicates 400]

Shape legend: A arms (0 the reference), S seeds, N images, P patients, G groups, C classes,
R replicates.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from trainables.metrics.replicates import Replicates, replicate_metrics
from trainables.metrics.uncertainty import (
    CONFIDENCE,
    Interval,
    difference_interval,
    fate_interval,
    metric_interval,
)
from trainables.metrics.weighted import METRICS, metrics_of_weights, prepare

FIGURES = ("f1", "eopp1", "eodd_hardt", "f1 difference", "eopp1 difference", "fate_eodd_hardt")


@dataclass(frozen=True)
class Design:
    """How many patients each class and group has; sd of the effects on the latent score."""

    name: str
    patients_GC: np.ndarray
    seed_sd: float = 0.15
    seed_arm_sd: float = 0.1
    seed_cell_sd: float = 0.25
    patient_sd: float = 0.5


BALANCED = Design("balanced, 20 patients a cell", np.full((2, 6), 20))
RARE = Design(
    "rare, 1 to 40 patients a cell",
    np.array([[40, 30, 22, 16, 12, 9, 6, 5, 3, 2], [20, 14, 10, 7, 5, 4, 3, 2, 1, 1]]),
)


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw(design: Design, num_seeds: int, rng: np.random.Generator, scale: int = 1) -> Rows:
    """Labels, groups, patients (N,) and predictions (A, S, N); one or two images a patient."""
    num_groups, num_classes = design.patients_GC.shape
    cell_P = np.repeat(np.arange(num_groups * num_classes), design.patients_GC.ravel() * scale)
    patient_N = np.repeat(np.arange(len(cell_P)), 1 + (rng.random(len(cell_P)) < 0.5))
    group_N, label_N = np.divmod(cell_P[patient_N], num_classes)
    num_images, shape = len(label_N), (2, num_seeds, len(label_N))
    class_C = np.linspace(1.0, 0.4, num_classes)
    worse_AC = np.array([[0.8], [0.5]]) * np.linspace(0.6, 1.4, num_classes)
    mean_AN = class_C[label_N] - worse_AC[:, label_N] * (group_N == 1) - [[0.0], [0.1]]
    cell_AS = rng.normal(0, design.seed_cell_sd, (2, num_seeds, num_groups * num_classes))
    score_ASN = (
        mean_AN[:, None]
        + rng.normal(0, design.seed_sd, (1, num_seeds, 1))
        + rng.normal(0, design.seed_arm_sd, (2, num_seeds, 1))
        + cell_AS[:, :, group_N * num_classes + label_N]
        + rng.normal(0, design.patient_sd, len(cell_P))[patient_N]
        + rng.normal(0, 0.7, num_images)
        + rng.normal(0, 0.6, shape)
    )
    usual_N = rng.integers(1, 4, num_images)
    step_ASN = np.where(rng.random(shape) < 0.6, usual_N, rng.integers(1, num_classes, shape))
    wrong_ASN = (label_N + step_ASN) % num_classes
    return label_N, group_N, patient_N, np.where(score_ASN > 0, label_N, wrong_ASN)


def originals(
    design: Design, num_seeds: int, rng: np.random.Generator, scale: int = 1
) -> np.ndarray:
    """Mean over seeds of each metric in each arm, (metrics, A)."""
    images = prepare(
        *draw(design, num_seeds, rng, scale),
        num_classes=design.patients_GC.shape[1],
        num_groups=2,
    )
    return metrics_of_weights(images, np.ones((images.num_patients, 1)))[:, 0].mean(-1)


def figures(mean_MA: np.ndarray) -> dict[str, float]:
    """The figures of FIGURES from the means of the metrics in each arm, or from replicates."""
    value = dict(zip(METRICS, mean_MA, strict=True))
    f1, eopp1, hardt = value["f1"], value["eopp1"], value["eodd_hardt"]
    return {
        "f1": f1[1],
        "eopp1": eopp1[1],
        "eodd_hardt": hardt[1],
        "f1 difference": f1[1] - f1[0],
        "eopp1 difference": eopp1[1] - eopp1[0],
        "fate_eodd_hardt": f1[1] / f1[0] - hardt[1] / hardt[0],
    }


def expected(
    design: Design, num_sets: int, num_seeds: int = 2, scale: int = 1
) -> dict[str, float]:
    """Figures of the metrics' mean over data sets with ``scale`` times the design's patients."""
    rng = np.random.default_rng([1, scale])
    return figures(
        np.mean([originals(design, num_seeds, rng, scale) for _ in range(num_sets)], axis=0)
    )


def intervals(replicates: Replicates) -> dict[str, Interval]:
    return {
        "f1": metric_interval(replicates, "f1", 1),
        "eopp1": metric_interval(replicates, "eopp1", 1),
        "eodd_hardt": metric_interval(replicates, "eodd_hardt", 1),
        "f1 difference": difference_interval(replicates, "f1", 1, 0),
        "eopp1 difference": difference_interval(replicates, "eopp1", 1, 0),
        "fate_eodd_hardt": fate_interval(replicates, "eodd_hardt", 1, 0),
    }


def percentile_intervals(
    replicates: Replicates, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The plain bootstrap to compare with: redraws seeds and patients, takes percentiles."""
    value_MRAS = np.stack([replicates.replicate_RAS[name] for name in METRICS])
    num_replicates, _, num_seeds = value_MRAS.shape[1:]
    seed_RS = rng.integers(0, num_seeds, (num_replicates, num_seeds))
    drawn = np.take_along_axis(value_MRAS, seed_RS[None, :, None, :], axis=-1).mean(-1)
    tail = (1 - CONFIDENCE) / 2
    return {
        name: np.quantile(value_R, [tail, 1 - tail])
        for name, value_R in figures(np.moveaxis(drawn, 2, 1)).items()
    }


@dataclass
class Count:
    """Over data sets, of one figure; shares are of those in which it is determined."""

    determined: int = 0
    t: int = 0
    percentile: int = 0
    endless: int = 0
    width: float = 0.0


def measure(
    design: Design,
    num_seeds: int,
    num_sets: int,
    num_replicates: int,
    target: dict[str, float],
    endless: dict[str, float],
    seed: int = 0,
) -> dict[str, Count]:
    """Count over data sets how often each interval holds what it should."""
    rng = np.random.default_rng([seed, num_seeds])
    count = {name: Count() for name in FIGURES}
    for i in range(num_sets):
        replicates = replicate_metrics(
            *draw(design, num_seeds, rng),
            num_classes=design.patients_GC.shape[1],
            num_groups=2,
            num_replicates=num_replicates,
            seed=i,
        )
        percentile = percentile_intervals(replicates, rng)
        for name, found in intervals(replicates).items():
            if found.low is None or found.high is None:
                continue
            one, (low, high) = count[name], percentile[name]
            one.determined += 1
            one.t += found.low <= target[name] <= found.high
            one.endless += found.low <= endless[name] <= found.high
            one.percentile += low <= target[name] <= high
            one.width += (found.high - found.low) / 2
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=400)
    options = parser.parse_args()
    start = time.monotonic()
    print("| design | seeds | figure | value | endless data | half width | determined "
          "| t | percentile | t, endless data |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for design in (BALANCED, RARE):
        target = expected(design, 3 * options.sets)
        endless = expected(design, 12, num_seeds=10, scale=200)
        for num_seeds in (2, 3, 5):
            found = measure(design, num_seeds, options.sets, options.replicates, target, endless)
            for name, one in found.items():
                n = max(1, one.determined)
                print(
                    f"| {design.name} | {num_seeds} | {name} | {target[name]:.3f} "
                    f"| {endless[name]:.3f} | {one.width / n:.3f} "
                    f"| {one.determined / options.sets:.2f} | {one.t / n:.3f} "
                    f"| {one.percentile / n:.3f} | {one.endless / n:.3f} |",
                    flush=True,
                )
    error = (CONFIDENCE * (1 - CONFIDENCE) / options.sets) ** 0.5
    print(
        f"\n{options.sets} data sets, {options.replicates} replicates each; Monte-Carlo error "
        f"of a coverage of {CONFIDENCE:.0%}: {error:.3f}; {time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
