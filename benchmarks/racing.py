"""Racing against uniform allocation: the same number of trained arms and seeds, whose front is
better?

Sweeps are drawn from a Gaussian form of the crossed model of trainables/metrics/crossed.py: arms
with true values of FATE and F1, seeds that arms share in part, patients whose draw moves all arms
in part alike. The sizes are near those measured on HAM10000 (``ham10000:criteria`` by sex,
``ham10000:methods`` by age).

Each sweep starts with three seeds an arm and spends a budget of (arm, seed) pairs

* ``uniform``: one seed for all arms in turn;
* ``open``: one seed for every arm whose membership is open;
* ``racing``: orchestrator/search/racing.py, as sweeps do.

An (arm, seed) pair costs 1 whatever it is; in a sweep a new seed also brings its root, chain and
controls along. There is no constraint on F1 here.

The front is that of the point estimates. Counted per sweep, against what endless seeds would show
on the same patients (that is what seeds can find out; patients stay as they are): *wrong* members,
dominated by more than the indifference zone, and *missed* arms, undominated and not on the front
although no member is as good by the zone. Coverage is of the true values, by the 95 % interval of
a member's FATE and F1, from the seeds that selected it and from five fresh ones.

    python benchmarks/racing.py [--sweeps 400] [--budgets 4 5 6 8]

Shape legend: A arms, S seeds, R replicates, K objectives (FATE, F1).
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.fronts.pareto import pareto_mask
from orchestrator.search.racing import further_seeds
from trainables.metrics.figures import Figure
from trainables.metrics.joint import joint_draws
from trainables.metrics.membership import dominated_draws, memberships, zone_of

OBJECTIVES = ("fate_eodd_hardt", "f1")
ZONE_K = zone_of(OBJECTIVES)
START, MOST, CONFIRM = 3, 10, 5  # MOST: the default of search.max_seeds


@dataclass(frozen=True)
class Sizes:
    """Standard deviations of FATE and F1: of arms' true values, of a seed, of the patients' draw;
    and the share of a seed's and of the patients' variance that arms have in common.
    """

    true_K: tuple[float, float] = (0.09, 0.015)
    seed_K: tuple[float, float] = (0.15, 0.015)
    patient_K: tuple[float, float] = (0.12, 0.025)
    shared_seed_K: tuple[float, float] = (0.5, 0.6)
    shared_patient_K: tuple[float, float] = (0.5, 0.95)


@dataclass(frozen=True)
class Simulated:
    """One sweep: the truth, that on these patients (what endless seeds would show), and what would
    be measured with any number of seeds.
    """

    true_AK: np.ndarray
    here_AK: np.ndarray
    value_KAS: np.ndarray
    replicate_KRAS: np.ndarray

    def figures(self, seeds_A: np.ndarray, first: int = 0) -> list[Figure]:
        """FATE and F1 with the seeds ``first`` to ``first`` + so many of each arm."""
        index_S = np.arange(self.value_KAS.shape[2])
        present_AS = (index_S >= first) & (index_S < first + np.asarray(seeds_A)[:, None])
        pairs = zip(self.value_KAS, self.replicate_KRAS, strict=True)
        reasons = (None,) * len(present_AS)
        return [Figure(v_AS, r_RAS, present_AS, 300, 10, reasons) for v_AS, r_RAS in pairs]


def draw(
    num_arms: int, num_seeds: int, num_replicates: int, sizes: Sizes, rng: np.random.Generator
) -> Simulated:
    """A sweep whose arms' true values trade FATE for F1 in part, as measured ones do."""
    true_AK = rng.standard_normal((num_arms, 2)) * sizes.true_K

    def mixed(share: float, *shape: int) -> np.ndarray:
        """Standard normal, with a share of the variance common to arms (the second last axis)."""
        common = rng.standard_normal((*shape[:-2], 1, shape[-1]))
        return np.sqrt(share) * common + np.sqrt(1 - share) * rng.standard_normal(shape)

    here_AK = true_AK.copy()
    values, replicates = [], []
    for k in range(2):
        seed_AS = sizes.seed_K[k] * mixed(sizes.shared_seed_K[k], num_arms, num_seeds)
        # the draw of patients moves an arm's seeds alike
        share, deviation = sizes.shared_patient_K[k], sizes.patient_K[k]
        here_AK[:, k] += deviation * mixed(share, num_arms, 1)[:, 0]
        value_AS = here_AK[:, k, None] + seed_AS
        values.append(value_AS)
        replicates.append(value_AS + deviation * mixed(share, num_replicates, num_arms, 1))
    return Simulated(true_AK, here_AK, np.stack(values), np.stack(replicates))


Rule = Callable[[list[Figure], np.ndarray], list[int]]
"""Figures and seeds of each arm -> arms that get one more, most urgent first."""


def uniform(figures: list[Figure], seeds_A: np.ndarray) -> list[int]:
    return [int(arm) for arm in np.argsort(seeds_A, kind="stable") if seeds_A[arm] < MOST]


def open_ones(figures: list[Figure], seeds_A: np.ndarray) -> list[int]:
    found = memberships(joint_draws(figures), ZONE_K, seeds_A)
    return [arm for arm, one in enumerate(found) if one.state == "open" and seeds_A[arm] < MOST]


