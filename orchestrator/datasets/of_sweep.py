"""The data set of a sweep that was run, checked to be the same one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.data.base import DataConfig, Dataset
from trainables.errors import UserError


def dataset_of_sweep(
    config: DataConfig, manifest: Mapping[str, Any], folder: Path, *, asked_by: str
) -> Dataset:
    """Load what a sweep was run on.

    Args:
        config: the data of its ``sweep.yaml``.
        manifest: of the sweep.
        folder: of the sweep, for the error.
        asked_by: what needs the images; begins the error.

    Raises:
        UserError: the images are not here, or they or their groups are not those of the sweep.
    """
    from trainables.data.load import load_dataset

    try:
        dataset = load_dataset(config)
    except UserError as error:
        raise UserError(f"{asked_by}: the data set cannot be loaded here ({error})") from None
    known = manifest["data"]
    for what, ours, theirs in (
        ("images", dataset.fingerprint, known["fingerprint"]),
        ("groups", dataset.group_digest, known["group_digest"]),
    ):
        if ours != theirs:
            raise UserError(f"{asked_by}: the {what} are not those that {folder} was run on")
    return dataset
