"""``fatefront run``: everything around a sweep: its folder, data, progress, tracking, and the
front at the end.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.text import Text

from orchestrator.command import run_command
from orchestrator.console import OK, OURS, USERS
from orchestrator.datasets.verbs import load_with_bar
from orchestrator.fronts.files import render, rows, write_front
from orchestrator.fronts.front import sweep_front
from orchestrator.fronts.judged import judge_front
from orchestrator.ledger.records import load_records
from orchestrator.plan import duration
from orchestrator.running.places import check_places
from orchestrator.running.resources import (
    CHECKPOINT_EVERY,
    STALLED_AFTER,
    Resources,
    check_gpus_per_trial,
)
from orchestrator.running.sweep import run_sweep
from orchestrator.search.schedule import Budget
from orchestrator.spaces import load_space
from orchestrator.tracking.follower import Follower
from orchestrator.watching.log import Format, make_log
from orchestrator.watching.notify import (
    Notifier,
    end_document,
    failure_document,
    make_notifier,
    take_from_environment,
)
from orchestrator.watching.run_display import RunDisplay
from search_spaces.sweep_spec import MOST_TRIALS, Search, SweepSpec
from trainables.errors import UserError, first_line, room_missing, shortened
from trainables.node_cache import set_limit_gb
from trainables.storage import StorageError, reason
from trainables.store import StoreError


@dataclass(frozen=True)
class RunOptions:
    """The verb's options as given."""

    space: str
    out: Path | None = None
    overrides: tuple[str, ...] = ()
    trials: int | None = None
    configurations: int | None = None
    hours: float | None = None
    workers: int | None = None
    gpus_per_trial: float | Literal["auto"] | None = None
    store: str | None = None
    tracking_uri: str | None = None
    seed: int | None = None
    address: str | None = None
    cache_gb: float | None = None
    retry_failed: bool = False
    max_disk: float | None = None
    stalled_after: float | None = None
    checkpoint_every: float | None = None
    quiet: bool = False
    log_format: Format = "text"
    notify: str | None = None


def run_space(options: RunOptions) -> dict[str, Any]:
    """Run, write the front, wait for tracking; returns the verb's document.

    Raises:
        UserError: something in the options, the space or the data is wrong.
    """
    overrides = list(options.overrides)
    if options.seed is not None:
        overrides.append(f"search.seed={options.seed}")
    gpus = options.gpus_per_trial
    if not isinstance(gpus, str) and gpus is not None and gpus > 1:
        check_gpus_per_trial(gpus, int(gpus))
        overrides.append(f"compute.world_size={int(gpus)}")
    spec = load_space(options.space, overrides)
    folder = options.out or Path("runs") / spec.name
    search = spec.search
    budget = _budget(options, search)
    tracking_uri = options.tracking_uri or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    store_uri = options.store or str((folder / "store").absolute())
    resources = Resources(
        options.workers, None if isinstance(gpus, str) else gpus, options.address,
        options.cache_gb, packs=gpus == "auto", stalled_after=_stalled_after(options),
        checkpoint_every=_checkpoint_every(options),
    )  # fmt: skip
    if options.cache_gb is not None:
        set_limit_gb(options.cache_gb)
    check_places(folder, store_uri, tracking_uri, options.address)
    notifier = make_notifier(options.notify)
    take_from_environment()
    show = RunDisplay(
        folder, make_log(options.log_format, options.quiet), quiet=options.quiet,
        is_here=options.address is None,
    )  # fmt: skip
    try:
        document = _run(options, spec, folder, budget, resources, store_uri, tracking_uri, show)
    except Exception as error:
        if notifier is not None:
            _notify_failure(notifier, spec.name, folder, error, show)
        raise
    if notifier is not None:
        show.note(notifier.notify(end_document(document)))
    return document


def _notify_failure(
    notifier: Notifier, sweep: str, folder: Path, error: Exception, show: RunDisplay
) -> None:
    ours = not isinstance(error, UserError)
    line = f"{type(error).__name__}: {error}" if ours else str(error)
    document = failure_document(sweep, str(folder), line, OURS if ours else USERS)
    show.note(notifier.notify(document))


