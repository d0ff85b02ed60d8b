"""``manifest.json``: what a sweep folder holds, and whether another sweep may go on in it."""

from __future__ import annotations

import difflib
import json
import platform
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator.datasets.images import write_images
from search_spaces.sweep_spec import SweepSpec
from trainables.data.base import Dataset
from trainables.errors import UserError
from trainables.plain_file import MAX_TEXT_BYTES, read_plain, read_user_text
from trainables.specs import canonical
from trainables.storage import write_whole
from trainables.store import Store
from trainables.yaml_text import parse_yaml


def fatefront_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("fatefront")
    except PackageNotFoundError:
        return "0+source"


NEEDED = ("backbone", "data", "mode", "store", "sweep", "sweep_id")
"""What a manifest has had from the first version on."""
_SWEEPS = "*/manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a sweep folder.

    Raises:
        UserError: there is no sweep in this folder.
    """
    try:
        document = json.loads(read_plain(folder / "manifest.json", MAX_TEXT_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        why = "it has no manifest.json" if folder.exists() else "no such folder"
        raise UserError(f"no sweep in {folder}: {why}{nearest_sweep(folder)}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{folder}/manifest.json is not JSON; it was edited or damaged") from None
    except OSError as error:
        raise UserError(f"{folder}/manifest.json: {error.strerror or error}") from None
    known = document if isinstance(document, dict) else {}
    absent = [name for name in NEEDED if name not in known]
    if absent:
        raise UserError(f"{folder}/manifest.json lacks {absent[0]!r}; it was edited or damaged")
    return known


def nearest_sweep(folder: Path) -> str:
    """The end of an error's line: the sweep that may have been meant, if any is near.

    It is looked for beside the folder, in it (where it holds one alone) and in ``runs``.
    """
    inside = [path.parent for path in folder.glob(_SWEEPS)]
    beside = [p.parent for place in (folder.parent, Path("runs")) for p in place.glob(_SWEEPS)]
    near = difflib.get_close_matches(str(folder), [str(path) for path in beside], n=1)
    by_name = difflib.get_close_matches(folder.name, [path.name for path in beside], n=1)
    if len(inside) == 1:
        return f", did you mean {str(inside[0])!r}?"
    if by_name and not near:
        near = [str(path) for path in beside if path.name == by_name[0]]
    return f", did you mean {near[0]!r}?" if near else ""


def read_sweep(folder: Path) -> SweepSpec:
    """The spec a sweep folder was last run with."""
    from trainables.specs import validate

    read_manifest(folder)
    path = folder / "sweep.yaml"
    document = parse_yaml(read_user_text(path, f"sweep of {folder}"), str(path))
    return validate(SweepSpec, document, place=str(path))


def check_same_sweep(folder: Path, spec: SweepSpec, dataset: Dataset) -> None:
    """One front per data, attribute and backbone: refuse to mix sweeps in one folder.

    Raises:
        UserError: the folder holds a sweep of other data, another attribute or another backbone.
    """
    if not (folder / "manifest.json").exists():
        return
    old = read_manifest(folder)
    for what, ours, theirs in (
        ("data", dataset.fingerprint, old["data"]["fingerprint"]),
        ("groups", dataset.group_digest, old["data"]["group_digest"]),
        ("backbone", canonical(spec.backbone), old["backbone"]),
        ("mode", spec.search.mode, old["mode"]),
    ):
        if ours != theirs:
            raise UserError(
                f"{folder} holds a sweep of other {what} ({old['sweep']}: {old['data']['name']} "
                f"by {old['data']['attribute']}): choose another --out"
            )


def write_manifest(
    folder: Path, spec: SweepSpec, dataset: Dataset, store: Store, device: str, tracking_uri: str
) -> dict[str, Any]:
    """Write what the folder holds, and whose its predictions are; the sweep's id is made once, and
    the history of its versions (``environments.update_manifest``) stays.
    """
    path = folder / "manifest.json"
    old: dict[str, Any]
    old = read_manifest(folder) if path.exists() else {"sweep_id": uuid.uuid4().hex[:16]}
    document: dict[str, Any] = {
        "fatefront": fatefront_version(),
        "sweep": spec.name,
        "sweep_id": old["sweep_id"],
        "store": store.uri,
        "device": device,
        "mode": spec.search.mode,
        "backbone": canonical(spec.backbone),
        "python": platform.python_version(),
        "tracking_uri": tracking_uri,
        "data": {
            "name": dataset.name,
            "attribute": dataset.attribute,
            "classes": list(dataset.classes),
            "groups": list(dataset.groups),
            "fingerprint": dataset.fingerprint,
            "group_digest": dataset.group_digest,
            "num_images": len(dataset.label_N),
            "num_unknown_group": int((dataset.group_N < 0).sum()),
            "image_size": dataset.image_size,
            "warnings": list(dataset.warnings),
        },
        "starts": old.get("starts", []),
        "results": old.get("results", []),
    }
    write_images(folder, dataset)
    write_whole(path, json.dumps(document, indent=1).encode())
    return document
