"""What a sweep gives away: the front as files, pictures and a page, its models with card and
licence, and the test figures, opened once.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from orchestrator.card import attribute_name, card_text, licence_text
from orchestrator.fronts.export_models import export_models
from orchestrator.fronts.files import all_notes, write_front
from orchestrator.fronts.front import Front, sweep_front
from orchestrator.fronts.headline import headline, why_empty
from orchestrator.fronts.judged import judge_front
from orchestrator.fronts.page import Page, front_page
from orchestrator.fronts.static import latex_table, write_pictures
from orchestrator.judging.columns import opened_columns_of
from orchestrator.judging.judge import judge_folder
from orchestrator.judging.judgement import FATES, Judgement
from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import load_records, read_events
from orchestrator.ledger.sealed import COLUMNS, Opened, adaptive_keys
from orchestrator.ledger.sealed import open_test as read_test
from orchestrator.merging.nodes import open_store
from orchestrator.models.remake import remake_models
from search_spaces.objectives import objectives as known_objectives
from search_spaces.sweep_spec import SweepSpec
from trainables.errors import UserError
from trainables.storage import write_whole
from trainables.store import Store

FILES = (
    "front.csv", "front.json", "front.parquet", "front.html", "front.png", "front.pdf",
    "front.tex", "card.md", "data_licence.md",
)  # fmt: skip
NOT_READ = "the test split was not read"
OPTIMISM = ("f1", *FATES)
"""Figures of which validation less test is shown for each member."""


def export_sweep(
    folder: Path,
    to: Path,
    *,
    objectives: Sequence[str] | None = None,
    open_test: bool = True,
    remake: bool = False,
) -> dict[str, Any]:
    """Export the Pareto front of a sweep: tables, an interactive page, models; opens the members'
    test split.

    Members and their order come from validation alone; ``test_*`` columns are added afterwards.

    Args:
        folder: the sweep.
        to: where to; made if missing, files of a former export are replaced.
        objectives: names, as of ``search.objectives``; the sweep's own if not given.
        open_test: read the members' sealed test predictions (the ledger keeps that).
        remake: train the members' models that were dropped again; needs the data.

    Returns:
        A document of ``schemas/export.json``.

    Raises:
        UserError: no sweep, an unknown objective, nothing on the front, or the test split is to be
            opened while a driver is at work.
    """
    manifest, spec = read_manifest(folder), read_sweep(folder)
    records = load_records(folder)
    names = _objectives(spec, objectives)
    front = sweep_front(records, spec, names)
    if not front.members:
        raise UserError(f"nothing to export from {folder}: {why_empty(front)}")
    store = open_store(folder, manifest)
    to = _target(folder, to)
    if remake:
        remake_models(folder, front.keys, store, manifest)
    opened, notes = (
        _open(folder, front, records, store, spec, manifest) if open_test else (None, [])
    )
    judgement = judge_front(folder, front, records)
    points = [member.aggregate for member in front.members]
    tested = (
        judge_folder(
            folder, points, records, front.objectives, front.reference_point, split="test"
        )
        if opened
        else None
    )
    adaptive = adaptive_keys(list(read_events(folder)))
    added = _added_columns(front, opened, adaptive, tested)
    notes = [
        *_front_notes(front, judgement, opened is not None),
        *notes,
        *_optimism_note(front, added),
        *_adaptive_note(added),
    ]
    to.mkdir(parents=True, exist_ok=True)
    _write_tables(to, front, judgement, added, notes)
    page = Page(
        sweep=manifest["sweep"],
        data=f"{manifest['data']['name']} by {attribute_name(manifest['data']['attribute'])}",
        version=manifest["fatefront"],
        notes=tuple(notes),
    )
    _write(to / "front.html", front_page(front, records, added, page, judgement))
    write_pictures(front, judgement, to)
    caption = f"{page.sweep}: {page.data}, {manifest['backbone']['name']}"
    _write(to / "front.tex", latex_table(front, records, judgement, caption))
    _write(to / "card.md", card_text(manifest, spec))
    _write(to / "data_licence.md", licence_text(manifest, spec))
    extra = {
        "groups": manifest["data"]["groups"],
        "aspect": spec.data.aspect,
        "attribute": manifest["data"]["attribute"],
    }
    models, missing = export_models(front.keys, records, store, to / "models", extra)
    return {
        "folder": str(folder),
        "to": str(to),
        "files": [str(to / name) for name in FILES],
        "objectives": list(front.objectives),
        "reference_point": list(front.reference_point),
        "headline": headline(front),
        "hypervolume": front.hypervolume,
        "members": json.loads((to / "front.json").read_text())["members"],
        "models": [model | {"graphs": []} for model in models],
        "missing_models": missing,
        "test": {
            "opened": opened is not None,
            "num_keys": opened.num_keys if opened else 0,
            "num_newly_opened": opened.num_new if opened else 0,
        },
        "registered": [],
        "notes": notes,
    }


def _objectives(spec: SweepSpec, objectives: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(objectives) if objectives else spec.search.resolved_objectives
    for name in names:
        known_objectives.check(name)
    return names


def _target(folder: Path, to: Path) -> Path:
    if to.resolve() == folder.resolve():
        raise UserError(
            f"--to {to} is the sweep folder itself: choose another, such as {to / 'export'}"
        )
    if to.exists() and not to.is_dir():
        raise UserError(f"--to {to} is not a folder")
    return to


def _open(
    folder: Path, front: Front, records: Mapping[str, Any], store: Store, spec: SweepSpec,
    manifest: Mapping[str, Any],
) -> tuple[Opened | None, list[str]]:  # fmt: skip
    """Test figures, or why there are none: without the data set the front is exported without
    them.
    """
    from trainables.data.load import load_dataset

    try:
        dataset = load_dataset(spec.data)
    except UserError as error:
        return None, [f"no test columns: the data set cannot be loaded here ({error})"]
    if dataset.fingerprint != manifest["data"]["fingerprint"]:
        return None, ["no test columns: the data set is not the one the sweep was run on"]
    if dataset.group_digest != manifest["data"]["group_digest"]:
        return None, ["no test columns: the groups are not those the sweep was run on"]
    opened = read_test(folder, front.keys, records, store, dataset, spec.search.mode)
    return opened, [f"not in the test figures: {problem}" for problem in opened.problems]


def _added_columns(
    front: Front, opened: Opened | None, adaptive: set[str], tested: Judgement | None
) -> list[dict[str, Any]]:
    """What the export adds to each member's row."""
    added = []
    for member in front.members:
        point = member.aggregate
        row: dict[str, Any] = {"adaptive": any(key in adaptive for key in point.keys)}
        if opened is not None:
            nothing = dict.fromkeys(COLUMNS) | {"test_num_seeds": 0}
            row |= opened.figures.get(point.configuration, nothing)
            row |= opened_columns_of(tested, point.configuration)
            row |= {
                f"test_optimism_{name}": _less(point.figures.get(name), row[f"test_{name}"])
                for name in OPTIMISM
            }
        added.append(row)
    return added


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _optimism_note(front: Front, added: Sequence[Mapping[str, Any]]) -> list[str]:
    """How much the members lost from validation to test: selection and luck."""
    means = []
    for name in front.objectives:
        known = [row[f"test_optimism_{name}"] for row in added if f"test_optimism_{name}" in row]
        known = [value for value in known if value is not None]
        if known:
            means.append(f"{name} {sum(known) / len(known):+.3f}")
    return [f"validation less test, mean of the members: {', '.join(means)}"] if means else []


