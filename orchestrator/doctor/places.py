"""Folders and stores that a sweep writes: permissions, locks, and room on their disks."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from orchestrator.doctor.finding import Finding, fail, ok, warn
from orchestrator.ledger.storage_probe import probe
from orchestrator.search.disk import nearest_existing
from trainables.errors import UserError
from trainables.storage import Storage

LITTLE = 10 * 10**9
LEAST = 10**9


def check_folders(out: Path, cache: Path) -> Iterator[Finding]:
    """The folder of sweeps, the array cache, and that of temporary files."""
    for what, folder, remedy in (
        ("sweeps", out, "choose another --out, or chown it"),
        ("image cache", cache, "set FATEFRONT_CACHE to a folder of yours"),
        ("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder of yours"),
    ):
        problem = try_folder(folder)
        if problem is None:
            yield ok("permissions", f"{what}: {folder} can be written")
        else:
            yield fail("permissions", f"{what}: {problem}", remedy)


def try_folder(folder: Path) -> str | None:
    """Write, lock, rename and remove a file in it, or in the first of its parents there is."""
    place = nearest_existing(folder)
    if not place.is_dir():
        return f"{place} is not a folder"
    path = place / f".fatefront-{uuid.uuid4().hex[:8]}"
    doing = "written"
    try:
        try:
            with path.open("wb") as file:
                file.write(b"x")
                doing = "locked"
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            doing = "renamed in"
            path.replace(f"{path}-renamed")
        finally:
            for name in (path, Path(f"{path}-renamed")):
                name.unlink(missing_ok=True)
    except OSError as error:
        return f"{place} cannot be {doing}: {error.strerror}"
    return None


def check_disk(out: Path, wanted: int | None, node_bytes: int | None) -> Finding:
    """Room for nodes. ``wanted``: bytes of the whole plan, ``node_bytes``: of one trial."""
    place = nearest_existing(out)
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free for {out}"
    if wanted is not None:
        text += f", the plan takes {wanted / 1e9:.1f} GB"
    if free < max(LEAST, 3 * (node_bytes or 0)):
        return fail("disk", text, "free some, or choose --out and --store on another disk")
    if wanted is not None and free < wanted:
        return warn(
            "disk", text, f"run --max-disk {max(1, int(free * 0.8 / 1e9))} keeps within it"
        )
    if wanted is None and free < LITTLE:
        return warn("disk", f"{text}: a trial takes 45 MB (ResNet-18) to 530 MB (VGG-11)",
                    "free some, or run --max-disk GB")  # fmt: skip
    return ok("disk", text)


def check_store(uri: str) -> Finding:
    """A store beside the folder: written, read, refused where it must be, deleted."""
    shown = uri if "@" not in uri else uri.rpartition("@")[2]
    try:
        storage = Storage(uri, patience=0.0)
    except UserError as error:
        return fail("store", str(error), "see docs/storage.md for what a store may be")
    if storage.is_local and not nearest_existing(Path(storage.root)).is_dir():
        return fail("store", f"{shown}: no folder can be made there", "choose another --store")
    if storage.is_local and not os.access(nearest_existing(Path(storage.root)), os.W_OK):
        return fail("store", f"{shown} cannot be written", "choose another --store, or chown it")
    problem = None if storage.is_local else probe(storage)
    if problem is not None:
        return fail("store", f"{shown}: {problem}", "check its name, region and credentials")
    return ok("store", f"{shown} can be used")
