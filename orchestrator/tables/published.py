"""Tables of printed figures: the file format of the paper's, and the paper's own in the package.

A line is one group of one method (or ``Avg``, ``Diff``) with its figures as printed, so that the
number of digits is kept. Nothing is ever corrected here: known misprints are marked beside the
figures, and whoever shows a figure shows its mark.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

from trainables.errors import UserError, shortened
from trainables.metrics.fate import levelling_tag
from trainables.plain_file import read_plain

AVG, DIFF = "Avg", "Diff"
SCORES = ("precision", "recall", "f1")
GAPS = ("eopp0", "eopp1", "eodd", "eodd_hardt")
FIGURES = (*SCORES, *(f"{prefix}{gap}" for gap in GAPS for prefix in ("", "fate_")))
IDENTITY = ("table", "dataset", "backbone", "attribute", "method", "pr", "pr_c", "n")
REQUIRED = ("method", "group", "f1", "eopp0", "fate_eopp0", "eopp1", "fate_eopp1", "eodd",
            "fate_eodd", "fate_baseline")  # fmt: skip
OPTIONAL = (
    *(name for name in (*IDENTITY, *FIGURES) if name not in REQUIRED),
    "mode", "num_seeds", "source", "misprint",
)  # fmt: skip
NO_REFERENCE_ROW = "no reference row printed"
MAX_DECIMALS, LARGEST, MAX_DIGITS, MAX_BYTES = 30, 6, 100, 64 << 20
"""A figure beyond these is no printed score, gap or FATE."""


@dataclass(frozen=True)
class Misprint:
    """What is known to be wrong in one line; the figures stay as printed."""

    group: str
    columns: tuple[str, ...]
    note: str


@dataclass
class Block:
    """One method of a table: its lines by group, every figure as the text that was printed."""

    identity: dict[str, str]  # the columns of ``IDENTITY``
    fate_baseline: str
    source: str
    mode: str  # how its gaps were computed; "paper" where the file does not say
    num_seeds: int
    lines: dict[str, dict[str, str]] = field(default_factory=dict)  # group -> figure -> text
    misprints: list[Misprint] = field(default_factory=list)
    label: str = ""  # the method's name, with what tells it from another of its table

    @property
    def table(self) -> str:
        """Which table it stands in."""
        return self.identity["table"]

    @property
    def method(self) -> str:
        """The method's name as printed."""
        return self.identity["method"]

    @property
    def setting(self) -> tuple[str, ...]:
        """Data, backbone and attribute: only within one of these can methods be compared."""
        return tuple(self.identity[name] for name in ("dataset", "backbone", "attribute"))

    @property
    def groups(self) -> list[str]:
        """Names of the groups, without ``Avg`` and ``Diff``."""
        return [name for name in self.lines if name not in (AVG, DIFF)]

    def text(self, group: str, figure: str) -> str:
        """The figure as printed, empty where there is none."""
        return self.lines.get(group, {}).get(figure, "")

    def known_misprint(self, group: str, figure: str) -> str | None:
        """What the file itself says is wrong with this figure."""
        notes = [m.note for m in self.misprints if m.group == group and figure in m.columns]
        return "; ".join(notes) or None

    def group_f1(self) -> dict[str, dict[str, float | None]]:
        """Each group's F1 in the form ``levelling_tag`` reads."""
        found = {group: self.text(group, "f1") for group in self.groups}
        return {group: {"f1": float(text) if text else None} for group, text in found.items()}


@dataclass(frozen=True)
class Interval:
    """All numbers that round to one printed text: half a unit of its last digit to both sides."""

    low: Fraction
    high: Fraction
    value: Fraction

    @classmethod
    def of(cls, text: str) -> Interval:
        """The interval of a printed number."""
        number = Decimal(text)
        exponent = number.as_tuple().exponent
        assert isinstance(exponent, int)  # infinities and NaN are refused when the file is read
        half, value = Fraction(10) ** exponent / 2, Fraction(number)
        return cls(value - half, value + half, value)


def package_file() -> Path:
    """Tables S1 to S3 of arXiv 2405.08681's supplement, as shipped."""
    return Path(str(files("orchestrator") / "data" / "published_tables.csv"))


