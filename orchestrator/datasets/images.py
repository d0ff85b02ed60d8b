"""Whose the stored predictions are: class, group and patient of each image, as numbers.

``images.npz`` in the sweep's folder. No name of an image or patient is in it, only a digest of the
names by which the order of stored predictions is checked. With it intervals and floors can be had
where no image is at hand.

Shape legend: N images of one split.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.base import SPLITS, Dataset
from trainables.errors import UserError
from trainables.storage import write_whole

IMAGES = "images.npz"


@dataclass(frozen=True)
class SplitImages:
    """The images of one split in the order of stored predictions."""

    label_N: np.ndarray
    group_N: np.ndarray  # -1 where unknown
    patient_N: np.ndarray  # numbers; patient, else lesion, else the image itself
    digest: str  # of the image ids in this order
    num_classes: int
    num_groups: int

    @property
    def has_patients(self) -> bool:
        """Whether some patient (or lesion) has several images."""
        return len(np.unique(self.patient_N)) < len(self.patient_N)


def ids_digest(image_id_N: np.ndarray) -> str:
    """SHA-256 of image ids in their order."""
    return hashlib.sha256("\n".join(image_id_N.astype(str)).encode()).hexdigest()


def split_images(dataset: Dataset, split: str) -> SplitImages:
    """The images of one split of a data set."""
    rows = dataset.indices(SPLITS.index(split))
    _, patient_N = np.unique(dataset.patient_id_N[rows], return_inverse=True)
    return SplitImages(
        label_N=dataset.label_N[rows].astype(np.int64),
        group_N=dataset.group_N[rows].astype(np.int64),
        patient_N=patient_N.astype(np.int64),
        digest=ids_digest(dataset.image_id_N[rows]),
        num_classes=len(dataset.classes),
        num_groups=len(dataset.groups),
    )


def write_images(folder: Path, dataset: Dataset) -> None:
    """Write ``images.npz``: whole or not at all."""
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        images = split_images(dataset, split)
        arrays |= {
            f"{split}_label": images.label_N,
            f"{split}_group": images.group_N,
            f"{split}_patient": images.patient_N,
            f"{split}_digest": np.array(images.digest),
        }
    arrays |= {
        "num_classes": np.array(len(dataset.classes)),
        "num_groups": np.array(len(dataset.groups)),
        "fingerprint": np.array(f"{dataset.fingerprint} {dataset.group_digest}"),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(folder / IMAGES, buffer.getvalue())


def read_images(folder: Path, manifest: Mapping[str, Any], split: str) -> SplitImages:
    """The images of one split of a sweep folder.

    Raises:
        UserError: the folder has no such file (an older sweep), or it is damaged or of other data.
    """
    path = folder / IMAGES
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            of = str(arrays["fingerprint"])
            images = SplitImages(
                label_N=arrays[f"{split}_label"],
                group_N=arrays[f"{split}_group"],
                patient_N=arrays[f"{split}_patient"],
                digest=str(arrays[f"{split}_digest"]),
                num_classes=int(arrays["num_classes"]),
                num_groups=int(arrays["num_groups"]),
            )
    except FileNotFoundError:
        raise UserError(
            f"no {path}: the sweep was run by an older version; run the same command again, "
            "nothing is computed twice"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(
            f"{path} is damaged: remove it and run the sweep's command again"
        ) from None
    data = manifest["data"]
    if of != f"{data['fingerprint']} {data['group_digest']}":
        raise UserError(f"{path} is not of the data of this sweep")
    return images


def copy_images(source: Path, target: Path) -> None:
    """Bring the file into a merged folder that has none yet."""
    if (source / IMAGES).exists() and not (target / IMAGES).exists():
        shutil.copyfile(source / IMAGES, target / IMAGES)
