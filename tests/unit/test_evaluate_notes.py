"""Terminal and page of ``evaluate`` say what weakens a figure, and why one is missing."""

import csv
import io

import pytest
from rich.console import Console

from orchestrator.evaluation.evaluate import evaluate_file, render
from orchestrator.evaluation.notes import told
from orchestrator.evaluation.page import page
from orchestrator.wrapped_table import fitted


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Three groups of six images a class; group ``c`` alone has the third class."""
    folder = tmp_path_factory.mktemp("notes")
    for name, wrong in (("own.csv", 5), ("reference.csv", 3)):
        with (folder / name).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["y_true", "y_pred", "group", "patient"])
            for i in range(48):
                group = "abc"[i % 3]
                label = 2 if group == "c" and i % 2 else i // 3 % 2
                rows.writerow([label, (label + (i % wrong == 0)) % 3, group, f"p{i}"])
    return evaluate_file(
        folder / "own.csv", reference=folder / "reference.csv", patient="patient",
        replicates=200, keep_counts=True,
    )  # fmt: skip


def terminal(result):
    file = io.StringIO()
    Console(file=file, width=80).print(fitted(render(result), 80), crop=False)
    return " ".join(file.getvalue().split())


def test_both_say_the_same(result):
    lines = told(result)
    text, html = terminal(result), page(result)
    for line in lines:
        assert " ".join(line.split()) in text
    for start in (
        "approximate intervals, 1 seed: patients only",
        "approximate intervals, 8 images in a class and group, fewer than 10: f1, eopp0",
        "undefined, signed: terms cancel",
        "more than two groups: largest over pairs",
        "against the reference: ",
    ):
        assert any(line.startswith(start) for line in lines), (start, lines)
        assert start.split(":")[0].replace("'", "&#x27;") in html


def test_the_page_has_f1_fate_and_both_definitions(result):
    html = page(result)
    low = result["interval"]["f1"]["low"]
    assert f"[{low:.3f}, " in html
    for name in ("fate_eopp0", "fate_eodd_hardt"):
        assert name in html
        interval = result["interval"][name]
        shown = interval["reason"] or f"[{interval['low']:.3f}, {interval['high']:.3f}]"
        assert shown.replace("'", "&#x27;") in html
    assert "largest over pairs" in html
    assert "mean over pairs" in html


def test_a_floor_that_is_missing_has_its_reason(result, tmp_path):
    """Each group with a class of its own: nobody can exchange groups."""
    path = tmp_path / "own.csv"
    path.write_text("y_true,y_pred,group\n" + "0,0,a\n0,1,a\n1,1,b\n1,0,b\n")
    alone = evaluate_file(path, replicates=50)
    reason = alone["undefined"]["floor.eopp0"]
    line = next(line for line in told(alone) if reason in line)
    assert "floor of eopp0" in line
    assert "p of eopp0" in line
    assert " ".join(line.split()) in terminal(alone)
