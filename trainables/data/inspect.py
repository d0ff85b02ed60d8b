"""What is in a data set, what it is too small to show, and what would leak between its splits.

Shape legend: C classes, G groups and one more for unknown, S splits, N images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainables.data.base import SPLITS, Dataset
from trainables.data.equal_rates import (
    equal_rates_lines,
    equal_rates_report,
    equal_rates_warnings,
)
from trainables.data.perceptual_hash import MAX_DISTANCE, near_duplicate_groups
from trainables.data.splits import straddling_patients

UNKNOWN = "unknown group"
MIN_IMAGES = 10
"""From this many images a class and group on, intervals have the coverage they state."""
NUM_NAMED = 5
NUM_LISTED = 50
"""Groups of near-duplicates that the report lists; all of them: ``fatefront data duplicates``."""


def inspect_dataset(dataset: Dataset, min_images: int = MIN_IMAGES) -> dict[str, Any]:
    """Count images per class, group and split, and say what is missing, thin or leaks.

    Returns:
        Plain JSON types; ``counts[split][class][group]`` is a number of images, with the group
        ``unknown group`` beside the named ones. ``equal_rates[split]`` is the Eopp1 that a
        classifier with equal per-class rates is expected to score (null with one group).
        ``near_duplicates.across_splits`` lists groups of images that look alike and are not all
        in one split.
    """
    count_SCG = _counts(dataset)
    equal_rates = {
        name: equal_rates_report(count_SCG[split, :, :-1], dataset.groups)
        for split, name in enumerate(SPLITS)
    }
    near_duplicates = _near_duplicates(dataset)
    groups = [*dataset.groups, UNKNOWN]
    height, width = dataset.images_NHWC.shape[1:3]
    return {
        "name": dataset.name,
        "attribute": dataset.attribute,
        "classes": list(dataset.classes),
        "groups": list(dataset.groups),
        "malignant": list(dataset.malignant),
        "num_images": len(dataset.label_N),
        "num_patients": len(np.unique(dataset.patient_id_N)),
        "num_unknown_group": int(count_SCG[:, :, -1].sum()),
        "height": int(height),
        "width": int(width),
        "fingerprint": dataset.fingerprint,
        "group_digest": dataset.group_digest,
        "splits": {
            name: {
                "num_images": int(count_SCG[split].sum()),
                "num_patients": len(np.unique(dataset.patient_id_N[dataset.indices(split)])),
            }
            for split, name in enumerate(SPLITS)
        },
        "counts": {
            split: {
                label: {group: int(count_SCG[s, c, g]) for g, group in enumerate(groups)}
                for c, label in enumerate(dataset.classes)
            }
            for s, split in enumerate(SPLITS)
        },
        "equal_rates": equal_rates,
        "near_duplicates": near_duplicates,
        "warnings": [
            *dataset.warnings,
            *_warnings(dataset, count_SCG, min_images),
            *equal_rates_warnings(equal_rates),
            *_near_duplicate_warnings(near_duplicates),
        ],
    }


def render(report: dict[str, Any]) -> RenderableType:
    """The report for a terminal: a line a class and group, a column a split."""
    groups = [*report["groups"], *([UNKNOWN] if report["num_unknown_group"] else [])]
    table = Table(
        title=f"{report['name']} by {report['attribute']}: {report['num_images']} images, "
        f"{report['num_patients']} patients or lesions, {report['width']} x {report['height']} px",
        caption=f"fingerprint {report['fingerprint'][:16]}, groups {report['group_digest'][:16]}",
    )
    table.add_column("class")
    table.add_column("group")
    for split in SPLITS:
        table.add_column(split, justify="right")
    counts = report["counts"]
    for label in report["classes"]:
        name = f"{label} (malignant)" if label in report["malignant"] else label
        for group in groups:
            table.add_row(name, group, *(str(counts[split][label][group]) for split in SPLITS))
            name = ""
        table.add_section()
    name = "all"
    for group in groups:
        totals = (sum(counts[split][c][group] for c in report["classes"]) for split in SPLITS)
        table.add_row(name, group, *map(str, totals))
        name = ""
    warnings = [f"warning: {line}" for line in report["warnings"]]
    return Group(table, *map(Text, [*equal_rates_lines(report["equal_rates"]), *warnings]))


def _near_duplicates(dataset: Dataset) -> dict[str, Any]:
    groups = near_duplicate_groups(dataset.images_NHWC)
    across = [group for group in groups if len(set(dataset.split_N[group].tolist())) > 1]
    return {
        "max_distance": MAX_DISTANCE,
        "num_groups": len(groups),
        "num_images": sum(map(len, groups)),
        "num_groups_across_splits": len(across),
        "across_splits": [dataset.image_id_N[group].tolist() for group in across[:NUM_LISTED]],
    }


def _near_duplicate_warnings(found: dict[str, Any]) -> list[str]:
    if not found["num_groups_across_splits"]:
        return []
    names = [" = ".join(group[:NUM_NAMED]) for group in found["across_splits"]]
    rest = found["num_groups_across_splits"] - len(names)
    names += ["..."] * rest  # counted by _line, never shown
    return [_line("near-duplicate images in more than one split:", names)]



def _counts(dataset: Dataset) -> np.ndarray:
    num_groups = len(dataset.groups)
    count_SCG = np.zeros((len(SPLITS), len(dataset.classes), num_groups + 1), dtype=np.int64)
    group_N = np.where(dataset.group_N < 0, num_groups, dataset.group_N)
    np.add.at(count_SCG, (dataset.split_N, dataset.label_N, group_N), 1)
    return count_SCG


def _warnings(dataset: Dataset, count_SCG: np.ndarray, min_images: int) -> list[str]:
    lines = []
    for split, name in enumerate(SPLITS):
        count_CG = count_SCG[split]
        absent = [c for c, label in enumerate(dataset.classes) if not count_CG[c].sum()]
        if absent:
            lines.append(_line(f"{name}: no image of", [dataset.classes[c] for c in absent]))
        none, thin = [], []
        for c, label in enumerate(dataset.classes):
            for g, group in enumerate(dataset.groups):
                if not count_CG[:, g].sum():
                    continue  # a group without images is said once, by the data set itself
                if c not in absent and count_CG[c, g] == 0:
                    none.append(f"{label} in {group}")
                elif 0 < count_CG[c, g] < min_images:
                    thin.append(f"{label} in {group} {count_CG[c, g]}")
        if none:
            lines.append(_line(f"{name}: class absent in a group:", none))
        if thin:
            lines.append(_line(f"{name}: fewer than {min_images} images:", thin))
    shared = straddling_patients(dataset.patient_id_N.tolist(), dataset.split_N)
    if shared:
        lines.append(_line("patients or lesions in more than one split:", list(shared)))
    return lines


def _line(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:NUM_NAMED])
    rest = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{what} {shown}{rest}"
