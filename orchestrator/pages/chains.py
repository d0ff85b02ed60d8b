"""Which configurations lie on one chain: the root, then the same arm at each iteration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Records = Mapping[str, Mapping[str, Any]]


def chains(records: Records) -> dict[str, tuple[str, ...]]:
    """Configuration key -> keys of its chain, the root first, as deep as it was run.

    A root's chain is itself alone: many arms begin there.
    """
    arms: dict[tuple[str, str], dict[int, str]] = {}
    arm_of: dict[str, tuple[str, str]] = {}
    found: dict[str, tuple[str, ...]] = {}
    for record in records.values():
        trial = record["trial"]
        name = trial["configuration"]
        if name in arm_of or name in found:
            continue
        if not trial["n"]:
            found[name] = (name,)
            continue
        root = root_of(record, records)
        if root is None:
            found[name] = (name,)
            continue
        arm = (root["trial"]["configuration"], json.dumps(trial["prune"], sort_keys=True))
        arms.setdefault(arm, {0: arm[0]})[trial["n"]] = name
        arm_of[name] = arm
    whole = {arm: tuple(by_n[n] for n in sorted(by_n)) for arm, by_n in arms.items()}
    return found | {name: whole[arm] for name, arm in arm_of.items()}


def root_of(record: Mapping[str, Any], records: Records) -> Mapping[str, Any] | None:
    """The record of the trained baseline that a node's chain begins with; None: not among them."""
    while record["trial"]["n"]:
        parent = records.get(record["parents"][0]) if record["parents"] else None
        if parent is None:
            return None
        record = parent
    return record
