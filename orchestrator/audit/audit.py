"""``fatefront audit``: does each printed FATE follow from the figures printed beside it?

Every FATE is recomputed from the printed values of its own row and its reference row; Avg, Diff
and Eodd are checked against the other figures of the row. Where no reference row is printed, what
the other FATEs of the table imply about it is used, and only a contradiction is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from orchestrator.audit.cells import AGREE, Bounds, Verdict, judge_fate
from orchestrator.audit.checks import checks_of
from orchestrator.audit.reference import (
    FACTOR,
    Cell,
    Implied,
    cells_of,
    implied_reference,
    slip,
)
from orchestrator.tables.published import (
    AVG,
    GAPS,
    NO_REFERENCE_ROW,
    Block,
    find_reference,
    package_file,
    read_blocks,
    tag_of,
)

STATUS_COUNTS = {
    "num_agree": AGREE,
    "num_within_rounding": ("within rounding",),
    "num_disagree": ("does not agree",),
    "num_not_recomputed": ("cannot be recomputed",),
}
HALF_UNIT = "each printed number stands for all that round to it (half a unit of its last digit)"
NOT_EVIDENCE = (
    "an audit says whether printed figures fit together, not whether they were measured rightly"
)


def audit_table(path: Path | None = None) -> dict[str, Any]:
    """Audit a CSV in the columns of the published tables.

    Args:
        path: the file; the tables that ship with the package if not given.

    Returns:
        A document of ``schemas/audit.json``.

    Raises:
        UserError: the file cannot be read as such a table.
    """
    blocks = read_blocks(path)
    fates, references = _fates(blocks)
    checks = [check for block in blocks for check in checks_of(block)]
    tables = list(dict.fromkeys(block.table for block in blocks))
    return {
        "file": str(path or package_file()),
        "source": "; ".join(dict.fromkeys(block.source for block in blocks if block.source)),
        **_counts(fates),
        "tables": [
            {"table": table, **_counts(f for f in fates if f["table"] == table)}
            for table in tables
        ],
        "fates": fates,
        "references": references,
        "checks": checks,
        "tags": [_tag(block, blocks) for block in blocks],
        "notes": [HALF_UNIT, NOT_EVIDENCE],
    }


def _counts(fates: Iterable[dict[str, Any]]) -> dict[str, int]:
    states = Counter(fate["status"] for fate in fates)
    return {"num_fates": states.total()} | {
        name: sum(states[status] for status in counted)
        for name, counted in STATUS_COUNTS.items()
    }


def _fates(blocks: Sequence[Block]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every printed FATE with its verdict, and every reference that had to be inferred."""
    orphans: dict[tuple[str, ...], list[Block]] = {}
    for block in blocks:
        if find_reference(block, blocks) is None:
            same = (block.table, *block.setting, block.fate_baseline)
            orphans.setdefault(same, []).append(block)
    inferred: dict[int, dict[str, Verdict]] = {}
    references = []
    for of_one in orphans.values():
        cells = cells_of(of_one)
        implied = implied_reference(cells) if cells else None
        slips = _slips(implied, cells)
        for block in of_one:
            inferred[id(block)] = _inferred(block, implied, cells, slips)
        if implied is not None and implied.num_cells:
            references.append(_reference(of_one[0], implied, slips))
    fates = []
    for block in blocks:
        reference = find_reference(block, blocks)
        for gap in GAPS:
            if not block.text(AVG, f"fate_{gap}"):
                continue
            if reference is None:
                verdict = inferred[id(block)][gap]
            else:
                verdict = judge_fate(block, reference, gap)
            fates.append(_fate(block, gap, verdict))
    return fates, references


def _slips(implied: Implied | None, cells: Sequence[Cell]) -> dict[str, Fraction]:
    """Gap -> the factor that would make its implied reference plausible, where it is not."""
    found = {}
    for gap, interval in (implied.gaps if implied else {}).items():
        scale = slip(interval, [cell for cell in cells if cell.gap == gap])
        if scale is not None:
            found[gap] = scale
    return found


def _inferred(
    block: Block, implied: Implied | None, cells: Sequence[Cell], slips: dict[str, Fraction]
) -> dict[str, Verdict]:
    """Verdicts on a row whose reference is not printed."""
    own = {cell.gap: cell for cell in cells_of([block])}
    verdicts = {}
    for gap in GAPS:
        cell, verdict = own.get(gap), Verdict("cannot be recomputed", reason=NO_REFERENCE_ROW)
        if cell is not None and implied is not None:
            name = (block.label, gap)
            bounds = implied.bounds(cell) if gap in implied.vertices else None
            if name in implied.contradicted:
                reason = f"contradicts the other FATEs of the table ({NO_REFERENCE_ROW})"
                verdict = Verdict("does not agree", bounds, reason)
            elif gap in slips:
                verdict = Verdict(
                    "does not agree", *_implausible(gap, cell, implied, cells, slips[gap])
                )
            elif name in implied.ambiguous:
                reason = f"{NO_REFERENCE_ROW}; contradicts another FATE, which of them is open"
                verdict = Verdict("cannot be recomputed", reason=reason)
            else:
                verdict = Verdict("cannot be recomputed", bounds, NO_REFERENCE_ROW)
        verdicts[gap] = verdict
    return verdicts


def _implausible(
    gap: str, cell: Cell, implied: Implied, cells: Sequence[Cell], scale: Fraction
) -> tuple[Bounds | None, str]:
    low, high = implied.gaps[gap]
    printed = [c.printed_gap.value for c in cells if c.gap == gap]
    reason = (
        f"{NO_REFERENCE_ROW}; follows only from a reference {gap} of {float(low):.4f} to "
        f"{float(high):.4f}, more than {FACTOR} times away from all that is printed "
        f"({float(min(printed)):g} to {float(max(printed)):g})"
    )
    if not scale:
        return None, reason
    reason += f"; the bounds here are for {float(scale):g} times that reference"
    return implied.bounds(cell, scale), reason


def _fate(block: Block, gap: str, verdict: Verdict) -> dict[str, Any]:
    bounds = verdict.bounds or Bounds(None, None, None)
    return {
        "table": block.table,
        "method": block.label,
        "gap": gap,
        "printed": block.text(AVG, f"fate_{gap}"),
        "status": verdict.status,
        "recomputed": _float(bounds.value),
        "low": _float(bounds.low),
        "high": _float(bounds.high),
        "reason": verdict.reason,
        "known_misprint": block.known_misprint(AVG, f"fate_{gap}"),
    }


def _reference(block: Block, implied: Implied, slips: dict[str, Fraction]) -> dict[str, Any]:
    return {
        "table": block.table,
        "method": block.fate_baseline,
        "f1": _interval(implied.f1),
        "gaps": {
            gap: _interval(interval) | {"plausible": gap not in slips}
            for gap, interval in implied.gaps.items()
        },
        "num_fates": implied.num_cells,
        "contradicted": [
            {"method": method, "gap": gap} for method, gap in sorted(implied.contradicted)
        ],
    }


def _interval(interval: tuple[Fraction, Fraction]) -> dict[str, Any]:
    return {"low": float(interval[0]), "high": float(interval[1])}


def _float(number: Fraction | None) -> float | None:
    return None if number is None else float(number)


def _tag(block: Block, blocks: Sequence[Block]) -> dict[str, Any]:
    reference = find_reference(block, blocks)
    tag, note = tag_of(block, reference)
    return {
        "table": block.table,
        "method": block.label,
        "fate_baseline": block.fate_baseline,
        "tag": tag,
        "tag_note": note,
    }
