"""Each run once, whatever the way to MLflow does to a request.

A server that is silent for longer than the client waits gets ``create_run`` again and then carries
out both: two runs of one node. Of such runs one stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.tracking.runs import (
    CONFIGURATION,
    CONFIGURATION_KEY,
    CONTENT,
    DOUBLE_OF,
    KEY,
    KIND,
    SWEEP,
    SYNCED,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def is_alive(run: Run) -> bool:
    """Whether nobody has deleted it."""
    return bool(run.info.lifecycle_stage != "deleted")


def preferred(runs: Sequence[Run]) -> Run | None:
    """Which of the runs of one node to go on with: one that is there before one that is deleted,
    complete before incomplete, then the older; the same at every call.
    """
    return min(runs, key=_rank, default=None)


def delete_doubles(client: MlflowClient, runs: Sequence[Run], known: Mapping[str, str]) -> int:
    """Delete all but one run of each node, each configuration and the sweep; returns how many.

    Args:
        client: of the MLflow that has them.
        runs: of one sweep.
        known: name of a node, a configuration or the sweep -> the run that was written so far.
    """
    named: dict[str, list[Run]] = {}
    for run in runs:
        if is_alive(run):
            named.setdefault(_name(run), []).append(run)
    num_deleted = 0
    for name, alive in named.items():
        kept = next((r for r in alive if r.info.run_id == known.get(name)), preferred(alive))
        assert kept is not None
        for run in alive:
            if run.info.run_id != kept.info.run_id:
                client.set_tag(run.info.run_id, DOUBLE_OF, kept.info.run_id)
                client.delete_run(run.info.run_id)
                num_deleted += 1
    return num_deleted


def _rank(run: Run) -> tuple[bool, bool, bool, int, str]:
    tags = run.data.tags
    return (
        not is_alive(run),
        SYNCED not in tags,
        CONTENT not in tags,
        run.info.start_time,
        run.info.run_id,
    )


def _name(run: Run) -> str:
    """As ``tracking.jsonl`` calls it."""
    tags = run.data.tags
    if tags.get(KIND) == CONFIGURATION:
        return f"{CONFIGURATION}:{tags[CONFIGURATION_KEY]}"
    return str(tags.get(KEY, SWEEP))
