"""``fatefront data fetch``: get a published data set, or say exactly how a person gets it.

Images of the ISIC Archive come through its official client (isic-cli, Apache 2.0), the two or
three small tables beside them over HTTPS from where they were published. Nothing is fetched that
must be asked for first.
"""

from __future__ import annotations

import csv
import difflib
import os
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from rich.text import Text

from orchestrator.datasets.sources import SOURCES, Source, TableFile
from trainables.errors import UserError

INSTALL = "pip install 'fatefront[isic]'"
SUFFIX = "_downsampled"
"""ISIC 2019 names 2,074 images so; the archive has them in full size, without the suffix."""
TIMEOUT = 60.0  # seconds without an answer


def fetch_data(
    name: str, to: Path | None = None, *, limit: int | None = None, steps_only: bool = False
) -> dict[str, Any]:
    """Fetch a data set into a folder, or return the steps for a person with a browser.

    Args:
        name: as in ``data.name``.
        to: folder; ``data/<folder of the source>`` if not given.
        limit: fetch at most so many images, to try it out.
        steps_only: only say how.

    Raises:
        UserError: an unknown name, no client, or something that did not come.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(SOURCES)})"
        raise UserError(f"data fetch: no published data set {name!r}{hint}")
    source = SOURCES[name]
    folder = to or Path("data") / source.folder
    document: dict[str, Any] = {
        "name": name,
        "to": str(folder),
        "licence": source.licence,
        "cite": source.cite,
        "fetched": False,
        "command": None,
        "num_images": None,
        "num_missing": None,
        "steps": [step.format(to=folder, name=name) for step in source.steps],
    }
    if steps_only or source.collection is None:
        return document
    client = find_client(name)
    images = folder / source.images
    try:
        images.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--to {folder}: {error.strerror}") from None
    for table in source.tables:
        fetch_table(table, folder / table.name, source.page)
    command = [client, "image", "download", "--collections", str(source.collection)]
    command += ["--limit", str(limit)] if limit is not None else []
    command.append(str(images))
    run_client(command)
    num_images, num_missing = _count(source, folder)
    return document | {
        "fetched": True,
        "command": command,
        "num_images": num_images,
        "num_missing": num_missing,
        "steps": [],
    }


def find_client(name: str) -> str:
    """Path of the ISIC client: beside this Python, else on PATH.

    Raises:
        UserError: it is not installed.
    """
    beside = shutil.which("isic", path=str(Path(sys.executable).parent))
    client = beside or shutil.which("isic")
    if client is None:
        raise UserError(
            f"data fetch {name} needs the official ISIC client: {INSTALL} (or by hand: fatefront "
            f"data fetch {name} --steps)"
        )
    return client


def run_client(command: list[str]) -> None:
    """Run the client; what it says goes to stderr, and it is asked nothing.

    Without an answer it does not go on when the disk is too small and sends no bug report.

    Raises:
        UserError: it ended with an error.
    """
    sys.stderr.flush()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2)
    except OSError as error:
        raise UserError(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        raise UserError(
            f"`{shlex.join(command)}` ended with exit code {done.returncode}; what it said is "
            "above; the same command goes on where it stopped"
        )


def fetch_table(table: TableFile, path: Path, page: str) -> None:
    """Fetch one small table, unless it is there; it appears whole or not at all.

    Raises:
        UserError: it did not come, or is not the table that was expected.
    """
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    by_hand = f"get it with a browser from {page} and put it at {path}"
    try:
        with urllib.request.urlopen(table.url, timeout=TIMEOUT) as answer:
            temporary.write_bytes(answer.read())
        with temporary.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        if not set(table.columns) <= set(header):
            raise UserError(f"{table.url} is not the table {table.name}; {by_hand}")
        os.replace(temporary, path)
    except (OSError, UnicodeDecodeError) as error:  # URLError is an OSError
        raise UserError(f"{table.url}: {error}; {by_hand}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _count(source: Source, folder: Path) -> tuple[int, int]:
    """Images of the table that are there, and that are not; ``_downsampled`` names are added.

    The client does not tell when single images fail, so what came is counted here.
    """
    images = folder / source.images
    table = source.tables[0]
    with (folder / table.name).open(encoding="utf-8-sig", newline="") as file:
        names = [row[table.columns[0]] for row in csv.DictReader(file)]
    num_images = 0
    for name in names:
        path = images / f"{name}.jpg"
        original = images / f"{name.removesuffix(SUFFIX)}.jpg"
        if not path.exists() and original.exists():
            _link(original, path)
        num_images += path.exists()
    return num_images, len(names) - num_images


def _link(original: Path, path: Path) -> None:
    try:
        os.link(original, path)  # not moved: the client would fetch it again
    except OSError:  # a file system without hard links
        shutil.copyfile(original, path)


def render_fetched(document: dict[str, Any]) -> Text:
    """For people."""
    about = [f"licence: {document['licence']}", f"cite: {document['cite']}"]
    if not document["fetched"]:
        numbered = [f"{number}. {step}" for number, step in enumerate(document["steps"], 1)]
        return Text("\n".join([f"{document['name']} is fetched by hand:", *numbered, *about]))
    lines = [f"{document['name']}: {document['num_images']} images in {document['to']}"]
    if document["num_missing"]:
        lines.append(
            f"{document['num_missing']} of the table are not there; the same command fetches them "
            "(or data.missing_images: skip)"
        )
    check = f"fatefront data inspect '{{name: {document['name']}, root: {document['to']}}}'"
    return Text("\n".join([*lines, *about, check]))
