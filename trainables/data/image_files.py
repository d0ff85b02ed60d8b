"""Finding the image files that a table names, below a folder of any of the usual layouts."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from trainables.data.base import DataConfig
from trainables.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz")
NUM_NAMED = 5


class FolderConfig(DataConfig):
    """Where the files of a published data set lie."""

    root: str = Field(description="folder of the tables and, in it or below, the images")
    tables: str | None = Field(None, description="folder of the tables, where it is another")
    missing_images: Literal["error", "skip"] = "error"

    def folders(self) -> tuple[Path, Path]:
        """The folders of the images and of the tables.

        Raises:
            UserError: no such folder.
        """
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise UserError(f"data.root: no such folder: {root}")
        if self.tables is None:
            return root, root
        tables = Path(self.tables).expanduser()
        if not tables.is_dir():
            raise UserError(f"data.tables: no such folder: {tables}")
        return root, tables


def find_table(folder: Path, names: Sequence[str], field: str = "data.root") -> Path:
    """The first of ``names`` that lies in ``folder``, or in a folder directly below.

    Raises:
        UserError: there is none.
    """
    for name in names:
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if path.is_file():
                return path
    raise UserError(f"{field}: {folder} has no {names[0]}")


def image_files(
    root: Path, wanted: Collection[str], *, depth: int, example: str
) -> dict[str, str]:
    """Image files by name without suffix; of several copies the first by path.

    Args:
        root: where to look.
        wanted: names without suffix that the table lists.
        depth: how many folders below ``root`` are entered.
        example: where images usually are, for the message.

    Raises:
        UserError: no wanted image is there.
    """
    files: dict[str, str] = {}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders.sort()
        if len(Path(folder).relative_to(root).parts) >= depth:
            subfolders.clear()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUFFIXES:
                files.setdefault(stem, os.path.join(folder, name))
    if files.keys().isdisjoint(wanted):
        packed = sorted(path.name for path in root.iterdir() if path.suffix in ARCHIVES)
        hint = f"; {packed[0]} has to be unpacked first" if packed else ""
        raise UserError(
            f"data.root: no images of the table in {root} or up to {depth} folders below, "
            f"for example {example}{hint}"
        )
    return files


def with_paths(
    rows: pd.DataFrame, config: FolderConfig, *, depth: int, example: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the column ``path``.

    A listed image that is not there gets the path where it is expected, so that it is reported
    together with the unreadable ones, or is left out and counted with ``missing_images: skip``.

    Args:
        rows: with the column ``image_id``, names without suffix.
        config: where to look and what to do about absent images.
        depth: how many folders below ``root`` are entered.
        example: where images usually are, with ``{}`` for the image's name.

    Returns:
        (rows with paths, warnings).

    Raises:
        UserError: no such folder, or no image of the table in it.
    """
    root, _ = config.folders()
    names = rows["image_id"].tolist()
    shown = example.format(names[0]) if names else example
    files = image_files(root, set(names), depth=depth, example=shown)
    paths = [files.get(name) or str(root / example.format(name)) for name in names]
    rows = rows.assign(path=paths)
    absent = np.array([name not in files for name in names])
    if config.missing_images == "error" or not absent.any():
        return rows, ()
    first = ", ".join(rows["image_id"][absent][:NUM_NAMED])
    warning = (
        f"{absent.sum()} of {len(rows)} images of the table are not below {root} and "
        f"were left out ({first}{', ...' if absent.sum() > NUM_NAMED else ''})"
    )
    return rows[~absent].reset_index(drop=True), (warning,)
