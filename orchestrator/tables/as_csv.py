"""The table as tidy CSV: one line a configuration and group, then Avg and Diff.

The columns are those of the published tables (``orchestrator/tables/published.py``) and more, so
``fatefront audit`` reads the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.tables.published import AVG, FIGURES, GAPS, IDENTITY

DECIMALS = 6
BESIDE_GAP = ("floor", "p_value", "excess", "debiased", "detectable")
"""What stands beside each gap of ours."""
BOUNDS = tuple(f"{name}_{end}" for name in FIGURES for end in ("low", "high"))
COLUMNS = (
    *IDENTITY, "group", *FIGURES, "fate_baseline", "source", "misprint", "tag", "split", "mode",
    "num_seeds", "seeds", "role", "baseline", "criterion", "site", "adaptive", "configuration_key",
    "differs", *BOUNDS, *(f"{gap}_{name}" for gap in GAPS for name in BESIDE_GAP),
)  # fmt: skip


def as_csv(document: Mapping[str, Any]) -> str:
    """The document's table; ours have the source ``fatefront``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    written = set()
    for row in document["rows"]:
        writer.writerows(_lines(row, document))
        for block in row["published"]:
            written.add((block["table"], block["method"]))
            writer.writerows(_published(block))
    for block in document["published"]:
        if (block["table"], block["method"]) not in written:
            writer.writerows(_published(block))
    return text.getvalue()


def _lines(row: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    settings = ("pr", "pr_c", "role", "baseline", "criterion", "site", "configuration_key")
    shared = ("dataset", "backbone", "attribute", "split", "mode")
    known = {name: document[name] for name in shared}
    known |= {name: "" if row[name] is None else row[name] for name in settings}
    known |= {
        "table": document["sweep"],
        "method": row["configuration"],
        "n": row["n"],
        "fate_baseline": row["fate_baseline"],
        "source": "fatefront",
        "tag": row["tag"],
        "num_seeds": len(row["seeds"]),
        "seeds": " ".join(map(str, row["seeds"])),
        "adaptive": str(row["adaptive"]).lower(),
    }
    for line, scores in row["lines"].items():
        figures = dict(scores)
        beside: dict[str, str] = {}
        if line == AVG:
            beside = {
                f"{gap}_{name}": _decimal(row["gaps"][gap][name])
                for gap in GAPS
                for name in BESIDE_GAP
            }
            figures |= {gap: row["gaps"][gap] for gap in GAPS}
            figures |= {f"fate_{gap}": row["fates"][gap] for gap in GAPS}
        cells = {"group": line} | beside
        for name, figure in figures.items():
            cells |= {
                name: _decimal(figure["value"]),
                f"{name}_low": _decimal(figure["low"]),
                f"{name}_high": _decimal(figure["high"]),
            }
        yield known | cells


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.{DECIMALS}f}"


def _published(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    known = {name: block[name] for name in (*IDENTITY, "fate_baseline", "source", "tag")}
    for line, printed in block["lines"].items():
        own = [m for m in block["misprints"] if m["group"] == line]
        misprints = [f"{' '.join(m['columns'])}: {m['note']}" for m in own]
        yield {
            **known,
            **printed,
            "group": line,
            "misprint": " | ".join(misprints),
            "differs": " | ".join(block["differs"]),
            "split": "test",
            "mode": "paper",
            "num_seeds": 1,
        }
