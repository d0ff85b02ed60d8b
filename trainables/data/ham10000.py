"""HAM10000 in its published layout: 10,015 dermoscopy images of 7,470 lesions, seven diagnoses.

Tschandl, Rosendahl and Kittler 2018, Scientific Data 5:180161. Images are licensed CC BY-NC 4.0.
There is no patient column; the lesion stands in its place.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from trainables.data.base import DataConfig, DatasetSource, Table
from trainables.data.columns import read_table, require_columns
from trainables.errors import UserError
from trainables.registry import datasets

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata")  # the archive's own name has no suffix
COLUMNS = ("lesion_id", "image_id", "dx", "age", "sex", "localization")
SUFFIXES = (".jpg", ".jpeg", ".png")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz")
MAX_DEPTH = 2
UNKNOWN = ("", "unknown", "nan")
NUM_NAMED = 5


@datasets.register("ham10000")
class HAM10000(DatasetSource):
    """Images up to two folders below ``root``, ``HAM10000_metadata.csv`` in it."""

    class Config(DataConfig):
        """Where the images are and which attribute makes the groups."""

        name: Literal["ham10000"] = "ham10000"
        root: str = Field(description="folder of the metadata and the image folders")
        attribute: Literal["sex", "age", "localization"] = "sex"
        age_threshold: int = Field(60, ge=1, le=120, description="years; first of the older group")
        aspect: float = Field(4 / 3, ge=1.0, le=2.0, description="width / height in the cache")
        malignant: tuple[str, ...] = ("akiec", "bcc", "mel")
        missing_images: Literal["error", "skip"] = "error"

    @classmethod
    def table(cls, config: DataConfig) -> Table:
        """Read the metadata and find the images; none is opened.

        A listed image that is not there gets the path where it is expected, so that it is reported
        together with the unreadable ones, or is left out and counted with ``missing_images:
        skip``.

        Raises:
            UserError: no such folder, no metadata, no images, columns missing, unknown values.
        """
        if not isinstance(config, cls.Config):
            raise TypeError(f"expected the config of the data set ham10000, got {type(config)}")
        root = Path(config.root).expanduser()
        rows = _metadata(root)
        files = _images(root)
        paths = [files.get(image_id) for image_id in rows["image_id"]]
        groups, names = _groups(rows, config)
        table = pd.DataFrame(
            {
                "image_id": rows["image_id"],
                "path": [
                    path or str(root / f"{image_id}.jpg")
                    for path, image_id in zip(paths, rows["image_id"], strict=True)
                ],
                "label": rows["dx"],
                "group": pd.Series(groups, index=rows.index, dtype=object),
                "patient_id": rows["lesion_id"],
            }
        )
        warnings: tuple[str, ...] = ()
        absent = np.array([path is None for path in paths])
        if config.missing_images == "skip" and absent.any():
            shown = ", ".join(table["image_id"][absent][:NUM_NAMED])
            warnings = (
                f"{absent.sum()} of {len(table)} images of the metadata are not below {root} and "
                f"were left out ({shown}{', ...' if absent.sum() > NUM_NAMED else ''})",
            )
            table = table[~absent].reset_index(drop=True)
        return Table(table, CLASSES, names, warnings)


def _metadata(root: Path) -> pd.DataFrame:
    if not root.is_dir():
        raise UserError(f"data.root: no such folder: {root}")
    found = [root / name for name in METADATA if (root / name).is_file()]
    if not found:
        raise UserError(f"data.root: {root} has no {METADATA[0]}")
    place = str(found[0])
    rows = read_table(found[0])
    require_columns(rows, COLUMNS, place)
    rows = rows[list(COLUMNS)].map(lambda value: str(value).strip())
    unknown = sorted(set(rows["dx"]) - set(CLASSES))
    if unknown:
        shown = ", ".join(map(repr, unknown[:NUM_NAMED]))
        raise UserError(f"unknown dx: {shown}; known: {', '.join(CLASSES)} ({place})")
    return rows


def _images(root: Path) -> dict[str, str]:
    """Image files by name without suffix; of several copies the first by path."""
    files: dict[str, str] = {}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders.sort()
        if len(Path(folder).relative_to(root).parts) >= MAX_DEPTH:
            subfolders.clear()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUFFIXES:
                files.setdefault(stem, os.path.join(folder, name))
    if not any(stem.startswith("ISIC_") for stem in files):
        packed = sorted(path.name for path in root.iterdir() if path.suffix in ARCHIVES)
        hint = f"; {packed[0]} has to be unpacked first" if packed else ""
        raise UserError(
            f"data.root: no images ISIC_*.jpg in {root} or up to {MAX_DEPTH} folders below, "
            f"for example in HAM10000_images_part_1{hint}"
        )
    return files


def _groups(
    rows: pd.DataFrame, config: HAM10000.Config
) -> tuple[list[str | None], tuple[str, ...]]:
    """The group of each row, None where unknown, and the names of all groups."""
    values = [value.lower() for value in rows[config.attribute]]
    if config.attribute == "age":
        younger, older = f"under_{config.age_threshold}", f"{config.age_threshold}_and_over"
        ages = [None if value in UNKNOWN else _years(value) for value in values]
        return [
            None if age is None else older if age >= config.age_threshold else younger
            for age in ages
        ], (younger, older)
    groups = [None if value in UNKNOWN else value for value in values]
    if config.attribute == "localization":
        return groups, tuple(sorted({group for group in groups if group}))
    strange = sorted({group for group in groups if group} - {"female", "male"})
    if strange:
        raise UserError(f"unknown sex: {', '.join(map(repr, strange[:NUM_NAMED]))} (ham10000)")
    return groups, ("female", "male")


def _years(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"age is no number: {value!r} (ham10000)") from None
