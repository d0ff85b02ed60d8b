"""What killed attempts left in the store."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from trainables.store import Store


def remove_abandoned(store: Store, events: Iterable[Mapping[str, Any]]) -> int:
    """Remove files of attempts that did not come to their end, beside nodes that were committed by
    another; returns how many there were.

    An attempt may have been killed in the middle of its files where a node was begun more than
    once: only there the store is asked.
    """
    begun = Counter(e["key"] for e in events if e["event"] in ("scheduled", "retry"))
    num = 0
    for key in [key for key, times in begun.items() if times > 1]:
        with contextlib.suppress(OSError):  # they take room and harm nothing
            num += store.remove_abandoned(key)
    return num
