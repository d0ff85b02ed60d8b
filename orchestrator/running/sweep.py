"""Running a sweep: Ray Tune as the worker pool, our schedule as its searcher, the ledger as the
truth.

Each start makes a fresh Tuner; `Tuner.restore` is never used (it loses or repeats up to ten
seconds of results).
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.datasets.images import split_images
from orchestrator.judging.evidence import Evidence
from orchestrator.ledger.environments import (
    Environments,
    difference_line,
    driver_environment,
    update_manifest,
)
from orchestrator.ledger.manifest import check_same_sweep, write_manifest
from orchestrator.ledger.records import project, write_records
from orchestrator.ledger.storage_probe import probe_nodes
from orchestrator.ledger.stored_ledger import open_ledger
from orchestrator.running.abandoned import remove_abandoned
from orchestrator.running.environment import prepare
from orchestrator.running.gpu_sharing import shared_gpu
from orchestrator.running.leftovers import end_leftovers
from orchestrator.running.packing import measure_packing
from orchestrator.running.ray_session import ray_session
from orchestrator.running.resources import Resources
from orchestrator.search.disk import DiskKeeper
from orchestrator.search.memory_retries import Packing, half
from orchestrator.search.proposer import make_proposer
from orchestrator.search.schedule import FINISHED, Attempt, Budget, Schedule
from search_spaces.sweep_spec import SweepSpec
from trainables.data.base import Dataset
from trainables.errors import UserError
from trainables.measurement import measure_node
from trainables.metrics.fairness import check_mode
from trainables.node import make_baseline
from trainables.resuming import remove_needless
from trainables.storage import write_whole
from trainables.store import Store
from trainables.trial import identity


@dataclass
class Progress:
    """What a front end may show; every hook may be left as it is."""

    started: Callable[[Schedule], None] = lambda schedule: None
    settled: Callable[[Schedule, str, str], None] = lambda schedule, key, status: None
    say: Callable[[str], None] = lambda line: None
    tick: Callable[[Schedule], None] = lambda schedule: None


@dataclass
class Outcome:
    """How one start of a sweep ended."""

    records: dict[str, dict[str, Any]]
    num_computed_now: int = 0
    stopped: str | None = None
    seconds: float = 0.0
    blocked: list[str] = field(default_factory=list)
    num_stopped: int = 0
    notes: list[str] = field(default_factory=list)
    versions: str | None = None


def run_sweep(
    spec: SweepSpec,
    folder: Path,
    dataset: Dataset,
    store_uri: str,
    resources: Resources,
    budget: Budget,
    *,
    retry_failed: bool = False,
    progress: Progress | None = None,
    tracking_uri: str = "",
    max_disk_bytes: int | None = None,
    command: str | None = None,
) -> Outcome:
    """Run or go on with a sweep in ``folder`` until its budget or its space is used up.

    Raises:
        UserError: another sweep lives here, another driver is at work, the budget is missing or
        too small, or a baseline cannot be used with this data set.
        KeyboardInterrupt: Ctrl-C; all that was finished is in the ledger.
    """
    prepare(cluster=resources.address is not None)
    if spec.search.sampler != "grid" and budget == Budget():
        raise UserError(
            f"sampler {spec.search.sampler} needs a budget: --trials, --configurations or --hours "
            "(or search.sampler=grid to run everything)"
        )
    check_mode(spec.search.mode, len(dataset.groups))
    for corner in spec.corner_trials():
        make_baseline(corner, dataset)
    progress = progress or Progress()
    resources = resources.resolved(spec.compute)
    store = Store(store_uri)
    begun = time.monotonic()
    with open_ledger(folder, store, progress.say) as (ledger, stored):
        try:
            check_same_sweep(folder, spec, dataset)
            end_leftovers(folder)
            write_whole(folder / "sweep.yaml", spec.to_yaml().encode())
            manifest = write_manifest(folder, spec, dataset, store, resources.device, tracking_uri)
            if stored is not None:
                stored.mirror(ledger, manifest)
                with contextlib.suppress(OSError):  # for who watches from elsewhere
                    stored.keep("sweep.yaml")
            versions = Environments(ledger).note(driver_environment(resources.device))
            ledger.append(
                "started", sweep=spec.name, seeds=list(spec.seeds), sampler=spec.search.sampler,
                driver=uuid.uuid4().hex[:12], workers=resources.workers, environment=versions,
                budget={k: v for k, v in asdict(budget).items() if v is not None},
                **({"command": command} if command else {}),
            )  # fmt: skip
            schedule = Schedule(
                spec, identity(dataset), resources.device, ledger, store, make_proposer(spec),
                budget,
                retry_failed=retry_failed,
                measure_stored=lambda key: measure_node(store, key, dataset, spec.search.mode),
                evidence=lambda: Evidence(
                    store, split_images(dataset, "validation"), schedule.records
                ),
            )  # fmt: skip
            update_manifest(folder, ledger.events, schedule.records)
            differs = difference_line(ledger.events, schedule.records)
            if differs is not None:
                progress.say(f"note: {differs}")
            keeper = DiskKeeper(schedule, max_disk_bytes)
            progress.started(schedule)
            keeper.settled()
            computed = schedule.num_computed
            first = schedule.next()
            if first != FINISHED:
                assert isinstance(first, Attempt)
                _drive(schedule, keeper, first, spec, dataset, store, folder, resources, progress)
            remove_abandoned(store, ledger.events)
            with contextlib.suppress(OSError):
                remove_needless(store)
            ledger.append("finished", stopped=schedule.stopping)
            return Outcome(
                records=dict(schedule.records),
                num_computed_now=schedule.num_computed - computed,
                stopped=schedule.stopping,
                seconds=time.monotonic() - begun,
                blocked=schedule.cut_off,
                num_stopped=schedule.num_stopped,
                notes=[*schedule.notes, *keeper.notes],
                versions=difference_line(ledger.events, schedule.records),
            )
        except KeyboardInterrupt:
            ledger.append("interrupted")
            raise
        finally:
            if ledger.events:
                records = project(ledger.events)
                write_records(folder, records)
                update_manifest(folder, ledger.events, records)
            if stored is not None:
                with contextlib.suppress(OSError):  # copies for people; the events are there
                    stored.keep("sweep.yaml", "records.jsonl", "manifest.json")


def _drive(
    schedule: Schedule,
    keeper: DiskKeeper,
    first: Attempt,
    spec: SweepSpec,
    dataset: Dataset,
    store: Store,
    folder: Path,
    resources: Resources,
    progress: Progress,
) -> None:
    import ray

    from orchestrator.running.tune_round import run_round
    from orchestrator.running.tune_searcher import TreeSearcher

    threads = spec.compute.threads
    with contextlib.ExitStack() as stack:
        service = False
        if resources.shares and not ray.is_initialized():  # before Ray starts any process
            service = stack.enter_context(shared_gpu(folder, progress.say))
        stack.enter_context(ray_session(resources, threads, dataset.images_NHWC.nbytes))
        probe_nodes(store.storage)
        context: dict[str, Any] = {
            "dataset": ray.put(dataset),
            "store": store.uri,
            "device": resources.device,
            "threads": threads,
            "mode": spec.search.mode,
            "folder": str(folder.absolute()),
            "cache_gb": resources.cache_gb,
            "stalled_after": resources.stalled_after,
            "checkpoint_every": resources.checkpoint_every,
        }
        schedule.images.note_put()
        if resources.packs:
            most = resources.trials_cores_allow(threads)
            found = measure_packing(
                folder, spec, dataset, context["dataset"], most=most, service=service
            )
            progress.say(found.text)
            resources = resources.packed(found.trials_per_gpu)
        size = spec.compute.world_size
        gpus = resources.gpus_per_trial or 0.0
        asked = Packing(resources.workers or 1, threads * size, gpus, size)
        begin: Attempt | None = first
        while begin is not None:
            if schedule.images.must_be_put:
                context["dataset"] = ray.put(dataset)
                schedule.images.note_put()
            packing = asked
            if schedule.memory.is_half:
                up = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                packing = half(asked, up)
                progress.say(
                    f"note: {len(schedule.memory.waiting)} trials ran out of memory: again, "
                    f"{packing.workers} at once"
                )
            searcher = TreeSearcher(schedule, begin, progress, packing.workers, keeper.settled)
            run_round(searcher, packing, context)
            begin = schedule.next_round()
