"""The reference row that is not printed: what the printed FATEs imply about it, and which of them
contradict the others.

Each printed FATE v of a row with F1 F and gap g says F x - g y = v of the unknown x = 1/F1_ref
and y = 1/gap_ref. With half a unit of the last digit on F, g and v that is a strip of the plane
between two straight lines, and all rows of a table share x, all cells of one gap share y. So for
a given x every cell is an interval of y, and the cells that can be true together are those whose
intervals overlap. The exact answer needs only the x where two bounds cross.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from orchestrator.audit.cells import Bounds
from orchestrator.tables.published import AVG, GAPS, Block, Interval

FACTOR = 3
"""A reference gap more than this many times larger or smaller than everything printed in its
column is taken for a slip, not for a finding; nor is a reference F1 looked for further away.
"""
Y_LEAST = Fraction(1, 10**6)  # figures may be shares or per cent
GAP_LEAST = Fraction(1, 10**9)


@dataclass(frozen=True)
class Cell:
    """One printed FATE as two bounds on y, each linear in x: (slope, intercept)."""

    method: str
    gap: str
    lower: tuple[Fraction, Fraction]
    upper: tuple[Fraction, Fraction]
    f1: Interval
    printed_gap: Interval

    def interval(self, x: Fraction) -> tuple[Fraction, Fraction]:
        """All y that this cell allows at x."""
        return max(_at(self.lower, x), Y_LEAST), _at(self.upper, x)


@dataclass(frozen=True)
class Implied:
    """What the rows of one table imply about their reference."""

    f1: tuple[Fraction, Fraction]
    gaps: dict[str, tuple[Fraction, Fraction]]
    contradicted: frozenset[tuple[str, str]]  # (method, gap): in no largest set of cells that fit
    ambiguous: frozenset[tuple[str, str]]  # in some of several equally large sets only
    num_cells: int
    vertices: dict[str, tuple[tuple[Fraction, Fraction], ...]]  # gap -> corners (x, y)

    def bounds(self, cell: Cell, scale: Fraction = Fraction(1)) -> Bounds:
        """What the cell's FATE would be against this reference (its gap times ``scale``)."""
        values = [
            f1 * x - gap * y / scale
            for x, y in self.vertices[cell.gap]
            for f1 in (cell.f1.low, cell.f1.high)
            for gap in (cell.printed_gap.low, cell.printed_gap.high)
        ]
        return Bounds(None, min(values), max(values))


def _at(line: tuple[Fraction, Fraction], x: Fraction) -> Fraction:
    return line[0] * x + line[1]


def cells_of(blocks: Iterable[Block]) -> list[Cell]:
    """Every FATE of these rows that is printed with its F1 and gap."""
    cells = []
    for block, gap in itertools.product(blocks, GAPS):
        texts = [block.text(AVG, name) for name in ("f1", gap, f"fate_{gap}")]
        if not all(texts):
            continue
        f1, size, fate = map(Interval.of, texts)
        least, most = max(size.low, GAP_LEAST), max(size.high, GAP_LEAST)
        cells.append(
            Cell(
                method=block.label,
                gap=gap,
                lower=(f1.low / most, -fate.high / most),
                upper=(f1.high / least, -fate.low / least),
                f1=f1,
                printed_gap=size,
            )
        )
    return cells


