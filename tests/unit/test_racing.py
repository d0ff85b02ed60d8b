"""The racing rule on draws made by hand, and whether it does what it is for."""

import numpy as np
import pytest

from orchestrator.search.racing import further_seeds, worth
from trainables.metrics.membership import dominance_shares, memberships

ZONE = np.array([0.02, 0.005])


def draws(*means, sd=0.001, num=400, seed=0):
    """Normal draws around (FATE, F1) of each arm."""
    noise = np.random.default_rng(seed).standard_normal((num, len(means), 2)) * sd
    return np.array(means) + noise


def test_dominance_shares_equal_a_double_loop():
    draw_RAK = draws((0.1, 0.5), (0.12, 0.51), (0.3, 0.4), (0.11, 0.5), sd=0.02, num=60)
    by_any_A, by_AA = dominance_shares(draw_RAK, ZONE)
    for b in range(4):
        beaten_RA = np.zeros((60, 4), dtype=bool)
        for r in range(60):
            for a in range(4):
                moved = draw_RAK[r, b] + ZONE
                beaten_RA[r, a] = (draw_RAK[r, a] >= moved).all() and (
                    draw_RAK[r, a] > moved
                ).any()
        assert by_AA[:, b] == pytest.approx(beaten_RA.mean(0))
        assert by_any_A[b] == pytest.approx(beaten_RA.any(1).mean())


def test_nothing_in_doubt_ends_the_race():
    """Two that trade one objective for the other, and one beaten with seeds enough."""
    draw_RAK = draws((0.3, 0.5), (0.0, 0.6), (-0.2, 0.45))
    assert further_seeds(draw_RAK, draw_RAK, ZONE, [5, 5, 5], 10) == []


def test_none_is_left_out_before_it_has_seeds_enough():
    draw_RAK = draws((0.3, 0.5), (0.0, 0.6), (-0.2, 0.45))
    assert further_seeds(draw_RAK, draw_RAK, ZONE, [3, 3, 3], 10) == [2]
    assert further_seeds(draw_RAK, draw_RAK, ZONE, [3, 3, 5], 10) == []


def test_the_one_in_doubt_and_its_rival_come_first():
    close = draws((0.30, 0.50), (0.275, 0.494), (0.0, 0.6), (-0.5, 0.3), sd=0.004)
    share = dominance_shares(close, ZONE)[0][1]
    assert 0.2 < share < 0.8
    assert further_seeds(close, close, ZONE, [3, 3, 3, 3], 10) == [1]
    assert further_seeds(close, close, ZONE, [3, 9, 3, 3], 10) == [0]  # few seeds: more to learn
    assert further_seeds(close, close, ZONE, [9, 10, 9, 3], 10) == [0]


def test_a_quarter_of_those_in_doubt_gets_a_seed_a_round():
    alike = draws(*[(0.1, 0.5)] * 8, sd=0.05)
    found = further_seeds(alike, alike, ZONE, [3] * 8, 10)
    assert len(found) == 2
    value_A = worth(alike, ZONE, np.full(8, 3))
    assert found == sorted(range(8), key=lambda arm: -value_A[arm])[:2]


def test_worth_by_hand():
    """Arm 1 is dominated by more than the zone in one draw of four, arm 0 never."""
    draw_RAK = np.array([[[0.1, 0.5], [0.0, 0.6]]] * 3 + [[[0.1, 0.5], [0.0, 0.4]]])
    p, q, pair = 0.25, 0.75, 0.25
    expected = [
        (0 + 0 + pair * (1 - pair) / 2) / (2 * 3),
        (p * (1 - p) + q * (1 - q) + 0) / (4 * 5),
    ]
    assert worth(draw_RAK, ZONE, np.array([2, 4])) == pytest.approx(expected)


def test_no_arm_gets_more_than_the_most():
    close = draws((0.30, 0.50), (0.275, 0.494), sd=0.004)
    assert further_seeds(close, close, ZONE, [10, 10], 10) == []
    assert further_seeds(close, close, ZONE, [10, 9], 10) == [1]


def test_an_undefined_arm_is_left_alone():
    draw_RAK = draws((0.30, 0.50), (0.275, 0.494), (0.28, 0.494), sd=0.004)
    draw_RAK[3, 2] = np.nan
    assert 2 not in further_seeds(draw_RAK, draw_RAK, ZONE, [3, 3, 3], 10)


def test_one_arm_alone_is_in_no_doubt():
    assert further_seeds(draws((0.1, 0.5)), draws((0.1, 0.5)), ZONE, [3], 10) == []


def test_who_gets_seeds_is_who_is_open():
    """Nobody whom the memberships call decided, rivals apart."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        draw_RAK = draws(*rng.normal(0, (0.1, 0.02), (6, 2)), sd=0.02)
        found = memberships(draw_RAK, ZONE, [5] * 6)
        chosen = further_seeds(draw_RAK, draw_RAK, ZONE, [5] * 6, 10)
        by_AA = dominance_shares(draw_RAK, ZONE)[1]
        in_doubt = [arm for arm, one in enumerate(found) if one.state == "open"]
        for arm in chosen:
            assert arm in in_doubt or (by_AA[arm, in_doubt] > 0.05).any()


def test_a_constraint_is_one_more_reason_to_be_in_doubt_or_out():
    """Arms 1 and 2 would be on the front; 1 violates it in half of the draws, 2 in all."""
    draw_RAK = draws((0.3, 0.5), (0.1, 0.55), (0.0, 0.6))
    barred_RA = np.zeros((400, 3), dtype=bool)
    barred_RA[::2, 1] = True
    barred_RA[:, 2] = True
    options = {"barred_RA": barred_RA, "pooled_barred_RA": barred_RA}
    assert further_seeds(draw_RAK, draw_RAK, ZONE, [5, 5, 5], 10) == []
    assert further_seeds(draw_RAK, draw_RAK, ZONE, [5, 5, 5], 10, **options) == [1]
    assert further_seeds(draw_RAK, draw_RAK, ZONE, [5, 10, 3], 10, **options) == [2]


def test_memberships_under_a_constraint_against_loops():
    rng = np.random.default_rng(3)
    draw_RAK = draws(*rng.normal(0, (0.05, 0.01), (5, 2)), sd=0.02, num=80)
    barred_RA = rng.random((80, 5)) < np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    found = memberships(draw_RAK, ZONE, [5] * 5, barred_RA=barred_RA)
    for b in range(5):
        free = lost = 0
        for r in range(80):
            able = [a for a in range(5) if a != b and not barred_RA[r, a]]
            plain = [a for a in able if dominates(draw_RAK[r, a], draw_RAK[r, b])]
            zone = [a for a in able if dominates(draw_RAK[r, a], draw_RAK[r, b] + ZONE)]
            free += not plain and not barred_RA[r, b]
            lost += bool(zone) or bool(barred_RA[r, b])
        assert found[b].frequency == pytest.approx(free / 80)
        assert found[b].dominated == pytest.approx(lost / 80)
    assert found[4].state == "out"


def dominates(one, other):
    return bool((one >= other).all() and (one > other).any())


def test_nothing_is_in_with_one_seed():
    draw_RAK = draws((0.3, 0.5), (0.0, 0.6))
    assert [one.state for one in memberships(draw_RAK, ZONE, [1, 2])] == ["open", "in"]
    assert further_seeds(draw_RAK, draw_RAK, ZONE, [1, 2], 10) == [0]
