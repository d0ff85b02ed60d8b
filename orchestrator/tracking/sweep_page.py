"""What the sweep's own run shows: a description in Markdown, the report, pictures."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.card import attribute_name
from orchestrator.fronts.files import all_notes, row
from orchestrator.fronts.front import Front
from orchestrator.fronts.headline import headline
from orchestrator.fronts.static import write_pictures
from orchestrator.judging.judgement import Judgement
from orchestrator.report.page import write_report
from orchestrator.tracking.names import dotted
from orchestrator.tracking.runs import MAX_TAG
from trainables.errors import UserError

NOTE = "mlflow.note.content"
"""MLflow's tag of a run's description."""


def write_pages(folder: Path, front: Front, judgement: Judgement, to: Path) -> str | None:
    """Report and pictures of a sweep into a folder; returns why some are missing, if so."""
    if not front.members:
        return "nothing is on the front"
    write_pictures(front, judgement, to)
    try:
        write_report(folder, to / "report.html")
    except UserError as error:
        return f"no report: {error}"
    except Exception as error:  # a fault of the report must not keep the runs from MLflow
        traceback.print_exc()
        return f"no report: {type(error).__name__}: {error}"
    return None


def description(
    manifest: Mapping[str, Any], front: Front, judgement: Judgement, command: str | None
) -> str:
    """The sweep in Markdown: what it was, the front as a table, what to do next."""
    data = manifest["data"]
    lines = [
        f"**{headline(front)}**",
        "",
        f"{data['name']} by {attribute_name(data['attribute'])}, mode {manifest['mode']}, "
        f"fatefront {manifest['fatefront']}. Figures of the validation split.",
        "",
        *_members(front, judgement),
        "",
        *(f"* {note}" for note in all_notes(front, judgement)),
        "",
        "**Look on:** `report.html`, `front.png` and `front.csv` under *Artifacts*. Runs: "
        "`tags.level = 'configuration'` (all seeds of one together, with intervals), "
        "`tags.level = 'trial'` (one seed each), `tags.criterion = 'snnl' and metrics.fate_eodd > "
        "0.1`.",
    ]
    lines += ["", "**Made by:**", "", f"    {command}"] if command else []
    return _within("\n".join(lines))


def _members(front: Front, judgement: Judgement) -> list[str]:
    shown = list(dict.fromkeys((*front.objectives, "f1")))
    lines = [
        f"| configuration | role | {' | '.join(shown)} | on front |",
        f"|---|---|{'---|' * len(shown)}---|",
    ]
    for number, member in enumerate(front.members):
        line = row(member, front, is_knee=number == front.knee, judgement=judgement)
        name = dotted(str(line["configuration"])) + (" (knee)" if line["knee"] else "")
        frequency = line["membership_frequency"]
        figures = " | ".join(_figure(line, figure) for figure in shown)
        place = "" if frequency is None else f"{frequency:.0%}"
        lines.append(f"| {name.replace('|', '/')} | {line['role']} | {figures} | {place} |")
    return lines


def _figure(line: Mapping[str, Any], name: str) -> str:
    value, low, high = line[name], line.get(f"{name}_low"), line.get(f"{name}_high")
    if value is None:
        return ""
    return f"{value:.4g}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def _within(text: str) -> str:
    """A tag has a length; what is cut off is said."""
    cut = "\n\n(shortened; `report.html` has all)"
    return text if len(text) <= MAX_TAG else text[: MAX_TAG - len(cut)] + cut
