"""HAM10000 in its published layout: 10,015 dermoscopy images of 7,470 lesions, seven diagnoses.

Tschandl, Rosendahl and Kittler 2018, Scientific Data 5:180161. Images are licensed CC BY-NC 4.0.
There is no patient column; the lesion stands in its place.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd
from pydantic import Field

from trainables.data.attributes import (
    NUM_NAMED,
    Groups,
    add_groups,
    age_groups,
    named_groups,
    refuse,
    sex_groups,
)
from trainables.data.base import DataConfig, DatasetSource, Table
from trainables.data.columns import read_table, require_columns
from trainables.data.image_files import FolderConfig, find_table, with_paths
from trainables.registry import datasets

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata")  # the archive's own name has no suffix
COLUMNS = ("lesion_id", "image_id", "dx", "age", "sex", "localization")
MAX_DEPTH = 2


@datasets.register("ham10000")
class HAM10000(DatasetSource):
    """Images up to two folders below ``root``, ``HAM10000_metadata.csv`` in it."""

    class Config(FolderConfig):
        """Where the images are and which attribute makes the groups."""

        ATTRIBUTES = ("sex", "age", "localization")

        name: Literal["ham10000"] = "ham10000"
        attribute: str = "sex"
        age_threshold: int = Field(60, ge=1, le=120, description="years; first of the older group")
        aspect: float = Field(4 / 3, ge=1.0, le=2.0, description="width / height in the cache")
        malignant: tuple[str, ...] = ("akiec", "bcc", "mel")

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
        _, folder = config.folders()
        place = find_table(folder, METADATA)
        rows = read_table(place)
        require_columns(rows, COLUMNS, str(place))
        rows = rows[list(COLUMNS)].map(lambda value: str(value).strip())
        problems = []
        strange = sorted(set(rows["dx"]) - set(CLASSES))
        if strange:
            shown = ", ".join(map(repr, strange[:NUM_NAMED]))
            problems.append(f"unknown dx: {shown}; known: {', '.join(CLASSES)}")

        def groups_of(attribute: str) -> Groups:
            values = rows[attribute].tolist()
            if attribute == "age":
                return age_groups(values, config.age_threshold, problems)
            return sex_groups(values, problems) if attribute == "sex" else named_groups(values)

        table = pd.DataFrame(
            {"image_id": rows["image_id"], "label": rows["dx"], "patient_id": rows["lesion_id"]}
        )
        table, groups, further = add_groups(table, config, groups_of)
        refuse(problems, str(place))
        example = "HAM10000_images_part_1/{}.jpg"
        table, warnings = with_paths(table, config, depth=MAX_DEPTH, example=example)
        return Table(table, CLASSES, groups, warnings, further_groups=further)
