"""What every data set is: a table of images, labels, groups and patients, resident as one array.

Shape legend: N images, H height, W width, C colour channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from trainables.data.darken import TONE, Darken
from trainables.specs import Spec

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNKNOWN_GROUP = -1

Progress = Callable[[int, int], None]
"""Called with (images done, images in all) while images are decoded."""


class Split(Spec):
    """How rows are divided; ``seed`` is separate from the trial's seed: a seed never moves the
    split.

    One word stands for ``by``. ``lesion`` and ``duplicates`` say ``patient`` where a lesion or a
    group of near-duplicate images stands in the patient's place. ``paper`` is the split that was
    published with the method, for the data sets that have one.
    """

    by: Literal["patient", "image", "column", "paper"] = "patient"
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value

    @field_validator("by", mode="before")
    @classmethod
    def _same_as_patient(cls, value: Any) -> Any:
        return "patient" if value in ("lesion", "duplicates") else value

    @field_validator("fractions")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError(f"fractions must be above 0 and sum to 1 but got {list(value)}")
        return value

    @model_validator(mode="after")
    def _published_as_it_is(self) -> Split:
        if self.by == "paper" and (self.fractions != (0.6, 0.2, 0.2) or self.seed != 0):
            raise ValueError("by: paper has its own fractions and seed; leave both out")
        return self


class DataConfig(Spec):
    """Fields every data set has; each data set's own ``Config`` adds where its files are."""

    ATTRIBUTES: ClassVar[tuple[str, ...]] = ()
    """Attributes the data set knows; none listed: any name is tried, as for columns of a table."""

    name: str
    darken: Darken | None = Field(
        None, description="darken some patients' images; makes the attribute tone"
    )  # before the attributes, which are checked against it
    attribute: str = Field(
        description="the sensitive attribute; its values are the groups; a+b: each combination"
    )
    further_attributes: tuple[str, ...] = Field(
        (), description="attributes kept beside it, for what weighs several"
    )
    image_size: int = Field(128, ge=8, le=4096, description="pixels of the shorter side")
    aspect: float = Field(
        1.0, ge=1.0, le=2.0, description="width / height kept in the array cache"
    )
    split: Split = Split()
    limit: int | None = Field(None, ge=1, description="first k images of a seeded shuffle")
    malignant: tuple[str, ...] = ()
    exclude: str | None = Field(None, description="list of images to leave out")
    keep: str | None = Field(None, description="list of the only images to use, a cleaned set")
    duplicates: str | None = Field(
        None, description="groups of near-duplicate images, which no split may part"
    )

    @field_validator("attribute", "further_attributes")
    @classmethod
    def _known_attributes(cls, value: Any, info: ValidationInfo) -> Any:
        names = (value,) if isinstance(value, str) else value
        parts = [part.strip() for name in names for part in name.split("+")]
        attributes = (*cls.ATTRIBUTES, *((TONE,) if info.data.get("darken") else ()))
        if cls.ATTRIBUTES and not set(parts) <= set(attributes):
            known = " or ".join(", ".join(map(repr, attributes)).rsplit(", ", 1))
            raise PydanticKnownError("literal_error", {"expected": known})
        if len(set(names)) < len(names) or (
            info.field_name == "further_attributes" and info.data.get("attribute") in names
        ):
            raise PydanticCustomError("repeated", "each attribute may be given once")
        return value


@dataclass(frozen=True)
class Table:
    """The checked rows of a data set before any image is read.

    ``rows`` has one line an image with the columns ``image_id`` (str, unique), ``path`` (str) or
    ``bytes``, ``label`` (str), ``group`` (str or None where unknown), ``patient_id`` (str:
    whatever must not straddle splits: patient, else lesion, else the image itself), for each
    further attribute ``group:<attribute>`` (str or None) and, only for ``split.by`` ``column`` or
    ``paper``, ``split``. ``further_groups`` names the groups of each further attribute;
    ``malignant`` holds where the config names no malignant class.
    """

    rows: pd.DataFrame
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    coarse: tuple[str, ...] = ()  # coarse category of each class, in their order; or none
    further_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    malignant: tuple[str, ...] = ()


@dataclass(frozen=True)
class FurtherAttribute:
    """The groups by an attribute other than the sensitive one."""

    groups: tuple[str, ...]
    group_N: np.ndarray  # int64, UNKNOWN_GROUP where unknown


@dataclass(frozen=True)
class Dataset:
    """Images and labels in memory, read-only; shared between processes, so nothing may be written
    in place.
    """

    name: str
    attribute: str
    image_size: int
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    images_NHWC: np.ndarray  # uint8, H = image_size, W = round(image_size * aspect)
    label_N: np.ndarray  # int64
    group_N: np.ndarray  # int64, UNKNOWN_GROUP where unknown
    split_N: np.ndarray  # int8: TRAIN, VALIDATION, TEST
    image_id_N: np.ndarray  # str
    patient_id_N: np.ndarray  # str
    fingerprint: str  # of pixels, ids, labels, patients and splits; the groups are not in it
    group_digest: str  # of group_N and the names of the groups, and of further ones if any
    malignant: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    coarse: tuple[str, ...] = ()  # coarse category of each class; in the fingerprint, if any
    further: Mapping[str, FurtherAttribute] = field(default_factory=dict)  # by attribute

    def indices(self, split: int) -> np.ndarray:
        """Row numbers of one split, ascending."""
        return np.flatnonzero(self.split_N == split)


class DatasetSource(ABC):
    """One data set: a typed ``Config`` beside a ``table`` function; decoding, caching and
    splitting are shared.
    """

    name: ClassVar[str]

    class Config(DataConfig):
        """Where the files are and what is the label, the group and the patient."""

    @classmethod
    @abstractmethod
    def table(cls, config: DataConfig) -> Table:
        """Read and check the table (no image is opened).

        Raises:
            UserError: files or columns missing, unknown values; all problems in one message.
        """
