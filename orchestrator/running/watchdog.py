"""Waiting for a trial as long as it makes progress, and ending one that hangs.

The child's heart (`trainables/heartbeat.py`) writes into Ray's key-value store, so the controller
hears it on another machine, too, and needs nothing of the child that may hang.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from trainables.heartbeat import heart

STALLED = "Stalled"
START_SECONDS = 300
"""Until the first sign at least: a new child imports PyTorch and fetches the images."""
ALIKE_SECONDS = 10
"""For the first of several processes to fail as another did: what is wrong with a trial, they all
see at the same time.
"""
NUM_LOOKS = 10
"""Looks at the heart in the time after which a trial counts as hanging."""


class Stalled(Exception):
    """The child made no progress for so long; it is to be ended."""


@contextlib.contextmanager
def beating(key: str) -> Iterator[None]:
    """In the child: its heart is heard under the node's key."""

    def tell(num_beats: int) -> None:
        sign = {"beats": num_beats, "host": platform.node(), "pid": os.getpid()}
        _internal_kv_put(_name(key), json.dumps(sign).encode(), overwrite=True)

    with heart.heard_by(tell):
        yield


def outcome_of(references: list[Any], key: str, minutes: float) -> Any:
    """In the controller: what the child returns.

    Args:
        references: of the results of the processes that compute a trial together: the first one's
            is the trial's, and an error of another, for which the first would wait for ever, too.
        key: of the node.
        minutes: without progress, after which the child hangs; 0 waits for ever.

    Raises:
        Stalled: no progress for so long; where the child is on this machine, it was killed.
        RayError: one of the processes is gone.
    """
    last, since = None, time.monotonic()
    waiting = list(references)
    try:
        while True:
            timeout = minutes * 60 / NUM_LOOKS if minutes else None
            ready, waiting = ray.wait(waiting, timeout=timeout)
            for reference in ready:
                outcome = ray.get(reference)
                if reference == references[0]:
                    return outcome
                if "error" in outcome:
                    first, _ = ray.wait(references[:1], timeout=ALIKE_SECONDS)
                    return ray.get(first[0]) if first else outcome
            sign = _internal_kv_get(_name(key))
            if ready or sign != last:
                last, since = sign, time.monotonic()
            elif time.monotonic() - since >= max(minutes * 60, 0 if sign else START_SECONDS):
                raise Stalled(_said(sign, minutes))
    finally:
        _internal_kv_del(_name(key))


def _said(sign: bytes | None, minutes: float) -> str:
    if sign is None:
        return f"no progress for {minutes:g} minutes, not one batch"
    found = json.loads(sign)
    if found["host"] == platform.node():
        # Ray asks first, and a process that was stopped does not hear it
        with contextlib.suppress(ProcessLookupError):
            os.kill(found["pid"], signal.SIGKILL)
    return (
        f"no progress for {minutes:g} minutes, after {found['beats']} batches of its process "
        f"({found['host']}, process {found['pid']}; --stalled-after)"
    )


def _name(key: str) -> bytes:
    return f"fatefront:heart:{key}".encode()
