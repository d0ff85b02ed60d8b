"""What was run and on which data: commands, manifest, space, failures, licence, card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from orchestrator.card import changes_of, data_terms, unknown_line, use_lines
from orchestrator.command import without_users
from orchestrator.datasets.images import read_images
from orchestrator.ledger.environments import difference_line, of_nodes, starts
from orchestrator.ledger.sealed import opened_keys
from orchestrator.pages.document import Cell, bullets, folded, paragraph, table
from orchestrator.report.facts import Facts
from orchestrator.report.section import Section
from trainables.data.base import SPLITS
from trainables.errors import UserError

MAX_FAILED = 50


def data_section(facts: Facts) -> Section:
    """The data set, its groups and who is in no figure; licence and use."""
    data = facts.manifest["data"]
    terms = data_terms(data["name"])
    lines = [
        f"{data['name']}: {data['num_images']:,} images, classes {', '.join(data['classes'])}.",
        f"Groups by {facts.attribute}: {', '.join(data['groups'])}.",
        unknown_line(facts.manifest),
        f"Licence: {terms.licence}.",
    ]
    lines += [f"Cite: {terms.cite}."] if terms.cite else []
    lines += [f"Changed: {change}." for change in changes_of(facts.spec)]
    lines += [f"Warning: {warning}." for warning in data["warnings"]]
    use = "".join(f"<p>{escape(line)}</p>" for line in use_lines(terms))
    body = f'<div class="notice">{use}</div>' + bullets(lines) + _counts(facts)
    return Section("data", "Data, licence and use", body)


def _counts(facts: Facts) -> str:
    """Images of each group in each split; empty for folders of an older version."""
    rows: list[list[str | Cell]] = []
    for split in SPLITS:
        try:
            images = read_images(facts.folder, facts.manifest, split)
        except UserError:
            return ""
        counts = [int((images.group_N == g).sum()) for g in range(len(facts.groups))]
        unknown = int((images.group_N < 0).sum())
        rows.append([split, *(f"{n:,}" for n in counts), f"{unknown:,}"])
    heads: list[str | Cell] = [Cell("Split", "text"), *facts.groups, "unknown, in no figure"]
    return table(f"Images by {facts.attribute}.", heads, rows, "Images of each group")


def run_section(facts: Facts) -> Section:
    """The commands as typed, the manifest, the space, what failed and what was opened."""
    body = "<h3>Commands</h3>" + _commands(facts)
    body += "<h3>Manifest</h3>" + _manifest(facts.manifest) + _versions(facts)
    space = (facts.folder / "sweep.yaml").read_text(encoding="utf-8")
    body += folded("The resolved space, as `fatefront run` takes it (sweep.yaml)",
                   f"<pre>{escape(space)}</pre>")  # fmt: skip
    body += "<h3>Trials</h3>" + bullets(_trials(facts))
    failed = [r for r in facts.records.values() if r["status"] == "failed"]
    if failed:
        lines = [
            f"{r['trial']['label']} (seed {r['trial']['seed']}): {r['error']['type']}: "
            f"{r['error']['reason']}"
            for r in failed[:MAX_FAILED]
        ]
        body += folded(f"{len(failed)} failed trials", bullets(lines))
    return Section("run", "What was run", body)


def _commands(facts: Facts) -> str:
    starts = [event for event in facts.events if event["event"] == "started"]
    known = list(dict.fromkeys(e["command"] for e in starts if e.get("command")))
    again = shlex.join(
        ["fatefront", "run", f"{facts.folder}/sweep.yaml", "--out", str(facts.folder)]
    )
    told = ""
    if known:
        told += f"<pre>{escape(chr(10).join(known))}</pre>"
    if len(starts) > sum(1 for e in starts if e.get("command")):
        told += paragraph(
            "The ledger does not have the command of every start (an older version, or a start "
            "from Python).", "small",
        )  # fmt: skip
    told += paragraph("The same trials, from the space below:", "small")
    return told + f"<pre>{escape(without_users(again))}</pre>"


def _manifest(manifest: Mapping[str, Any]) -> str:
    rows: list[list[str | Cell]] = []
    for name, value in manifest.items():
        if name in ("starts", "results"):
            continue
        if name == "data":
            rows += [[f"data.{k}", Cell(_text(v), "text tags")] for k, v in value.items()]
        else:
            rows.append([name, Cell(_text(value), "text tags")])
    heads: list[str | Cell] = [Cell("Key", "text"), Cell("Value", "text")]
    return table("manifest.json.", heads, rows, "Manifest")


def _versions(facts: Facts) -> str:
    """What results and starts were made with, and in what that differs."""
    made = of_nodes(facts.events, facts.records)
    begun = [entry["versions"] for entry in starts(facts.events)]
    names = dict.fromkeys(n for v in (*(e["versions"] for e in made), *begun) for n in v)
    if not names:
        return ""
    heads: list[str | Cell] = [Cell("Package or processor", "text")]
    heads += [Cell(f"{entry['num_nodes']} results", "text") for entry in made]
    heads += [Cell(f"start {number}", "text") for number in range(1, len(begun) + 1)]
    columns = [*(entry["versions"] for entry in made), *begun]
    rows: list[list[str | Cell]] = [
        [name, *(Cell(versions.get(name, ""), "text tags") for versions in columns)]
        for name in names
    ]
    line = difference_line(facts.events, facts.records)
    told = f"Note: {line}." if line else "All results and starts have the same versions."
    return table("Versions.", heads, rows, "Versions") + paragraph(told)


def _text(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return without_users(shown)


def _trials(facts: Facts) -> list[str]:
    records = list(facts.records.values())
    done = [r for r in records if r["status"] == "done"]
    cached = sum(bool(r["execution"].get("cached")) for r in done)
    seconds = sum(
        sum((r["execution"].get("seconds") or {}).values())
        for r in done
        if not r["execution"].get("cached")
    )
    devices = sorted({str(r["execution"].get("device")) for r in done})
    torch = sorted({str(r["execution"].get("torch")) for r in done})
    opened = opened_keys(facts.events)
    openings = [e["time"] for e in facts.events if e["event"] == "test_opened"]
    lines = [
        f"{len(done)} done ({cached} of them cached), "
        f"{sum(r['status'] == 'failed' for r in records)} failed.",
        f"{seconds / 3600:.2f} hours of trials, summed over workers, on {', '.join(devices)}; "
        f"torch {', '.join(torch)}.",
    ]
    if opened:
        first = datetime.fromtimestamp(min(openings), UTC)
        lines.append(
            f"The test split of {len(opened)} nodes has been read, first on "
            f"{first:%Y-%m-%d %H:%M} UTC."
        )
    else:
        lines.append("The test split has not been read.")
    return lines