def _front_notes(front: Front, judgement: Judgement, opened: bool) -> list[str]:
    if not opened:
        return all_notes(front, judgement)
    own = (
        "members and their order come from the validation split; "
        "test_* columns were opened by this export"
    )
    return [own, *(note for note in all_notes(front, judgement) if NOT_READ not in note)]


def _adaptive_note(added: Sequence[Mapping[str, Any]]) -> list[str]:
    num = sum(bool(row["adaptive"]) for row in added)
    if not num:
        return []
    return [
        f"{num} of {len(added)} members were computed after the test split had been opened: "
        f"flagged adaptive, "
        "their test figures are no longer those of an untouched split"
    ]


def _write_tables(
    to: Path,
    front: Front,
    judgement: Judgement,
    added: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
) -> None:
    """``front.csv`` and ``front.json`` of the sweep with the export's columns, and the same as
    Parquet.
    """
    import pandas as pd

    write_front(to, front, judgement)
    document = json.loads((to / "front.json").read_text(encoding="utf-8"))
    members = [row | dict(more) for row, more in zip(document["members"], added, strict=True)]
    document |= {"members": members, "notes": list(notes)}
    _write(to / "front.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    lines = list(csv.DictReader(io.StringIO((to / "front.csv").read_text(encoding="utf-8"))))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*lines[0], *added[0]], lineterminator="\n")
    writer.writeheader()
    for line, more in zip(lines, added, strict=True):
        writer.writerow(line | dict(more) | {"adaptive": str(more["adaptive"]).lower()})
    _write(to / "front.csv", text.getvalue())
    flat = [
        {k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()} for row in members
    ]
    draft = to / ".front.parquet"
    pd.DataFrame(flat).to_parquet(draft, index=False)
    draft.replace(to / "front.parquet")


def _write(path: Path, text: str) -> None:
    write_whole(path, text.encode())


def render_export(document: dict[str, Any]) -> str:
    """The result for people."""
    test = document["test"]
    lines = [
        document["headline"],
        f"{len(document['members'])} members, chosen by "
        f"{' and '.join(document['objectives'])}, "
        f"hypervolume {document['hypervolume']:.4f}",
        *document["files"],
        f"{len(document['models'])} models in {document['to']}/models",
        *(f"no model {m['name']}: {m['reason']}" for m in document["missing_models"]),
        *(["--remake trains these again"] if document["missing_models"] else []),
    ]
    if test["opened"]:
        lines.append(
            f"test split of {test['num_keys']} nodes read, {test['num_newly_opened']} for the "
            f"first time"
        )
    return escape("\n".join([*lines, *document["notes"]]))
