"""The document of ``evaluate_file`` as tables for people: groups, gaps, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.evaluation.notes import BESIDE, told
from trainables.metrics.fairness import GAPS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

SCORES = ("precision", "recall", "f1", "accuracy")
CALIBRATION = ("auroc", "ece", "brier")
FIGURES = (
    "f1", "accuracy", "auroc", "ece", "brier", "sensitivity", "specificity", "underdiagnosis",
    "selection_rate", "bias_amplification",
)  # fmt: skip


def _text(value: float | None, sign: str = "") -> str:
    """A figure to three places; a dash where it is undefined."""
    return "-" if value is None else f"{value:{sign}.3f}"


def _groups(result: dict[str, Any]) -> Table:
    """One line a group, then mean and difference over groups, then all images together."""
    from rich.table import Table
    from rich.text import Text

    scores = [*SCORES, *(name for name in CALIBRATION if name in result)]
    changes = result["group_changes"]
    table = Table(title=f"{result['num_samples']} images, {result['num_classes']} classes")
    table.add_column("group")
    for name in ["images", *scores, *(["change in f1"] if changes else [])]:
        table.add_column(name, justify="right")
    for name, group in result["groups"].items():
        cells = [_text(group[score]) for score in scores]
        cells += [_text(changes[name]["f1"], "+")] if changes else []
        table.add_row(Text(name), str(group["num_samples"]), *cells)
    table.add_section()
    for title, suffix in (("mean over groups", ""), ("largest difference", "_diff")):
        table.add_row(title, "", *(_text(result[f"{score}{suffix}"]) for score in SCORES[:3]))
    pooled = [result["f1_pooled"], result["accuracy"], *(result[name] for name in scores[4:])]
    table.add_row("all images", str(result["num_samples"]), "", "", *map(_text, pooled))
    return table


def _gaps(result: dict[str, Any]) -> Table:
    """One line a gap, with its change and FATE where there is a reference."""
    from rich.table import Table

    many, reference = result["num_groups"] > 2, result["reference"]
    table = Table(title=f"gaps between groups, mode {result['mode']} (0: no difference)")
    table.add_column("metric")
    titles = ["largest over pairs", "mean over pairs"] if many else ["gap"]
    titles += ["classes skipped", *(["change", "FATE"] if reference else [])]
    for title in titles:
        table.add_column(title, justify="right")
    for name in GAPS:
        cells = [_text(result[name]), *([_text(result[f"{name}_mean"])] if many else [])]
        cells.append(str(len(result["skipped_classes"][name])))
        if reference:
            cells += [_text(result["changes"][name], "+"), _text(result[f"fate_{name}"], "+")]
        table.add_row(name, *cells)
    table.add_row("demographic_parity", _text(result["demographic_parity"]))
    return table


def interval_text(interval: dict[str, Any]) -> str:
    """An interval to three places; a dash where there is none."""
    if interval["low"] is None or interval["high"] is None:
        return "-"
    return f"[{interval['low']:.3f}, {interval['high']:.3f}]"


def _evidence(result: dict[str, Any]) -> Table:
    """One line a gap: what stands beside it."""
    from rich.table import Table

    table = Table(title="beside each gap: a classifier with equal per-class rates shows the floor")
    table.add_column("metric", no_wrap=True)
    for title in ("gap", "95 % interval", "floor", "p", "excess", "debiased", "detectable"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row("f1", _text(result["f1"]), interval_text(result["interval"]["f1"]))
    for gap in GAPS:
        beside = [
            p_text(result[name][gap]) if name == "p_value" else _text(result[name][gap])
            for name in BESIDE
        ]
        cells = [_text(result[gap]), interval_text(result["interval"][gap]), *beside]
        table.add_row(gap, *cells)
    for gap in GAPS if result["reference"] else ():
        interval = result["interval"][f"fate_{gap}"]
        table.add_row(f"fate_{gap}", _text(result[f"fate_{gap}"]), interval_text(interval))
    return table


def p_text(p_value: float | None) -> str:
    """Three places; a permutation test cannot say 0."""
    if p_value is not None and p_value < 0.0005:
        return "<.001"
    return _text(p_value)


def _clinical(result: dict[str, Any]) -> Table:
    """One line a figure, one column a group, with intervals."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="groups with 95 % intervals")
    table.add_column("figure")
    for name in result["groups"]:
        table.add_column(Text(name), justify="right")
    for figure in figures_shown(result):
        cells = []
        for name in result["groups"]:
            interval = result["group_interval"][name].get(figure)
            ends = interval_text(interval) if interval else ""
            cells.append(f"{_text(group_value(result, name, figure))} {ends}".strip())
        table.add_row(figure, *cells)
    return table


def group_value(result: dict[str, Any], group: str, figure: str) -> float | None:
    """A figure of one group, None where it has none."""
    if figure == "bias_amplification":
        value: float | None = result["group_bias_amplification"][group]
        return value
    return result["groups"][group].get(figure)


def figures_shown(result: dict[str, Any]) -> list[str]:
    """Figures that some group has an interval of, in a fixed order."""
    found = {name for group in result["group_interval"].values() for name in group}
    return [name for name in FIGURES if name in found]


def render(result: dict[str, Any]) -> RenderableType:
    """Lay the document of ``evaluate_file`` out for people, as something rich can print."""
    from rich.console import Group
    from rich.text import Text

    return Group(
        _groups(result), _gaps(result), _evidence(result), _clinical(result),
        Text("\n".join(told(result))),
    )  # fmt: skip
