"""Sweep folders as a merge reads them, and whether two of them can stand on one front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import read_events
from orchestrator.merging.nodes import open_store
from search_spaces.sweep_spec import SweepSpec
from trainables.errors import UserError
from trainables.specs import canonical
from trainables.store import Store

Event = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One sweep folder as it was found."""

    folder: Path
    manifest: dict[str, Any]
    spec: SweepSpec
    events: list[Event]
    store: Store

    @classmethod
    def read(cls, folder: Path) -> Source:
        """Read a folder without changing it.

        Raises:
            UserError: there is no sweep in it.
        """
        manifest = read_manifest(folder)
        return cls(
            folder,
            manifest,
            read_sweep(folder),
            list(read_events(folder)),
            open_store(folder, manifest),
        )

    def of(self, *kinds: str) -> list[Event]:
        """Its events of some kinds, oldest first."""
        return [event for event in self.events if event["event"] in kinds]


def check_mergeable(first: Source, other: Source) -> None:
    """One front per data, attribute, backbone and recipe.

    Raises:
        UserError: the two sweeps cannot stand on one front; says in what they differ.
    """
    ours, theirs = first.manifest, other.manifest
    for what, a, b in (
        ("data", ours["data"]["fingerprint"], theirs["data"]["fingerprint"]),
        ("attribute", ours["data"]["attribute"], theirs["data"]["attribute"]),
        ("groups", ours["data"]["group_digest"], theirs["data"]["group_digest"]),
        ("backbone", canonical(first.spec.backbone), canonical(other.spec.backbone)),
        ("mode", first.spec.search.mode, other.spec.search.mode),
        ("reference", first.spec.reference, other.spec.reference),
        ("training", canonical(first.spec.training), canonical(other.spec.training)),
        ("finetune", canonical(first.spec.finetune), canonical(other.spec.finetune)),
        ("compute", _compute(first), _compute(other)),
    ):
        if a != b:
            raise UserError(
                f"{other.folder} cannot be merged with {first.folder}: other {what} "
                f"({_differs(b, a)})"
            )


def _compute(source: Source) -> dict[str, Any]:
    return canonical(source.spec.compute.resolved(source.manifest["device"]))


def _differs(value: Any, expected: Any) -> str:
    if isinstance(value, Mapping) and isinstance(expected, Mapping):
        names = [k for k in {**expected, **value} if value.get(k) != expected.get(k)]
        return ", ".join(
            f"{k}: {value.get(k, 'default')}, not {expected.get(k, 'default')}" for k in names
        )
    short = [str(v)[:12] if len(str(v)) > 40 else str(v) for v in (value, expected)]
    return f"{short[0]}, not {short[1]}"
