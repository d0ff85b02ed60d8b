"""Which images and lesions of one data set another one also has, by split; no pixel is read.

Shape legend: N, M images of the two data sets.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.data.base import SPLITS, DataConfig
from trainables.data.load import load_rows
from trainables.data.overlap import Ids, overlap_warnings


@dataclass(frozen=True)
class Rows:
    """Ids and splits of a data set."""

    name: str
    image_id_N: np.ndarray  # str
    patient_id_N: np.ndarray  # str
    split_N: np.ndarray  # int8: TRAIN, VALIDATION, TEST


def rows_of(config: DataConfig) -> Rows:
    """Read a data set's table and split it; images are looked for but not opened.

    Raises:
        UserError: see ``load_dataset``.
    """
    table, split_N, _ = load_rows(config)
    return Rows(
        config.name,
        np.array([str(name) for name in table.rows["image_id"]], dtype=np.str_),
        np.array([str(name) for name in table.rows["patient_id"]], dtype=np.str_),
        split_N,
    )


def compare_ids(here: Ids, there: Ids) -> dict[str, Any]:
    """Count what two data sets share.

    Equal ids are taken for the same image or lesion, which holds between published data sets.

    Returns:
        Plain JSON types. ``shared[split][other split]`` is the number of images of a split here
        that have an image with the same id, or of the same patient or lesion, in a split there;
        ``shared_images`` and ``shared_patients`` list what is in both, by id, with the splits;
        ``warnings`` says what a model of the one has seen of the other.
    """
    splits_of: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for kind, ids_M in (("image", there.image_id_N), ("patient", there.patient_id_N)):
        for name, split in zip(ids_M.tolist(), there.split_N.tolist(), strict=True):
            splits_of[kind, name].add(split)
    shared = np.zeros((len(SPLITS), len(SPLITS)), dtype=np.int64)
    num_images = 0
    for image, patient, split in zip(
        here.image_id_N.tolist(), here.patient_id_N.tolist(), here.split_N.tolist(), strict=True
    ):
        found = splits_of.get(("image", image), set()) | splits_of.get(("patient", patient), set())
        num_images += bool(found)
        shared[split, sorted(found)] += 1
    images = set(here.image_id_N.tolist()) & set(there.image_id_N.tolist())
    patients = set(here.patient_id_N.tolist()) & set(there.patient_id_N.tolist())
    return {
        "name": there.name,
        "num_images": len(there.image_id_N),
        "num_shared_images": len(images),
        "num_shared_patients": len(patients),
        "num_images_here": num_images,
        "shared": {
            split: {other: int(shared[s, t]) for t, other in enumerate(SPLITS)}
            for s, split in enumerate(SPLITS)
        },
        "shared_images": _shared_images(here, there, images),
        "shared_patients": _shared_patients(here, there, patients),
        "warnings": [*overlap_warnings(here, there), *overlap_warnings(there, here)],
    }


def _shared_images(here: Ids, there: Ids, names: set[str]) -> list[dict[str, str]]:
    split_of = [
        dict(zip(ids.image_id_N.tolist(), ids.split_N.tolist(), strict=True))
        for ids in (here, there)
    ]
    return [
        {
            "image_id": name,
            "split_here": SPLITS[split_of[0][name]],
            "split_there": SPLITS[split_of[1][name]],
        }
        for name in sorted(names)
    ]


def _shared_patients(here: Ids, there: Ids, names: set[str]) -> list[dict[str, Any]]:
    images_of = [_images_of(ids, names) for ids in (here, there)]
    return [
        {"patient_id": name, "here": images_of[0][name], "there": images_of[1][name]}
        for name in sorted(names)
    ]


def _images_of(ids: Ids, patients: set[str]) -> dict[str, list[dict[str, str]]]:
    """The images of these patients, with their splits."""
    found: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for image, patient, split in zip(
        ids.image_id_N.tolist(), ids.patient_id_N.tolist(), ids.split_N.tolist(), strict=True
    ):
        if patient in patients:
            found[patient].append({"image_id": image, "split": SPLITS[split]})
    return found
