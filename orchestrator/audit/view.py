"""The document of ``audit_table`` for people: verdicts by table, then what does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.tables.published import GAPS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

SIGNS = {
    "agrees": "=",
    "within rounding": "~",
    "does not agree": "X",
    "cannot be recomputed": "?",
}
LEGEND = ", ".join(f"{sign} {status}" for status, sign in SIGNS.items())


def render_audit(document: dict[str, Any]) -> RenderableType:
    """Lay the document out for people, as something rich can print."""
    from rich.console import Group
    from rich.text import Text

    tables = [_table(document, about) for about in document["tables"]]
    lines = [LEGEND, "", *(_total(about) for about in document["tables"])]
    wrong = [fate for fate in document["fates"] if fate["status"] == "does not agree"]
    lines += [_disagreement(fate) for fate in wrong]
    lines += [_reference(reference) for reference in document["references"]]
    failed = [check for check in document["checks"] if check["status"] == "does not hold"]
    num_open = sum(check["status"] == "cannot be checked" for check in document["checks"])
    lines += [_check(check) for check in failed]
    lines.append(
        f"Avg, Diff and the bounds of Eodd: {len(document['checks']) - len(failed) - num_open} of "
        f"{len(document['checks'])} hold" + (f", {num_open} cannot be checked" if num_open else "")
    )
    lines += _levelling_down(document)
    lines += [f"note: {note}" for note in document["notes"]]
    return Group(*tables, Text("\n".join(lines)))


def _table(document: dict[str, Any], about: dict[str, Any]) -> Table:
    """One line a method: each printed FATE with the sign of its verdict, and the groups' tag."""
    from rich.table import Table
    from rich.text import Text

    name = about["table"]
    fates = {(f["method"], f["gap"]): f for f in document["fates"] if f["table"] == name}
    gaps = [gap for gap in GAPS if any(found == gap for _, found in fates)]
    table = Table(title=f"Table {name}, printed FATE" if name else "printed FATE")
    table.add_column("method")
    for gap in gaps:
        table.add_column(gap, justify="right", no_wrap=True)
    table.add_column("groups")
    for tag in (tag for tag in document["tags"] if tag["table"] == name):
        cells = [fates.get((tag["method"], gap)) for gap in gaps]
        texts = ["" if c is None else f"{c['printed']} {SIGNS[c['status']]}" for c in cells]
        told = tag["tag"] + (f" ({tag['tag_note']})" if tag["tag_note"] else "")
        table.add_row(Text(tag["method"]), *texts, Text(told))
    return table


def _total(about: dict[str, Any]) -> str:
    name = about["table"] or "the table"
    text = f"{name}: {about['num_agree']} of {about['num_fates']} FATEs agree"
    if about["num_within_rounding"]:
        text += f" ({about['num_within_rounding']} of them within rounding)"
    if about["num_disagree"]:
        text += f", {about['num_disagree']} do not"
    if about["num_not_recomputed"]:
        text += f", {about['num_not_recomputed']} cannot be recomputed"
    return text


def _disagreement(fate: dict[str, Any]) -> str:
    text = f"X {fate['table']} {fate['method']} FATE({fate['gap']}): {fate['printed']} printed"
    if fate["low"] is not None and fate["high"] is not None:
        text += f", {fate['low']:+.3f} to {fate['high']:+.3f} recomputed"
    text += f"; {fate['reason']}" if fate["reason"] else ""
    return text + _known(fate)


def _reference(reference: dict[str, Any]) -> str:
    parts = [f"F1 {_range(reference['f1'])}"]
    parts += [
        f"{gap} {_range(interval)}" + ("" if interval["plausible"] else " (implausible)")
        for gap, interval in reference["gaps"].items()
    ]
    return (
        f"{reference['table']}: the row of {reference['method']} is not printed; "
        f"{reference['num_fates']} FATEs imply {', '.join(parts)}"
    )


def _range(interval: dict[str, Any]) -> str:
    return f"{interval['low']:.4f} to {interval['high']:.4f}"


def _check(check: dict[str, Any]) -> str:
    return (
        f"X {check['table']} {check['method']} {check['line']} {check['figure']}: "
        f"{check['printed']} printed, {check['low']:.4f} to {check['high']:.4f} recomputed"
        + _known(check)
    )


def _known(line: dict[str, Any]) -> str:
    return f" [known: {line['known_misprint']}]" if line["known_misprint"] else ""


def _levelling_down(document: dict[str, Any]) -> list[str]:
    """Rows where every group lost and a FATE is positive all the same."""
    lines = []
    for tag in document["tags"]:
        if tag["tag"] != "levelling down":
            continue
        gaps = [
            f"{fate['gap']} {fate['printed']}"
            for fate in document["fates"]
            if (fate["table"], fate["method"]) == (tag["table"], tag["method"])
            and float(fate["printed"]) > 0
        ]
        if gaps:
            lines.append(
                f"{tag['table']} {tag['method']}: levelling down (no group's F1 rises) with a "
                f"positive FATE: {', '.join(gaps)}"
            )
    return lines
