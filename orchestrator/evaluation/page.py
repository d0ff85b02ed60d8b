"""The document of ``evaluate_file`` as one page that works offline.

Shape legend: G groups, C classes; GCC is (group, true class, predicted class).
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.evaluation.notes import BESIDE, told
from orchestrator.evaluation.view import figures_shown, group_value, interval_text, p_text
from orchestrator.ledger.manifest import fatefront_version
from orchestrator.pages.document import Cell, bullets, figure, html_document, paragraph, table
from orchestrator.pages.group_bars import BarRow, Valued, group_bars
from trainables.errors import UserError
from trainables.metrics.fairness import GAPS

MAX_MATRICES = 12


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _gap_table(result: dict[str, Any]) -> str:
    named = [name.replace("_", " ") for name in BESIDE]
    many = result["num_groups"] > 2
    heads: list[str | Cell] = [
        Cell("metric", "text"), "largest over pairs" if many else "gap", "95 % interval",
        *(["mean over pairs"] if many else []), *named, Cell("verdict", "text"),
    ]  # fmt: skip
    rows: list[list[str | Cell]] = [
        [
            gap,
            _text(result[gap]),
            interval_text(result["interval"][gap]),
            *([_text(result[f"{gap}_mean"])] if many else []),
            *(
                p_text(result[name][gap]) if name == "p_value" else _text(result[name][gap])
                for name in BESIDE
            ),
            Cell(result["verdict"][gap] or "", "text tags verdict"),
        ]
        for gap in GAPS
    ]
    caption = (
        "Floor: what a classifier with equal per-class rates shows on this test set. "
        "Excess is not an estimate of the gap."
    )
    if many:
        caption += f" More than two groups: {result['definitions']['more_than_two_groups']}."
    return table(caption, heads, rows, "Gaps between groups")


def _score_table(result: dict[str, Any]) -> str:
    """F1 and, with a reference, FATE."""
    names = ["f1", *(f"fate_{gap}" for gap in GAPS if result["reference"])]
    rows: list[list[str | Cell]] = [
        [
            name,
            _text(result[name]),
            interval_text(result["interval"][name]),
            Cell(result["interval"][name]["reason"] or "", "text tags verdict"),
        ]
        for name in names
    ]
    caption = "Macro F1, mean over groups."
    if result["reference"]:
        reference = Path(result["reference"]["predictions"]).name
        caption += f" FATE against {reference}; what happened to the groups: {result['tag']}."
    heads: list[str | Cell] = [
        Cell("metric", "text"), "value", "95 % interval", Cell("no interval because", "text"),
    ]  # fmt: skip
    return table(caption, heads, rows, "F1 and FATE")


def _bars(result: dict[str, Any]) -> str:
    """One bar a figure and group, with its interval."""
    groups = list(result["groups"])
    rows = [
        BarRow(
            shown.replace("_", " "),
            {name: _valued(result, name, shown) for name in groups},
        )
        for shown in figures_shown(result)
    ]
    return figure(group_bars(rows, groups, "Figures of each group"), "Whiskers: 95 % intervals.")


def _valued(result: dict[str, Any], group: str, shown: str) -> Valued:
    ends = result["group_interval"][group].get(shown, {})
    return Valued(group_value(result, group, shown), ends.get("low"), ends.get("high"))


def _matrices(result: dict[str, Any]) -> str:
    """Shares of each true class that are predicted as each class, one matrix a group."""
    return "".join(
        _matrix(name, result["groups"][name]["num_samples"], result["classes"], counts)
        for name, counts in zip(
            list(result["groups"])[:MAX_MATRICES], result["_counts"], strict=False
        )
    )


def _matrix(name: str, num: int, classes: list[Any], count_CC: Any) -> str:
    count_CC = np.asarray(count_CC, dtype=int)
    total_C = count_CC.sum(1)
    rows: list[list[str | Cell]] = []
    for label, total, count_C in zip(classes, total_C, count_CC, strict=True):
        shares = [int(count) / int(total) if total else None for count in count_C]
        rows.append(
            [
                str(label),
                *(
                    Cell("-")
                    if share is None
                    else Cell(f"{share:.2f} ({count})", "shade", style=f"--share: {share:.3f}")
                    for share, count in zip(shares, count_C, strict=True)
                ),
            ]
        )
    heads: list[str | Cell] = [Cell("true \\ predicted", "text"), *map(str, classes)]
    return f"<h3>{escape(name)} (n = {num})</h3>" + table(
        "Share of each true class (row) that is predicted as each class, and images.",
        heads, rows, f"Confusion matrix of {name}",
    )  # fmt: skip


def page(result: dict[str, Any]) -> str:
    """HTML; ``result`` must hold ``_counts``."""
    lines = told(result)
    if len(result["groups"]) > MAX_MATRICES:
        lines.append(f"the first {MAX_MATRICES} groups have a confusion matrix here")
    title = f"Evaluation of {Path(result['predictions']).name}"
    subtitle = (
        f"{result['num_samples']} images, {result['num_classes']} classes, "
        f"{result['num_groups']} groups, {result['num_seeds']} seed(s)"
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        paragraph(subtitle, "subtitle"),
        "<h2>Gaps between groups</h2>",
        _gap_table(result),
        "<h2>F1 and FATE</h2>" if result["reference"] else "<h2>F1</h2>",
        _score_table(result),
        "<h2>Groups, with 95 % intervals</h2>",
        _bars(result),
        "<h2>Confusion matrices: share of each true class</h2>",
        _matrices(result),
        "<h2>Notes</h2>",
        bullets(lines),
    ]
    return html_document(title, "\n".join(body), version=fatefront_version())


def write_page(result: dict[str, Any], path: Path) -> None:
    """Write the page.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.write_text(page(result), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
