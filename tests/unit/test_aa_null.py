"""Sweeps whose arms are all alike: the benchmark's procedure, small."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def aa_null():
    name = "benchmarks_aa_null"
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / "aa_null.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.mark.slow
def test_fresh_seeds_hold_the_error_and_plain_intervals_do_not(aa_null) -> None:
    num = 60
    count = aa_null.family_errors((5,), num, 200)[5]
    bound = 0.05 + 3 * math.sqrt(0.05 * 0.95 / num)
    for objective in aa_null.OBJECTIVES:
        assert count[objective, "raced, fresh"] / num <= bound, objective
        assert count[objective, "max-T"] / num <= bound, objective
        assert count[objective, "alone"] / num > bound, objective
    assert count["dropped"] < count["dropped at once"]


def test_racing_gives_open_arms_seeds_until_the_most(aa_null) -> None:
    coverage = aa_null._coverage()
    import numpy as np

    replicates = aa_null.replicate_metrics(
        *coverage.draw(coverage.BALANCED, 10, np.random.default_rng(0), num_arms=9),
        num_classes=6, num_groups=2, num_replicates=100,
    )  # fmt: skip
    seeds_of, members, _ = aa_null.race(replicates, 3, aa_null.racing)
    assert max(seeds_of.values()) == aa_null.MOST_SEEDS
    assert members
    still = aa_null.race(replicates, 3, lambda draw_RAK, pooled_RAK, seeds_A: [])
    assert set(still[0].values()) == {3}
