"""A/A null: how often a sweep calls something different although all its arms are alike.

Sweeps are drawn from the crossed model of benchmarks/coverage.py: a reference, the controls
``none`` and ``random``, and arms that differ from the controls by chance alone. Counted is in how
many sweeps at least one (arm, control) contrast of one objective is called different at 5 %, by

* ``alone``: each interval by itself, no racing;
* ``max-T``: the adjusted p-values of trainables/metrics/multiplicity.py, no racing;
* ``raced, alone`` and ``raced, max-T``: the same for the members of the raced front, on the seeds
  that selected them;
* ``raced, fresh``: max-T for the members on confirmation seeds that selected nothing.

Racing is that of sweeps, orchestrator/search/racing.py, up to ``MOST_SEEDS``; members and controls
are then tested on the seeds they have in common. All arms are equal, so dropping one is an error
too: ``dropped`` is the share of
sweeps with an arm decided out, ``dropped at once`` the same if 95 % of draws in which it is
dominated were enough, without zone and without a minimum of seeds.

    python benchmarks/aa_null.py [--sweeps 1000] [--replicates 300]

Shape legend: A arms (0 the reference, 1 and 2 the controls), S seeds, K objectives, R replicates.
"""

import argparse
import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from orchestrator.search.racing import further_seeds
from trainables.metrics.figures import Figure, fate_figure, metric_figure
from trainables.metrics.joint import joint_draws
from trainables.metrics.membership import dominated_draws, memberships, zone_of
from trainables.metrics.multiplicity import Contrast, max_t
from trainables.metrics.replicates import Replicates, replicate_metrics

LEVEL = 0.05
NUM_ARMS, FIRST_ARM, MOST_SEEDS = 6, 3, 8
CONTROLS = (1, 2)
OBJECTIVES = ("f1", "eodd_hardt", "fate_eodd_hardt")
PROCEDURES = ("alone", "max-T", "raced, alone", "raced, max-T", "raced, fresh")

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], list[int]]
"""Draws, pooled draws and number of seeds of each arm -> which arms get one more seed."""


def _coverage():
    """benchmarks/coverage.py: benchmarks are scripts, not a package."""
    name = "benchmarks_coverage"
    if name not in sys.modules:
        path = Path(__file__).with_name("coverage.py")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def racing(draw_RAK: np.ndarray, pooled_RAK: np.ndarray, num_seeds_A: np.ndarray) -> list[int]:
    """As sweeps race."""
    zone_K = zone_of(["fate_eodd_hardt", "f1"])
    return further_seeds(draw_RAK, pooled_RAK, zone_K, num_seeds_A, MOST_SEEDS)


def figure(replicates: Replicates, objective: str) -> Figure:
    if objective.startswith("fate_"):
        return fate_figure(replicates, objective.removeprefix("fate_"), 0)
    return metric_figure(replicates, objective)


def restrict(replicates: Replicates, seeds_of: dict[int, int], first: int = 0) -> Replicates:
    """The arms given with so many seeds each from ``first`` on; others as many as the most."""
    present_AS = np.zeros_like(replicates.present)
    most = max(seeds_of.values())
    for arm in range(len(present_AS)):
        number = seeds_of.get(arm, most if arm < FIRST_ARM else 0)
        present_AS[arm, first : first + number] = True
    return replace(replicates, present_AS=present_AS)


def race(replicates: Replicates, start: int, rule: Rule) -> tuple[dict[int, int], list[int], bool]:
    """Seeds of each arm at the end, the front's members, and whether an arm was dropped."""
    arms = range(FIRST_ARM, FIRST_ARM + NUM_ARMS)
    seeds_of = dict.fromkeys(arms, start)
    zone_K = zone_of(["fate_eodd_hardt", "f1"])
    while True:
        current = restrict(replicates, seeds_of)
        figures = [figure(current, name) for name in ("fate_eodd_hardt", "f1")]
        draw_RAK = joint_draws(figures)[:, FIRST_ARM:]
        pooled_RAK = joint_draws(figures, pooled=True)[:, FIRST_ARM:]
        num_seeds_A = np.array([seeds_of[arm] for arm in arms])
        found = memberships(draw_RAK, zone_K, num_seeds_A)
        more = rule(draw_RAK, pooled_RAK, num_seeds_A)
        if not more:
            break
        for arm in more:
            seeds_of[FIRST_ARM + arm] += 1
    point_1AK = np.stack(
        [
            [figure(current, name).interval(arm).value for name in ("fate_eodd_hardt", "f1")]
            for arm in arms
        ]
    )[None]
    on_front_A = ~dominated_draws(point_1AK)[0]
    members = [
        arm
        for arm, front, one in zip(arms, on_front_A, found, strict=True)
        if front and one.state != "out"
    ]
    return seeds_of, members, any(one.state == "out" for one in found)


