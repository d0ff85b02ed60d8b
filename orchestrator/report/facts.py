"""What a report is made from: a sweep's files read once, its front judged, every figure ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.card import attribute_name
from orchestrator.fronts.aggregate import Aggregate, aggregate
from orchestrator.fronts.front import Front, Member, confirming, sweep_front
from orchestrator.fronts.headline import why_empty
from orchestrator.fronts.judged import judge_front
from orchestrator.fronts.sure import gap_of
from orchestrator.judging.judge import judge_folder
from orchestrator.judging.judgement import Judgement
from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import load_records, read_events
from orchestrator.ledger.sealed import adaptive_keys, with_references
from orchestrator.merging.nodes import open_store
from orchestrator.pages.chains import chains
from orchestrator.pages.tips import is_reference
from orchestrator.tables.rows import make_rows
from orchestrator.tables.tables import TableOptions, open_split, row_document
from search_spaces.sweep_spec import SweepSpec
from trainables.errors import UserError
from trainables.store import Store

Records = Mapping[str, Mapping[str, Any]]
Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Facts:
    """One sweep.

    Attributes:
        folder: of the sweep.
        manifest: its ``manifest.json``.
        spec: its ``sweep.yaml``.
        records: key -> record.
        events: of the ledger.
        front: by validation, with at least one member.
        judgement: of the front, on validation.
        store: where the nodes lie.
        split: whose figures the rows are.
        rows: configuration key -> row of ``schemas/tables.json``, on ``split``.
        shown_judgement: intervals and contrasts on ``split``.
        num_newly_opened: nodes whose test split was read for the first time.
        problems: why something could not be read.
    """

    folder: Path
    manifest: Mapping[str, Any]
    spec: SweepSpec
    records: Records
    events: Sequence[Mapping[str, Any]]
    front: Front
    judgement: Judgement
    store: Store
    split: str
    rows: Rows
    shown_judgement: Judgement
    num_newly_opened: int = 0
    problems: tuple[str, ...] = ()

    @property
    def groups(self) -> list[str]:
        """Names of the groups."""
        return list(self.manifest["data"]["groups"])

    @property
    def attribute(self) -> str:
        """The attribute's name for people."""
        return attribute_name(self.manifest["data"]["attribute"])

    @property
    def gap(self) -> str:
        """The gap that the front's FATE is about."""
        return gap_of(self.front)

    @cached_property
    def points(self) -> dict[str, Member]:
        """Configuration key -> point, members first."""
        both = (*self.front.members, *self.front.dominated)
        return {member.aggregate.configuration: member for member in both}

    @cached_property
    def chain_of(self) -> dict[str, tuple[str, ...]]:
        """Configuration key -> keys of its chain."""
        return chains(self.records)

    @cached_property
    def node_of(self) -> dict[tuple[str, int], str]:
        """(configuration key, seed) -> key of the node."""
        return {
            (record["trial"]["configuration"], record["trial"]["seed"]): key
            for key, record in self.records.items()
        }

    @cached_property
    def reference(self) -> str | None:
        """Configuration FATE is measured against, where it has all its figures."""
        found = (n for n, m in self.points.items() if is_reference(m.aggregate, self.records))
        return next(found, None)

    @cached_property
    def focus(self) -> list[str]:
        """Configurations that are shown in full: the reference, the members, the best one of each
        criterion, and what these are compared with.
        """
        return focus_of(self.front, self.records, self.points, self.reference)

    def label(self, name: str) -> str:
        """A configuration's label, with the number of a member."""
        for index, member in enumerate(self.front.members):
            if member.aggregate.configuration == name:
                return f"{index + 1}  {member.aggregate.trial['label']}"
        return str(self.points[name].aggregate.trial["label"])


