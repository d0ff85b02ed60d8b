"""Parameters, operations and latency before and after pruning."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.pages.chains import root_of
from orchestrator.pages.document import Cell, folded, paragraph, table
from orchestrator.report.facts import Facts
from orchestrator.report.section import Section


def costs_section(facts: Facts) -> Section:
    """Each configuration beside the root of its own chain, mean over seeds."""
    heads: list[str | Cell] = [
        Cell("Configuration", "text"), Cell("Channels", "text"), "Parameters", "of the root",
        "FLOPs", "of the root", "Latency", "of the root",
    ]  # fmt: skip
    names = facts.focus
    rest = [name for name in facts.points if name not in names]
    told = paragraph(
        "FLOPs are those of one image's forward pass, two a multiply-add. Latency is that of one "
        f"forward batch in float32 on {_devices(facts)}, with whatever else ran there, so small "
        "differences mean nothing. Weights that a mask holds at zero are counted as parameters."
    )
    caption = "Mean over seeds, and as a share of the root that the chain began with."
    body = told + table(caption, heads, [_row(facts, n) for n in names], "Costs")
    if rest:
        grid = table(caption, heads, [_row(facts, n) for n in rest[:500]], "Costs of the others")
        body += folded(f"The other {len(rest)} configurations", grid, is_long=True)
    return Section("costs", "Parameters, FLOPs and latency", body)


def _devices(facts: Facts) -> str:
    found = {r["execution"].get("device") for r in facts.records.values() if r["status"] == "done"}
    names = sorted(str(name) for name in found if name)
    return " and ".join(names) if names else "an unknown device"


def _row(facts: Facts, name: str) -> list[str | Cell]:
    point = facts.points[name].aggregate
    ours = [facts.records[key] for key in point.keys]
    roots = [root_of(record, facts.records) for record in ours]
    theirs = [root for root in roots if root is not None and root["status"] == "done"]
    cells: list[str | Cell] = [facts.label(name), Cell(_channels(ours[0]), "text")]
    for kind in ("num_params", "flops", "latency"):
        own, before = _mean(ours, kind), _mean(theirs, kind)
        cells.append(_text(own, kind))
        whole = own is not None and before and len(theirs) == len(ours)
        cells.append(f"{own / before:.1%}" if whole and own is not None and before else "–")
    return cells


def _channels(record: Mapping[str, Any]) -> str:
    found = record["result"]["model"]["channels"]
    told = [f"{layer} {before} → {after}" for layer, (before, after) in found.items()]
    more = f" and {len(told) - 2} further layers" if len(told) > 2 else ""
    return ", ".join(told[:2]) + more or "none removed"


def _mean(records: Sequence[Mapping[str, Any]], kind: str) -> float | None:
    if kind == "latency":
        found = [(r["execution"].get("latency") or {}).get("seconds") for r in records]
    else:
        found = [r["result"]["model"].get(kind) for r in records]
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known and len(known) == len(found) else None


def _text(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    if kind == "latency":
        return f"{value * 1000:.2f} ms"
    return f"{value / 1e6:,.2f} M"
