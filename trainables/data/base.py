"""What every data set is: a table of images, labels, groups and patients, resident as one array.

Shape legend: N images, H height, W width, C colour channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from trainables.specs import Spec

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNKNOWN_GROUP = -1

Progress = Callable[[int, int], None]
"""Called with (images done, images in all) while images are decoded."""


class Split(Spec):
    """How rows are divided; ``seed`` is separate from the trial's seed: a seed never moves the
    split.
    """

    by: Literal["patient", "image", "column"] = "patient"
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    seed: int = 0

    @field_validator("fractions")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError(f"fractions must be above 0 and sum to 1 but got {list(value)}")
        return value


class DataConfig(Spec):
    """Fields every data set has; each data set's own ``Config`` adds where its files are."""

    name: str
    attribute: str = Field(description="the sensitive attribute; its values are the groups")
    image_size: int = Field(128, ge=8, description="pixels of the shorter side")
    aspect: float = Field(
        1.0, ge=1.0, le=2.0, description="width / height kept in the array cache"
    )
    split: Split = Split()
    limit: int | None = Field(None, ge=1, description="first k images of a seeded shuffle")
    malignant: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The checked rows of a data set before any image is read.

    ``rows`` has one line an image with the columns ``image_id`` (str, unique), ``path`` (str) or
    ``bytes``, ``label`` (str), ``group`` (str or None where unknown), ``patient_id`` (str:
    whatever must not straddle splits: patient, else lesion, else the image itself) and, only for
    ``split.by == "column"``, ``split``.
    """

    rows: pd.DataFrame
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    warnings: tuple[str, ...] = ()


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
    group_digest: str  # of group_N and the names of the groups
    malignant: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

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
