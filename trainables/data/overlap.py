"""What two data sets share: a model trained on one of them has seen part of the other.

ISIC 2019 holds all images of HAM10000 under their own names and lesion ids, so that a model of one
is not tested by the other.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trainables.data.base import TEST

NUM_NAMED = 5


class Ids(Protocol):
    """What is compared: a ``Dataset``, or its ids and splits alone."""

    @property
    def name(self) -> str:
        """Of the data set."""

    @property
    def split_N(self) -> np.ndarray:
        """TRAIN, VALIDATION or TEST."""

    @property
    def image_id_N(self) -> np.ndarray:
        """Of each image, str."""

    @property
    def patient_id_N(self) -> np.ndarray:
        """Of each image, str."""


def overlap_warnings(trained: Ids, tested: Ids) -> tuple[str, ...]:
    """Images, and patients or lesions, that have one id in both data sets.

    Equal ids are taken for the same lesion: they are for published data sets; in tables of one's
    own two patients may be called alike.

    Args:
        trained: its images outside the test split were seen.
        tested: all of its images count.

    Returns:
        No line where nothing is shared, else one for images and one for patients or lesions.
    """
    seen = trained.split_N != TEST
    lines = []
    for what, seen_N, other_N in (
        ("images", trained.image_id_N[seen], tested.image_id_N),
        ("patients or lesions", trained.patient_id_N[seen], tested.patient_id_N),
    ):
        shared = sorted(set(seen_N.tolist()) & set(other_N.tolist()))
        if shared:
            num_images = int(np.isin(other_N, shared).sum())
            shown = ", ".join(shared[:NUM_NAMED]) + (", ..." if len(shared) > NUM_NAMED else "")
            lines.append(
                f"leak: {len(shared)} {what} outside the test split of {trained.name} are also in "
                f"{tested.name} ({num_images} of its {len(other_N)} images): {shown}"
            )
    return tuple(lines)