def _run(
    options: RunOptions,
    spec: SweepSpec,
    folder: Path,
    budget: Budget,
    resources: Resources,
    store_uri: str,
    tracking_uri: str,
    show: RunDisplay,
) -> dict[str, Any]:
    """All from reading the images on."""
    if options.address is not None:
        from orchestrator.cluster.attach import attach

        attach(options.address, show.say)
    elif os.environ.get("RAY_ADDRESS"):
        show.say(
            "note: RAY_ADDRESS names a Ray cluster, but this run is on this machine alone; "
            "--address auto uses the cluster"
        )
    resources.resolved(spec.compute)
    dataset = load_with_bar(spec.data, options.quiet or options.log_format == "json")
    for warning in dataset.warnings:
        show.say(f"warning: {warning}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if room_missing(error) is not None:
            raise
        raise UserError(f"--out {folder}: {error.strerror}") from None
    follower = Follower(folder, tracking_uri)
    try:
        with show.shown():
            outcome = run_sweep(
                spec, folder, dataset, store_uri, resources, budget,
                retry_failed=options.retry_failed, progress=show.progress(follower.start),
                tracking_uri=tracking_uri, command=run_command(options),
                max_disk_bytes=None if options.max_disk is None else int(options.max_disk * 1e9),
            )  # fmt: skip
    except StorageError as error:
        follower.stop()
        raise UserError(f"--store {reason(error)}; all that was finished is kept") from None
    except StoreError as error:
        follower.stop()
        raise UserError(
            f"--store {error}; all that was finished is kept, and a node whose folder is removed "
            "there is computed again"
        ) from None
    except ConnectionError as error:
        follower.stop()
        if options.address is None:
            raise
        line = first_line(str(error), "no connection")
        raise UserError(f"--address {options.address}: {line}") from None
    except BaseException:
        follower.stop()
        raise
    for note in outcome.notes:
        show.say(f"note: {note}")
    records = load_records(folder)
    front = sweep_front(records, spec)
    judgement = judge_front(folder, front, records)
    write_front(folder, front, judgement)
    if follower.started:
        show.say("bringing MLflow up to date ...")
    tracked = follower.finish()
    states = Counter(record["status"] for record in records.values())
    return {
        "sweep": spec.name,
        "folder": str(folder),
        "num_done": states["done"],
        "num_failed": states["failed"],
        "num_blocked": len(outcome.blocked),
        "num_stopped": outcome.num_stopped,
        "num_computed_now": outcome.num_computed_now,
        "num_cached": sum(bool(r.get("execution", {}).get("cached")) for r in records.values()),
        "stopped": outcome.stopped,
        "seconds": round(outcome.seconds, 1),
        "front": rows(front, judgement),
        "hypervolume": front.hypervolume,
        "files": {
            name: str(folder / name)
            for name in ("front.csv", "front.json", "records.jsonl", "sweep.yaml")
        },
        "tracking_uri": None if tracking_uri == "none" else tracking_uri,
        "tracking": tracked,
        "errors": [
            f"{r['trial']['label']} (seed {r['trial']['seed']}): "
            f"{r['error']['type']}: {r['error']['reason']}"
            for r in records.values()
            if r["status"] == "failed"
        ],
        "versions": outcome.versions,
        "exit_code": _exit_code(outcome.stopped, records),
    } | {"_front": front, "_judgement": judgement}


def _exit_code(stopped: str | None, records: dict[str, Any]) -> int:
    """1 after too many failures, and where every treated trial failed; a script must notice."""
    treated = [r["status"] for r in records.values() if r["trial"]["role"] == "treatment"]
    lost = "failed" in treated and "done" not in treated
    return OURS if stopped == "too many failures" or lost else OK


def _budget(options: RunOptions, search: Search) -> Budget:
    """The limits given on the command line, else those of the space.

    Raises:
        UserError: a limit that is not a positive number.
    """
    for name in ("trials", "configurations"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= MOST_TRIALS:
            raise UserError(
                f"--{name} must be at least 1 and at most {MOST_TRIALS} but got {shortened(value)}"
            )
    hours = options.hours
    if options.max_disk is not None and not 0 < options.max_disk < math.inf:
        raise UserError(f"--max-disk must be above 0 GB and finite but got {options.max_disk:g}")
    if hours is not None and not 0 < hours < math.inf:
        raise UserError(f"--hours must be above 0 and finite but got {hours:g}")
    return Budget(
        trials=options.trials or search.trials,
        configurations=options.configurations or search.configurations,
        hours=options.hours or search.hours,
    )


def _stalled_after(options: RunOptions) -> float:
    minutes = STALLED_AFTER if options.stalled_after is None else options.stalled_after
    if not 0 <= minutes < math.inf:
        raise UserError(f"--stalled-after must be at least 0 and finite but got {minutes:g}")
    return minutes


def _checkpoint_every(options: RunOptions) -> float:
    given = options.checkpoint_every
    seconds = CHECKPOINT_EVERY if given is None else given
    if not 0 <= seconds < math.inf:
        raise UserError(f"--checkpoint-every must be at least 0 and finite but got {seconds:g}")
    return seconds


def render_run(document: dict[str, Any]) -> Group:
    """For people: the front, where things are, what to do next."""
    folder = document["folder"]
    lines = [
        f"{document['num_done']} trials done ({document['num_computed_now']} computed now in "
        f"{duration(document['seconds'])}, {document['num_cached']} cached), "
        f"{document['num_failed']} failed"
        + (
            f", {document['num_blocked']} cannot run because a trial before them failed"
            if document["num_blocked"]
            else ""
        )
        + (
            f", {document['num_stopped']} not run because their chains were stopped"
            if document["num_stopped"]
            else ""
        ),
        *(f"  failed: {line}" for line in document["errors"]),
    ]
    if document["versions"]:
        lines.append(f"note:    {document['versions']}")
    if document["stopped"]:
        lines.append(f"stopped early: {document['stopped']}")
    lines += [f"files:   {folder}/front.csv, front.json, records.jsonl, sweep.yaml"]
    uri = document["tracking_uri"]
    if uri:
        state = "" if document["tracking"] == "done" else f"   ({document['tracking']})"
        lines.append(f"compare: fatefront ui {folder}{state}")
    if document["_front"].members:  # without any both verbs refuse
        lines.append(f"report:  fatefront report {folder}")
        lines.append(f"export:  fatefront export {folder} --to front")
    shown = Text("\n".join(lines), no_wrap=True, overflow="ignore")
    return Group(render(document["_front"], document["_judgement"]), shown)
