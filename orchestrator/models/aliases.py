"""Which models of a front get a name: ``knee``, ``best-f1``, ``best-fate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.fronts.front import Front, Member
from orchestrator.judging.judgement import FATES

KNEE, BEST_F1, BEST_FATE = "knee", "best-f1", "best-fate"
ALIASES = (KNEE, BEST_F1, BEST_FATE)


def aliased(front: Front, records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Alias -> key of a node, as far as there is such a member.

    A member is a configuration, a model one of its seeds: the one with the middle F1 of validation
    stands for it. The best one would be chosen by luck.
    """
    found: dict[str, Member] = {}
    if front.knee is not None:
        found[KNEE] = front.members[front.knee]
    fates = [name for name in front.objectives if name in FATES]
    for alias, name in ((BEST_F1, "f1"), (BEST_FATE, fates[0] if fates else FATES[0])):
        known = [(m.aggregate.figures.get(name), m) for m in front.members]
        values = [(value, m) for value, m in known if value is not None]
        if values:
            found[alias] = max(values, key=lambda pair: pair[0])[1]
    return {alias: middle_key(member, records) for alias, member in found.items()}


def middle_key(member: Member, records: Mapping[str, Mapping[str, Any]]) -> str:
    """Key of the seed with the middle F1; of two in the middle the lower."""

    def f1(key: str) -> tuple[float, int]:
        value = records[key]["result"]["metrics"]["validation"]["f1"]
        return (-1.0 if value is None else float(value), records[key]["trial"]["seed"])

    ordered = sorted(member.aggregate.keys, key=f1)
    return ordered[(len(ordered) - 1) // 2]
