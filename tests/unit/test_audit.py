"""Auditing printed tables: the published ones, whose faults are known, and small ones with planted
faults."""

import csv
import itertools
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from rich.console import Console
from scipy.optimize import linprog

from orchestrator.audit.audit import audit_table
from orchestrator.audit.cells import fate_bounds
from orchestrator.audit.reference import FACTOR, cells_of, implied_reference, slip
from orchestrator.audit.view import render_audit
from orchestrator.tables.published import Interval, package_file, read_blocks
from trainables.errors import UserError
from trainables.metrics.fate import fate

GOLDEN = Path(__file__).resolve().parents[1] / "golden/paper_s1_s3.csv"
HEADER = (
    "table,dataset,backbone,attribute,method,group,precision,recall,f1,eopp0,fate_eopp0,eopp1,"
    "fate_eopp1,eodd,fate_eodd,fate_baseline"
)


@pytest.fixture(scope="module")
def published():
    return audit_table()


def disagreeing(document):
    wrong = [f for f in document["fates"] if f["status"] == "does not agree"]
    return {(f["table"], f["method"], f["gap"]) for f in wrong}


def failing(document):
    failed = [c for c in document["checks"] if c["status"] == "does not hold"]
    return {(c["table"], c["method"], c["line"], c["figure"]) for c in failed}


def test_the_package_s_rows_are_those_printed():
    """Against a second copy of Tables S1 and S3, cell by cell."""
    rows = list(csv.DictReader(GOLDEN.read_text().splitlines()[1:]))
    blocks = {(b.table, b.method): b for b in read_blocks()}
    assert len(rows) == 27
    for row in rows:
        block = blocks[row["table"], row["method"]]
        for name, text in row.items():
            if name not in ("table", "method", "group", "fate_baseline"):
                assert block.text(row["group"], name) == text, (row, name)
        assert block.fate_baseline == row["fate_baseline"]
    assert sum(len(block.lines) for block in blocks.values()) == 52


def test_the_baseline_of_a_method_may_be_printed_in_one_of_its_lines(tmp_path):
    lines = [f"T,,,,New,{group},,,.5,.1,,.2,,.15,,{base}" for group, base in (
        ("light", ""), ("Avg", "Base"), ("dark", ""),
    )]  # fmt: skip
    path = tmp_path / "t.csv"
    path.write_text("\n".join([HEADER, *lines]))
    (block,) = read_blocks(path)
    assert (block.fate_baseline, list(block.lines)) == ("Base", ["light", "Avg", "dark"])


def test_of_the_published_fates_27_of_27_agree_in_s1_and_s3(published):
    tables = {t["table"]: t for t in published["tables"]}
    assert (tables["S1"]["num_fates"], tables["S1"]["num_agree"]) == (15, 15)
    assert (tables["S3"]["num_fates"], tables["S3"]["num_agree"]) == (12, 12)
    loose = [f for f in published["fates"] if f["status"] == "within rounding"]
    assert {f["method"] for f in loose} == {"SCP-VGG-11"}
    assert len(loose) == 3
    for fate_ in published["fates"]:
        if fate_["table"] != "S2" and fate_ not in loose:  # from the printed digits, 4 decimals
            assert round(fate_["recomputed"] + 1e-12, 4) == pytest.approx(float(fate_["printed"]))


def test_in_s2_the_eopp0_column_and_adv_ref_s_eopp1_do_not(published):
    methods = ("AdvConf", "AdvRef", "DomainIndep", "SCP-FairPrune")
    expected = {("S2", method, "eopp0") for method in methods} | {("S2", "AdvRef", "eopp1")}
    assert disagreeing(published) == expected
    others = [f for f in published["fates"] if f["table"] == "S2" and f["status"][0] == "c"]
    assert len(others) == 7
    for other in others:  # nothing contradicts them
        assert other["reason"] == "no reference row printed"
        assert other["low"] <= float(other["printed"]) <= other["high"]
    # method 2.4: the known misprints, recomputed with the reference that the rows imply
    values = {(f["method"], f["gap"]): f for f in published["fates"] if f["table"] == "S2"}
    for (method, gap), value in {
        ("AdvRef", "eopp1"): -0.345,
        ("AdvConf", "eopp0"): -0.332,
        ("AdvRef", "eopp0"): -0.183,
        ("DomainIndep", "eopp0"): -0.690,
        ("SCP-FairPrune", "eopp0"): 0.001,
    }.items():
        found = values[method, gap]
        assert found["low"] < value < found["high"]
        assert not found["low"] < float(found["printed"]) < found["high"]
        assert found["known_misprint"]


