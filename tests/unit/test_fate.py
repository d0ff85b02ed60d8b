import csv
import itertools
from pathlib import Path

import pytest

from trainables.metrics.fate import fate, levelling_tag, undefined_reason

PRINTED = Path(__file__).resolve().parents[1] / "golden" / "paper_s1_s3.csv"
GAPS = ("eopp0", "eopp1", "eodd")


def _rows() -> list[dict[str, str]]:
    lines = PRINTED.read_text().splitlines()
    assert lines[0].startswith("# source:")
    return list(csv.DictReader(lines[1:]))


ROWS = _rows()
AVERAGES = [row for row in ROWS if row["group"] == "Avg"]
REFERENCE = {row["method"]: row for row in AVERAGES}
PRINTED_FATES = [(row, gap) for row in AVERAGES for gap in GAPS]


def _interval(text: str) -> tuple[float, float]:
    """All values that round to the printed text."""
    half = 0.5 * 10.0 ** -len(text.partition(".")[2])
    return float(text) - half, float(text) + half


def _name(case) -> str:
    return f"{case[0]['table']}-{case[0]['method']}-{case[1]}"


def test_the_supplement_prints_27_values() -> None:
    assert len(PRINTED_FATES) == 27


@pytest.mark.parametrize("case", PRINTED_FATES, ids=_name)
def test_printed_fate_lies_in_the_interval_of_the_printed_digits(case) -> None:
    row, gap = case
    base = REFERENCE[row["fate_baseline"]]
    if row is base:  # the very same numbers twice: no rounding is left
        assert fate(*[float(r[k]) for r in (row, base) for k in ("f1", gap)]) == 0
        assert float(row[f"fate_{gap}"]) == 0
        return
    # FATE is monotonic in each of its four arguments, so the extremes are at corners.
    corners = [
        fate(f1, value, base_f1, base_value)
        for f1, value, base_f1, base_value in itertools.product(
            _interval(row["f1"]), _interval(row[gap]), _interval(base["f1"]), _interval(base[gap])
        )
    ]
    assert min(corners) <= float(row[f"fate_{gap}"]) <= max(corners)
    # The interval is no licence: the value from the printed digits is near, too.
    recomputed = fate(*[float(r[k]) for r in (row, base) for k in ("f1", gap)])
    assert recomputed == pytest.approx(float(row[f"fate_{gap}"]), abs=8e-4)


def test_closed_forms() -> None:
    assert fate(0.55, 0.1, 0.5, 0.2) == pytest.approx(0.1 + 0.5)
    assert fate(0.55, 0.1, 0.5, 0.2, weight=0.0) == pytest.approx(0.1)
    assert fate(0.45, 0.3, 0.5, 0.2, weight=2.0) == pytest.approx(-0.1 - 1.0)
    assert fate(0.5, 0.2, 0.5, 0.2) == 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((0.5, 0.1, 0.5, 0.0), "reference gap is 0"),
        ((0.5, 0.1, 0.5, 1e-17), "reference gap is 0"),
        ((0.5, 0.1, 0.0, 0.1), "reference F1 is 0"),
        ((None, 0.1, 0.5, None), "F1 and reference gap undefined"),
        ((0.5, None, 0.5, 0.1), "gap undefined"),
    ],
)
def test_undefined_has_a_reason(values, reason: str) -> None:
    assert fate(*values) is None
    assert undefined_reason(*values) == reason


def test_defined_has_no_reason() -> None:
    assert undefined_reason(0.0, 0.0, 0.5, 0.1) is None
    assert fate(0.0, 0.0, 0.5, 0.1) == pytest.approx(0.0)  # all F1 lost, the whole gap closed


def _groups(*f1: float | None) -> dict[str, dict[str, float | None]]:
    return {f"g{i}": {"f1": value} for i, value in enumerate(f1)}


@pytest.mark.parametrize(
    ("before", "after", "tag"),
    [
        ((0.5, 0.4), (0.6, 0.41), "both gain"),
        ((0.5, 0.4), (0.4, 0.5), "worse-served group gains"),
        ((0.5, 0.4), (0.5, 0.5), "worse-served group gains"),
        ((0.5, 0.4), (0.6, 0.4), "worse-served group does not gain"),
        ((0.5, 0.4), (0.6, 0.3), "worse-served group does not gain"),
        ((0.5, 0.4), (0.4, 0.39), "levelling down"),
        ((0.5, 0.4), (0.4, 0.4), "levelling down"),
        ((0.5, 0.4), (0.5, 0.3), "levelling down"),
        ((0.5, 0.4), (0.5, 0.4), "no change"),
        ((0.4, 0.4), (0.5, 0.3), "worse-served group does not gain"),
        ((0.4, 0.5, 0.6), (0.5, 0.6, 0.7), "both gain"),
        ((0.4, 0.5, 0.6), (0.5, 0.4, 0.7), "worse-served group gains"),
        ((0.4, 0.5, 0.6), (0.3, 0.6, 0.7), "worse-served group does not gain"),
        ((0.4, None), (0.3, 0.6), "not assessed"),
        ((0.4,), (0.3,), "not assessed"),
    ],
)
def test_levelling_tag(before, after, tag: str) -> None:
    assert levelling_tag(_groups(*after), _groups(*before)) == tag


def test_the_papers_own_rows_get_their_tags() -> None:
    f1: dict[str, dict[str, dict[str, float]]] = {}
    for row in ROWS:
        if row["group"] != "Avg":
            f1.setdefault(row["method"], {})[row["group"]] = {"f1": float(row["f1"])}
    # Its FATE is +.07 although both groups lose F1.
    assert levelling_tag(f1["SCP-HSIC"], f1["HSIC"]) == "levelling down"
    assert float(REFERENCE["SCP-HSIC"]["fate_eodd"]) > 0
    assert levelling_tag(f1["SCP-VGG-11"], f1["VGG-11"]) == "both gain"
