"""What the shipped files leave for the user to fill in: a launch fails on it, minutes later."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from orchestrator.cluster.description import Cluster
from orchestrator.cluster.findings import Finding, Path

RULE = "placeholder"
STORE = "YOUR-BUCKET"
"""The rule of storage speaks of it."""
LEFT = re.compile(r"YOUR-[A-Z]+|\bREGISTRY/|^you$")


def check(cluster: Cluster) -> Iterator[Finding]:
    """A note for the first place of each."""
    said: set[str] = set()
    for path, text in _texts(cluster.file.document, ()):
        for found in LEFT.findall(text):
            if found != STORE and found not in said:
                said.add(found)
                yield Finding(RULE, path, f"{found.strip('/')}: put your own here", "note")


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _texts(below, (*path, str(key)))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _texts(below, (*path, index))