def calls(tested: Sequence[Contrast]) -> tuple[bool, bool]:
    """Whether any contrast is called different: each by itself, and by max-T."""
    known = [one for one in tested if one.p_value is not None and one.adjusted_p_value is not None]
    return (
        any(one.p_value <= LEVEL for one in known),
        any(one.adjusted_p_value <= LEVEL for one in known),
    )


def sweep(replicates: Replicates, start: int, rule: Rule = racing) -> Counter:
    """What one sweep that starts with so many seeds, and confirms with as many, calls different.

    Keys are (objective, procedure), "dropped" and "dropped at once".
    """
    arms = list(range(FIRST_ARM, FIRST_ARM + NUM_ARMS))
    count: Counter = Counter()
    seeds_of, members, dropped = race(replicates, start, rule)
    first = restrict(replicates, dict.fromkeys(arms, start))
    raced = restrict(replicates, seeds_of)
    fresh = restrict(replicates, dict.fromkeys(members, start), first=MOST_SEEDS)
    stages = (
        ("alone", "max-T", first, arms),
        ("raced, alone", "raced, max-T", raced, members),
        ("", "raced, fresh", fresh, members),
    )
    for objective in OBJECTIVES:
        for alone, adjusted, stage, tested in stages:
            pairs = [(arm, control) for arm in tested for control in CONTROLS]
            found = calls(max_t(figure(stage, objective), pairs))
            count[objective, alone] += found[0]
            count[objective, adjusted] += found[1]
    draw_RAK = joint_draws([figure(first, name) for name in ("fate_eodd_hardt", "f1")])
    at_once = dominated_draws(draw_RAK[:, FIRST_ARM:]).mean(0) >= 1 - LEVEL
    count["dropped at once"] += bool(at_once.any())
    count["dropped"] += dropped
    return count


def family_errors(
    starts: Sequence[int],
    num_sweeps: int,
    num_replicates: int,
    *,
    rule: Rule = racing,
    seed: int = 0,
) -> dict[int, Counter]:
    """For each number of first seeds, in how many sweeps each procedure called something."""
    coverage = _coverage()
    rng = np.random.default_rng(seed)
    total: dict[int, Counter] = {start: Counter() for start in starts}
    for i in range(num_sweeps):
        replicates = replicate_metrics(
            *coverage.draw(
                coverage.BALANCED,
                MOST_SEEDS + max(starts),
                rng,
                num_arms=FIRST_ARM + NUM_ARMS,
            ),
            num_classes=coverage.BALANCED.patients_GC.shape[1],
            num_groups=2,
            num_replicates=num_replicates,
            seed=i,
        )
        for start in starts:
            total[start] += sweep(replicates, start, rule)
    return total


def monte_carlo_error(rate: float, num_sweeps: int) -> float:
    return (rate * (1 - rate) / num_sweeps) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--check", action="store_true", help="status 1 where fresh exceeds 5 %%")
    options = parser.parse_args()
    began = time.monotonic()
    found = family_errors((3, 5), options.sweeps, options.replicates)
    error = monte_carlo_error(LEVEL, options.sweeps)
    print("| first seeds | objective |", " | ".join(PROCEDURES), "|")
    print("|---|---|" + "---|" * len(PROCEDURES))
    high = []
    for start, count in found.items():
        for objective in OBJECTIVES:
            rates = [count[objective, name] / options.sweeps for name in PROCEDURES]
            print(f"| {start} | {objective} |", " | ".join(f"{x:.3f}" for x in rates), "|")
            if rates[-1] > LEVEL + 2 * error:
                high.append(f"{start} seeds, {objective}: {rates[-1]:.3f}")
    print("\n| first seeds | dropped at once | dropped |\n|---|---|---|")
    for start, count in found.items():
        rates = [count[name] / options.sweeps for name in ("dropped at once", "dropped")]
        print(f"| {start} |", " | ".join(f"{x:.3f}" for x in rates), "|")
    print(
        f"\n{options.sweeps} sweeps of {NUM_ARMS} arms and {len(CONTROLS)} controls, "
        f"{options.replicates} replicates; Monte-Carlo error of a rate of 5 %: {error:.3f}; "
        f"{time.monotonic() - began:.0f} s"
    )
    for line in high:
        print("above 5 %:", line)
    if options.check and high:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
