"""The split by image that the method's authors drew, as far as its rule is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from trainables.errors import UserError, shortened

SEED = 4242
NUM_NAMED = 5


def published_split(label_N: Sequence[str], held_out: float, place: str) -> list[str]:
    """Split of each row: ``held_out`` of all rows, halved into validation and test.

    scikit-learn's ``train_test_split`` twice with seed 4242, stratified by label, in the order
    of the rows: the rule recovered from the split files that are in use for arXiv 2405.08681.

    Args:
        label_N: the finest labels.
        held_out: share of the rows outside the training split.
        place: for the message.

    Raises:
        UserError: a class has too few images to be in every split.
    """
    from sklearn.model_selection import train_test_split

    fine_N = np.asarray(label_N)
    try:
        _, held = train_test_split(
            np.arange(len(label_N)), test_size=held_out, random_state=SEED, stratify=fine_N
        )
        validation, test = train_test_split(
            held, test_size=0.5, random_state=SEED, stratify=fine_N[held]
        )
    except ValueError:
        raise UserError(_too_few(label_N, held_out, place)) from None
    split_N = np.full(len(label_N), "train", dtype=object)
    split_N[validation], split_N[test] = "validation", "test"
    return list(split_N)


def _too_few(label_N: Sequence[str], held_out: float, place: str) -> str:
    """Why it cannot be drawn: with so many images of every class it always can."""
    needed = math.ceil(round(2 / held_out, 6))
    few = sorted((count, name) for name, count in Counter(label_N).items() if count < needed)
    shown = ", ".join(f"{count} of {shortened(name)}" for count, name in few[:NUM_NAMED])
    more = f" and {len(few) - NUM_NAMED} classes more" if len(few) > NUM_NAMED else ""
    return (
        f"data.split.by is paper, which needs {needed} images of every class to have each in "
        f"train, validation and test, but there are {shown or len(label_N)}{more} ({place}): take "
        "more images, or set data.split.by to patient or image"
    )
