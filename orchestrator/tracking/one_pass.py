"""One pass from the ledger to MLflow: the sweep's run, a run a node, and at the end the front.

Every write can be the last one before a kill: what is half-written is found and completed by the
next pass, and ``fatefront.synced`` is set last.

Metrics are (name, value, step).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from orchestrator.ledger.records import is_running, project, read_events
from orchestrator.tracking.client import (
    KnownRuns,
    TrackingError,
    experiment,
    log_run,
    prepare_database,
)
from orchestrator.tracking.floors import Floors
from orchestrator.tracking.front import FrontTracking
from orchestrator.tracking.once import delete_doubles, preferred
from orchestrator.tracking.runs import (
    CONTENT,
    CURVES,
    ERROR,
    KEY,
    KIND,
    MAX_TAG,
    RUN_NAME,
    SWEEP,
    SWEEP_ID,
    SYNCED,
    RunContent,
    curve_metrics,
    node_content,
    sweep_params,
    times_of,
)
from orchestrator.tracking.view import LEVEL
from trainables.measurement import counts_path
from trainables.store import Store, StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TrackModels = Literal["front", "all", "none"]

LIFE = ("started", "finished", "interrupted")
"""Events that say where a sweep stands."""


class Pass:
    """One pass over a sweep folder, under the folder's tracking lock."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.sweep_id = str(self.manifest["sweep_id"])
        self.spec = yaml.safe_load((folder / "sweep.yaml").read_text())
        self.events = list(read_events(folder))
        self.records = project(self.events)
        self.store = Store(self.manifest["store"])
        self.floors = Floors(folder, self.manifest, self.store, self.records)
        self.known = KnownRuns(folder, uri)
        self.count: Counter[str] = Counter()
        prepare_database(folder, uri)
        from mlflow import MlflowClient

        self.client: MlflowClient = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self.experiment = experiment(self.client, folder, uri, self.manifest["sweep"])

    def run(self, final: bool, track_models: TrackModels) -> dict[str, int]:
        """Write everything that is missing; returns counts."""
        parent = self._parent()
        times = times_of(self.events)
        backbone = str(self.spec["backbone"]["name"])
        for key, record in self.records.items():
            if record["status"] in ("done", "failed"):
                uri = self.store.fs.unstrip_protocol(self.store.folder(key))
                content = node_content(record, times[key], backbone, uri, self.floors.of(key))
                self._node(key, content, parent)
        counts = {
            name: self.count[name] for name in ("created", "completed", "unchanged", "deleted")
        }
        if final:
            counts |= self._finish(parent, track_models)
        if self._life()["event"] != "started":
            mine = self._search(f"tags.`{SWEEP_ID}` = '{self.sweep_id}'")
            delete_doubles(self.client, mine, self.known.runs)
        self._close_parent(parent)
        return counts

    def _parent(self) -> str:
        """The sweep's run, with the spec as last run."""
        run = self._find(SWEEP)
        if run is None:
            tags = {
                SWEEP_ID: self.sweep_id,
                KIND: SWEEP,
                LEVEL: SWEEP,
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
                f"the run of sweep {self.sweep_id} was deleted in {self.uri}: restore it, or "
                "track elsewhere"
            )
        self._sweep_file(run)
        return str(run.info.run_id)

    def _sweep_file(self, run: Run) -> None:
        """The spec as last run; MLflow's parameters cannot change, so those that did are named in
        a tag.
        """
        path = self.folder / "sweep.yaml"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        if run.data.tags.get(CONTENT) == digest:
            return
        params, had = sweep_params(self.spec), run.data.params
        changed = [name for name, value in params.items() if had.get(name, value) != value]
        new = {k: v for k, v in params.items() if k not in had}
        log_run(self.client, run.info.run_id, params=new)
        self.client.log_artifact(run.info.run_id, str(path))
        tags = {"fatefront.changed_params": " ".join(changed)[:MAX_TAG]} if changed else {}
        log_run(self.client, run.info.run_id, tags=tags | {CONTENT: digest})

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
        tags = content.tags | {RUN_NAME: content.name}
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
        log_run(
            self.client,
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
        log_run(self.client, run_id, tags={CONTENT: content.digest, SYNCED: "1"})

    def _curves(self, key: str) -> tuple[list[tuple[str, float, int]], str | None]:
        try:
            return curve_metrics(json.loads(self.store.read(key, "curves.json"))), None
        except StoreError as error:
            return [], str(error)[:MAX_TAG]

    def _counts_file(self, run_id: str, key: str) -> None:
        source = counts_path(self.store, key, self.manifest["data"]["group_digest"])
        if not self.store.storage.exists(source):
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "counts.json"
            path.write_bytes(self.store.storage.read(source))
            self.client.log_artifact(run_id, str(path))

    def _finish(self, parent: str, track_models: TrackModels) -> dict[str, int]:
        """The front (``tracked_front``), and models."""
        tracking = FrontTracking(
            self.client, self.experiment, self.manifest, self.known, self._search
        )
        time = int(1000 * self.events[-1]["time"]) if self.events else 0
        front = tracking.write(self.folder, self.spec, self.records, parent, time, self._command())
        runs = {key: self.known.runs[key] for key in self.records if key in self.known.runs}
        if track_models == "none":
            return {"models": 0, "not_exported": 0}
        from orchestrator.tracking.models import ModelTracking

        wanted = (
            front.keys
            if track_models == "front"
            else tuple(key for key, record in self.records.items() if record["status"] == "done")
        )
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

    def _command(self) -> str | None:
        """How the sweep was last started, as far as the ledger has it."""
        started = [event for event in self.events if event["event"] == "started"]
        return started[-1].get("command") if started else None

    def _close_parent(self, parent: str) -> None:
        """The parent's state follows the sweep's."""
        last = self._life()
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

    def _life(self) -> Mapping[str, Any]:
        """The last event of the sweep's life."""
        life = (event for event in reversed(self.events) if event["event"] in LIFE)
        return next(life, {"event": "started"})

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
        run = preferred(self._search(f"tags.`{SWEEP_ID}` = '{self.sweep_id}' and {kind}"))
        if run is not None:
            self.known.add(key, run.info.run_id)
        return run

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
