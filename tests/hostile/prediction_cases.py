"""Predictions, models and printed tables that cannot be judged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
from hostile_case import Case, text

HEADER = "y_true,y_pred,group"
ROWS = [f"{i % 2},{i // 2 % 2},{'ab'[i // 3 % 2]}" for i in range(24)]
PROBABILITIES = [f"{row},0.{i % 9 + 1},0.{9 - i % 9}" for i, row in enumerate(ROWS)]
EVALUATE = ("evaluate", "{}/p.csv")


def whole(rows: list[str] = ROWS, header: str = HEADER) -> str:
    """A file of predictions with nothing wrong."""
    return "\n".join([header, *rows]) + "\n"


def _file(name: str, says: tuple[str, ...], content: str | bytes, *options: str) -> Case:
    return Case(f"predictions: {name}", (*EVALUATE, *options), says, text("p.csv", content))


def _option(name: str, says: tuple[str, ...], *options: str) -> Case:
    return Case(f"evaluate: {name}", (*EVALUATE, *options), says, text("p.csv", whole()))


def _probability(name: str, says: tuple[str, ...], value: str) -> Case:
    rows = [PROBABILITIES[0].rsplit(",", 1)[0] + f",{value}", *PROBABILITIES[1:]]
    return _file(
        f"probability {name}", says, whole(rows, HEADER + ",p_0,p_1"), "--probabilities", "p_0,p_1"
    )


def _parquet(name: str, says: tuple[str, ...], frame: pd.DataFrame) -> Case:
    return Case(
        f"predictions: Parquet, {name}",
        ("evaluate", "{}/p.parquet", "--replicates", "20"),
        says,
        lambda folder: frame.to_parquet(folder / "p.parquet"),
    )


def _model(name: str, says: tuple[str, ...], card: object, weights: bytes = b"") -> Case:
    def make(folder: Path) -> None:
        (folder / "m").mkdir()
        content = card if isinstance(card, bytes) else json.dumps(card).encode()
        (folder / "m" / "model.json").write_bytes(content)
        (folder / "m" / "weights.safetensors").write_bytes(weights)
        (folder / "t.csv").write_text("path\na.png\n")

    return Case(f"model: {name}", ("predict", "{}/m", "{}/t.csv"), says, make)


def _audit(name: str, says: tuple[str, ...], content: str | bytes) -> Case:
    return Case(f"audit: {name}", ("audit", "{}/a.csv"), says, text("a.csv", content))


AUDIT = "method,group,f1,eopp0,fate_eopp0,eopp1,fate_eopp1,eodd,fate_eodd,fate_baseline\n"


def _ten_million(folder: Path) -> None:
    block = "\n".join(ROWS * 5_000) + "\n"
    with (folder / "p.csv").open("w") as file:
        file.write(HEADER + "\n")
        for _ in range(84):
            file.write(block)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "p.csv")


def _locked(folder: Path) -> None:
    (folder / "p.csv").write_text(whole())
    (folder / "p.csv").chmod(0)


CASES = [
    Case("predictions: not there", EVALUATE, ("no file", "p.csv")),
    Case("predictions: a folder", EVALUATE, ("p.csv", "folder"), lambda f: (f / "p.csv").mkdir()),
    Case("predictions: a pipe", EVALUATE, ("p.csv", "pipe"), _pipe),
    Case(
        "predictions: a device",
        EVALUATE,
        ("p.csv", "device"),
        lambda f: os.symlink("/dev/zero", f / "p.csv"),
    ),
    Case(
        "predictions: link to itself",
        EVALUATE,
        ("p.csv", "symbolic links"),
        lambda f: os.symlink(f / "p.csv", f / "p.csv"),
    ),
    Case(
        "predictions: may not be read",
        EVALUATE,
        ("p.csv", "Permission denied"),
        _locked,
        unprivileged=True,
    ),
    Case(
        "predictions: 10^7 rows",
        EVALUATE,
        ("p.csv", "more than 2000000 rows"),
        _ten_million,
        slow=True,
    ),
    _file("empty", ("p.csv", "empty"), ""),
    _file("only a byte order mark", ("p.csv", "Empty CSV"), b"\xef\xbb\xbf"),
    _file("only a header", ("no rows",), HEADER + "\n"),
    _file("not UTF-8", ("p.csv", "UTF"), whole().encode() + "0,1,M\xfc\n".encode("latin-1")),
    _file("UTF-16", ("p.csv",), whole().encode("utf-16")),
    _file("semicolons", ("no column 'y_true'", "p.csv"), whole().replace(",", ";")),
    _file("a value too many", ("p.csv", "Row #26", "3 columns"), whole() + "0,1,a,x\n"),
    _file("a value too few", ("p.csv", "Row #26", "3 columns"), whole() + "0,1\n"),
    _file("column missing", ("no column 'group'", "p.csv"), whole(header="y_true,y_pred,gruop")),
    _file(
        "column twice",
        ("'y_pred'", "more than once"),
        whole([f"{r},1" for r in ROWS], HEADER + ",y_pred"),
    ),
    _file("label missing", ("y_true", "data row 1"), whole([",1,a", *ROWS])),
    _file("prediction missing", ("y_pred", "data row 1"), whole(["1,,a", *ROWS])),
    _file("no group in any row", ("group", "missing"), whole([r[:-1] for r in ROWS])),
    _file(
        "scores for predictions",
        ("y_pred", "'0.5'"),
        whole([r.replace(",1,", ",0.5,") for r in ROWS]),
    ),
    _file("decimal commas", ("'0,5'",), whole([r.replace(",1,", ',"0,5",') for r in ROWS])),
    _file("NaN for predictions", ("y_pred",), whole([r.replace(",1,", ",nan,") for r in ROWS])),
    _file("infinite predictions", ("'inf'",), whole([r.replace(",1,", ",inf,") for r in ROWS])),
    _file(
        "200 groups",
        ("at most 100 groups", "200"),
        whole([r[:-1] + f"g{i % 200}" for i, r in enumerate(ROWS * 10)]),
    ),
    _file(
        "a class an image",
        ("classes", "too many"),
        whole([f"c{i},c{i},{'ab'[i % 2]}" for i in range(5_000)]),
    ),
    _file("integers of 5,000 digits", ("y_true",), whole(["9" * 5000 + ",0,a", *ROWS])),
    _file(
        "control characters in a group",
        ("group", "control"),
        whole([r[:-1] + "b\x1b[2J" if r[-1] == "b" else r for r in ROWS]),
    ),
    _probability("NaN", ("[0, 1]", "nan", "p_1", "data row 1"), "nan"),
    _probability("infinite", ("[0, 1]", "inf", "p_1", "data row 1"), "inf"),
    _probability("negative", ("[0, 1]", "-0.5", "p_1", "data row 1"), "-0.5"),
    _probability("above 1", ("[0, 1]", "1.5", "p_1", "data row 1"), "1.5"),
    _probability("text", ("numbers", "p_1"), "high"),
    _probability("with decimal comma", ("numbers", "p_1"), '"0,5"'),
    _probability("that does not add up", ("add up to 1", "data row 1"), "0.1"),
    _probability("missing", ("[0, 1]", "nan", "p_1"), ""),
    _parquet("other columns", ("no column 'y_true'", "p.parquet"), pd.DataFrame({"a": [1]})),
    _parquet(
        "labels are lists",
        ("y_true", "lists"),
        pd.DataFrame(
            {"y_true": [[0], [1]] * 9, "y_pred": [0, 1] * 9, "group": ["a", "b", "b"] * 6}
        ),
    ),
    _parquet(
        "labels are bytes",
        ("y_true", "p.parquet"),
        pd.DataFrame(
            {"y_true": [b"\xff", b"\xfe"] * 9, "y_pred": [0, 1] * 9, "group": ["a", "b", "b"] * 6}
        ),
    ),
    Case(
        "predictions: Parquet that ends early",
        ("evaluate", "{}/p.parquet"),
        ("p.parquet",),
        text("p.parquet", b"PAR1\x15\x00"),
    ),
    Case(
        "predictions: two files of other images",
        ("evaluate", "{}/p.csv", "{}/q.csv"),
        ("rows", "p.csv", "q.csv"),
        lambda f: [(f / "p.csv").write_text(whole()), (f / "q.csv").write_text(whole(ROWS[:9]))],
    ),
    Case(
        "predictions: an image twice",
        (*EVALUATE, "{}/p.csv", "--image", "image"),
        ("p.csv", "once", "rows 1 and 2"),
        text("p.csv", whole([f"{r},same" for r in ROWS], HEADER + ",image")),
    ),
    _option("replicates 1", ("replicates", "1000000", "1"), "--replicates", "1"),
    _option("replicates huge", ("replicates", "1000000"), "--replicates", "999999999999"),
    _option("replicates are text", ("replicates", "'many'"), "--replicates", "many"),
    _option("specificity 1", ("specificity", "(0, 1)", "1"), "--specificity", "1"),
    _option("specificity NaN", ("specificity", "nan"), "--specificity", "nan"),
    _option("unknown mode", ("mode", "'exact'"), "--mode", "exact"),
    _option("support 0", ("support", "0"), "--min-support", "0"),
    _option("group names nothing", ("group",), "--group", ","),
    _option("unknown malignant class", ("'mel'", "0, 1"), "--malignant", "mel"),
    _option("page into no folder", ("nowhere",), "--html", "/nowhere/p.html"),
    _option("page is a folder", ("Is a directory",), "--html", "{}"),
    _option("reference not there", ("absent.csv",), "--reference", "{}/absent.csv"),
    Case("model: no folder", ("predict", "{}/m", "{}/t.csv"), ("no model", "model.json")),
    _model("not JSON", ("model.json", "not JSON"), b"{"),
    _model("not UTF-8", ("model.json", "not JSON"), b"\xff\xfe"),
    _model("a list", ("model.json", "format_version"), []),
    _model("nested 100,000 deep", ("model.json",), b"[" * 100_000 + b"]" * 100_000),
    _model("other version", ("format_version", "99"), {"format_version": 99}),
    _model("nothing else", ("model.json", "trial"), {"format_version": 1}),
    Case(
        "model: a pipe",
        ("predict", "{}/m", "{}/t.csv"),
        ("model.json", "pipe"),
        lambda f: [(f / "m").mkdir(), os.mkfifo(f / "m" / "model.json")],
    ),
    _audit("empty", ("a.csv",), ""),
    _audit("column missing", ("a.csv", "'f1'"), AUDIT.replace("f1,", "")),
    _audit("no rows", ("a.csv",), AUDIT),
    _audit("not UTF-8", ("a.csv",), AUDIT.encode() + b"M\xfc,Avg,.5,.1,,.1,,.1,,M\n"),
    _audit("NaN", ("a.csv", "line 2", "nan"), AUDIT + "M,Avg,nan,.1,,.1,,.1,,M\n"),
    _audit("exponent of 10^9", ("a.csv", "line 2"), AUDIT + "M,Avg,1e999999999,.1,,.1,,.1,,M\n"),
    _audit("decimal comma", ("a.csv", "line 2", "0,5"), AUDIT + 'M,Avg,"0,5",.1,,.1,,.1,,M\n'),
    Case("audit: a device", ("audit", "/dev/zero"), ("/dev/zero",)),
]
