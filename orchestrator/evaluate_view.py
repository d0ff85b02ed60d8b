"""The document of ``evaluate_file`` as tables for people: groups, gaps, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainables.metrics.fairness import GAPS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

SCORES = ("precision", "recall", "f1", "accuracy")
CALIBRATION = ("auroc", "ece", "brier")


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


def render(result: dict[str, Any]) -> RenderableType:
    """Lay the document of ``evaluate_file`` out for people, as something rich can print."""
    from rich.console import Group
    from rich.text import Text

    lines = [f"{name}: {text}" for name, text in result["not_assessed"].items()]
    reasons: dict[str, list[str]] = {}
    for name, reason in result["undefined"].items():
        if result["reference"] or not name.startswith("fate_"):
            reasons.setdefault(reason, []).append(name)
    lines += [f"undefined, {reason}: {', '.join(names)}" for reason, names in reasons.items()]
    lines += [f"against the reference: {result['tag']}"] if result["tag"] else []
    lines += [f"note: {note}" for note in result["notes"]]
    return Group(_groups(result), _gaps(result), Text("\n".join(lines)))
