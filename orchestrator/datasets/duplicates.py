"""``fatefront data duplicates``: images that look alike, as groups that no split should part."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from orchestrator.datasets.listed import group_lines
from orchestrator.datasets.verbs import data_config, load_with_bar
from trainables.data.base import SPLITS, Dataset
from trainables.data.darken import TONE
from trainables.data.perceptual_hash import MAX_DISTANCE, NUM_BITS, near_duplicate_groups
from trainables.errors import UserError


def duplicates_data(
    space: str,
    to: Path,
    overrides: Sequence[str],
    *,
    max_distance: int | None = None,
    turned: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write groups of near-duplicate images as a CSV that ``data.duplicates`` reads.

    Darkening and the array's aspect are set aside where they would hide copies.

    Raises:
        UserError: the data cannot be read, the distance is out of range, or ``to`` not writable.
    """
    distance = MAX_DISTANCE if max_distance is None else max_distance
    if not 0 <= distance <= NUM_BITS // 4:
        raise UserError(f"--max-distance must be in [0, {NUM_BITS // 4}] but got {distance}")
    config = data_config(space, overrides)
    if config.darken is not None and TONE in config.attribute.split("+"):
        raise UserError("data duplicates: set data.attribute to another one than darken's tone")
    changes: dict[str, Any] = {"darken": None, "duplicates": None, "further_attributes": ()}
    changes |= {"aspect": 1.0} if turned else {}  # a quarter turn keeps the central square
    dataset = load_with_bar(config.model_copy(update=changes), quiet)
    groups = near_duplicate_groups(dataset.images_NHWC, distance, turned=turned)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["image_id", "group"])
            for group in groups:
                names = dataset.image_id_N[group].tolist()
                writer.writerows([name, names[0]] for name in names)
    except OSError as error:
        raise UserError(f"--to {to}: {error.strerror}") from None
    label_N, patient_id_N = dataset.label_N, dataset.patient_id_N
    split_N = dataset.split_N
    return {
        "name": dataset.name,
        "to": str(to),
        "max_distance": distance,
        "turned": turned,
        "num_images": len(dataset.label_N),
        "num_groups": len(groups),
        "num_grouped_images": sum(map(len, groups)),
        "num_groups_of_several_patients": sum(len(set(patient_id_N[g])) > 1 for g in groups),
        "num_groups_of_several_classes": sum(len(set(label_N[g])) > 1 for g in groups),
        "num_groups_across_splits": sum(len(set(split_N[g])) > 1 for g in groups),
        "groups": [[_image(dataset, row) for row in group] for group in groups],
    }


def _image(dataset: Dataset, row: int) -> dict[str, str]:
    return {
        "image_id": str(dataset.image_id_N[row]),
        "patient_id": str(dataset.patient_id_N[row]),
        "label": dataset.classes[dataset.label_N[row]],
        "split": SPLITS[dataset.split_N[row]],
    }


def render_duplicates(document: dict[str, Any]) -> Text:
    """For people."""
    lines = [
        f"{document['num_grouped_images']} of {document['num_images']} images of "
        f"{document['name']} look like another one ({document['num_groups']} groups, "
        f"{document['num_groups_of_several_patients']} of several patients or lesions, "
        f"{document['num_groups_of_several_classes']} of several classes, "
        f"{document['num_groups_across_splits']} in several splits): {document['to']}",
        *group_lines(document["groups"], document["to"]),
        f"to keep them in one split: --set data.duplicates={document['to']}",
    ]
    return Text("\n".join(lines))
