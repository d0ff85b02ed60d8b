"""Replicates against brute force, intervals against closed forms, coverage by simulation."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from trainables.metrics.confusion import confusion_counts
from trainables.metrics.crossed import interval
from trainables.metrics.fairness import GAPS
from trainables.metrics.fate import fate
from trainables.metrics.figures import (
    difference_interval,
    fate_interval,
    metric_interval,
    worst_group_figure,
)
from trainables.metrics.replicates import (
    Replicates,
    draw_one_patient_cells,
    draw_patients,
    replicate_metrics,
)
from trainables.metrics.student_t import t_quantile
from trainables.metrics.summary import summarise
from trainables.metrics.weighted import (
    FURTHER,
    METRICS,
    SCORES,
    metrics_of_weights,
    prepare,
)

ROOT = Path(__file__).resolve().parents[2]
C, G = 7, 3


@pytest.fixture(scope="module")
def coverage():
    name = "benchmarks_coverage"
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _sample(seed: int, num_arms: int = 2, num_seeds: int = 2, unknown: float = 0.1):
    rng = np.random.default_rng(seed)
    num = int(rng.integers(40, 90))
    label = rng.integers(0, C - 1, num)  # the last class is absent everywhere
    group = rng.integers(0, G, num)
    label = np.where((group == 1) & (label == 2), 0, label)  # class 2 is absent from group 1
    group[:G] = range(G)
    group[G:] = np.where(rng.random(num - G) < unknown, -1, group[G:])
    label[0] = 5
    patient = rng.integers(0, num // 2, num)
    # A cell of one patient, who may have images in other cells too.
    patient = np.where((group == 0) & (label == 5), patient[0], patient)
    shape = (num_arms, num_seeds, num)
    prediction = np.where(rng.random(shape) < 0.6, label, rng.integers(0, C, shape))
    return label, group, patient, prediction


def _counts(label, group, prediction):
    return confusion_counts(label, prediction, group, num_classes=C, num_groups=G)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("min_support", [1, 9])
def test_originals_equal_the_summary(seed: int, min_support: int) -> None:
    label, group, patient, prediction = _sample(seed)
    found = replicate_metrics(
        label, group, patient, prediction,
        num_classes=C, num_groups=G, num_replicates=2, min_support=min_support,
    )  # fmt: skip
    names = [str(i) for i in range(C)]
    for arm, seed_index in np.ndindex(2, 2):
        expected = summarise(
            _counts(label, group, prediction[arm, seed_index]),
            groups=names[:G], classes=names, min_support=min_support,
        )  # fmt: skip
        for name in METRICS:
            value = found.value_AS[name][arm, seed_index]
            assert (None if math.isnan(value) else value) == (
                expected[name] if expected[name] is None else pytest.approx(expected[name])
            ), name
        for name in FURTHER:
            assert found.value_AS[name][arm, seed_index] == pytest.approx(expected[name]), name
        for g, scores in expected["groups"].items():
            for score in SCORES:
                name = f"{score}_of_{g}"
                if scores[score] is None:
                    assert name not in found.value_AS
                else:
                    assert found.value_AS[name][arm, seed_index] == pytest.approx(scores[score])


def _rate(numerator: float, denominator: float, empty: float) -> float:
    return numerator / denominator if denominator else empty


def _brute_force(label, group, patient, prediction, weight, draw):
    """One replicate of one prediction by loops over images, classes, groups and pairs.

    ``weight``: patient -> times drawn. ``draw``: (group, class) -> rates if missed, if hit.
    """

    def count(g, keep, weighted=True):
        return sum(
            float(weight[p]) if weighted else 1.0
            for y, s, p, z in zip(label, group, patient, prediction, strict=True)
            if s == g and keep(y, z)
        )

    tpr, fpr, f1 = {}, {}, {}
    for g in range(G):
        for c in range(C):
            cell = (g, c)
            rows = {
                "tp": lambda y, z, c=c: y == c == z,
                "p": lambda y, z, c=c: y == c,
                "fp": lambda y, z, c=c: y != c == z,
                "n": lambda y, z, c=c: y != c,
            }
            n = {k: count(g, keep, weighted=False) for k, keep in rows.items()}
            w = {k: count(g, keep) for k, keep in rows.items()}
            if n["n"]:
                fpr[cell] = _rate(w["fp"], w["n"], n["fp"] / n["n"])
            if n["p"]:
                share = n["tp"] / n["p"]
                tpr[cell] = _rate(w["tp"], w["p"], share)
                if cell in draw:
                    tpr[cell] = (1 - share) * draw[cell][0] + share * draw[cell][1]
                    w["p"], w["tp"] = n["p"], n["p"] * tpr[cell]
            if n["p"] + n["fp"]:
                original = 2 * n["tp"] / (n["p"] + n["tp"] + n["fp"])
                f1[cell] = _rate(2 * w["tp"], w["p"] + w["tp"] + w["fp"], original)
    result = {
        "f1": np.mean([np.mean([v for (h, _), v in f1.items() if h == g]) for g in range(G)])
    }
    for name in GAPS:
        values = []
        for a, b in ((0, 1), (0, 2), (1, 2)):
            terms = []
            for c in range(C):
                has_tpr = (a, c) in tpr and (b, c) in tpr
                has_fpr = (a, c) in fpr and (b, c) in fpr
                d = tpr[a, c] - tpr[b, c] if has_tpr else 0.0
                e = fpr[a, c] - fpr[b, c] if has_fpr else 0.0
                term = {"eopp0": abs(e), "eopp1": abs(d), "eodd": abs(d + e) / 2,
                        "eodd_hardt": (abs(d) + abs(e)) / 2}[name]  # fmt: skip
                if (has_fpr or name == "eopp1") and (has_tpr or name == "eopp0"):
                    terms.append(term)
            if terms:
                values.append(np.mean(terms))
        result[name] = max(values)
    return result


@pytest.mark.parametrize("seed", range(4))
def test_every_replicate_equals_brute_force(seed: int) -> None:
    label, group, patient, prediction = _sample(seed)
    known = group >= 0
    images = prepare(label, group, patient, prediction, num_classes=C, num_groups=G)
    rng = np.random.default_rng(seed)
    weight = draw_patients(images.num_patients, 8, rng)
    rates = draw_one_patient_cells(len(images.one_patient_K), 8, rng)
    found = metrics_of_weights(images, weight, rates)
    ids = np.unique(patient[known])
    cells = {}
    for y, g, p in zip(label[known], group[known], patient[known], strict=True):
        cells.setdefault((int(g), int(y)), set()).add(int(p))
    single = sorted(cell for cell, who in cells.items() if len(who) == 1)
    assert [divmod(int(k), C) for k in images.one_patient_K] == single
    assert single  # else the drawn rates are not looked at
    for r, arm, s in np.ndindex(8, 2, 2):
        expected = _brute_force(
            label, group, patient, prediction[arm, s],
            {p: weight[i, r] for i, p in enumerate(ids)} | dict.fromkeys(set(patient) - set(ids)),
            {cell: rates[:, k, r] for k, cell in enumerate(single)},
        )  # fmt: skip
        for i, name in enumerate(METRICS):
            assert found[i, r, arm, s] == pytest.approx(expected[name], abs=1e-6), name


@pytest.mark.parametrize("seed", range(4))
def test_replicates_of_a_group_s_scores_equal_those_of_repeated_images(seed: int) -> None:
    """Where every class keeps some weight: each image as often as its patient is drawn."""
    label, group, _, prediction = _sample(seed)
    patient = np.arange(len(label)) % 40  # every cell has several patients
    images = prepare(label, group, patient, prediction, num_classes=C, num_groups=G)
    weight = np.random.default_rng(seed).integers(1, 4, (images.num_patients, 6))
    found = dict(zip(images.names, metrics_of_weights(images, weight), strict=True))
    ids = np.unique(patient[group >= 0])
    names = [str(i) for i in range(C)]
    for r, arm, s in np.ndindex(6, 2, 2):
        times = {p: weight[i, r] for i, p in enumerate(ids)}
        rows = np.repeat(np.arange(len(label)), [times.get(p, 1) for p in patient])
        counts = _counts(label[rows], group[rows], prediction[arm, s][rows])
        expected = summarise(counts, groups=names[:G], classes=names)
        for name in FURTHER:
            assert found[name][r, arm, s] == pytest.approx(expected[name]), name
        for g, scores in expected["groups"].items():
            for score in SCORES:
                assert found[f"{score}_of_{g}"][r, arm, s] == pytest.approx(scores[score])


def test_the_worst_group_is_chosen_by_the_mean_over_seeds() -> None:
    label, group, patient, prediction = _sample(1)
    found = replicate_metrics(
        label, group, patient, prediction, num_classes=C, num_groups=G, num_replicates=50
    )
    figure = worst_group_figure(found)
    for arm in range(2):
        means = [found.value_AS[f"f1_of_{g}"][arm].mean() for g in range(G)]
        worst = int(np.argmin(means))
        assert figure.interval(arm).value == pytest.approx(min(means))
        np.testing.assert_array_equal(
            figure.replicate_RAS[:, arm], found.replicate_RAS[f"f1_of_{worst}"][:, arm]
        )


def test_a_group_of_one_class_and_groups_that_are_not_drawn() -> None:
    """Group 1 has class 0 only, so no FPR of it; a group without weight keeps its rates."""
    label = np.array([0, 0, 1, 1, 2, 0, 0, 0, 0, 1, 1, 2, 2])
    group = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    prediction = np.array([0, 1, 1, 0, 2, 0, 0, 2, 0, 1, 2, 2, 1])[None, None]
    patient = np.arange(13)
    images = prepare(label, group, patient, prediction, num_classes=C, num_groups=G)
    weight = np.ones((13, 4))
    for g in range(G):
        weight[group == g, g + 1] = 0
    found = metrics_of_weights(images, weight)[:, :, 0, 0]
    names = [str(i) for i in range(C)]
    counts = _counts(label, group, prediction[0, 0])
    expected = summarise(counts, groups=names[:G], classes=names)
    assert expected["undefined_pairs"]["eodd"] == [["0", "1"], ["1", "2"]]
    for i, name in enumerate(METRICS):
        np.testing.assert_allclose(found[i], expected[name], err_msg=name)


def test_replicates_depend_on_the_seed_alone_and_not_on_chunks_or_arms() -> None:
    label, group, patient, prediction = _sample(3)
    options = {"num_classes": C, "num_groups": G, "num_replicates": 50}
    whole = replicate_metrics(label, group, patient, prediction, **options)
    parts = replicate_metrics(label, group, patient, prediction, chunk=7, **options)
    one_arm = replicate_metrics(label, group, patient, prediction[1:], **options)
    other = replicate_metrics(label, group, patient, prediction, seed=1, **options)
    for name in METRICS:
        np.testing.assert_array_equal(whole.replicate_RAS[name], parts.replicate_RAS[name])
        np.testing.assert_array_equal(
            whole.replicate_RAS[name][:, 1:], one_arm.replicate_RAS[name]
        )
        assert (whole.replicate_RAS[name] != other.replicate_RAS[name]).any()


def test_draws_have_the_moments_of_their_distributions() -> None:
    rng = np.random.default_rng(0)
    weight = draw_patients(40, 20_000, rng)
    assert (weight.sum(0) == 40).all()
    assert weight.mean() == pytest.approx(1)
    assert weight.var(axis=1).mean() == pytest.approx(1 - 1 / 40, rel=0.01)
    miss, hit = draw_one_patient_cells(1, 100_000, rng)[:, 0]
    assert (miss <= hit).all()
    for value, mean in ((miss, 1 / 3), (hit, 2 / 3)):
        assert value.mean() == pytest.approx(mean, abs=0.006)
        assert value.var() == pytest.approx(1 / 6, abs=0.003)
        # Not further out: 1 in 100 hits is so near 1 that it rounds to it.
        point = np.array([1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-6])
        below = (value[:, None] <= point).mean(0)
        expected = stats.beta(mean / 3, (1 - mean) / 3).cdf(point)
        np.testing.assert_allclose(below, expected, atol=0.006)


def test_patient_variance_is_that_of_the_closed_form() -> None:
    """The delta method over hit rates of variance p (1 - p) / n."""
    rng = np.random.default_rng(1)
    group, label = np.repeat([0, 1], 400), np.tile([0, 1], 400)
    prediction = np.where(rng.random(800) < 0.7, label, 2)[None, None]
    found = replicate_metrics(
        label, group, np.arange(800), prediction, num_classes=3, num_groups=2, num_replicates=4000
    )
    variance, sign = 0.0, []
    rate = [[(prediction[0, 0] == label)[(group == g) & (label == c)].mean() for c in (0, 1)]
            for g in (0, 1)]  # fmt: skip
    for c in (0, 1):
        variance += sum(rate[g][c] * (1 - rate[g][c]) / 200 for g in (0, 1)) / 4
        sign.append(abs(rate[0][c] - rate[1][c]))
    one = interval(found.value_AS["f1"][0], found.replicate_RAS["f1"][:, 0], num_patients=800)
    # F1 of a class that is never predicted wrongly is 2p / (1 + p), with derivative 2 / (1 + p)^2.
    slope = np.array([[2 / (1 + rate[g][c]) ** 2 for c in (0, 1)] for g in (0, 1)])
    spread = np.array([[rate[g][c] * (1 - rate[g][c]) / 200 for c in (0, 1)] for g in (0, 1)])
    # Four terms of weight 1/6 (three classes seen in each group, two groups).
    assert one.patient_part == pytest.approx((slope**2 * spread).sum() / 36, rel=0.08)
    assert found.value_AS["eopp1"][0, 0] == pytest.approx(np.mean(sign))


def test_seed_part_is_net_of_patient_noise() -> None:
    """Sums of known effects: the parts are recovered, and equal seeds add none."""
    rng = np.random.default_rng(2)
    num_seeds, sd_a, sd_b, sd_c = 400, 0.5, 0.3, 0.4
    noise_RS = rng.normal(0, sd_c, (4000, num_seeds))
    replicate_RS = rng.normal(0, sd_b, (4000, 1)) + noise_RS
    value_S = rng.normal(0, math.hypot(sd_a, sd_c), num_seeds)
    one = interval(value_S, replicate_RS, num_patients=500)
    assert one.seed_part == pytest.approx(sd_a**2 / num_seeds, rel=0.2)
    assert one.patient_part == pytest.approx(sd_b**2 + sd_c**2 / num_seeds, rel=0.05)
    few = interval(value_S[:3], replicate_RS[:, :3], num_patients=500)
    assert few.patient_part == pytest.approx(replicate_RS[:, :3].mean(1).var(ddof=1))
    same = interval(np.zeros(num_seeds), replicate_RS, num_patients=500)
    assert same.seed_part == 0
    assert same.patient_part == one.patient_part


def test_interval_without_patient_noise_is_that_of_students_t() -> None:
    value_S = np.array([0.2, 0.5, 0.35])
    one = interval(value_S, np.tile(value_S, (50, 1)), num_patients=100)
    low, high = stats.t.interval(0.95, 2, value_S.mean(), stats.sem(value_S))
    assert one.df == pytest.approx(2)
    assert (one.low, one.high) == (pytest.approx(low), pytest.approx(high))
    assert one.approximate == ("3 seeds, fewer than 5",)


def test_interval_of_a_gap_is_the_plain_one_of_its_logarithm() -> None:
    rng = np.random.default_rng(1)
    value_S = np.array([0.20, 0.21, 0.19, 0.205, 0.195])
    replicate_RS = value_S + rng.normal(0, 0.004, (4000, 1)) + rng.normal(0, 0.003, (4000, 5))
    gap = interval(value_S, replicate_RS, num_patients=100, is_gap=True)
    # where the spread is small beside the value, logarithms spread as values do over the value
    of_log = interval(np.log(value_S), np.log(replicate_RS), num_patients=100)
    assert gap.low == pytest.approx(math.exp(of_log.low), rel=2e-3)
    assert gap.high == pytest.approx(math.exp(of_log.high), rel=2e-3)
    plain = interval(value_S, replicate_RS, num_patients=100)
    assert (gap.df, gap.standard_error) == (plain.df, plain.standard_error)
    assert gap.low * gap.high == pytest.approx(gap.value**2)


def test_interval_of_a_gap_is_above_0_and_does_not_run_away() -> None:
    rng = np.random.default_rng(2)
    ends = []
    for value in (0.3, 0.11, 0.1, 0.09, 0.05, 0.01, 0.0):
        replicate_RS = rng.normal(value, 0.05, (20000, 1))
        gap = interval(np.array([value]), replicate_RS, num_patients=10**6, is_gap=True)
        assert 0 <= gap.low <= value <= gap.high < value + 0.05 * 1.96 * 1.75
        ends.append((gap.low, gap.high))
    assert ends == sorted(ends, reverse=True)  # no step where the exponential ends
    two_S = np.array([0.2, 0.5])
    wide = interval(two_S, rng.normal(0.35, 0.1, (99, 2)), num_patients=9, is_gap=True)
    assert (wide.df, wide.high) == (pytest.approx(1, abs=0.2), 1)
    still = interval(np.zeros(2), np.zeros((9, 2)), num_patients=9, is_gap=True)
    assert (still.low, still.high) == (0, 0)


def test_one_seed_has_the_patient_part_only_and_says_so() -> None:
    replicate_RS = np.random.default_rng(0).normal(size=(200, 1))
    one = interval(np.array([0.4]), replicate_RS, num_patients=31, smallest_cell=3)
    half = stats.t.ppf(0.975, 30) * replicate_RS.std(ddof=1)
    assert (one.low, one.high) == (pytest.approx(0.4 - half), pytest.approx(0.4 + half))
    assert one.seed_part == 0
    assert [note.split(":")[0].split(" in ")[0] for note in one.approximate] == [
        "1 seed", "3 images",
    ]  # fmt: skip


@pytest.mark.parametrize("df", [1, 1.3, 2.7, 9.1, 55.5, 1234.5, 1e5])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_t_quantile_against_scipy(df: float, confidence: float) -> None:
    expected = stats.t.ppf((1 + confidence) / 2, df)
    assert t_quantile(df, confidence) == pytest.approx(expected, rel=1e-6)


def test_t_quantile_refuses_what_has_none() -> None:
    for arguments in ((0.5, 0.95), (float("nan"), 0.95), (3, 1.0)):
        with pytest.raises(ValueError, match="no t quantile"):
            t_quantile(*arguments)


def test_identical_arms_differ_by_exactly_nothing() -> None:
    label, group, patient, prediction = _sample(5, num_arms=1, num_seeds=3)
    found = replicate_metrics(
        label, group, patient, np.concatenate([prediction, prediction]),
        num_classes=C, num_groups=G, num_replicates=100,
    )  # fmt: skip
    for name in METRICS:
        one = difference_interval(found, name, 1, 0)
        assert (one.value, one.low, one.high) == (0.0, 0.0, 0.0)
        assert metric_interval(found, name, 1).low < metric_interval(found, name, 1).high


def test_pairing_narrows_the_difference_of_correlated_arms(coverage) -> None:
    rows = coverage.draw(coverage.BALANCED, 5, np.random.default_rng(0))
    *rest, prediction = rows
    # The second arm has the first one's predictions but for one image in five.
    change = np.random.default_rng(1).random(prediction[0].shape) < 0.2
    prediction = np.stack([prediction[0], np.where(change, prediction[1], prediction[0])])
    found = replicate_metrics(*rest, prediction, num_classes=6, num_groups=2, num_replicates=500)
    for name in ("f1", "eopp1", "eodd_hardt"):
        paired = difference_interval(found, name, 1, 0)
        arms = [metric_interval(found, name, arm) for arm in (0, 1)]
        unpaired = math.hypot(*[(one.high - one.low) / 2 for one in arms])
        assert (paired.high - paired.low) / 2 < 0.75 * unpaired, name


def _made_up(f1_AS, gap_AS, spread: float) -> Replicates:
    rng = np.random.default_rng(0)
    value = {"f1": np.array(f1_AS, float), "eodd_hardt": np.array(gap_AS, float)}
    replicate = {k: v + rng.normal(0, spread, (2000, *v.shape)) for k, v in value.items()}
    return Replicates(value, replicate, num_patients=1000, smallest_cell=20)


def test_fate_is_that_of_the_seed_means_with_the_spread_of_its_replicates() -> None:
    found = _made_up([[0.6, 0.62], [0.66, 0.65]], [[0.2, 0.22], [0.15, 0.17]], 0.002)
    one = fate_interval(found, "eodd_hardt", 1, 0)
    assert one.value == pytest.approx(fate(0.655, 0.16, 0.61, 0.21))
    means = {k: v.mean(2) for k, v in found.replicate_RAS.items()}
    exact_R = (
        means["f1"][:, 1] / means["f1"][:, 0]
        - means["eodd_hardt"][:, 1] / means["eodd_hardt"][:, 0]
    )
    assert one.patient_part == pytest.approx(exact_R.var(), rel=0.03)
    assert fate_interval(found, "eodd_hardt", 0, 0).high == 0


def test_fate_is_not_determined_where_the_reference_gap_reaches_its_floor() -> None:
    found = _made_up([[0.6] * 5, [0.66] * 5], [[0.2] * 5, [0.15] * 5], 0.02)
    determined = fate_interval(found, "eodd_hardt", 1, 0)
    assert determined.low < determined.value < determined.high
    low = metric_interval(found, "eodd_hardt", 0).low
    for floor in (low + 1e-9, 0.3):
        one = fate_interval(found, "eodd_hardt", 1, 0, floor=floor)
        assert (one.value, one.low, one.high) == (determined.value, None, None)
        assert one.reason.startswith("not determined")
    assert fate_interval(found, "eodd_hardt", 1, 0, floor=low - 1e-9).low is not None
    # its own interval never reaches 0, but value - t standard error does
    wide = _made_up([[0.6] * 5, [0.66] * 5], [[0.2] * 5, [0.15] * 5], 0.4)
    assert metric_interval(wide, "eodd_hardt", 0).low > 0
    assert fate_interval(wide, "eodd_hardt", 1, 0).low is None
    zero = _made_up([[0.6] * 5, [0.66] * 5], [[0.0] * 5, [0.15] * 5], 0.02)
    assert fate_interval(zero, "eodd_hardt", 1, 0).reason == "reference gap is 0"


def test_a_gap_without_a_common_class_is_undefined() -> None:
    label = group = np.array([0, 0, 1, 1])
    found = replicate_metrics(
        label, group, np.arange(4), label[None, None],
        num_classes=2, num_groups=2, num_replicates=20,
    )  # fmt: skip
    assert metric_interval(found, "eopp1", 0).reason == "undefined"
    assert fate_interval(found, "eopp1", 0, 0).reason == "gap and reference gap undefined"
    assert metric_interval(found, "f1", 0).value == 1


def test_what_does_not_fit_is_refused() -> None:
    label, group, patient, prediction = _sample(0)
    options = {"num_classes": C, "num_groups": G, "num_replicates": 3}
    with pytest.raises(ValueError, match=r"must be \(A, S, N\)"):
        replicate_metrics(label, group, patient, prediction[0], **options)
    with pytest.raises(ValueError, match="prediction must be in"):
        replicate_metrics(label, group, patient, prediction + C, **options)
    with pytest.raises(ValueError, match="no image of an assessed group"):
        replicate_metrics(label, np.full_like(group, -1), patient, prediction, **options)
    with pytest.raises(ValueError, match="for 3 seeds"):
        interval(np.zeros(3), np.zeros((5, 2)), num_patients=9)
    with pytest.raises(ValueError, match="2 needed"):
        interval(np.zeros(1), np.zeros((5, 1)), num_patients=1)


def test_coverage_is_near_nominal_and_that_of_percentiles_is_not(coverage) -> None:
    """200 data sets: 3 Monte-Carlo errors (.018 each) below .93; plain percentiles fall short."""
    num_sets, num_seeds = 200, 3
    target = coverage.expected(coverage.BALANCED, 600)
    found = coverage.measure(coverage.BALANCED, num_seeds, num_sets, 200, target, target)
    error = math.sqrt(0.93 * 0.07 / num_sets)
    for name, one in found.items():
        assert one.determined >= 0.95 * num_sets, name
        assert one.t / one.determined >= 0.93 - 3 * error, name
    assert found["f1"].percentile < found["f1"].t - error
    # Nor does it cover by being wide: the t interval of 3 seeds of this spread is .13.
    assert found["f1"].width / num_sets < 0.15