def test_the_reference_row_that_s2_does_not_print(published):
    (reference,) = published["references"]
    assert (reference["method"], reference["num_fates"]) == ("ResNet-18", 11)
    assert reference["contradicted"] == [{"method": "AdvRef", "gap": "eopp1"}]
    for name, value in {"eopp0": 0.06, "eopp1": 0.0444, "eodd": 0.0223}.items():
        found = reference["gaps"][name]
        assert found["low"] < value < found["high"]
        assert found["plausible"] is (name != "eopp0")
    assert reference["f1"]["low"] < 0.7346 < reference["f1"]["high"]


def test_checks_of_avg_diff_and_eodd_find_the_known_misprints_and_no_other(published):
    misprinted, scores = (("S1", "DomainIndep"), ("S3", "HSIC")), ("precision", "recall", "f1")
    expected = {(*row, "Diff", score) for row in misprinted for score in scores}
    assert failing(published) == expected | {("S3", "VGG-11", "Avg", "eodd")}
    assert all(c["known_misprint"] for c in published["checks"] if c["status"] != "holds")
    assert Counter(c["figure"] for c in published["checks"]) == {
        "precision": 26, "recall": 26, "f1": 26, "eodd": 13,
    }  # fmt: skip


def test_tags_of_the_published_rows(published):
    tags = {(t["table"], t["method"]): t["tag"] for t in published["tags"]}
    assert tags["S3", "SCP-HSIC"] == "levelling down"  # FATE +.07, both groups lose F1
    assert tags["S1", "SCP-FairPrune"] == tags["S3", "SCP-VGG-11"] == "both gain"
    assert tags["S1", "OBD"] == "worse-served group gains"
    for method in ("AdvConf", "AdvRef", "DomainIndep"):
        assert tags["S1", method] == "levelling down"
    assert tags["S3", "VGG-11"] == "reference"
    assert {tag for (table, _), tag in tags.items() if table == "S2"} == {"not assessed"}


def test_bounds_are_the_extremes_over_all_corners():
    texts = ("0.525", "0.286", "0.510", "0.361")
    bounds = fate_bounds(*map(Interval.of, texts))
    assert bounds is not None
    corners = itertools.product(*[(float(t) - 0.0005, float(t) + 0.0005) for t in texts])
    values = [fate(f1, gap, ref_f1, ref_gap) for f1, gap, ref_f1, ref_gap in corners]
    assert float(bounds.low) == pytest.approx(min(values), abs=1e-12)
    assert float(bounds.high) == pytest.approx(max(values), abs=1e-12)
    assert float(bounds.value) == pytest.approx(fate(*map(float, texts)), abs=1e-12)


def test_a_reference_gap_that_may_be_0_has_no_lower_bound():
    three = [Interval.of(text) for text in ("0.5", "0.1", "0.5")]
    assert fate_bounds(*three, Interval.of("0.0")) is None
    bounds = fate_bounds(*three, Interval(Fraction(-1, 10), Fraction(3, 10), Fraction(1, 10)))
    assert bounds.low is None
    assert bounds.high == Fraction(55, 45) - Fraction(5, 30)
    assert bounds.value == 1 - 1