def implied_reference(cells: Sequence[Cell]) -> Implied | None:
    """The reference with which most cells agree; None where no cell can be true at all.

    Where every cell contradicts some other and none can be preferred, nothing is implied: there
    are no ``gaps``, and ``num_cells`` is 0.
    """
    columns = {gap: [c for c in cells if c.gap == gap] for gap in GAPS}
    columns = {gap: column for gap, column in columns.items() if column}
    highest = FACTOR * max(cell.f1.high for cell in cells)
    if all(cell.f1.value <= 1 for cell in cells):  # shares, so the reference's is one too
        highest = min(highest, Fraction(1))
    limits = (
        1 / highest,
        FACTOR / max(min(cell.f1.low for cell in cells), GAP_LEAST),
    )
    best = 0
    chosen: list[frozenset[Cell]] = []
    for x in _crossings(columns.values(), limits, kinks=False):
        largest = [_largest_overlaps(column, x) for column in columns.values()]
        size = sum(len(sets[0]) for sets in largest)
        if size > best:
            best, chosen = size, []
        if size == best:
            chosen += [frozenset().union(*choice) for choice in itertools.product(*largest)]
    if not best:
        return None
    everywhere, somewhere = frozenset.intersection(*chosen), frozenset().union(*chosen)
    core = {gap: [c for c in column if c in everywhere] for gap, column in columns.items()}
    core = {gap: column for gap, column in core.items() if column}
    crossings = _crossings(core.values(), limits, kinks=True)
    feasible = [x for x in crossings if _all_overlap(core, x)]
    vertices = {
        gap: tuple(corner for x in feasible for corner in _corners(column, x))
        for gap, column in core.items()
    }
    return Implied(
        f1=(1 / max(feasible), 1 / min(feasible)),
        gaps={
            gap: (1 / max(y for _, y in corners), 1 / min(y for _, y in corners))
            for gap, corners in vertices.items()
        },
        contradicted=_names(c for c in cells if c not in somewhere),
        ambiguous=_names(somewhere - everywhere),
        num_cells=len(everywhere),
        vertices=vertices,
    )


def _names(cells: Iterable[Cell]) -> frozenset[tuple[str, str]]:
    return frozenset((cell.method, cell.gap) for cell in cells)


def _crossings(
    columns: Iterable[Sequence[Cell]], limits: tuple[Fraction, Fraction], *, kinks: bool
) -> list[Fraction]:
    """The limits of x and every x between them where two bounds of one gap cross.

    ``kinks``: also where two lower or two upper bounds do.
    """
    found = set(limits)
    for column in columns:
        lower, upper = [c.lower for c in column], [c.upper for c in column]
        pairs = list(itertools.product(lower, upper))
        pairs += [(line, (Fraction(0), Y_LEAST)) for line in (*lower, *upper)]
        if kinks:
            pairs += [*itertools.combinations(lower, 2), *itertools.combinations(upper, 2)]
        for (a, b), (c, d) in pairs:
            if a != c and limits[0] < (x := (d - b) / (a - c)) < limits[1]:
                found.add(x)
    return sorted(found)


def _largest_overlaps(column: Sequence[Cell], x: Fraction) -> list[frozenset[Cell]]:
    """The largest sets of cells whose intervals of y have a point in common at x."""
    intervals = {cell: cell.interval(x) for cell in column}
    sets = {
        frozenset(c for c, (low, high) in intervals.items() if low <= y <= high)
        for y, _ in intervals.values()
    }
    most = max(map(len, sets))
    return [cells for cells in sets if len(cells) == most]


def _all_overlap(columns: dict[str, list[Cell]], x: Fraction) -> bool:
    return all(low <= high for low, high in (_common(column, x) for column in columns.values()))


def _common(column: Sequence[Cell], x: Fraction) -> tuple[Fraction, Fraction]:
    intervals = [cell.interval(x) for cell in column]
    return max(low for low, _ in intervals), min(high for _, high in intervals)


def _corners(column: Sequence[Cell], x: Fraction) -> list[tuple[Fraction, Fraction]]:
    return [(x, y) for y in _common(column, x)]


def slip(implied: tuple[Fraction, Fraction], column: Sequence[Cell]) -> Fraction | None:
    """None where a reference gap is plausible; else the factor that would make it so.

    0: no power of ten within 1/100 to 100 does.
    """
    low = min(cell.printed_gap.low for cell in column)
    high = max(cell.printed_gap.high for cell in column)
    if implied[0] <= FACTOR * high and implied[1] >= low / FACTOR:
        return None
    for scale in (Fraction(1, 10), Fraction(10), Fraction(1, 100), Fraction(100)):
        if scale * implied[0] <= high and scale * implied[1] >= low:
            return scale
    return Fraction(0)
