"""A sign of life from long work: one beat a batch of images, for whoever listens.

A trial that hangs and one that is slow take the same time; only the hanging one stops beating.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[int], None]
"""Called with the number of beats so far."""

INTERVAL = 1.0
"""Seconds between two calls of the listener; beats between them are only counted."""


class Heart:
    """Counts beats; at most one listener hears of them."""

    def __init__(self) -> None:
        self.num_beats = 0
        self._listener: Listener | None = None
        self._last = 0.0

    def beat(self) -> None:
        """One step was done."""
        self.num_beats += 1
        if self._listener is not None and time.monotonic() - self._last >= INTERVAL:
            self._tell()

    @contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Tell this listener as long as the block runs, at once at its beginning."""
        self._listener = listener
        self._tell()
        try:
            yield
        finally:
            self._listener = None

    def _tell(self) -> None:
        if self._listener is not None:
            self._last = time.monotonic()
            self._listener(self.num_beats)


heart = Heart()
"""That of this process."""