def test_the_implied_reference_equals_linear_programming():
    """The same question to a solver: F x - g y = v with every number in its interval."""
    blocks = [b for b in read_blocks() if b.table == "S2"]
    cells = [c for c in cells_of(blocks) if (c.method, c.gap) != ("AdvRef", "eopp1")]
    implied = implied_reference(cells_of(blocks))
    gaps = ("eopp0", "eopp1", "eodd")
    bounds = [(1 / FACTOR / 0.7365, FACTOR / 0.7175), *[(1e-6, None)] * 3]
    rows, limits = [], []
    for cell in cells:  # lower <= y <= upper, both linear in x
        for (slope, intercept), sign in ((cell.lower, 1), (cell.upper, -1)):
            row = [sign * float(slope), 0.0, 0.0, 0.0]
            row[1 + gaps.index(cell.gap)] = -sign
            rows.append(row)
            limits.append(-sign * float(intercept))
    for k, interval in enumerate([implied.f1, *(implied.gaps[gap] for gap in gaps)]):
        for sign, end in ((1, 1), (-1, 0)):  # the least x is the largest F1
            cost = [0.0] * 4
            cost[k] = sign
            solved = linprog(cost, A_ub=rows, b_ub=limits, bounds=bounds)
            assert solved.status == 0
            assert 1 / solved.x[k] == pytest.approx(float(interval[end]), rel=1e-6)
    # with AdvRef's Eopp1 there is no solution at all
    (odd,) = [c for c in cells_of(blocks) if (c.method, c.gap) == ("AdvRef", "eopp1")]
    for (slope, intercept), sign in ((odd.lower, 1), (odd.upper, -1)):
        rows.append([sign * float(slope), 0.0, -sign, 0.0])
        limits.append(-sign * float(intercept))
    assert linprog([0.0] * 4, A_ub=rows, b_ub=limits, bounds=bounds).status == 2


def table(path, rows, reference="X", header=HEADER):
    """A file of methods with groups a and b; rows: method -> (F1 of a, of b, gap, fate) texts."""
    lines = [header]
    for method, (a, b, gap, fate_) in rows.items():
        mean, diff = (float(a) + float(b)) / 2, abs(float(a) - float(b))
        shared = f"T,d,v,s,{method}"
        lines.append(f"{shared},a,{a},{a},{a},,,,,,,{reference}")
        lines.append(f"{shared},b,{b},{b},{b},,,,,,,{reference}")
        figures = f"{gap},{fate_},{gap},{fate_},{gap},{fate_}"
        lines.append(f"{shared},Avg,{mean:.4f},{mean:.4f},{mean:.4f},{figures},{reference}")
        lines.append(f"{shared},Diff,{diff:.4f},{diff:.4f},{diff:.4f},,,,,,,{reference}")
    path.write_text("\n".join(lines) + "\n")
    return path


def printed_fate(f1, gap, ref_f1=0.5, ref_gap=0.2):
    return f"{fate(f1, gap, ref_f1, ref_gap):.4f}"


def test_a_right_table_agrees_and_a_planted_fault_is_found(tmp_path):
    rows = {
        "X": ("0.6000", "0.4000", "0.2000", "0.0000"),
        "Y": ("0.6200", "0.4400", "0.1500", printed_fate(0.53, 0.15)),
        "Z": ("0.5000", "0.3900", "0.1000", printed_fate(0.445, 0.10)),
    }
    right = audit_table(table(tmp_path / "right.csv", rows))
    assert (right["num_fates"], right["num_agree"]) == (9, 9)
    assert {c["status"] for c in right["checks"]} == {"holds"}
    tags = {t["method"]: t["tag"] for t in right["tags"]}
    assert tags == {"X": "reference", "Y": "both gain", "Z": "levelling down"}
    y = rows["Y"]
    wrong = rows | {"Y": (*y[:3], f"{float(y[3]) + 0.01:.4f}")}
    found = audit_table(table(tmp_path / "wrong.csv", wrong))
    assert disagreeing(found) == {("T", "Y", gap) for gap in ("eopp0", "eopp1", "eodd")}
    for bounds in (f for f in found["fates"] if f["status"] == "does not agree"):
        assert bounds["recomputed"] == pytest.approx(fate(0.53, 0.15, 0.5, 0.2))
    digits = rows | {"Y": (*y[:3], f"{float(y[3]) + 0.0003:.4f}")}
    loose = audit_table(table(tmp_path / "loose.csv", digits))
    assert loose["num_within_rounding"] == 3
    text = (tmp_path / "right.csv").read_text().replace("Diff,0.1100", "Diff,0.1200")
    (tmp_path / "diff.csv").write_text(text)
    assert failing(audit_table(tmp_path / "diff.csv")) == {("T", "Z", "Diff", "precision")}


