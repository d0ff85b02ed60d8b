"""Images that look alike or are in two data sets, named one pair or group a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_LINES = 20
MAX_NAMED = 5


def group_lines(groups: Sequence[Sequence[Mapping[str, str]]], where: str) -> list[str]:
    """A line each of the first 20 groups of near-duplicates, those in several splits first.

    Args:
        groups: images of each as in ``schemas/data_duplicates.json``.
        where: what has all of them.
    """
    parted = [group for group in groups if _is_parted(group)]
    whole = [group for group in groups if not _is_parted(group)]
    lines = [" = ".join(_named(group, _image)) for group in [*parted, *whole]]
    return _first(lines, where)


def shared_lines(found: Mapping[str, Any]) -> list[str]:
    """A line each of the first 20 images in both data sets, and of the first 20 patients or
    lesions that have other images than these.

    Args:
        found: ``against`` of ``schemas/data_inspect.json``.
    """
    images = {image["image_id"] for image in found["shared_images"]}
    by_image = [
        f"{image['image_id']}: {image['split_here']} here, {image['split_there']} there"
        for image in found["shared_images"]
    ]
    by_patient = [
        f"patient or lesion {patient['patient_id']}: {_side(patient['here'])} here; "
        f"{_side(patient['there'])} there"
        for patient in found["shared_patients"]
        if any(image["image_id"] not in images for image in [*patient["here"], *patient["there"]])
    ]
    return [*_first(by_image, "--json"), *_first(by_patient, "--json")]


def _is_parted(group: Sequence[Mapping[str, str]]) -> bool:
    return len({image["split"] for image in group}) > 1


def _image(image: Mapping[str, str]) -> str:
    own = image["patient_id"] in (image["image_id"], f"image:{image['image_id']}")
    told = [image["split"], image["label"], *([] if own else [f"of {image['patient_id']}"])]
    return f"{image['image_id']} ({', '.join(told)})"


def _side(images: Sequence[Mapping[str, str]]) -> str:
    return ", ".join(_named(images, lambda image: f"{image['image_id']} ({image['split']})"))


def _named(
    images: Sequence[Mapping[str, str]], name: Callable[[Mapping[str, str]], str]
) -> list[str]:
    rest = len(images) - MAX_NAMED
    return [*map(name, images[:MAX_NAMED]), *([f"{rest} more"] if rest > 0 else [])]


def _first(lines: Sequence[str], where: str) -> list[str]:
    rest = len(lines) - MAX_LINES
    more = [f"and {rest} more (all: {where})"] if rest > 0 else []
    return [f"  {line}" for line in [*lines[:MAX_LINES], *more]]
