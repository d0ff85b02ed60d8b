"""Power of the simultaneous test of all contrasts, and what other degrees of freedom would give.

Sweeps are those of benchmarks/aa_null.py, arms that are all alike. One arm's difference from its
control is shifted by so many standard errors, and it is counted how often that contrast is called
better: by max-T as it is (S - 1 degrees of freedom), by max-T with Satterthwaite's, and by its own
interval alone. The family-wise error beside it is that of the sweep without a shift.

    python benchmarks/max_t_power.py [--sweeps 300] [--replicates 300]
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from aa_null import (
    CONTROLS,
    FIRST_ARM,
    LEVEL,
    NUM_ARMS,
    _coverage,
    figure,
    monte_carlo_error,
    restrict,
)

from trainables.metrics import multiplicity
from trainables.metrics.multiplicity import Contrast, max_t
from trainables.metrics.replicates import replicate_metrics

SEEDS, FIGURES, SHIFTS = (3, 5, 8, 10), ("f1", "eodd_hardt", "fate_eodd_hardt"), (3, 4, 6, 8)
FREEDOM = {"S - 1": multiplicity.seed_freedom, "Satterthwaite": lambda found: found.df}


def tested(stage, name: str, freedom: str) -> Sequence[Contrast]:
    arms = range(FIRST_ARM, FIRST_ARM + NUM_ARMS)
    pairs = [(arm, control) for arm in arms for control in CONTROLS]
    kept, multiplicity.seed_freedom = multiplicity.seed_freedom, FREEDOM[freedom]
    try:
        return [one for one in max_t(figure(stage, name), pairs) if one.p_value is not None]
    finally:
        multiplicity.seed_freedom = kept


def half_width(interval) -> float:
    return (interval.high - interval.low) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=300)
    parser.add_argument("--replicates", type=int, default=300)
    options = parser.parse_args()
    began, coverage = time.monotonic(), _coverage()
    rng, count = np.random.default_rng(0), Counter()
    for i in range(options.sweeps):
        replicates = replicate_metrics(
            *coverage.draw(coverage.BALANCED, max(SEEDS), rng, num_arms=FIRST_ARM + NUM_ARMS),
            num_classes=coverage.BALANCED.patients_GC.shape[1],
            num_groups=2,
            num_replicates=options.replicates,
            seed=i,
        )
        for seeds in SEEDS:
            stage = restrict(
                replicates, dict.fromkeys(range(FIRST_ARM, FIRST_ARM + NUM_ARMS), seeds)
            )
            for name in FIGURES:
                for freedom in FREEDOM:
                    found = tested(stage, name, freedom)
                    if not found:
                        continue
                    count[seeds, name, freedom] += any(
                        one.adjusted_p_value <= LEVEL for one in found
                    )
                    error = np.mean([one.plain.standard_error**2 for one in found]) ** 0.5
                    first = found[0]
                    for shift in SHIFTS:
                        seen = first.plain.value + shift * error
                        called = seen > half_width(first.simultaneous)
                        count[seeds, name, freedom, shift] += called
                        alone = seen > half_width(first.plain)
                        count[seeds, name, "alone", shift] += alone and freedom == "S - 1"
    heads = [f"{shift} errors" for shift in SHIFTS]
    print("| seeds | figure | by |", " | ".join(heads), "| family-wise error |")
    print("|---|---|---|" + "---|" * (len(SHIFTS) + 1))
    for seeds in SEEDS:
        for name in FIGURES:
            for by in (*FREEDOM, "alone"):
                rates = [count[seeds, name, by, s] / options.sweeps for s in SHIFTS]
                family = f"{count[seeds, name, by] / options.sweeps:.3f}" if by in FREEDOM else ""
                shown = " | ".join(f"{rate:.2f}" for rate in rates)
                print(f"| {seeds} | {name} | {by} | {shown} | {family} |")
    print(
        f"\n{options.sweeps} sweeps, {options.replicates} replicates; Monte-Carlo error of a rate "
        f"of 50 %: {monte_carlo_error(0.5, options.sweeps):.3f}; {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
