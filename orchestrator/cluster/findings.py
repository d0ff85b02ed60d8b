"""What a check of a cluster file found, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]
"""Keys and indices from the top of the document to a value."""


@dataclass(frozen=True)
class Finding:
    """One line: an ``error`` keeps the file from being used, a ``note`` is worth knowing."""

    rule: str
    path: Path
    message: str
    severity: Literal["error", "note"] = "error"


@dataclass(frozen=True)
class Located:
    """A text of the file and where it stands."""

    text: str
    path: Path


def dotted(path: Path) -> str:
    """``available_node_types.head.node_config`` or ``setup_commands[2]``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "(whole file)"


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)``, or nothing where no known name is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]}?)" if found else ""
