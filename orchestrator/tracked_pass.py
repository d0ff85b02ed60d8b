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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from orchestrator.evidence import Evidence, open_evidence
from orchestrator.front import build_front
from orchestrator.front_files import write_front
from orchestrator.front_judged import judge_front
from orchestrator.records import is_running, project, read_events
from orchestrator.tracked_client import KnownRuns, TrackingError, experiment, prepare_database
from orchestrator.tracked_runs import (
    CONTENT,
    CURVES,
    ERROR,
    FRONT,
    KEY,
    KIND,
    MAX_TAG,
    SWEEP,
    SWEEP_ID,
    SYNCED,
    RunContent,
    curve_metrics,
    node_content,
    sweep_params,
    times_of,
)
from trainables.errors import UserError
from trainables.measurement import counts_path
from trainables.store import Store, StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TrackModels = Literal["front", "all", "none"]
Metrics = list[tuple[str, float, int]]

METRICS_PER_BATCH, NAMES_PER_BATCH = 1000, 100
LIFE = ("started", "finished", "interrupted")
"""Events that say where a sweep stands."""

_BESIDE: dict[tuple[str, str], dict[str, float]] = {}
"""(sweep, key) -> floors: 20 ms a node, and a pass looks at every node."""


def _evidence(
    folder: Path, manifest: Mapping[str, Any], store: Store, records: Mapping[str, Any]
) -> Evidence | None:
    try:
        return open_evidence(folder, manifest, store, records)
    except UserError:  # a sweep of an older version, or one merged from such
        return None


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
        self.evidence = _evidence(folder, self.manifest, self.store, self.records)
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
                content = node_content(record, times[key], backbone, uri, self._beside(key))
                self._node(key, content, parent)
        counts = {
            name: self.count[name] for name in ("created", "completed", "unchanged", "deleted")
        }
        if final:
            counts |= self._finish(parent, track_models)
        self._close_parent(parent)
        return counts

    def _beside(self, key: str) -> dict[str, float]:
        """Floor and p-value of each gap of a node; empty where its predictions are not at hand."""
        name = (self.sweep_id, key)
        if name not in _BESIDE:
            if self.evidence is None or self.records[key]["status"] != "done":
                return {}
            try:
                floors = self.evidence.floor([key]).gaps
            except StoreError:
                return {}
            _BESIDE[name] = {
                f"{gap}_{what}": value
                for gap, floor in floors.items()
                for what in ("floor", "p_value")
                if (value := getattr(floor, what)) is not None
            }
        return _BESIDE[name]

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
        source = counts_path(self.store, key, self.manifest["data"]["group_digest"])
        if not self.store.storage.exists(source):
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "counts.json"
            path.write_bytes(self.store.storage.read(source))
            self.client.log_artifact(run_id, str(path))

    def _finish(self, parent: str, track_models: TrackModels) -> dict[str, int]:
        """Front files and figures on the parent run, marks on the members' runs, models."""
        from search_spaces.sweep_spec import Search

        search = Search.model_validate(self.spec.get("search") or {})
        front = build_front(
            self.records,
            search.resolved_objectives,
            max_f1_loss=search.max_f1_loss,
            raced_from=self.spec["seeds"] if search.racing else None,
            num_confirming=search.num_confirming,
        )
        with tempfile.TemporaryDirectory() as scratch:
            write_front(Path(scratch), front, judge_front(self.folder, front, self.records))
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
