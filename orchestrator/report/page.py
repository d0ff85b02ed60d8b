"""``fatefront report``: everything a sweep shows, as one HTML file that opens from disk.

Validation only, unless the test split is asked for: that is an opening, and the ledger says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.text import Text

from orchestrator.fronts.files import all_notes
from orchestrator.fronts.headline import headline
from orchestrator.fronts.page import (
    front_facts,
    front_figure,
    front_trials,
    seeds_text,
)
from orchestrator.fronts.sure import sure_table
from orchestrator.fronts.table import members_table
from orchestrator.ledger.manifest import fatefront_version, read_manifest
from orchestrator.ledger.sealed import adaptive_keys
from orchestrator.pages.document import bullets, html_document, paragraph
from orchestrator.pages.document import facts as facts_list
from orchestrator.report.channels import channels_section
from orchestrator.report.costs import costs_section
from orchestrator.report.curves import curves_section
from orchestrator.report.effects import effects_section
from orchestrator.report.example_images import images_section
from orchestrator.report.facts import Facts, gather
from orchestrator.report.groups import changes_section, gaps_section, groups_section
from orchestrator.report.growth import growth_section
from orchestrator.report.membership import membership_section
from orchestrator.report.parameters import parameters_section
from orchestrator.report.provenance import data_section, run_section
from orchestrator.report.section import Section
from trainables.errors import UserError

MAX_BYTES = 5_000_000
SECTIONS = (
    membership_section, effects_section, groups_section, gaps_section, changes_section,
    growth_section, parameters_section, curves_section, channels_section, costs_section,
    data_section, run_section,
)  # fmt: skip


@dataclass(frozen=True)
class ReportOptions:
    """The verb's options."""

    split: str = "validation"
    images: bool = False  # show images of the data set, with their licence


def write_report(
    folder: Path, to: Path | None = None, options: ReportOptions | None = None
) -> dict[str, Any]:
    """Write the report of a sweep.

    Args:
        folder: of the sweep.
        to: the file; ``report.html`` in the folder if not given.
        options: what to show.

    Returns:
        A document of ``schemas/report.json``.

    Raises:
        UserError: no sweep, nothing on the front, a file that cannot be written, or the test split
            or images asked for while a driver is at work or without the data.
    """
    options = options or ReportOptions()
    read_manifest(folder)  # a folder that is none is said before anything of the file's place
    target = to or folder / "report.html"
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise UserError(f"--to {target}: not a file in a folder that exists")
    found = gather(folder, options.split)
    sections = [_front_section(found), *(section(found) for section in SECTIONS)]
    if options.images:
        after = 1 + SECTIONS.index(channels_section)
        sections.insert(after + 1, images_section(found))
    text = _page(found, sections).encode()
    if len(text) > MAX_BYTES:
        raise RuntimeError(f"the report has {len(text)} bytes, more than {MAX_BYTES}")
    draft = target.with_name(f".{target.name}")
    try:
        draft.write_bytes(text)
        draft.replace(target)
    except OSError as error:
        raise UserError(f"--to {target}: {error.strerror}") from None
    return {
        "folder": str(folder),
        "to": str(target),
        "bytes": len(text),
        "split": found.split,
        "num_newly_opened": found.num_newly_opened,
        "sections": [
            {"name": section.name, "title": section.title, "missing": section.missing}
            for section in sections
        ],
        "notes": _notes(found),
    }


def _page(found: Facts, sections: list[Section]) -> str:
    data = found.manifest["data"]
    title = f"Report of {found.manifest['sweep']}"
    links = "".join(
        f'<li><a href="#{escape(section.name)}">{escape(section.title)}</a></li>'
        for section in sections
    )
    subtitle = (
        f"{data['name']} by {found.attribute} · {found.manifest['backbone']['name']} · "
        f"{seeds_text(found.front)} · figures on the {found.split} split"
        f"{', members chosen on validation' if found.split == 'test' else ''}"
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        paragraph(subtitle, "subtitle"),
        paragraph(headline(found.front)),
        facts_list(front_facts(found.front, found.judgement)),
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
        *(section.html for section in sections),
        "<h2>Notes</h2>",
        bullets(_notes(found)),
    ]
    trials = front_trials(found.front, found.records, found.judgement)
    return html_document(title, "\n".join(body), version=fatefront_version(), trials=trials)


def _front_section(found: Facts) -> Section:
    adaptive = adaptive_keys(list(found.events))
    added = [
        {"adaptive": any(key in adaptive for key in member.aggregate.keys)}
        for member in found.front.members
    ]
    body = front_figure(found.front, found.records, found.judgement)
    body += members_table(found.front, found.records, added, found.judgement)
    sure = sure_table(found.front, found.judgement)
    body += f"<h3>How sure this is</h3>{sure}" if sure else ""
    return Section("front", "The front (validation)", body)


def _notes(found: Facts) -> list[str]:
    notes = all_notes(found.front, found.judgement)
    if found.split == "test":
        notes = [note for note in notes if "the test split was not read" not in note]
        notes.insert(0, (
            "groups, gaps, changes and effects are of the test split, opened for the reference, "
            "the members, the best configuration of each criterion and their controls; the front "
            "and all else are of validation"
        ))  # fmt: skip
    return [*notes, *(f"not read: {problem}" for problem in found.problems)]


def render_report(document: dict[str, Any]) -> Text:
    """For people: where it is, and what it could not show."""
    lines = [f"{document['to']}  ({document['bytes'] / 1e6:.2f} MB)"]
    lines += [
        f"not shown: {section['title']}: {section['missing']}"
        for section in document["sections"]
        if section["missing"]
    ]
    if document["num_newly_opened"]:
        lines.append(
            f"test split of {document['num_newly_opened']} nodes read for the first time"
        )
    return Text("\n".join([*lines, *document["notes"]]))
