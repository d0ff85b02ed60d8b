"""MLflow, written from the ledger: one parent run a sweep, one child run a node, models of the front.

``sync`` brings MLflow up to date and may be killed at any moment: a run is found again by ``tracking.jsonl``, else by its
tags, and is complete only when it carries the tag ``fatefront.synced``, which is set last. As a program
(``python -m orchestrator.tracking DIR --uri URI --follow``) it is the tracking process of a running sweep, so that no
sweep waits for MLflow or fails with it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from orchestrator.front import build_front, write_front
from orchestrator.records import is_running, project, read_events
from orchestrator.tracked_runs import (
    CONTENT, CURVES, ERROR, FRONT, KEY, KIND, MAX_TAG, SWEEP, SWEEP_ID, SYNCED, RunContent, curve_metrics,
    node_content, sweep_params, times_of,
)  # fmt: skip
from trainables.errors import UserError
from trainables.store import Store, StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TrackModels = Literal["front", "all", "none"]

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # a server that is down is found out in seconds; the tracking process tries again by itself
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",  # loses what is queued at a kill
}
POLL, MAX_PAUSE = 2.0, 30.0
LAST_ATTEMPTS = 5
LOCK_WAIT = 60.0
METRICS_PER_BATCH, NAMES_PER_BATCH = 1000, 100
LIFE = ("started", "finished", "interrupted")


class TrackingError(Exception):
    """MLflow could not be written now: one line. Nothing is lost, the next ``sync`` goes on."""


def sync(
    folder: Path, tracking_uri: str, *, final: bool = False, track_models: TrackModels = "front"
) -> dict[str, int]:
    """Write into MLflow what the ledger has and MLflow has not; doing it again changes nothing.

    Args:
        folder: of the sweep.
        tracking_uri: a database (``sqlite:////path/mlflow.db``; made if missing, artifacts in DIR/mlartifacts) or a
            server (``http://...``; artifacts where the server keeps them).
        final: the sweep is over: also its front, and the models of ``track_models``.
        track_models: nodes whose nets are logged: those of the front's members, all, or none.

    Returns:
        Counts: ``created``, ``completed`` and ``unchanged`` runs, ``deleted`` ones (in MLflow, by somebody: left so), and
        with ``final`` ``models`` newly registered and ``not_exported`` (weights logged without a ``pt2`` graph).

    Raises:
        TrackingError: MLflow cannot be reached or refuses.
        UserError: the ledger is damaged.
    """
    folder = Path(folder)
    with _quiet(), _lock(folder), _tracking_errors(tracking_uri):
        return _Sync(folder, tracking_uri).run(final, track_models)


class _Sync:
    """One pass over a sweep folder, under the folder's tracking lock."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.sweep_id = str(self.manifest["sweep_id"])
        self.spec = yaml.safe_load((folder / "sweep.yaml").read_text())
        self.events = list(read_events(folder))
        self.records = project(self.events)
        self.store = Store(self.manifest["store"])
        self.known = _KnownRuns(folder, uri)
        self.count: Counter[str] = Counter()
        _prepare_database(folder, uri)
        from mlflow import MlflowClient

        self.client: MlflowClient = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.experiment = _experiment(self.client, folder, uri, self.manifest["sweep"])

    def run(self, final: bool, track_models: TrackModels) -> dict[str, int]:
        parent = self._parent()
        times = times_of(self.events)
        backbone = str(self.spec["backbone"]["name"])
        for key, record in self.records.items():
            if record["status"] in ("done", "failed"):
                uri = self.store.fs.unstrip_protocol(self.store.folder(key))
                self._node(key, node_content(record, times[key], backbone, uri), parent)
        counts = {
            name: self.count[name] for name in ("created", "completed", "unchanged", "deleted")
        }
        if final:
            counts |= self._finish(parent, track_models)
        self._close_parent(parent)
        return counts

    def _parent(self) -> str:
        """The sweep's run, with the spec as last run."""
        run = self._find(SWEEP)
        if run is None:
            tags = {
                SWEEP_ID: self.sweep_id,
                KIND: SWEEP,
                "fatefront.version": self.manifest["fatefront"],
            }
            start = int(1000 * self.events[0]["time"]) if self.events else None
            name = str(self.manifest["sweep"])
            run = self.client.create_run(
                self.experiment, start_time=start, tags=tags, run_name=name
            )
            self.known.add(SWEEP, run.info.run_id)
        if run.info.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the run of sweep {self.sweep_id} was deleted in {self.uri}: restore it, or track elsewhere"
            )
        self._sweep_file(run)
        return str(run.info.run_id)

    def _sweep_file(self, run: Run) -> None:
        """The spec as last run; MLflow's parameters cannot change, so those that did are named in a tag."""
        path = self.folder / "sweep.yaml"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        if run.data.tags.get(CONTENT) == digest:
            return
        params, had = sweep_params(self.spec), run.data.params
        changed = [name for name, value in params.items() if had.get(name, value) != value]
        self._log(run.info.run_id, params={k: v for k, v in params.items() if k not in had})
        self.client.log_artifact(run.info.run_id, str(path))
        tags = {"fatefront.changed_params": " ".join(changed)[:MAX_TAG]} if changed else {}
        self._log(run.info.run_id, tags=tags | {CONTENT: digest})

    def _node(self, key: str, content: RunContent, parent: str) -> None:
        if self.known.synced.get(key) == content.digest:
            self.count["unchanged"] += 1
            return
        run = self._find(key)
        if run is None:
            from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

            tags = content.tags | {SWEEP_ID: self.sweep_id, MLFLOW_PARENT_RUN_ID: parent}
            run = self.client.create_run(
                self.experiment, start_time=content.start, tags=tags, run_name=content.name
            )
            self.known.add(key, run.info.run_id)
            self.count["created"] += 1
        if run.info.lifecycle_stage == "deleted":
            self.count["deleted"] += 1
            return
        had = run.data.tags
        if had.get(SYNCED) != "1" or had.get(CONTENT) != content.digest:
            self._complete(run, key, content)
            self.count["completed"] += 1
        else:
            self.count["unchanged"] += 1
        self.known.add(key, run.info.run_id, synced=content.digest)

    def _complete(self, run: Run, key: str, content: RunContent) -> None:
        """Write what the run lacks; ``fatefront.synced`` comes last."""
        run_id = run.info.run_id
        metrics = [(name, value, 0) for name, value in content.metrics.items()]
        tags = dict(content.tags)
        if content.status == "FINISHED":
            curves, note = self._curves(key)
            metrics += curves
            if note:
                tags[CURVES] = note
        stored = {
            (point.key, point.step)
            for name in run.data.metrics
            for point in self.client.get_metric_history(run_id, name)
        }
        self._log(
            run_id,
            params={k: v for k, v in content.params.items() if k not in run.data.params},
            metrics=[point for point in metrics if (point[0], point[2]) not in stored],
            tags=tags,
            time=content.end,
        )
        if ERROR in run.data.tags and ERROR not in content.tags:  # failed once, then tried again
            self.client.delete_tag(run_id, ERROR)
        self._counts_file(run_id, key)
        self.client.set_terminated(run_id, content.status, content.end)
        self._log(run_id, tags={CONTENT: content.digest, SYNCED: "1"})

    def _curves(self, key: str) -> tuple[list[tuple[str, float, int]], str | None]:
        try:
            return curve_metrics(json.loads(self.store.read(key, "curves.json"))), None
        except StoreError as error:
            return [], str(error)[:MAX_TAG]

    def _counts_file(self, run_id: str, key: str) -> None:
        node = self.store.node(key)
        if node is None or "counts.json" not in node["files"]:
            return
        with contextlib.suppress(StoreError), tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "counts.json"
            path.write_bytes(self.store.read(key, "counts.json"))
            self.client.log_artifact(run_id, str(path))

    def _finish(self, parent: str, track_models: TrackModels) -> dict[str, int]:
        """Front files and figures on the parent run, marks on the members' runs, models."""
        from search_spaces.sweep_spec import Search

        search = Search.model_validate(self.spec.get("search") or {})
        front = build_front(self.records, search.resolved_objectives)
        with tempfile.TemporaryDirectory() as scratch:
            write_front(Path(scratch), front)
            self.client.log_artifacts(parent, scratch)
        figures = {"hypervolume": front.hypervolume, "num_members": float(len(front.members))}
        states = Counter(record["status"] for record in self.records.values())
        figures |= {f"num_{state}": float(states[state]) for state in ("done", "failed")}
        had = self.client.get_run(parent).data.metrics
        step = sum(states[state] for state in ("done", "failed"))
        self._log(
            parent,
            metrics=[(k, v, step) for k, v in figures.items() if had.get(k) != v],
            time=int(1000 * self.events[-1]["time"]) if self.events else 0,
        )
        runs = {key: self.known.runs[key] for key in self.records if key in self.known.runs}
        self._mark_front(runs, set(front.keys))
        if track_models == "none":
            return {"models": 0, "not_exported": 0}
        from orchestrator.tracked_models import ModelTracking

        wanted = front.keys if track_models == "front" else tuple(
            key for key, record in self.records.items() if record["status"] == "done"
        )  # fmt: skip
        models = ModelTracking(
            self.client,
            self.uri,
            self.experiment,
            self.store,
            self.manifest,
            self.spec,
            self.records,
        )
        return models.run({key: runs[key] for key in wanted if key in runs}, set(front.keys))

    def _mark_front(self, runs: Mapping[str, str], on_front: set[str]) -> None:
        marked = {
            run.data.tags[KEY]
            for run in self._search(
                f"tags.`{SWEEP_ID}` = '{self.sweep_id}' and tags.`{FRONT}` = 'true'"
            )
        }
        for key in on_front ^ marked:
            if key in runs:
                self.client.set_tag(runs[key], FRONT, str(key in on_front).lower())

    def _close_parent(self, parent: str) -> None:
        """The parent's state follows the sweep's."""
        life = [event for event in self.events if event["event"] in LIFE]
        last = life[-1] if life else {"event": "started"}
        if last["event"] == "finished":
            status = "FAILED" if last.get("stopped") == "too many failures" else "FINISHED"
        elif last["event"] == "started" and is_running(self.folder):
            status = "RUNNING"
        else:
            status = "KILLED"
        if self.client.get_run(parent).info.status == status:
            return
        if status == "RUNNING":
            self.client.update_run(parent, status=status)
        else:
            end = int(1000 * self.events[-1]["time"]) if self.events else None
            self.client.set_terminated(parent, status, end)

    def _find(self, key: str) -> Run | None:
        """The run of a node (or of the sweep): by ``tracking.jsonl``, else by its tags."""
        from mlflow.exceptions import MlflowException

        if key in self.known.runs:
            try:
                return self.client.get_run(self.known.runs[key])
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        kind = f"tags.`{KIND}` = '{SWEEP}'" if key == SWEEP else f"tags.`{KEY}` = '{key}'"
        found = self._search(f"tags.`{SWEEP_ID}` = '{self.sweep_id}' and {kind}")
        if not found:
            return None
        self.known.add(key, found[0].info.run_id)
        return found[0]

    def _search(self, query: str) -> list[Run]:
        from mlflow.entities import ViewType

        found: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment], query, run_view_type=ViewType.ALL, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _log(
        self,
        run_id: str,
        *,
        params: Mapping[str, str] | None = None,
        metrics: list[tuple[str, float, int]] | None = None,
        tags: Mapping[str, str] | None = None,
        time: int | None = None,
    ) -> None:
        """``log_batch`` within MLflow's limits; timestamps (ms) are the same at every attempt."""
        from mlflow.entities import Metric, Param, RunTag

        for part in _parts(list((params or {}).items()), NAMES_PER_BATCH):
            self.client.log_batch(run_id, params=[Param(*item) for item in part], synchronous=True)
        for points in _parts(metrics or [], METRICS_PER_BATCH):
            batch = [Metric(name, value, time or 0, step) for name, value, step in points]
            self.client.log_batch(run_id, metrics=batch, synchronous=True)
        for part in _parts(list((tags or {}).items()), NAMES_PER_BATCH):
            self.client.log_batch(run_id, tags=[RunTag(*item) for item in part], synchronous=True)


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class _KnownRuns:
    """``tracking.jsonl``: key -> run, and what of it is known to be complete; a hint, MLflow has the last word."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.path, self.uri = folder / "tracking.jsonl", uri
        self.runs: dict[str, str] = {}
        self.synced: dict[str, str] = {}
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        self._cut = bool(lines) and not lines[-1].endswith(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut off by a kill
                entry = json.loads(line)
                if entry["uri"] == uri:
                    self._take(entry)

    def _take(self, entry: Mapping[str, str]) -> None:
        self.runs[entry["key"]] = entry["run_id"]
        if "synced" in entry:
            self.synced[entry["key"]] = entry["synced"]

    def add(self, key: str, run_id: str, synced: str | None = None) -> None:
        entry = {"key": key, "run_id": run_id, "uri": self.uri}
        if synced is not None:
            entry["synced"] = synced
        with self.path.open("ab") as file:
            file.write((b"\n" if self._cut else b"") + json.dumps(entry).encode() + b"\n")
        self._cut = False
        self._take(entry)


def _experiment(client: MlflowClient, folder: Path, uri: str, name: str) -> str:
    """Id of the sweep's experiment, made if missing; a database gets an artifact location beside it."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        server = uri.split("://")[0] in ("http", "https")
        location = None if server else (folder / "mlartifacts").absolute().as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"experiment {name!r} was deleted in {uri}: restore it, or track elsewhere"
        )
    return str(experiment.experiment_id)


