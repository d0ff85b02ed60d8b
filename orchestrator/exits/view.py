"""``fatefront exits`` for people: a table a configuration, by threshold: all images, groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

FEW = 10
"""An accuracy of fewer images is marked."""


def render_exits(document: dict[str, Any]) -> Group:
    """Share that leaves at each exit with its accuracy, and what comes of all together."""
    tables = [_table(one, document) for one in document["configurations"]]
    missing = [
        f"not here: {one['configuration']} (seed {one['seed']}): {one['reason']}"
        for one in document["missing"]
    ]
    legend = [
        "each exit: share of the images that leave there, and accuracy of these "
        f"(~: fewer than {FEW} images); * the model's own threshold",
        *document["notes"],
    ]
    return Group(*tables, Text("\n".join([*missing, *legend])))


def _table(configuration: Mapping[str, Any], document: Mapping[str, Any]) -> Table:
    seeds = "1 seed" if configuration["num_seeds"] == 1 else f"{configuration['num_seeds']} seeds"
    table = Table(title=f"{configuration['configuration']} ({seeds})")
    # one column: in a narrow terminal the first is repeated beside what goes below
    table.add_column("threshold, images", no_wrap=True)
    for name in (*document["exits"], "accuracy", "F1", "Eodd (Hardt)"):
        table.add_column(name, justify="right", no_wrap=True)
    num_seeds = configuration["num_seeds"]
    for row in configuration["rows"]:
        own = " *" if row["threshold"] == configuration["own_threshold"] else ""
        table.add_row(
            f"{row['threshold']:g}{own}: all",
            *_cells(row, document["num_images"] * num_seeds), _number(row["eodd_hardt"]),
        )  # fmt: skip
        for name, group in row["groups"].items():
            table.add_row(f"  {name}", *_cells(group, group["num_images"] * num_seeds), "")
        table.add_section()
    return table


def _cells(figures: Mapping[str, Any], num_images: int) -> list[str]:
    pairs = zip(figures["share"], figures["accuracy"], strict=True)
    exits = [_exit(share, accuracy, num_images) for share, accuracy in pairs]
    return [*exits, _number(figures["overall_accuracy"]), _number(figures["f1"])]


def _exit(share: float | None, accuracy: float | None, num_images: int) -> str:
    if not share or accuracy is None:
        return "-"
    few = "~" if round(share * num_images) < FEW else ""
    return f"{share:.0%} {few}{_number(accuracy)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
