"""PAD-UFES-20 in its published layout: 2,298 smartphone images of 1,373 patients, six diagnoses.

Pacheco et al. 2020, Data in Brief 32:106221. Licence CC BY 4.0. One of the few public sets with
patients and with skin types that were noted by clinicians, but 804 images have no type and types
IV to VI make 73 images. Some files carry an alpha channel; it is laid over white.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

import pandas as pd
from pydantic import Field

from trainables.data.attributes import (
    NUM_NAMED,
    SIX,
    Groups,
    add_groups,
    age_groups,
    refuse,
    sex_groups,
    type_groups,
)
from trainables.data.base import DataConfig, DatasetSource, Table
from trainables.data.columns import read_table, require_columns, text_columns
from trainables.data.image_files import FolderConfig, find_table, with_paths
from trainables.data.skin_types import SkinTypeConfig
from trainables.registry import datasets

CLASSES = ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
METADATA = "metadata.csv"
COLUMNS = ("patient_id", "lesion_id", "age", "gender", "fitspatrick", "diagnostic", "img_id")
MAX_DEPTH = 4


@datasets.register("pad_ufes_20")
class PADUFES20(DatasetSource):
    """PNG images up to four folders below ``root``, ``metadata.csv`` in it."""

    class Config(FolderConfig, SkinTypeConfig):
        """Where the images are and which attribute makes the groups.

        ``skin_type`` groups the types by ``bins``, ``six_types`` takes each as a group.
        """

        ATTRIBUTES = ("skin_type", "six_types", "gender", "age")

        name: Literal["pad_ufes_20"] = "pad_ufes_20"
        attribute: str = "skin_type"
        age_threshold: int = Field(60, ge=1, le=120, description="years; first of the older group")
        malignant: tuple[str, ...] = ("BCC", "MEL", "SCC")

    @classmethod
    def table(cls, config: DataConfig) -> Table:
        """Read the metadata and find the images; none is opened.

        Raises:
            UserError: no such folder, no metadata, no images, columns missing, unknown values.
        """
        if not isinstance(config, cls.Config):
            raise TypeError(f"expected the config of the data set pad_ufes_20, got {type(config)}")
        _, folder = config.folders()
        place = find_table(folder, (METADATA,))
        rows = read_table(place)
        require_columns(rows, COLUMNS, str(place))
        rows = text_columns(rows, COLUMNS)
        problems: list[str] = []
        strange = sorted(set(rows["diagnostic"]) - set(CLASSES))
        if strange:
            shown = ", ".join(map(repr, strange[:NUM_NAMED]))
            problems.append(f"unknown diagnostic: {shown}; known: {', '.join(CLASSES)}")
        nobody = rows["img_id"][rows["patient_id"] == ""]
        if len(nobody):
            problems.append(f"{len(nobody)} images without a patient_id: {nobody.iloc[0]}, ...")

        def groups_of(attribute: str) -> Groups:
            if attribute == "age":
                return age_groups(rows["age"].tolist(), config.age_threshold, problems)
            if attribute == "gender":
                return sex_groups(rows["gender"].tolist(), problems, "gender")
            bins = SIX if attribute == "six_types" else config.groups_of_types()
            return type_groups(rows["fitspatrick"].tolist(), bins, problems)

        table, groups, further = add_groups(
            pd.DataFrame(
                {
                    "image_id": [PurePath(name).stem for name in rows["img_id"]],
                    "label": rows["diagnostic"],
                    "patient_id": rows["patient_id"],
                }
            ),
            config,
            groups_of,
        )
        refuse(problems, str(place))
        example = "images/imgs_part_1/{}.png"
        table, warnings = with_paths(table, config, depth=MAX_DEPTH, example=example)
        return Table(table, CLASSES, groups, warnings, further_groups=further)
