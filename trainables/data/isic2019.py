"""ISIC 2019 in its published layout: 25,331 dermoscopy images, eight diagnoses.

Three sources in one: HAM10000 (Tschandl, Rosendahl and Kittler 2018, Scientific Data 5:180161),
BCN_20000 (Hernández-Pérez et al. 2024, Scientific Data 11:641) and MSK (Codella et al. 2018, ISBI,
arXiv:1710.05006). Licence CC BY-NC 4.0. There is no patient column; the lesion stands in its
place. HAM10000's images and lesion ids are all in it, so it is no independent test of a model
trained on HAM10000 (``trainables.data.overlap`` counts what two data sets share).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from trainables.data.attributes import (
    NUM_NAMED,
    UNKNOWN,
    Groups,
    add_groups,
    age_groups,
    named_groups,
    sex_groups,
)
from trainables.data.base import DataConfig, DatasetSource, Table
from trainables.data.columns import read_table, require_columns, text_columns
from trainables.data.image_files import FolderConfig, find_table, with_paths
from trainables.data.published_split import published_split
from trainables.errors import UserError
from trainables.registry import datasets

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
"""In the order of the table's columns; UNK, the ninth, has no training image."""
GROUND_TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
COLUMNS = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
COLUMN_OF = {"sex": "sex", "age": "age_approx", "site": "anatom_site_general"}
MAX_DEPTH = 3
HELD_OUT = 0.4


@datasets.register("isic2019")
class ISIC2019(DatasetSource):
    """Images up to three folders below ``root``, ground truth and metadata in it."""

    class Config(FolderConfig):
        """Where the images are and which attribute makes the groups.

        ``split: paper`` is by image, 60 / 20 / 20, without the 437 images of unknown age. It is
        the authors' protocol, not their rows: of these 24,894 images theirs lack 54 more, for a
        reason that is not known, and were divided by a rule that is not known either.
        """

        ATTRIBUTES = tuple(COLUMN_OF)

        name: Literal["isic2019"] = "isic2019"
        attribute: str = "sex"
        age_threshold: int = Field(60, ge=1, le=120, description="years; first of the older group")
        malignant: tuple[str, ...] = ("MEL", "BCC", "SCC")

    @classmethod
    def table(cls, config: DataConfig) -> Table:
        """Read both tables and find the images; none is opened.

        A lesion stands for the patient; an image without one is its own.

        Raises:
            UserError: no such folder, tables or images, columns missing, tables that do not list
                the same images, labels that are not one class, unknown values.
        """
        if not isinstance(config, cls.Config):
            raise TypeError(f"expected the config of the data set isic2019, got {type(config)}")
        _, folder = config.folders()
        truth, place = find_table(folder, (GROUND_TRUTH,)), find_table(folder, (METADATA,))
        of_truth: list[str] = []
        problems: list[str] = []  # of the metadata
        rows = _read(truth, place, of_truth, problems)

        def groups_of(attribute: str) -> Groups:
            values = rows[COLUMN_OF[attribute]].tolist()
            if attribute == "age":
                return age_groups(values, config.age_threshold, problems)
            return sex_groups(values, problems) if attribute == "sex" else named_groups(values)

        table, groups, further = add_groups(
            pd.DataFrame(
                {
                    "image_id": rows["image"],
                    "label": rows["label"],
                    "patient_id": rows["lesion_id"].where(
                        rows["lesion_id"] != "", "image:" + rows["image"]
                    ),
                }
            ),
            config,
            groups_of,
        )
        _refuse({truth: of_truth, place: problems})
        warnings: tuple[str, ...] = ()
        if config.split.by == "paper":
            kept = ~rows["age_approx"].str.lower().isin(UNKNOWN)
            warnings = (f"split by paper: {(~kept).sum()} images of unknown age were left out",)
            table = table[kept].reset_index(drop=True)
            table["split"] = published_split(table["label"].tolist(), HELD_OUT, str(truth))
        example = "ISIC_2019_Training_Input/{}.jpg"
        table, absent = with_paths(table, config, depth=MAX_DEPTH, example=example)
        return Table(table, CLASSES, groups, (*warnings, *absent), further_groups=further)


def _read(
    truth: Path, place: Path, of_truth: list[str], of_place: list[str]
) -> pd.DataFrame:
    """The metadata with the column ``label``; what is wrong goes to the list of its table."""
    labels, rows = read_table(truth), read_table(place)
    require_columns(labels, ("image", *CLASSES), str(truth))
    require_columns(rows, COLUMNS, str(place))
    rows = text_columns(rows, COLUMNS)
    columns = [*CLASSES, *(["UNK"] if "UNK" in labels else [])]
    labels = text_columns(labels, ("image", *columns))
    names, marked = labels["image"], labels[columns] == "1"
    strange = ~labels[columns].isin(("0", "1")).all(axis=1) | (marked.sum(axis=1) != 1)
    _note(of_truth, names[strange], "images do not have one 1 among the classes")
    unknown = marked["UNK"] if "UNK" in marked else pd.Series(False, index=labels.index)
    _note(of_truth, names[unknown & ~strange], "images are of the class UNK")
    _note(of_truth, names[names.duplicated()], "images are listed twice")
    _note(of_place, rows["image"][rows["image"].duplicated()], "images are listed twice")
    _note(of_truth, names[~names.isin(rows["image"])], f"images are not in {place.name}")
    _note(of_place, rows["image"][~rows["image"].isin(names)], f"images are not in {truth.name}")
    label_of = dict(zip(names, marked.idxmax(axis=1), strict=True))
    return rows.assign(label=[label_of.get(name, "") for name in rows["image"]])


def _note(problems: list[str], names: pd.Series, what: str) -> None:
    if len(names):
        shown = ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")
        problems.append(f"{len(names)} {what}: {shown}")


def _refuse(problems_of: Mapping[Path, Sequence[str]]) -> None:
    """One error of all that was found, each fault beside the table that has it."""
    found = {table: dict.fromkeys(of) for table, of in problems_of.items() if of}
    if found:
        raise UserError("; ".join(f"{'; '.join(of)} ({table})" for table, of in found.items()))
