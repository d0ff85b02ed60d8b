"""Fitzpatrick17k in its usual layouts: 16,577 clinical photographs, 114 conditions, skin types.

Groh et al. 2021, CVPR Workshops, arXiv:2104.09957; second annotation: Groh et al. 2022,
arXiv:2207.02942. Annotations CC BY-NC-SA 3.0; the images belong to DermaAmin and Atlas
Dermatologico. Types are estimated from the photographs by two crowds, which agree exactly on 48 %
of the images.

**There is no patient column.** Photographs of one patient cannot be told, so that a patient may
be on both sides of every split of this data set; only what shows the same photograph is kept
together: rows with one url, and the groups of ``duplicates``. Known faults (duplicates, wrong
labels, images that show no skin) are listed by Abhishek, Jain and Hamarneh 2024, arXiv:2401.14497:
their cleaned set Fitzpatrick17k-C is a list for ``keep``, their clusters one for ``duplicates``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from trainables.data.attributes import SIX, Groups, add_groups, refuse, type_groups
from trainables.data.base import DataConfig, DatasetSource, Table
from trainables.data.columns import read_table, require_columns, text_columns
from trainables.data.image_files import FolderConfig, find_table, with_paths
from trainables.data.published_split import published_split
from trainables.data.skin_types import PRESETS, SkinTypeConfig
from trainables.errors import UserError
from trainables.registry import datasets

CSV = "fitzpatrick17k.csv"
LABELS = ("label", "nine_partition_label", "three_partition_label")  # from fine to coarse
LEVEL = {114: 0, 9: 1, 3: 2}
IDS = ("md5hash", "hasher")
TYPES = ("fitzpatrick_scale", "fitzpatrick")  # the older release has one column of types
CENTAUR = "fitzpatrick_centaur"
MAX_DEPTH = 3
HELD_OUT = 0.2

NOT_IN_THE_PUBLISHED_SPLIT = (
    "d653edb6aa702f095a9b00550738a821", "b6cf008da895fb856a76c033fddf6ec5",
    "1f44599103695a126e5bb6496ba52cb7", "05175d29ac2b49702ba01bc4952cdb1c",
    "dc00687b3d681399aafef060c45826c2", "45bde12ffb11ed63f138eb71f1686c49",
    "ecacdf96f4a54f76834361a445194e0e", "f71b43e686defe90d813f07c952dfe75",
    "10e0293479132f664253bb7820dbb67a", "65622d9d5904ab4b615cd3b754dddda2",
)  # fmt: skip
"""Rows that were dropped before the published split was drawn."""


@datasets.register("fitzpatrick17k")
class Fitzpatrick17k(DatasetSource):
    """Images ``<md5hash>.jpg`` up to three folders below ``root``, the table in it."""

    class Config(FolderConfig, SkinTypeConfig):
        """Where the images are, what the classes are, and how types make groups.

        ``skin_type`` groups the types by ``bins`` and ``attribute_source``, ``six_types`` takes
        each type as a group. ``scale``, ``centaur`` and ``agree`` group by ``bins`` and by that
        source whatever ``attribute_source`` says: as further attributes they show what the choice
        of annotators does.

        ``split: paper`` is 80 / 10 / 10 by image after dropping ten rows; with ``unknown_type:
        dark`` it is what was published.
        """

        ATTRIBUTES = ("skin_type", "six_types", "scale", "centaur", "agree")

        name: Literal["fitzpatrick17k"] = "fitzpatrick17k"
        attribute: str = "skin_type"
        num_classes: Literal[114, 9, 3] = Field(114, description="conditions, or a coarser level")
        attribute_source: Literal["scale", "centaur", "agree"] = Field(
            "scale", description="whose types; agree: only where both give the same group"
        )
        unknown_type: str = Field(
            "drop", description="drop: in no group; else the group that takes them, as in dark"
        )

        @field_validator("unknown_type")
        @classmethod
        def _group_of_unknown(cls, value: str, info: ValidationInfo) -> str:
            bins = info.data.get("bins", {})
            names = ("drop", *(PRESETS[bins] if isinstance(bins, str) else bins))
            if value not in names and bins:
                raise PydanticCustomError(
                    "group", "must be one of {names}", {"names": ", ".join(names)}
                )
            return value

    @classmethod
    def table(cls, config: DataConfig) -> Table:
        """Read the table and find the images; none is opened.

        Raises:
            UserError: no such folder, table or images, columns missing, a condition with two
                partitions, unknown values.
        """
        if not isinstance(config, cls.Config):
            raise TypeError(
                f"expected the config of the data set fitzpatrick17k, got {type(config)}"
            )
        _, folder = config.folders()
        place = find_table(folder, (CSV,))
        rows, warnings = _read(place)
        problems: list[str] = []
        table = pd.DataFrame(
            {
                "image_id": rows["image_id"],
                "label": rows[LABELS[LEVEL[config.num_classes]]],
                "patient_id": _same_url(rows),
            }
        )
        table, groups, further = add_groups(
            table, config, lambda name: _groups(rows, config, name, problems, place)
        )
        classes, coarse, malignant = _classes(rows, config.num_classes, problems)
        refuse(problems, str(place))
        if config.split.by == "paper":
            kept = ~table["image_id"].isin(NOT_IN_THE_PUBLISHED_SPLIT)
            table = table[kept].reset_index(drop=True)
            fine_N = rows[LABELS[0]][kept].tolist()  # at any number of classes
            table["split"] = published_split(fine_N, HELD_OUT, str(place))
        table, absent = with_paths(
            table, config, depth=MAX_DEPTH, example="data/finalfitz17k/{}.jpg"
        )
        warnings = [
            *warnings,
            *absent,
            "fitzpatrick17k has no patient column: a patient may be in more than one split",
        ]
        if config.duplicates is None:
            warnings.append(
                "data.duplicates is not given: near-duplicate images may be in more than one split"
            )
        return Table(table, classes, groups, tuple(warnings), coarse, further, malignant)


def _read(place: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows with the columns image_id, scale, centaur (empty where it is not there), url."""
    rows = read_table(place)
    image = next((name for name in IDS if name in rows), IDS[0])
    scale = next((name for name in TYPES if name in rows), TYPES[0])
    require_columns(rows, (image, scale, *LABELS), str(place))
    optional = [column for column in (CENTAUR, "url") if column in rows]
    read = text_columns(rows, (image, scale, *LABELS, *optional))
    read = read.rename(columns={image: "image_id", scale: "scale", CENTAUR: "centaur"})
    again = read["image_id"].duplicated()  # of one file, whose name is the MD5 of its bytes
    if not again.any():
        return read, []
    same = read.drop_duplicates()["image_id"]
    if same.duplicated().any():
        shown = ", ".join(same[same.duplicated()][:5])
        raise UserError(f"images listed twice with different values: {shown} ({place})")
    warning = f"{again.sum()} rows repeat another row's image and were left out"
    return read[~again].reset_index(drop=True), [warning]


