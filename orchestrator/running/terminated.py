"""SIGTERM ends a sweep as Ctrl-C does: schedulers of clusters and service managers send it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_came = threading.Event()


def came() -> bool:
    """Whether SIGTERM has ended what ran here. Ray Tune makes a new ``KeyboardInterrupt`` of the
    one that it gets, so that a class of our own would not arrive.
    """
    return _came.is_set()


def _raise(number: int, frame: FrameType | None) -> None:
    _came.set()
    raise KeyboardInterrupt


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` in the main thread when SIGTERM comes; in other threads nothing
    is changed.

    Entered once Ray is there: Ray's own handler, which it installs when it starts, prints stacks
    and aborts, and what was going on would not be written down.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        # None: a handler that is not Python's, which cannot be put back
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
