"""Which column of a table names the images, in which folder, with which ending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from orchestrator.starting.column_names import IMAGE, by_rank

SUFFIXES = ("", ".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".tif", ".tiff", ".bmp", ".webp")
SAMPLE = 50
MAX_FOLDERS = 50
MOST = 0.5
"""Share of the sampled names that must be files."""


@dataclass(frozen=True)
class ImageColumn:
    """``root`` / (value + ``suffix``) is the file; ``num_missing`` of all rows have none."""

    column: str
    root: Path
    suffix: str
    num_missing: int


def find_images(
    rows: pd.DataFrame, table: Path, images: Path | None, column: str | None
) -> ImageColumn | None:
    """The column whose values name most files.

    Args:
        rows: of the table, cells as text.
        table: its file; images are looked for in its folder and in the folders in it.
        images: folder of the images, if the user says it.
        column: the column, if the user says it.
    """
    columns = [str(name) for name in rows.columns] if column is None else [column]
    hinted = by_rank(columns, IMAGE)
    best: tuple[float, ImageColumn] | None = None
    for name in [*hinted, *(n for n in columns if n not in hinted)]:
        values = [str(value).strip() for value in rows[name]]
        sample = spread(values)
        for root in _folders(table.parent, images):
            for suffix in SUFFIXES:
                share = sum(_is_file(root, value + suffix) for value in sample) / len(sample)
                if share >= MOST and (best is None or share > best[0]):
                    missing = sum(not _is_file(root, value + suffix) for value in values)
                    best = (share, ImageColumn(name, root, suffix, missing))
        if best is not None and best[0] == 1.0:
            break
    return None if best is None else best[1]


def spread(values: Sequence[str]) -> list[str]:
    """Values from the whole length of the table."""
    return list(values[:: max(1, len(values) // SAMPLE)])[:SAMPLE]


def _folders(beside: Path, images: Path | None) -> list[Path]:
    if images is not None:
        return [images]
    inner = sorted(path for path in beside.iterdir() if path.is_dir())
    return [beside, *inner[:MAX_FOLDERS]]


def _is_file(root: Path, name: str) -> bool:
    try:
        return bool(name) and (root / name).is_file()
    except (OSError, ValueError):  # a text that cannot be a name
        return False