def _same_url(rows: pd.DataFrame) -> list[str]:
    """What no split may part: the first image (by name) of those with one url, else the image."""
    if "url" not in rows:
        return rows["image_id"].tolist()
    pairs = list(zip(rows["url"], rows["image_id"], strict=True))
    first = dict(sorted(pairs, reverse=True))  # the smallest name comes last and stays
    return [first[url] if url else image for url, image in pairs]


def _groups(
    rows: pd.DataFrame,
    config: Fitzpatrick17k.Config,
    attribute: str,
    problems: list[str],
    place: Path,
) -> Groups:
    own = attribute in ("skin_type", "six_types")
    source = config.attribute_source if own else attribute
    bins = SIX if attribute == "six_types" else config.groups_of_types()
    takes_unknown = config.unknown_type if config.unknown_type in bins else None
    if source != "scale" and "centaur" not in rows:
        raise UserError(f"no column {CENTAUR!r}: only the source scale is possible ({place})")
    columns = ("scale", "centaur") if source == "agree" else (source,)
    read = [
        type_groups(rows[name].tolist(), bins, problems, takes_unknown)[0] for name in columns
    ]
    same = [each[0] if len(set(each)) == 1 else None for each in zip(*read, strict=True)]
    return same, tuple(bins)


def _classes(
    rows: pd.DataFrame, num_classes: int, problems: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names of the classes, the coarser category of each, and which are malignant."""
    level = LEVEL[num_classes]
    names = tuple(sorted(set(rows[LABELS[level]])))
    upper = {column: _above(rows, LABELS[level], column, problems) for column in LABELS[level:]}
    kinds = upper[LABELS[2]]
    coarse = upper[LABELS[level + 1]] if level < 2 else {}
    return (
        names,
        tuple(coarse[name] for name in names) if coarse else (),
        tuple(name for name in names if kinds[name] == "malignant"),
    )


def _above(rows: pd.DataFrame, fine: str, column: str, problems: list[str]) -> dict[str, str]:
    pairs = sorted(set(zip(rows[fine], rows[column], strict=True)))
    above = dict(pairs)
    empty = sum(not (name and value) for name, value in pairs)
    if empty:
        problems.append(f"rows without {fine} or {column}")
    if len(above) < len(pairs):
        twice = sorted({name for name, value in pairs if above[name] != value})
        problems.append(f"{', '.join(map(repr, twice[:5]))} has more than one {column}")
    return above
