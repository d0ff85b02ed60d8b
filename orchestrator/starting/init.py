"""``fatefront init``: a commented space for one's own table."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.text import Text

from orchestrator.starting.guess import Given, Guess, guess_table
from orchestrator.starting.known_table import known_table
from orchestrator.starting.written_space import space_text
from search_spaces.sweep_spec import SweepSpec
from trainables.data.columns import read_table
from trainables.errors import UserError
from trainables.registry import datasets
from trainables.specs import validate


def init_space(table: Path, images: Path | None, out: Path | None, given: Given) -> dict[str, Any]:
    """Look at the table, write the space; returns the verb's document.

    Raises:
        UserError: no such table or folder, columns that cannot be guessed, or ``out`` is there.
    """
    if images is not None and not images.is_dir():
        raise UserError(f"--images {images}: no such folder")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", table.stem).strip("-._") or "mine"
    to = out or Path(f"{name}.yaml")
    if to.exists():
        raise UserError(f"--out {to} is there already: move it, or choose another name")
    rows = read_table(table)
    known = known_table(map(str, rows.columns), table)
    try:
        guess = guess_table(rows, table, images, given)
    except UserError as error:
        raise UserError(f"{error}; {known}" if known else str(error)) from None
    if known:
        guess.not_known.insert(0, known)
    text = space_text(guess, table, name)
    spec = validate(SweepSpec, yaml.safe_load(text), place=str(to))
    datasets.get(spec.data.name).table(spec.data)  # what `plan` will read
    try:
        to.write_text(text)
    except OSError as error:
        raise UserError(f"--out {to}: {error.strerror}") from None
    return {
        "space": str(to),
        "table": str(table),
        "columns": _columns(guess),
        "guessed": guess.said,
        "not_known": guess.not_known,
        "next": [
            f"fatefront {verb} {shlex.quote(str(to))}" for verb in ("data inspect", "plan", "run")
        ],
    }


def _columns(guess: Guess) -> dict[str, Any]:
    return {
        "image": guess.image.column,
        "root": str(guess.image.root),
        "suffix": guess.image.suffix,
        "label": guess.label,
        "attribute": guess.attribute.column,
        "threshold": guess.attribute.threshold,
        "further_attributes": [asdict(other)["column"] for other in guess.further],
        "patient": guess.patient,
        "split": guess.split,
        "malignant": guess.malignant,
    }


def render_init(document: dict[str, Any]) -> Text:
    """For people: what was guessed, what was not known, what comes next."""
    lines = [f"{document['space']} is written; what was guessed from {document['table']}:"]
    lines += [f"  {line}" for line in document["guessed"]]
    if document["not_known"]:
        lines += ["not known, or worth a look:", *(f"  {line}" for line in document["not_known"])]
    lines += ["read the file, then:", *(f"  {command}" for command in document["next"])]
    return Text("\n".join(lines), no_wrap=True, overflow="ignore")