def _prepare_database(folder: Path, uri: str) -> None:
    """Make a missing SQLite database beside its place and move it there whole.

    Half of MLflow's tables, left by a kill, would be a database that can never be used again.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    for leftover in draft.parent.glob(f"{draft.name}*"):
        leftover.unlink()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    made = SqlAlchemyStore(f"sqlite:///{draft}", (folder / "mlartifacts").absolute().as_uri())
    made.engine.dispose()
    draft.replace(path)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One writer at a time: two could make two runs of one node."""
    deadline = time.monotonic() + LOCK_WAIT
    with (folder / ".tracking.lock").open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TrackingError(
                        f"another process is writing MLflow for {folder}"
                    ) from None
                time.sleep(0.2)
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Settings before the import of MLflow; what it prints or warns of itself stays off the screen."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("alembic.runtime.migration", "mlflow.store.db.utils"):
        logger = logging.getLogger(name)
        if _important not in logger.filters:
            logger.addFilter(_important)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _important(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


@contextlib.contextmanager
def _tracking_errors(uri: str) -> Iterator[None]:
    """Whatever MLflow, its database, its server or its disk raises becomes one line."""
    try:
        yield
    except (TrackingError, UserError):
        raise
    except Exception as error:
        if not is_tracking_failure(error):
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrackingError(f"MLflow at {uri}: {line[:300]}") from error


def is_tracking_failure(error: Exception) -> bool:
    """Whether an exception comes from MLflow, its database, its server or its disk."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(
        error, MlflowException | SQLAlchemyError | RequestException | CommandError | OSError
    )


def follow(
    folder: Path, tracking_uri: str, *, track_models: TrackModels = "front", poll: float = POLL
) -> int:
    """Sync as the ledger grows, until the sweep ends, SIGTERM comes or the parent process is gone; then once more.

    Returns:
        0 if MLflow has everything, 1 if it could not be written to the end.
    """
    parent, ended = os.getppid(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    seen, pause, said = -1, poll, ""
    num_failures = 0
    while True:
        size, life = _ledger_state(folder)
        over = life in ("finished", "interrupted") or ended.is_set() or os.getppid() != parent
        if over or size != seen:
            try:
                if size >= 0:
                    sync(folder, tracking_uri, final=life == "finished", track_models=track_models)
                seen, pause, said, num_failures = size, poll, "", 0
                if over and _ledger_state(folder)[0] == size:
                    return 0
            except TrackingError as error:
                num_failures += 1
                pause = min(MAX_PAUSE, 2 * pause)
                if str(error) != said:
                    said = str(error)
                    print(f"tracking: {said}; trying again", file=sys.stderr, flush=True)
                if over and num_failures >= LAST_ATTEMPTS:
                    return 1
        if over:
            time.sleep(min(pause, poll))
        else:
            ended.wait(pause)


def _ledger_state(folder: Path) -> tuple[int, str | None]:
    """Size of the ledger (-1: no sweep yet) and the last event of the sweep's life."""
    path = folder / "events.jsonl"
    if not path.exists() or not (folder / "manifest.json").exists():
        return -1, None
    size = path.stat().st_size
    life = [event["event"] for event in read_events(folder) if event["event"] in LIFE]
    return size, life[-1] if life else None


def main(arguments: list[str] | None = None) -> int:
    """``python -m orchestrator.tracking DIR [--uri URI] [--follow]``: write a sweep into MLflow."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.tracking", description=main.__doc__
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--uri", help="default: sqlite, DIR/mlflow.db")
    parser.add_argument("--follow", action="store_true", help="go on until the sweep ends")
    parser.add_argument("--models", choices=("front", "all", "none"), default="front")
    given = parser.parse_args(arguments)
    folder = given.folder
    uri = given.uri or default_uri(folder)
    try:
        if given.follow:
            return follow(folder, uri, track_models=given.models)
        size, life = _ledger_state(folder)
        if size < 0:
            raise UserError(f"no sweep in {folder}: it has no events.jsonl")
        counts = sync(folder, uri, final=life == "finished", track_models=given.models)
    except UserError as error:
        print(f"tracking: {error}", file=sys.stderr)
        return 2
    except TrackingError as error:
        print(f"tracking: {error}", file=sys.stderr)
        return 1
    print(json.dumps(counts))
    return 0


def default_uri(folder: Path) -> str:
    """The sweep's own database."""
    return f"sqlite:///{(folder / 'mlflow.db').absolute()}"


if __name__ == "__main__":
    sys.exit(main())
