"""``fatefront run``: everything around a sweep: its folder, data, progress, tracking, and the
front at the end.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from rich.console import Group
from rich.text import Text

from orchestrator.command import run_command
from orchestrator.console import OK, OURS, stderr
from orchestrator.datasets.verbs import load_with_bar
from orchestrator.fronts.files import render, rows, write_front
from orchestrator.fronts.front import sweep_front
from orchestrator.fronts.judged import judge_front
from orchestrator.ledger.records import load_records
from orchestrator.ledger.storage_probe import probe
from orchestrator.plan import duration
from orchestrator.running.resources import STALLED_AFTER, Resources
from orchestrator.running.sweep import Progress, run_sweep
from orchestrator.search.disk import nearest_existing
from orchestrator.search.schedule import Budget, Schedule
from orchestrator.spaces import load_space
from search_spaces.sweep_spec import MOST_TRIALS, Search, SweepSpec
from trainables.errors import UserError, first_line, shortened
from trainables.node_cache import set_limit_gb
from trainables.storage import Storage, StorageError, reason
from trainables.trial_spec import configuration_label

TRACKING_GRACE = 120.0
"""Seconds to wait for the tracking process when the sweep is done; it can be run again at any
time.
"""


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
    quiet: bool = False


def run_space(options: RunOptions) -> dict[str, Any]:
    """Run, write the front, wait for tracking; returns the verb's document.

    Raises:
        UserError: something in the options, the space or the data is wrong.
    """
    overrides = list(options.overrides)
    if options.seed is not None:
        overrides.append(f"search.seed={options.seed}")
    spec = load_space(options.space, overrides)
    folder = options.out or Path("runs") / spec.name
    search = spec.search
    budget = _budget(options, search)
    tracking_uri = options.tracking_uri or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    store_uri = options.store or str((folder / "store").absolute())
    gpus = options.gpus_per_trial
    resources = Resources(
        options.workers, None if isinstance(gpus, str) else gpus, options.address,
        options.cache_gb, packs=gpus == "auto", stalled_after=_stalled_after(options),
    )  # fmt: skip
    if options.cache_gb is not None:
        set_limit_gb(options.cache_gb)
    _check_places(folder, store_uri, tracking_uri, options.address)
    show = _Lines(spec, options.quiet, folder)
    if options.address is not None:
        from orchestrator.cluster.attach import attach

        attach(options.address, show.say)
    elif os.environ.get("RAY_ADDRESS"):
        show.say(
            "note: RAY_ADDRESS names a Ray cluster, but this run is on this machine alone; "
            "--address auto uses the cluster"
        )
    resources.resolved(spec.compute.threads)
    dataset = load_with_bar(spec.data, options.quiet)
    for warning in dataset.warnings:
        show.say(f"warning: {warning}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: {error.strerror}") from None
    follower = _Follower(folder, tracking_uri)
    show.follower = follower
    try:
        outcome = run_sweep(
            spec, folder, dataset, store_uri, resources, budget,
            retry_failed=options.retry_failed, progress=show.progress(), tracking_uri=tracking_uri,
            max_disk_bytes=None if options.max_disk is None else int(options.max_disk * 1e9),
            command=run_command(options),
        )  # fmt: skip
    except StorageError as error:
        follower.stop()
        raise UserError(f"--store {reason(error)}; all that was finished is kept") from None
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


def _check_places(folder: Path, store: str, tracking_uri: str, address: str | None) -> None:
    """Find out where nothing can be written before any image is read.

    Raises:
        UserError: a folder that cannot be made or written, or a URI that nothing here understands.
    """
    _check_writable(folder, "--out")
    try:
        storage = Storage(store, patience=0.0)
    except UserError as error:
        raise UserError(f"--store {error}") from None
    if storage.is_local:
        _check_writable(Path(storage.root), "--store")
    else:
        problem = probe(storage)
        if problem is not None:
            raise UserError(f"--store {store}: {problem}")
    scheme, separator, _ = tracking_uri.partition("://")
    if tracking_uri != "none" and (not separator or scheme == "file"):
        raise UserError(
            "--tracking-uri must be none, a database (sqlite:////PATH/mlflow.db) or a server "
            f"(http://HOST:PORT) but got {tracking_uri!r}"
        )
    if urlsplit(tracking_uri).password:
        raise UserError(
            "--tracking-uri holds a password, which would stand in the sweep's folder: use "
            "PGPASSWORD or ~/.pgpass, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if address is not None and address.startswith("ray://"):
        raise UserError(
            f"--address {address}: Ray Client is not supported, start this on the head with "
            "--address auto"
        )


def _check_writable(folder: Path, option: str) -> None:
    """Look at the folder, or at the first of its parents that is there.

    Raises:
        UserError: it cannot be made, or written.
    """
    try:
        found = nearest_existing(folder)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option} {shortened(str(folder))}: {reason}") from None
    if not found.is_dir():
        raise UserError(f"{option} {folder}: {found} is not a folder")
    if not os.access(found, os.W_OK | os.X_OK, effective_ids=True):
        raise UserError(f"{option} {folder}: {found} cannot be written")


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
    if document["stopped"]:
        lines.append(f"stopped early: {document['stopped']}")
    lines += [f"files:   {folder}/front.csv, front.json, records.jsonl, sweep.yaml"]
    uri = document["tracking_uri"]
    if uri:
        state = "" if document["tracking"] == "done" else f"   ({document['tracking']})"
        lines.append(f"compare: fatefront ui {folder}{state}")
    lines.append(f"export:  fatefront export {folder} --to front")
    shown = Text("\n".join(lines), no_wrap=True, overflow="ignore")
    return Group(render(document["_front"], document["_judgement"]), shown)


class _Follower:
    """The tracking process: tails the events, writes MLflow; the sweep does not wait for it."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def started(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        if self.uri == "none" or self.process is not None:
            return
        log = (self.folder / "tracking.log").open("ab")
        command = [
            sys.executable,
            "-m",
            "orchestrator.tracking",
            str(self.folder),
            "--uri",
            self.uri,
            "--follow",
        ]
        # a session of its own: Ctrl-C is for the driver, which then tells the follower to finish
        with log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def finish(self) -> str:
        """Wait until MLflow has everything; says ``done``, ``off`` or what went wrong."""
        if self.process is None:
            return "off"
        try:
            code = self.process.wait(TRACKING_GRACE)
        except subprocess.TimeoutExpired:
            return f"still writing, see {self.folder}/tracking.log"
        return (
            "done"
            if code == 0
            else f"incomplete, see {self.folder}/tracking.log; run again to complete it"
        )

    def stop(self) -> None:
        """The driver is going: let the follower write what is there and leave."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()


@dataclass
class _Lines:
    """One line a finished trial on stderr, with what is still to do."""

    spec: SweepSpec
    quiet: bool
    folder: Path
    follower: _Follower | None = None
    begun: float = field(default_factory=time.monotonic)
    grid: set[str] = field(default_factory=set)
    noted: set[str] = field(default_factory=set)

    def say(self, line: str) -> None:
        if not self.quiet:
            stderr.print(line, markup=False, soft_wrap=True)

    def progress(self) -> Progress:
        return Progress(started=self._started, settled=self._settled, say=self.say)

    def _started(self, schedule: Schedule) -> None:
        if self.follower is not None:
            self.follower.start()
        known = len(schedule.settled)
        if known:
            self.say(f"{self.folder}: {known} trials known already")
        if self.spec.search.sampler == "grid":
            from orchestrator.search.tree import full_tree

            whole = full_tree(self.spec, schedule.tree.data, schedule.tree.device)
            self.grid = set(whole.nodes)
            self.say(f"{self.spec.name}: {len(self.grid)} trials in the whole grid")

    def _settled(self, schedule: Schedule, key: str, status: str) -> None:
        node = schedule.tree.nodes[key]
        record = schedule.records.get(key, {})
        label = f"{configuration_label(node.trial)} (seed {node.trial.seed})"
        if status == "done":
            figures = record["result"]["metrics"]["validation"]
            numbers = "  ".join(
                f"{name} {figures[name]:.3f}" if figures[name] is not None else f"{name} undefined"
                for name in ("f1", "eodd_hardt")
            )
            seconds = sum(record["execution"].get("seconds", {}).values())
            text = f"{numbers}  {seconds:.1f} s"
        elif status == "failed":
            text = f"FAILED {record['error']['type']}: {record['error']['reason']}"
        elif schedule.images.is_lost:
            text = "the object store has lost the images, will be run again"
        elif key in schedule.memory.waiting:
            text = "out of memory, will be run again with fewer at once"
        else:
            text = "worker lost, will be run again"
        to_come = self.grid | set(schedule.tree.nodes)  # with further seeds
        left = len(to_come - set(schedule.settled)) if self.grid else schedule.num_open
        self.say(
            f"[{duration(time.monotonic() - self.begun):>6}] {len(schedule.settled):4d} settled, "
            f"{left:3d} to go  {label}: {text}"
        )
        for note in record.get("execution", {}).get("notes", []):
            if note not in self.noted:
                self.noted.add(note)
                self.say(f"note: {note}")
