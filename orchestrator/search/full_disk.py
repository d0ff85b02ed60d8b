"""Trials that found no room for their node: once more, then the sweep ends as it is.

Between the two attempts models that nobody needs were dropped (`disk.py`). A full disk says
nothing about a trial, so that it is no failure of one: with room again the same command goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import DiskFull

DISK_FULL = DiskFull.__name__
"""Type of the error."""


@dataclass
class FullDisk:
    """Which nodes found no room; for one start of a sweep."""

    retried: set[str] = field(default_factory=set)

    def note(self, key: str, error: Mapping[str, Any]) -> None:
        """The attempt found no room, and the ledger says so.

        Raises:
            DiskFull: the node's second such attempt.
        """
        if key in self.retried:
            raise DiskFull(str(error["reason"]))
        self.retried.add(key)