def racing(figures: list[Figure], seeds_A: np.ndarray) -> list[int]:
    draw_RAK, pooled_RAK = joint_draws(figures), joint_draws(figures, pooled=True)
    return further_seeds(draw_RAK, pooled_RAK, ZONE_K, seeds_A, MOST)


RULES: dict[str, Rule] = {"uniform": uniform, "open": open_ones, "racing": racing}


def spend(sweep: Simulated, rule: Rule, budget: int, seeds_A: np.ndarray) -> np.ndarray:
    """Seeds of each arm when the budget, or the rule, has come to its end."""
    seeds_A = seeds_A.copy()
    while seeds_A.sum() < budget:
        more = rule(sweep.figures(seeds_A), seeds_A)
        if not more:
            break
        for arm in more[: budget - int(seeds_A.sum())]:
            seeds_A[arm] += 1
    return seeds_A


def outcome(sweep: Simulated, seeds_A: np.ndarray) -> Counter:
    """Wrong and missed members, and how often intervals of members hold the truth."""
    count: Counter = Counter()
    figures = sweep.figures(seeds_A)
    value_AK = np.array([[f.value_AS[a, f.present_AS[a]].mean() for f in figures]
                         for a in range(len(seeds_A))])  # fmt: skip
    member_A = pareto_mask(value_AK)
    here_AK = sweep.here_AK
    count["sweeps"] = 1
    count["wrong"] = int((member_A & dominated_draws(here_AK[None], ZONE_K)[0]).sum())
    covered_AA = (here_AK[:, None] + ZONE_K >= here_AK[None]).all(-1)
    missed_A = pareto_mask(here_AK) & ~member_A & ~covered_AA[member_A].any(0)
    count["missed"] = int(missed_A.sum())
    for name in ("wrong", "missed"):
        count[f"{name} squared"] = count[name] ** 2
    count["members"] = int(member_A.sum())
    count["seeds"] = int(seeds_A.sum())
    fresh = sweep.figures(np.full(len(seeds_A), CONFIRM), first=MOST)
    for name, stage in (("racing", figures), ("fresh", fresh)):
        for arm in np.flatnonzero(member_A):
            for k, figure in enumerate(stage):
                found = figure.interval(int(arm))
                inside = found.low <= sweep.true_AK[arm, k] <= found.high
                count[name, OBJECTIVES[k]] += bool(inside)
                count[name, OBJECTIVES[k], "above"] += found.value - sweep.true_AK[arm, k]
    return count


def compare(
    num_arms: int,
    budgets: list[int],
    num_sweeps: int,
    num_replicates: int,
    *,
    sizes: Sizes | None = None,
    rules: dict[str, Rule] = RULES,
    seed: int = 0,
) -> dict[tuple[int, str], Counter]:
    """Sums over sweeps of ``outcome`` for each budget (seeds an arm on average) and rule."""
    rng = np.random.default_rng(seed)
    total: dict[tuple[int, str], Counter] = {}
    for _ in range(num_sweeps):
        sweep = draw(num_arms, MOST + CONFIRM, num_replicates, sizes or Sizes(), rng)
        for name, rule in rules.items():
            seeds_A = np.full(num_arms, START)
            for budget in sorted(budgets):
                seeds_A = spend(sweep, rule, budget * num_arms, seeds_A)
                total.setdefault((budget, name), Counter()).update(outcome(sweep, seeds_A))
    return dict(sorted(total.items(), key=lambda item: item[0][0]))


def with_error(count: Counter, name: str) -> str:
    """Mean over sweeps and its Monte-Carlo standard error."""
    n = count["sweeps"]
    mean = count[name] / n
    error = np.sqrt(max(0.0, count[f"{name} squared"] / n - mean**2) / n)
    return f"{mean:.2f} ± {error:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=400)
    parser.add_argument("--arms", type=int, default=12)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--budgets", type=int, nargs="+", default=[4, 5, 6, 8])
    parser.add_argument("--tied", type=float, default=None, help="sizes of the true differences")
    options = parser.parse_args()
    began = time.monotonic()
    sizes = Sizes()
    if options.tied is not None:
        fate, f1 = sizes.true_K
        sizes = replace(sizes, true_K=(fate * options.tied, f1 * options.tied))
    total = compare(
        options.arms, options.budgets, options.sweeps, options.replicates, sizes=sizes
    )
    print(
        "| seeds an arm | rule | spent | members | wrong | missed | coverage FATE, F1 (racing "
        "seeds) | (fresh seeds) | FATE above its truth (racing, fresh) |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for (budget, name), count in total.items():
        n, members = options.sweeps, count["members"]
        shown = [
            ", ".join(f"{count[stage, one] / members:.3f}" for one in OBJECTIVES)
            for stage in ("racing", "fresh")
        ]
        above = ", ".join(
            f"{count[stage, OBJECTIVES[0], 'above'] / members:+.3f}"
            for stage in ("racing", "fresh")
        )
        print(
            f"| {budget} | {name} | {count['seeds'] / n / options.arms:.2f} | {members / n:.2f} | "
            f"{with_error(count, 'wrong')} | {with_error(count, 'missed')} | {shown[0]} | "
            f"{shown[1]} | "
            f"{above} |"
        )
    print(
        f"\n{options.sweeps} sweeps of {options.arms} arms, {options.replicates} replicates; "
        f"{time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
