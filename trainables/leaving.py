"""Whether this machine is about to be taken away, as a spot machine is after its notice.

Whoever knows says so once a process (``ask_by``); a training then leaves what it has at the end of
every epoch, so that the running epoch is all that is given up.
"""

from __future__ import annotations

from collections.abc import Callable

_asked: Callable[[], bool] | None = None


def ask_by(ask: Callable[[], bool] | None) -> None:
    """From now on `is_leaving` asks this; None: nobody knows."""
    global _asked
    _asked = ask


def is_leaving() -> bool:
    """Whether there was a notice; what cannot be found out counts as none."""
    return _asked is not None and _asked()
