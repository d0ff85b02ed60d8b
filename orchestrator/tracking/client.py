"""The way to MLflow: a quiet import, one writer at a time, a whole database, one-line failures."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # a server that is down is found out in seconds; the tracking process tries again by itself
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",  # loses what is queued at a kill
}
LOCK_WAIT = 60.0


METRICS_PER_BATCH, NAMES_PER_BATCH = 1000, 100
"""MLflow's limits."""


class TrackingError(Exception):
    """MLflow could not be written now: one line. Nothing is lost, the next ``sync`` goes on."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Settings before the import of MLflow; what it prints or warns of itself stays off the
    screen.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("alembic.runtime.migration", "mlflow.store.db.utils", "mlflow.pyfunc"):
        logger = logging.getLogger(name)
        if _important not in logger.filters:
            logger.addFilter(_important)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _important(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
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
def tracking_errors(uri: str) -> Iterator[None]:
    """Whatever MLflow, its database, its server or its disk raises becomes one line."""
    try:
        yield
    except (TrackingError, UserError):
        raise
    except Exception as error:
        if not is_tracking_failure(error):
            raise
        line = first_line(str(error), type(error).__name__)
        raise TrackingError(f"MLflow at {uri}: {line[:300]}") from error


REGISTRY_URI = "MLFLOW_REGISTRY_URI"


@contextlib.contextmanager
def as_default(uri: str) -> Iterator[None]:
    """``log_model`` writes to MLflow's global address: this one while it runs."""
    import mlflow

    # MLflow mirrors both addresses in the environment; one that nobody set must be unset again,
    # or the registry would no longer follow the tracking address that the caller sets later
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", REGISTRY_URI)}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before["MLFLOW_TRACKING_URI"])  # type: ignore[arg-type]
        mlflow.set_registry_uri(before[REGISTRY_URI])  # type: ignore[arg-type]
        if before[REGISTRY_URI] is None:
            os.environ.pop(REGISTRY_URI, None)


def is_tracking_failure(error: Exception) -> bool:
    """Whether an exception comes from MLflow, its database, its server or its disk."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(
        error, MlflowException | SQLAlchemyError | RequestException | CommandError | OSError
    )


def prepare_database(folder: Path, uri: str) -> None:
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


def experiment(client: MlflowClient, folder: Path, uri: str, name: str) -> str:
    """Id of the sweep's experiment, made if missing; a database gets an artifact location beside
    it.
    """
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


def log_run(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, str] | None = None,
    metrics: Sequence[tuple[str, float, int]] | None = None,
    tags: Mapping[str, str] | None = None,
    time: int | None = None,
) -> None:
    """``log_batch`` within MLflow's limits; timestamps (ms) are the same at every attempt.

    Metrics are (name, value, step).
    """
    from mlflow.entities import Metric, Param, RunTag

    for part in _parts(list((params or {}).items()), NAMES_PER_BATCH):
        client.log_batch(run_id, params=[Param(*item) for item in part], synchronous=True)
    for points in _parts(list(metrics or []), METRICS_PER_BATCH):
        batch = [Metric(name, value, time or 0, step) for name, value, step in points]
        client.log_batch(run_id, metrics=batch, synchronous=True)
    for part in _parts(list((tags or {}).items()), NAMES_PER_BATCH):
        client.log_batch(run_id, tags=[RunTag(*item) for item in part], synchronous=True)


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class KnownRuns:
    """``tracking.jsonl``: key -> run, and what of it is known to be complete; a hint, MLflow has
    the last word.
    """

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
        """Append a line; ``synced`` is the digest of what the run holds completely."""
        entry = {"key": key, "run_id": run_id, "uri": self.uri}
        if synced is not None:
            entry["synced"] = synced
        with self.path.open("ab") as file:
            file.write((b"\n" if self._cut else b"") + json.dumps(entry).encode() + b"\n")
        self._cut = False
        self._take(entry)