def test_without_a_reference_row_one_wrong_cell_of_five_is_found(tmp_path):
    """The truth is known here: reference F1 .5, gap .2; the fault is planted in W."""
    true = {"V": (0.53, 0.15), "W": (0.48, 0.12), "Y": (0.55, 0.25), "Z": (0.51, 0.3),
            "U": (0.47, 0.18)}  # fmt: skip
    rows = {
        name: (f"{f1 + 0.05:.4f}", f"{f1 - 0.05:.4f}", f"{gap:.4f}", printed_fate(f1, gap))
        for name, (f1, gap) in true.items()
    }
    document = audit_table(table(tmp_path / "t.csv", rows))
    assert document["num_not_recomputed"] == 15
    (reference,) = document["references"]
    assert reference["f1"]["low"] <= 0.5 <= reference["f1"]["high"]
    assert reference["f1"]["high"] - reference["f1"]["low"] < 0.01
    for found in reference["gaps"].values():
        assert found["low"] <= 0.2 <= found["high"]
    w = rows["W"]
    path = table(tmp_path / "w.csv", rows | {"W": (*w[:3], f"{float(w[3]) + 0.05:.4f}")})
    assert disagreeing(audit_table(path)) == {("T", "W", g) for g in ("eopp0", "eopp1", "eodd")}


def test_two_cells_that_contradict_each_other_are_both_left_open(tmp_path):
    """With the same F1 and gap but other FATEs either may be the wrong one."""
    rows = {
        "Y": ("0.6200", "0.4400", "0.1500", "0.3100"),
        "Z": ("0.6200", "0.4400", "0.1500", "0.4100"),
    }
    document = audit_table(table(tmp_path / "t.csv", rows))
    assert document["num_disagree"] == 0
    assert all("which of them is open" in f["reason"] for f in document["fates"])