def read_blocks(path: Path | None = None) -> list[Block]:
    """Methods of a CSV in the columns of the published tables, in the file's order.

    Args:
        path: the file; the package's own if not given. Lines that start with ``#`` are comments.

    Raises:
        UserError: no such file, a missing column, no line, a line twice, or what should be a
            number is none.
    """
    path = path or package_file()
    blocks: dict[tuple[str, ...], Block] = {}
    for number, row in _rows(path):
        place = f"{path}: line {number}"
        identity = {name: row.get(name, "") for name in IDENTITY}
        group = {"avg": AVG, "diff": DIFF}.get(row["group"].lower(), row["group"])
        if not identity["method"] or not group:
            raise UserError(f"{place}: method and group must not be empty")
        figures = {name: _number(row.get(name, ""), name, place) for name in FIGURES}
        block = blocks.setdefault(
            tuple(identity.values()),
            Block(
                identity=identity,
                fate_baseline=row["fate_baseline"],
                source=row.get("source", ""),
                mode=row.get("mode") or "paper",
                num_seeds=_count(row.get("num_seeds") or "1", "num_seeds", place),
            ),
        )
        if group in block.lines:
            raise UserError(f"{place}: {block.method} has a second line {group!r}")
        block.fate_baseline = block.fate_baseline or row["fate_baseline"]
        if row["fate_baseline"] not in ("", block.fate_baseline):
            raise UserError(
                f"{place}: fate_baseline is {row['fate_baseline']!r} but {block.fate_baseline!r} "
                f"in the lines of {block.method} before"
            )
        block.lines[group] = figures
        block.misprints += _misprints(row.get("misprint", ""), group, place)
    if not blocks:
        raise UserError(f"{path}: no line below the header")
    _label(list(blocks.values()))
    return list(blocks.values())


def _label(blocks: Sequence[Block]) -> None:
    """Name every row: by its method, and where that is twice in a table by all that differs."""
    for block in blocks:
        alike = [b for b in blocks if (b.table, b.method) == (block.table, block.method)]
        told = [
            f"{name} {block.identity[name]}"
            for name in IDENTITY
            if block.identity[name] and len({b.identity[name] for b in alike}) > 1
        ]
        block.label = block.method + (f" ({', '.join(told)})" if told else "")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields of each line; cells stripped."""
    try:
        lines = read_plain(path, MAX_BYTES).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} is not a CSV file in UTF-8 ({reason})") from None
    kept = [(number, line) for number, line in enumerate(lines, 1) if not line.startswith("#")]
    reader = csv.DictReader(line for _, line in kept)
    columns = [name.strip() for name in reader.fieldnames or ()]
    for name in REQUIRED:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f", it has {near[0]!r}" if near else ""
            raise UserError(f"{path}: column {name!r} is missing{hint}")
    reader.fieldnames = columns
    for row in reader:
        number = kept[min(reader.line_num, len(kept)) - 1][0]
        if None in row or None in row.values():
            raise UserError(f"{path}: line {number} has not {len(columns)} cells as the header")
        cells = {name: str(cell).strip() for name, cell in row.items()}
        if any(cells.values()):
            yield number, cells


def _number(text: str, name: str, place: str) -> str:
    """The text of a figure, a typographic minus made plain; empty where nothing is printed."""
    text = text.replace("\N{MINUS SIGN}", "-")
    try:
        if len(text) > MAX_DIGITS:
            raise InvalidOperation
        number = Decimal(text or "0")
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int) or exponent < -MAX_DECIMALS:
            raise InvalidOperation
        if number.adjusted() >= LARGEST:
            raise InvalidOperation
    except InvalidOperation:
        raise UserError(f"{place}: {name} must be a number but got {shortened(text)}") from None
    if name in GAPS and number < 0:  # the mean of absolute differences
        raise UserError(f"{place}: {name} is a gap and must not be negative but got {text}")
    return text


def _count(text: str, name: str, place: str) -> int:
    if not text.isdecimal() or len(text) > MAX_DECIMALS or int(text) < 1:
        raise UserError(f"{place}: {name} must be a whole number from 1 but got {text!r}")
    return int(text)


def _misprints(text: str, group: str, place: str) -> Iterator[Misprint]:
    """``COLUMN COLUMN: what is wrong | COLUMN: ...``."""
    for part in filter(None, (part.strip() for part in text.split(" | "))):
        columns, colon, note = part.partition(": ")
        if not colon or not set(columns.split()) <= {*FIGURES, "method"}:
            raise UserError(f"{place}: misprint must read 'COLUMNS: note' but got {part!r}")
        yield Misprint(group, tuple(columns.split()), note)


def find_reference(block: Block, blocks: Sequence[Block]) -> Block | None:
    """The printed row a block's FATE is measured against.

    It is looked for in the block's own table first, then in the same setting anywhere in the file;
    None where it is not printed, or more than one row could be meant.
    """
    named = [b for b in blocks if b.method == block.fate_baseline and b.setting == block.setting]
    own = [b for b in named if b.table == block.table]
    found = own or named
    return found[0] if len(found) == 1 else None


def tag_of(block: Block, reference: Block | None) -> tuple[str, str | None]:
    """What happened to the groups against the reference row, and why it is not assessed."""
    if reference is None:
        return "not assessed", NO_REFERENCE_ROW
    if reference is block:
        return "reference", None
    tag = levelling_tag(block.group_f1(), reference.group_f1())
    return tag, "a group's F1 is not printed for both" if tag == "not assessed" else None

