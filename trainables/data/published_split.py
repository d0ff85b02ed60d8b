"""The split by image that the method's authors drew, as far as its rule is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables.errors import UserError

SEED = 4242


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
    except ValueError as error:
        raise UserError(
            f"data.split.by is paper but it cannot be drawn: {error} ({place})"
        ) from None
    split_N = np.full(len(label_N), "train", dtype=object)
    split_N[validation], split_N[test] = "validation", "test"
    return list(split_N)
