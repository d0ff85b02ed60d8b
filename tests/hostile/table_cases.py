"""Tables that cannot be a data set."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from hostile_case import Case
from PIL import Image

HEADER = "path,label,tone,patient"
NUM = 24


def rows(num: int = NUM) -> list[str]:
    """Lines of a table with nothing wrong."""
    return [f"{i}.png,{'ab'[i % 2]},{'dl'[i // 2 % 2]},p{i // 2}" for i in range(num)]


def picture(kind: str = "PNG") -> bytes:
    """A small image file."""
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 60).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def whole(folder: Path, lines: Iterable[str] | None = None, header: str = HEADER) -> Path:
    """A table and its images; returns the table."""
    for i in range(NUM):
        (folder / f"{i}.png").write_bytes(picture())
    table = folder / "t.csv"
    table.write_text("\n".join([header, *(rows() if lines is None else lines)]) + "\n")
    return table


def words(extra: str = "", file: str = "t.csv") -> tuple[str, ...]:
    more = f", {extra}" if extra else ""
    data = (
        f"{{name: table, path: '{{}}/{file}', attribute: tone, patient: patient, "
        f"image_size: 16{more}}}"
    )
    return ("data", "prepare", data)


def _table(
    name: str, says: tuple[str, ...], content: str | bytes, extra: str = "", file: str = "t.csv"
) -> Case:
    data = content.encode() if isinstance(content, str) else content
    return Case(
        f"table: {name}",
        words(extra, file),
        says,
        lambda folder: (folder / file).write_bytes(data),
    )


def _lines(
    name: str, says: tuple[str, ...], change: Callable[[list[str]], list[str]], extra: str = ""
) -> Case:
    return Case(f"table: {name}", words(extra), says, lambda folder: whole(folder, change(rows())))


def _parquet(
    name: str, says: tuple[str, ...], frame: Callable[[], pd.DataFrame], extra: str = ""
) -> Case:
    def make(folder: Path) -> None:
        whole(folder)
        frame().to_parquet(folder / "t.parquet")

    return Case(f"parquet: {name}", words(extra, "t.parquet"), says, make)


def _frame() -> pd.DataFrame:
    return pd.DataFrame([line.split(",") for line in rows()], columns=HEADER.split(","))


def _loop(folder: Path) -> None:
    os.symlink(folder / "t.csv", folder / "t.csv")


def _locked(folder: Path) -> None:
    whole(folder).chmod(0)


def _many_rows(folder: Path) -> None:
    block = "\n".join(rows(100_000)) + "\n"
    with (folder / "t.csv").open("w") as file:
        file.write(HEADER + "\n")
        for _ in range(100):
            file.write(block)


BOM = b"\xef\xbb\xbf"
CASES = [
    Case("table: not there", words(), ("no such table", "t.csv")),
    Case(
        "table: near name",
        words(),
        ("no such table", "'tt.csv'"),
        lambda f: (f / "tt.csv").touch(),
    ),
    Case("table: a folder", words(), ("t.csv", "folder"), lambda f: (f / "t.csv").mkdir()),
    Case("table: a pipe", words(), ("t.csv", "pipe"), lambda f: os.mkfifo(f / "t.csv")),
    Case(
        "table: a device",
        words(),
        ("t.csv", "device"),
        lambda f: os.symlink("/dev/zero", f / "t.csv"),
    ),
    Case("table: link to itself", words(), ("t.csv", "symbolic links"), _loop),
    Case(
        "table: may not be read",
        words(),
        ("t.csv", "Permission denied"),
        _locked,
        unprivileged=True,
    ),
    Case("table: 10^7 rows", words(), ("t.csv", "more than 2000000 rows"), _many_rows, slow=True),
    _table("empty", ("t.csv", "empty"), ""),
    _table("only a byte order mark", ("t.csv", "empty"), BOM),
    _table("only a header", ("no rows",), HEADER + "\n"),
    _table(
        "not UTF-8", ("t.csv", "UTF-8"), (HEADER + "\n1.png,M\xfcller,d,p1\n").encode("latin-1")
    ),
    _table("UTF-16", ("t.csv", "UTF-8"), (HEADER + "\n1.png,a,d,p1\n").encode("utf-16")),
    _table(
        "NUL bytes",
        ("control characters", "'a\\x00'"),
        (HEADER + "\n1.png,a\0,d,p1\n2.png,b,l,p2\n").encode(),
    ),
    _table("a picture", ("t.csv",), picture()),
    _table("Parquet by name only", ("t.parquet",), HEADER + "\n", file="t.parquet"),
    _table("truncated Parquet", ("t.parquet",), b"PAR1\x15\x00\x15", file="t.parquet"),
    _table(
        "a value too many",
        ("t.csv", "Row #3", "4 columns"),
        HEADER + "\n1.png,a,d,p1\n2.png,a,d,p1,x\n",
    ),
    _table(
        "every line has a value too many",
        ("t.csv",),
        HEADER + "\n1.png,a,d,p1,x\n2.png,a,d,p1,x\n",
    ),
    _table(
        "a value too few", ("t.csv", "Row #3", "4 columns"), HEADER + "\n1.png,a,d,p1\n2.png,a\n"
    ),
    _table("unclosed quote", ("t.csv",), HEADER + '\n1.png,"a,d,p1\n2.png,b,l,p2\n'),
    _table("semicolons", ("'path'", "t.csv"), (HEADER + "\n1.png,a,d,p1\n").replace(",", ";")),
    _table("column missing", ("no column 'tone'", "t.csv"), "path,label,patient\n1.png,a,p1\n"),
    _table(
        "column in other case",
        ("no column 'tone'", "'Tone'"),
        "path,label,Tone,patient\n1.png,a,d,p1\n",
    ),
    _table(
        "column twice",
        ("'label'", "t.csv"),
        "path,label,label,tone,patient\n1.png,a,b,d,p1\n2.png,b,a,l,p2\n",
    ),
    _table(
        "spaces in the header", ("'label'", "' label'"), "path, label,tone,patient\n1.png,a,d,p1\n"
    ),
    _lines("label missing", ("row 1", "'label'"), lambda r: [r[0].replace(",a,", ",,"), *r[1:]]),
    _lines("image missing", ("row 1", "'path'"), lambda r: [r[0].replace("0.png", ""), *r[1:]]),
    _lines("image twice", ("occur twice", "0.png"), lambda r: [*r, r[0]]),
    _lines("one class", ("1 class",), lambda r: [line.replace(",b,", ",a,") for line in r]),
    _lines(
        "one group",
        ("'tone'", "1 known values"),
        lambda r: [line.replace(",l,", ",d,") for line in r],
    ),
    _lines(
        "no group known",
        ("'tone'", "0 known values"),
        lambda r: [line.replace(",l,", ",unknown,").replace(",d,", ",,") for line in r],
    ),
    _lines(
        "decimal comma in a thresholded attribute",
        ("'tone'", "'1,5'"),
        lambda r: [line.replace(",d,", ',"1,5",').replace(",l,", ",3,") for line in r],
        "threshold: 2",
    ),
    _lines("text in a thresholded attribute", ("'tone'", "'d'"), lambda r: r, "threshold: 2"),
    _lines(
        "infinite attribute",
        ("'tone'", "'inf'"),
        lambda r: [line.replace(",d,", ",inf,").replace(",l,", ",3,") for line in r],
        "threshold: 2",
    ),
    _lines("threshold NaN", ("threshold", "nan"), lambda r: r, "threshold: .nan"),
    Case(
        "table: patient on both sides",
        words("split: column, split_column: split"),
        ("split leak", "p0 "),
        lambda f: whole(
            f, [f"{r},{('train', 'test')[i % 2]}" for i, r in enumerate(rows())], HEADER + ",split"
        ),
    ),
    _lines("path climbs out", ("../", "t.csv"), lambda r: ["../../etc/passwd,a,d,p0", *r[1:]]),
    _lines(
        "path from the root", ("/etc/passwd", "t.csv"), lambda r: ["/etc/passwd,a,d,p0", *r[1:]]
    ),
    _lines(
        "path climbs in the middle", ("..", "t.csv"), lambda r: ["a/../../0.png,a,d,p0", *r[1:]]
    ),
    _lines(
        "control characters in a path",
        ("control characters", "a\\x1b"),
        lambda r: ["a\x1b[2J.png,a,d,p0", *r[1:]],
    ),
    _lines(
        "NUL in a path", ("control characters", "a\\x00"), lambda r: ["a\0.png,a,d,p0", *r[1:]]
    ),
    _lines(
        "a path of 5,000 letters",
        ("1 of 24 images", "aaaa..."),
        lambda r: ["a" * 5000 + ".png,a,d,p0", *r[1:]],
    ),
    _lines(
        "control characters in a label",
        ("label", "control"),
        lambda r: [line.replace(",b,", ",b\x1b[2J,") for line in r],
    ),
    _lines(
        "images missing",
        ("24 of 24 images", "missing", "and 4 more"),
        lambda r: [f"no{line}" for line in r],
    ),
    _lines("limit 0", ("limit", "0"), lambda r: r, "limit: 0"),
    _lines("unknown field", ("data.atribute", "'attribute'"), lambda r: r, "atribute: 1"),
    _lines(
        "fractions NaN", ("fractions", "nan"), lambda r: r, "split: {fractions: [.nan, .5, .5]}"
    ),
    _lines("root not there", ("data.root", "nowhere"), lambda r: r, "root: /nowhere"),
    _lines(
        "list of images not there", ("no such", "absent.txt"), lambda r: r, "keep: /absent.txt"
    ),
    _lines("list of images is a device", ("/dev/zero",), lambda r: r, "keep: /dev/zero"),
    _parquet(
        "paths are numbers",
        ("24 of 24 images", "missing"),
        lambda: _frame().assign(path=range(NUM)),
    ),
    _parquet(
        "labels are lists", ("label", "t.parquet"), lambda: _frame().assign(label=[[1, 2]] * NUM)
    ),
    _parquet(
        "labels are missing", ("24 rows", "label"), lambda: _frame().assign(label=[None] * NUM)
    ),
    _parquet("labels are NaN", ("24 rows", "label"), lambda: _frame().assign(label=float("nan"))),
    _parquet(
        "bytes without ids",
        ("image_id", "t.parquet"),
        lambda: _frame().assign(path=[picture()] * NUM),
    ),
    _parquet(
        "bytes are no images",
        ("24 of 24 images", "not an image"),
        lambda: _frame().assign(path=[b"x"] * NUM, i=range(NUM)),
        "image_id: i",
    ),
    _parquet(
        "bytes and paths mixed",
        ("t.parquet",),
        lambda: _frame().assign(
            path=[{"bytes": picture(), "path": "a"}] * 23 + [{"bytes": None, "path": "b"}],
            i=range(NUM),
        ),
        "image_id: i",
    ),
    Case("data: not a mapping", ("data", "prepare", "{table"), ("data set in braces", "not YAML")),
    Case("data: no name", ("data", "prepare", "{path: t.csv}"), ("data.name", "table", "None")),
    Case(
        "data: tag",
        ("data", "prepare", "{name: !!python/name:os.system x}"),
        ("python/name:os.system",),
    ),
]