def gather(folder: Path, split: str = "validation") -> Facts:
    """Read and judge a sweep; ``split="test"`` opens the test split of the focus.

    Raises:
        UserError: no sweep, nothing on the front, an unknown split, or the test split asked for
            while a driver is at work or without the data.
    """
    if split not in ("validation", "test"):
        raise UserError(f"--split must be one of validation, test but got {split!r}")
    manifest, spec = read_manifest(folder), read_sweep(folder)
    records = load_records(folder)
    front = sweep_front(records, spec)
    if not front.members:
        raise UserError(f"nothing to report of {folder}: {why_empty(front)}")
    judgement = judge_front(folder, front, records)
    known = Facts(
        folder, manifest, spec, records, [], front, judgement, open_store(folder, manifest),
        split, {}, judgement,
    )  # fmt: skip
    points = [member.aggregate for member in known.points.values()]
    if split == "validation":
        events = list(read_events(folder))
        rows = _rows(points, records, manifest, events, judgement)
        return replace(known, events=events, rows=rows)
    return _opened(known)


def focus_of(
    front: Front, records: Records, points: Mapping[str, Member], reference: str | None
) -> list[str]:
    """Reference, then each member and each criterion's best configuration, followed by its own
    root and controls; each once.
    """
    found = [] if reference is None else [reference]
    members = [member.aggregate.configuration for member in front.members]
    for name in [*members, *best_of_criteria(points)]:
        found.append(name)
        others = records[points[name].aggregate.keys[0]]["compares_with"]
        found += [
            records[key]["trial"]["configuration"] for key in others.values() if key in records
        ]
    return [name for name in dict.fromkeys(found) if name in points]


def best_of_criteria(points: Mapping[str, Member]) -> list[str]:
    """The treated configuration of each criterion that is best in the first objective.

    ``points``: members of the front first, then the others, both best first.
    """
    best: dict[str, str] = {}
    for name, member in points.items():
        trial = member.aggregate.trial
        if trial["role"] == "treatment":
            best.setdefault(trial["criterion"], name)
    return list(best.values())


def _opened(known: Facts) -> Facts:
    """The same with test figures of the focus; the ledger has the opening before they are read.

    Members of a confirmed front, and what they are compared with, are judged on their fresh seeds
    as on validation, everything else on the seeds of the selection.
    """
    front = known.front
    fresh = confirming(front, known.records) if front.selected else []
    members = set(front.selected)
    shown = [known.points[name].aggregate for name in known.focus]
    chosen = [point for point in shown if point.configuration not in members]
    asked = dict.fromkeys(key for point in (*shown, *fresh) for key in point.keys)
    records, problems, num_new = open_split(
        known.folder, list(asked), known.records, known.manifest, known.manifest["mode"]
    )
    judgement = _judged(known, _tested(chosen, records))
    if fresh:
        of_fresh = _judged(known, _tested(fresh, records))
        points = {name: one for name, one in of_fresh.points.items() if name in members}
        judgement = replace(
            of_fresh,
            points={**judgement.points, **points},
            problems=tuple(dict.fromkeys((*judgement.problems, *of_fresh.problems))),
        )
    events = list(read_events(known.folder))
    return replace(
        known,
        events=events,
        rows=_rows(_tested(shown, records), records, known.manifest, events, judgement),
        shown_judgement=judgement,
        num_newly_opened=num_new,
        problems=problems,
    )


def _tested(points: Sequence[Aggregate], records: Records) -> list[Aggregate]:
    """The same configurations and seeds from opened records; without those that lack a seed."""
    found = []
    for point in points:
        if all(key in records for key in point.keys):
            own = {key: records[key] for key in with_references(point.keys, records)}
            found.append(aggregate(own)[point.configuration])
    return found


def _judged(known: Facts, points: Sequence[Aggregate]) -> Judgement:
    return judge_folder(
        known.folder, points, known.records, known.front.objectives, known.front.reference_point,
        split="test",
    )  # fmt: skip


def _rows(
    points: Sequence[Aggregate],
    records: Records,
    manifest: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    judgement: Judgement,
) -> dict[str, dict[str, Any]]:
    adaptive = adaptive_keys(list(events))
    return {
        row.point.configuration: row_document(row, manifest, adaptive, judgement, TableOptions())
        for row in make_rows(points, records, ranked=False)
    }
