"""The image array in Ray's object store: put once, and again when the store has lost it.

Ray keeps one copy pinned on the driver's node, but cannot make it anew: it is no task's result.
Workers that have read it keep it; one that starts later would wait for ever.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DATA_LOST = "DataLost"
"""Type of the error of a trial whose worker could not read the images."""
FETCH_SECONDS = float(os.environ.get("FATEFRONT_FETCH_SECONDS", "600"))
"""After which they count as lost: Ray itself would ask for ever for a copy that cannot be read."""
MAX_PUTS = 5
"""For one start of a sweep; then something else is wrong, and trials fail."""


@dataclass
class LostData:
    """``is_lost``: a trial has missed it; ``must_be_put``: before the next round begins."""

    is_lost: bool = False
    must_be_put: bool = True
    num_puts: int = 0

    def lose(self, error: Mapping[str, Any]) -> bool:
        """Whether the attempt found no data, and is repeated when they are there again."""
        if error.get("type") != DATA_LOST or self.num_puts >= MAX_PUTS:
            return False
        self.is_lost = True
        return True

    def put_again(self) -> None:
        """The round that was going on is over, the next one puts the array."""
        self.is_lost, self.must_be_put = False, True

    def note_put(self) -> None:
        """It is there."""
        self.must_be_put = False
        self.num_puts += 1
