"""``fatefront tables``: a sweep in the layout of the paper's tables, the published rows beside it.

Validation figures, unless the test split is asked for: that is an opening, and the ledger says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.text import Text

from orchestrator.fronts.aggregate import Aggregate
from orchestrator.judging.evidence import open_evidence
from orchestrator.judging.judge import judge
from orchestrator.judging.judgement import Judged, Judgement
from orchestrator.judging.seed_interval import CONFIDENCE, Estimate
from orchestrator.ledger.manifest import read_manifest, read_sweep
from orchestrator.ledger.records import is_running, load_records, read_events
from orchestrator.ledger.recount import validation_figures
from orchestrator.ledger.sealed import adaptive_keys, open_records
from orchestrator.merging.nodes import open_store
from orchestrator.tables.as_csv import BESIDE_GAP, as_csv
from orchestrator.tables.as_latex import as_latex
from orchestrator.tables.as_markdown import as_markdown
from orchestrator.tables.choices import CHOICES
from orchestrator.tables.grid import grid_of
from orchestrator.tables.notes import notes_of
from orchestrator.tables.published import AVG, DIFF, Block, read_blocks
from orchestrator.tables.published_match import differences, matching
from orchestrator.tables.published_match import document as published_document
from orchestrator.tables.rows import (
    Fate,
    Figure,
    Row,
    against,
    make_rows,
    replace_metrics,
    select,
)
from search_spaces.sweep_spec import CONFIRMATION
from trainables.data.comparable import not_comparable
from trainables.errors import UserError
from trainables.metrics.crossed import Interval
from trainables.metrics.fairness import Mode, check_mode


@dataclass(frozen=True)
class TableOptions:
    """What to show and how."""

    format: str = "md"
    style: str = "default"
    split: str = "validation"
    mode: str | None = None  # the sweep's own
    reference: str = "vanilla"
    published: str = "match"
    seeds: str = "selection"  # or "fresh": of the members of a confirmed front and their controls
    intervals: str = "patients"  # seeds and patients crossed; "seeds": how much training varies

    def check(self) -> None:
        """Refuse values that are none of ``CHOICES``.

        Raises:
            UserError: in one line, with the nearest known one.
        """
        for option, known in CHOICES.items():
            value = getattr(self, option.removeprefix("--"))
            if value is not None and value not in known:
                near = difflib.get_close_matches(value, known, n=1)
                hint = f", did you mean {near[0]!r}?" if near else ""
                raise UserError(
                    f"{option} must be one of {', '.join(known)} but got {value!r}{hint}"
                )


def make_tables(
    folder: Path, options: TableOptions | None = None, to: Path | None = None
) -> dict[str, Any]:
    """The sweep's table as a document, and as text in the asked format.

    Args:
        folder: the sweep.
        options: what to show; ``split="test"`` opens the test split of every configuration shown.
        to: file to write the formatted table into, if any.

    Returns:
        A document of ``schemas/tables.json``; ``_text`` (not part of it) holds the formatted
        table.

    Raises:
        UserError: no sweep, nothing done, an unknown option, ``paper`` with other than two groups,
            counts or data that are gone, or the test split asked for while a driver is at work.
    """
    options = options or TableOptions()
    options.check()
    manifest = read_manifest(folder)
    mode = cast(Mode, options.mode or manifest["mode"])
    check_mode(mode, len(manifest["data"]["groups"]))
    if to is not None and (to.is_dir() or not to.absolute().parent.is_dir()):
        raise UserError(f"--to {to}: not a file in a folder that exists")
    records: Mapping[str, Mapping[str, Any]] = load_records(folder)
    if mode != manifest["mode"] and options.split == "validation":
        store = open_store(folder, manifest)
        records = _remeasured(records, validation_figures(records, store, manifest["data"], mode))
    compared = against(records, options.reference)
    compared = {
        key: record
        for key, record in compared.items()
        if (record["trial"]["seed"] >= CONFIRMATION) == (options.seeds == "fresh")
    }
    points, seeds, incomplete = select(compared)
    if not points and options.seeds == "fresh":
        raise UserError(f"no table of {folder}: nothing was confirmed by fresh seeds")
    if not points:
        raise UserError(f"no table of {folder}: no configuration is done with its reference")
    problems: tuple[str, ...] = ()
    num_new = 0
    if options.split == "test":
        keys = [key for point in points for key in point.keys]
        opened, problems, num_new = open_split(folder, keys, compared, manifest, mode)
        compared = against(opened, "vanilla")  # their reference is the chosen one by now
        complete = {point.configuration for point in select(compared, seeds)[0]}
        points = [point for point in points if point.configuration in complete]
    rows = make_rows(points, compared, ranked=options.split == "validation")
    judgement = _judge(folder, manifest, points, compared, options, mode)
    blocks = read_blocks() if options.published != "none" else []
    adaptive = adaptive_keys(list(read_events(folder)))
    document = {
        "folder": str(folder),
        "sweep": manifest["sweep"],
        "dataset": manifest["data"]["name"],
        "attribute": manifest["data"]["attribute"],
        "groups": manifest["data"]["groups"],
        "backbone": manifest["backbone"]["name"],
        "split": options.split,
        "num_newly_opened": num_new,
        "mode": mode,
        "reference": options.reference,
        "style": options.style,
        "seeds": sorted(seeds),
        "confidence": CONFIDENCE,
        "intervals": "seeds and patients" if judgement.points else "seeds",
        "rows": [
            row_document(row, manifest, adaptive, judgement, options, blocks) for row in rows
        ],
        "incomplete": incomplete,
        "published": [published_document(b, blocks) for b in blocks]
        if options.published == "all"
        else [],
        "to": None if to is None else str(to),
    }
    problems = tuple(f"not read: {problem}" for problem in problems)
    known = manifest["data"].get("warnings", ())
    document["notes"] = [
        *notes_of(document), *not_comparable(known, options.split),
        *judgement.problems[:3], *problems,
    ]  # fmt: skip
    text = _format(document, options)
    if to is not None:
        to.write_text(text, encoding="utf-8")
    return document | {"_text": text}


def _remeasured(
    records: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    return {**records, **replace_metrics(records, figures)}


def _judge(
    folder: Path,
    manifest: Mapping[str, Any],
    points: Sequence[Aggregate],
    compared: Mapping[str, Mapping[str, Any]],
    options: TableOptions,
    mode: Mode,
) -> Judgement:
    """Intervals over seeds and patients, and floors, of the split that is shown."""
    if options.intervals == "seeds":
        return Judgement()
    if mode != "corrected":
        return Judgement(problems=("mode paper: intervals over seeds alone, and no floors",))
    try:
        evidence = open_evidence(
            folder, manifest, open_store(folder, manifest), compared, options.split
        )
    except UserError as error:
        return Judgement(problems=(f"intervals over seeds alone, and no floors: {error}",))
    return judge(points, compared, evidence, (), ())


def open_split(
    folder: Path,
    keys: Sequence[str],
    compared: Mapping[str, Mapping[str, Any]],
    manifest: Mapping[str, Any],
    mode: Mode,
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...], int]:
    """Records with test figures; everything that can be wrong is found before the ledger is
    written.
    """
    from trainables.data.load import load_dataset

    if is_running(folder):
        raise UserError(
            f"a sweep is being run in {folder}: the test split is opened when it has ended "
            "(wait, or leave --split at validation)"
        )
    dataset = load_dataset(read_sweep(folder).data)
    for what in ("fingerprint", "group_digest"):
        if getattr(dataset, what) != manifest["data"][what]:
            raise UserError(
                f"--split test: the data set is not the one {folder} was run on (its {what})"
            )
    return open_records(folder, keys, compared, open_store(folder, manifest), dataset, mode)


def row_document(
    row: Row,
    manifest: Mapping[str, Any],
    adaptive: set[str],
    judgement: Judgement,
    options: TableOptions,
    blocks: Sequence[Block] = (),
) -> dict[str, Any]:
    """One row of ``schemas/tables.json``: figures of groups, gaps and FATEs with their intervals.

    Args:
        row: of ``make_rows``.
        manifest: of the sweep.
        adaptive: nodes that finished after a test split had been opened.
        judgement: intervals over seeds and patients; those over seeds alone stand without.
        options: of which ``reference`` is read.
        blocks: published rows that may stand beside.
    """
    trial = row.point.trial
    judged = judgement.points.get(row.point.configuration)
    # one reference for all is what a judgement knows; FATE against each chain's own root keeps the
    # interval over seeds
    of_fate = judged if options.reference == "vanilla" else None
    matched = matching(
        trial,
        dataset=manifest["data"]["name"],
        attribute=manifest["data"]["attribute"],
        backbone=manifest["backbone"]["name"],
        blocks=blocks,
    )
    groups: Sequence[str] = manifest["data"]["groups"]
    return {
        "configuration": row.label,
        "configuration_key": row.point.configuration,
        "role": trial["role"],
        "baseline": trial["baseline"]["name"],
        "criterion": trial["criterion"],
        "site": trial["site"],
        "pr": _weights_ratio(trial["baseline"]),
        "pr_c": trial["ratio"],
        "n": trial["n"],
        "seeds": list(row.point.seeds),
        "keys": list(row.point.keys),
        "adaptive": any(key in adaptive for key in row.point.keys),
        "fate_baseline": row.fate_baseline,
        "better_served_group": row.better_served_group,
        "lines": {
            line: {
                name: _figure(figure, None, name) | _score_ends(judged, groups, line, name)
                for name, figure in scores.items()
            }
            for line, scores in row.lines.items()
        },
        "gaps": {
            gap: _figure(figure, judged, gap) | _beside(judged, gap)
            for gap, figure in row.gaps.items()
        },
        "fates": {gap: _fate(figure, of_fate, gap) for gap, figure in row.fates.items()},
        "tag": row.tag,
        "seed_tags": list(row.point.tags),
        "group_changes": {
            group: {name: _estimate(change) for name, change in scores.items()}
            for group, scores in row.group_changes.items()
        },
        "published": [published_document(b, blocks, differences(trial)) for b in matched],
    }


def _weights_ratio(baseline: Mapping[str, Any]) -> float | None:
    """The share of single weights that a baseline such as OBD removes; None where it removes
    none.
    """
    from trainables.registry import baselines

    if "ratio" in baseline:
        return float(baseline["ratio"])
    fields = baselines.get(baseline["name"]).Config.model_fields
    return float(fields["ratio"].default) if "ratio" in fields else None


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    low, high = estimate.interval or (None, None)
    return {"value": estimate.value, "low": low, "high": high}


def _figure(figure: Figure, judged: Judged | None, name: str) -> dict[str, Any]:
    shown = _estimate(figure.estimate) | {"rank": figure.rank, "tied": figure.tied}
    if judged is not None:
        shown |= _ends(judged.intervals[name])
    return shown


def _score_ends(
    judged: Judged | None, groups: Sequence[str], line: str, name: str
) -> dict[str, float | None]:
    """Of precision, recall or F1 on the line of a group, ``Avg`` or ``Diff``."""
    if judged is None:
        return {}
    if line == AVG:
        return _ends(judged.intervals["f1"] if name == "f1" else judged.scores[name])
    of = f"{name}_diff" if line == DIFF else f"{name}_of_{groups.index(line)}"
    return _ends(judged.scores[of]) if of in judged.scores else {"low": None, "high": None}


def _ends(interval: Interval) -> dict[str, float | None]:
    return {"low": interval.low, "high": interval.high}


def _beside(judged: Judged | None, gap: str) -> dict[str, float | None]:
    """What a classifier with equal per-class rates would show, and what this split can show."""
    if judged is None:
        return dict.fromkeys(BESIDE_GAP)
    beside = judged.gaps[gap]
    return {
        "floor": beside.floor.floor,
        "p_value": beside.floor.p_value,
        "excess": beside.floor.excess,
        "debiased": beside.debiased.value if beside.debiased else None,
        "detectable": beside.detectable,
    }


def _fate(figure: Fate, judged: Judged | None, gap: str) -> dict[str, Any]:
    shown = _figure(figure, None, gap) | {
        "determined": figure.determined,
        "reason": figure.reason,
        "change": _estimate(figure.change),
    }
    if judged is None:
        return shown
    interval, change = judged.intervals[f"fate_{gap}"], judged.changes[gap]
    is_reference = interval.reason is not None and interval.reason.startswith("the reference")
    determined = interval.reason is None or is_reference
    return (
        shown
        | _ends(interval)
        | {
            "determined": determined,
            "reason": None if is_reference else interval.reason,
            "change": shown["change"] | _ends(change),
        }
    )


def _format(document: Mapping[str, Any], options: TableOptions) -> str:
    if options.format == "csv":
        return as_csv(document)
    grid = grid_of(document)
    return as_markdown(grid) if options.format == "md" else as_latex(grid)


def render_tables(document: dict[str, Any]) -> Text:
    """The formatted table, or where it was written."""
    if document["to"] is not None:
        return Text("\n".join([document["to"], *document["notes"]]))
    return Text(document["_text"].rstrip("\n"))
