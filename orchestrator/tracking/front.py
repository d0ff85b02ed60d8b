"""The front in MLflow: files and figures on the sweep's run, marks on its members' runs, and a run
a configuration with how sure its figures are.

A node's run is one seed; intervals, excess, membership and verdicts are of a configuration, all
of its seeds together. Its run is a child of the sweep's, of the kind ``configuration``, with the
columns of ``front.csv`` as metrics and tags.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.fronts.files import row, write_front
from orchestrator.fronts.front import Front, build_front
from orchestrator.fronts.headline import headline
from orchestrator.fronts.judged import judge_front
from orchestrator.judging.judgement import Judgement
from orchestrator.tracking.client import KnownRuns, log_run
from orchestrator.tracking.names import configuration_name
from orchestrator.tracking.once import is_alive, preferred
from orchestrator.tracking.runs import (
    CONFIGURATION,
    CONFIGURATION_KEY,
    CONTENT,
    FRONT,
    KEY,
    KIND,
    MAX_TAG,
    NOT_PRUNED,
    RUN_NAME,
    SWEEP,
    SWEEP_ID,
)
from orchestrator.tracking.sweep_page import NOTE, description, write_pages
from orchestrator.tracking.view import LEVEL, shared_views

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Records = Mapping[str, Mapping[str, Any]]
WORDS = (
    "configuration", "role", "baseline", "criterion", "tag", "membership", "vs_none_verdict",
    "vs_random_verdict", "approximate", "seeds", "contrasted",
)  # fmt: skip
"""Columns that become tags; figures and truths become metrics."""


class FrontTracking:
    """What is written once the sweep is over."""

    def __init__(
        self,
        client: MlflowClient,
        experiment: str,
        manifest: Mapping[str, Any],
        known: KnownRuns,
        search: Callable[[str], list[Run]],
    ) -> None:
        self.client, self.experiment, self.manifest = client, experiment, manifest
        self.sweep_id = str(manifest["sweep_id"])
        self.known, self.search = known, search

    def write(
        self,
        folder: Path,
        spec: Mapping[str, Any],
        records: Records,
        parent: str,
        time: int,
        command: str | None,
    ) -> Front:
        """Everything but the models; returns the front.

        Args:
            folder: of the sweep.
            spec: as last run.
            records: key -> record.
            parent: the run of the sweep.
            time: of the last event, ms since 1970; the same at every attempt.
            command: that the sweep was last started with, if known.
        """
        from search_spaces.sweep_spec import Search

        search = Search.model_validate(spec.get("search") or {})
        front = build_front(
            records,
            search.resolved_objectives,
            max_f1_loss=search.max_f1_loss,
            raced_from=spec["seeds"] if search.racing else None,
            num_confirming=search.num_confirming,
        )
        judgement = judge_front(folder, front, records)
        with tempfile.TemporaryDirectory() as scratch:
            write_front(Path(scratch), front, judgement)
            missing = write_pages(folder, front, judgement, Path(scratch))
            self.client.log_artifacts(parent, scratch)
        for name, content in shared_views(front.objectives).items():
            self.client.set_experiment_tag(self.experiment, name, content)
        states = Counter(record["status"] for record in records.values())
        step = sum(states[state] for state in ("done", "failed"))
        figures = _of_the_front(front, judgement)
        figures |= {f"num_{state}": float(states[state]) for state in ("done", "failed")}
        tags = {
            "fatefront.headline": headline(front)[:MAX_TAG],
            LEVEL: SWEEP,
            NOTE: description(self.manifest, front, judgement, command),
        }
        tags |= {"fatefront.report": missing[:MAX_TAG]} if missing else {}
        self._figures(parent, figures, tags, step, time)
        runs = {key: self.known.runs[key] for key in records if key in self.known.runs}
        self._mark(runs, set(front.keys))
        for index, member in enumerate((*front.members, *front.dominated)):
            line = row(member, front, is_knee=index == front.knee, judgement=judgement)
            line |= {"on_front": index < len(front.members), "contrasted": judgement.contrasted}
            self._configuration(line, parent, step, time)
        return front

    def _figures(
        self,
        run_id: str,
        figures: Mapping[str, float],
        tags: Mapping[str, str],
        step: int,
        time: int,
    ) -> None:
        had = self.client.get_run(run_id).data.metrics
        changed = [(k, v, step) for k, v in figures.items() if had.get(k) != v]
        log_run(self.client, run_id, metrics=changed, tags=tags, time=time)

    def _configuration(
        self, line: Mapping[str, Any], parent: str, step: int, time: int
    ) -> None:
        metrics, tags = configuration_content(line)
        digest = hashlib.sha256(json.dumps([metrics, tags], sort_keys=True).encode()).hexdigest()
        key = f"{CONFIGURATION}:{line['configuration_key']}"
        if self.known.synced.get(key) == digest:
            return
        run_id = self._run_of(key, line, parent, time)
        if run_id is None:
            return
        name = configuration_name(line["configuration"], str(line["seeds"]).split())
        told = tags | {LEVEL: CONFIGURATION, RUN_NAME: name, CONTENT: digest[:16]}
        self._figures(run_id, metrics, told, step, time)
        had = self.client.get_run(run_id).data.tags
        for name in had.keys() & set(WORDS) - tags.keys():  # what is no longer said
            self.client.delete_tag(run_id, name)
        self.client.set_terminated(run_id, "FINISHED", time)
        self.known.add(key, run_id, synced=digest)

    def _run_of(
        self, key: str, line: Mapping[str, Any], parent: str, time: int
    ) -> str | None:
        """Its run, made if there is none; None where somebody deleted it."""
        name = line["configuration_key"]
        found = preferred(
            self.search(
                f"tags.`{SWEEP_ID}` = '{self.sweep_id}' and tags.`{KIND}` = '{CONFIGURATION}' "
                f"and tags.`{CONFIGURATION_KEY}` = '{name}'"
            )
        )
        if found is not None:
            return str(found.info.run_id) if is_alive(found) else None
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        tags = {
            SWEEP_ID: self.sweep_id,
            KIND: CONFIGURATION,
            CONFIGURATION_KEY: name,
            MLFLOW_PARENT_RUN_ID: parent,
        }
        run = self.client.create_run(
            self.experiment, start_time=time, tags=tags, run_name=line["configuration"]
        )
        self.known.add(key, run.info.run_id)
        return str(run.info.run_id)

    def _mark(self, runs: Mapping[str, str], on_front: set[str]) -> None:
        marked = {
            run.data.tags[KEY]
            for run in self.search(
                f"tags.`{SWEEP_ID}` = '{self.sweep_id}' and tags.`{FRONT}` = 'true'"
            )
        }
        for key in on_front ^ marked:
            if key in runs:
                self.client.set_tag(runs[key], FRONT, str(key in on_front).lower())


def _of_the_front(front: Front, judgement: Judgement) -> dict[str, float]:
    figures = {"hypervolume": front.hypervolume, "num_members": float(len(front.members))}
    if judgement.hypervolume is not None:
        figures["hypervolume_low"] = judgement.hypervolume.low
        figures["hypervolume_high"] = judgement.hypervolume.high
    if front.selection_hypervolume is not None:
        figures["selection_hypervolume"] = front.selection_hypervolume
    return figures | {f"expected_optimism.{k}": v for k, v in judgement.optimism.items()}


def configuration_content(line: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and tags of a configuration's run from its row of ``front.csv``: every number and
    truth (0 or 1), and ``WORDS``; what is undefined is left out.
    """
    metrics = {
        name: float(value)
        for name, value in line.items()
        if isinstance(value, bool | int | float) and name not in WORDS
    }
    words: Sequence[str] = [name for name in WORDS if line.get(name)]
    tags = {name: str(line[name])[:MAX_TAG] for name in words}
    tags.setdefault("criterion", NOT_PRUNED)
    return metrics, tags | {"iteration": str(line["iterations"])}