def test_per_cent_or_shares_make_no_difference(tmp_path):
    """FATE is a difference of ratios, so S2 in per cent has the same verdicts."""
    lines = package_file().read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if line[:3] != "S3,"))
    for row in rows:
        for name in ("precision", "recall", "f1", "eopp0", "eopp1", "eodd"):
            row[name] = row[name] and f"{row[name]}e2"
    with (tmp_path / "t.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row for row in rows if row["table"] == "S2")
    document = audit_table(tmp_path / "t.csv")
    assert disagreeing(document) == disagreeing(audit_table())
    assert document["references"][0]["f1"]["high"] == pytest.approx(73.957, abs=1e-3)
    assert failing(document) == set()


def test_a_slip_of_the_decimal_point_is_told_from_a_large_gap():
    blocks = [b for b in read_blocks() if b.table == "S2"]
    column = [c for c in cells_of(blocks) if c.gap == "eopp0"]
    most = max(c.printed_gap.high for c in column)
    assert slip((most, most * FACTOR * 2), column) is None
    assert slip((most * FACTOR * 2, most * 9), column) == Fraction(1, 10)
    assert slip((most * 4, most * 5), column) == 0  # a tenth would be below all
    least = min(c.printed_gap.low for c in column)
    assert slip((least / 15, least / 9), column) == 10
    assert slip((least / 10**6, least / 10**6), column) == 0


def test_more_seeds_and_other_modes_are_judged_by_what_holds_for_them(tmp_path):
    """A mean of absolute differences may exceed the difference of means; corrected gaps skip
    classes."""
    rows = {"X": ("0.6000", "0.4000", "0.2000", "0.0000")}
    path = table(tmp_path / "t.csv", rows)
    text = path.read_text().replace("Diff,0.2000,0.2000,0.2000", "Diff,0.2500,0.1500,0.2000")
    path.write_text(text)
    assert failing(audit_table(path)) == {
        ("T", "X", "Diff", "precision"),
        ("T", "X", "Diff", "recall"),
    }
    lines = text.splitlines()
    more = [f"{lines[0]},num_seeds,mode", *(f"{line},3,corrected" for line in lines[1:])]
    path.write_text("\n".join(more))
    document = audit_table(path)
    assert failing(document) == {("T", "X", "Diff", "recall")}
    (eodd,) = [c for c in document["checks"] if c["figure"] == "eodd"]
    assert eodd["status"] == "cannot be checked"


def test_the_reference_is_looked_for_in_its_own_table_first(tmp_path):
    rows = {"X": ("0.6000", "0.4000", "0.2000", "0.0000")}
    text = table(tmp_path / "t.csv", rows).read_text()
    other = text.replace("T,d", "U,d").replace("0.2000", "0.3000").splitlines()[1:]
    mean = "0.5300,0.5300,0.5300"
    y = printed_fate(0.53, 0.15)
    line = f"{{}},{{}},v,s,Y,Avg,{mean},0.1500,{y},0.1500,{y},0.1500,{y},X"
    (tmp_path / "t.csv").write_text(
        "\n".join([text.strip(), *other, line.format("T", "d"), line.format("W", "d"),
                   line.format("V", "e")])
    )  # fmt: skip
    states = {
        (f["table"], f["status"], f["reason"])
        for f in audit_table(tmp_path / "t.csv")["fates"]
        if f["method"] == "Y"
    }
    missing = ("cannot be recomputed", "no reference row printed")
    assert states == {("T", "agrees", None), ("W", *missing), ("V", *missing)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("eopp1,", "eop1,", 1), ["'eopp1' is missing", "'eop1'"]),
        (lambda t: t.replace("0.6000", "0.6o", 1), ["line 2", "precision", "'0.6o'"]),
        (lambda t: t.replace("0.6000", "nan", 1), ["line 2", "'nan'"]),
        (lambda t: t.replace("0.6000", "1e-99999999", 1), ["line 2", "'1e-99999999'"]),
        (lambda t: t + t.splitlines()[1], ["line 6", "X has a second line 'a'"]),
        (lambda t: t.splitlines()[0], ["no line below the header"]),
        (lambda t: t.replace(",X\n", ",Y\n", 1), ["line 3", "fate_baseline", "'X'", "'Y'"]),
        (lambda t: t.replace("T,d,v,s,X,a", "T,d,v,s,X", 1), ["line 2", "16 cells"]),
        (lambda t: "", ["'method' is missing"]),
    ],
)
def test_files_that_are_no_such_table(change, words, tmp_path):
    path = table(tmp_path / "t.csv", {"X": ("0.6000", "0.4000", "0.2000", "0.0000")})
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError) as error:
        audit_table(path)
    assert "\n" not in str(error.value)
    assert [w for w in [*words, "t.csv"] if w not in str(error.value)] == [], str(error.value)


def test_people_are_told_the_same(published):
    console = Console(width=200, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(render_audit(published))
    text = console.export_text()
    console.file.close()
    assert "S1: 15 of 15 FATEs agree" in text
    assert "S3: 12 of 12 FATEs agree (3 of them within rounding)" in text
    assert "S2: 0 of 12 FATEs agree, 5 do not, 7 cannot be recomputed" in text
    assert "S3 SCP-HSIC: levelling down (no group's F1 rises) with a positive FATE" in text
    assert text.count("X S2 ") == 5
    assert package_file().name == "published_tables.csv"


def test_a_negative_gap_is_refused_with_its_place(tmp_path):
    rows = {"X": (".7", ".6", "-.1", ""), "M": (".7", ".6", ".1", ".3")}
    path = table(tmp_path / "t.csv", rows)
    with pytest.raises(UserError, match=r"line 4: eopp0 is a gap and must not be negative"):
        audit_table(path)


def test_an_implied_f1_of_shares_is_at_most_1(tmp_path):
    """One FATE alone bounds the reference's F1 by nothing but what an F1 can be."""
    path = table(tmp_path / "t.csv", {"M": (".7", ".6", ".1", ".3")})
    implied = implied_reference(cells_of(read_blocks(path)))
    assert implied.f1[1] == 1
    assert implied.f1[0] > 0
