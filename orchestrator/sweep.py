"""Running a sweep: Ray Tune as the worker pool, our schedule as its searcher, the ledger as the
truth.

Each start makes a fresh Tuner; `Tuner.restore` is never used (it loses or repeats up to ten
seconds of results).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.disk import DiskKeeper
from orchestrator.environment import prepare
from orchestrator.evidence import Evidence
from orchestrator.images import split_images
from orchestrator.manifest import check_same_sweep, write_manifest
from orchestrator.memory_retries import Packing, half
from orchestrator.records import project, write_records
from orchestrator.schedule import FINISHED, Attempt, Budget, Schedule
from orchestrator.searcher import make_proposer
from orchestrator.storage_probe import probe_nodes
from orchestrator.stored_ledger import open_ledger
from search_spaces.sweep_spec import SweepSpec
from trainables.data.base import Dataset
from trainables.errors import UserError
from trainables.measurement import measure_node
from trainables.metrics.fairness import check_mode
from trainables.node import make_baseline
from trainables.store import Store
from trainables.trial import identity


@dataclass(frozen=True)
class Resources:
    """What the trials run on. ``gpus_per_trial``: 0 = CPU, below 1 = shared, or 1; ``workers``:
    trials at once; ``cache_gb``: of a remote store's files on each node (None: as the node says).
    """

    workers: int | None = None
    gpus_per_trial: float | None = None
    address: str | None = None
    cache_gb: float | None = None

    def resolved(self, threads: int) -> Resources:
        """Defaults from this machine; one GPU a trial where there are GPUs.

        Raises:
            UserError: a number of GPUs that Ray cannot place, or that is not there.
        """
        if self.address is not None:
            from orchestrator.cluster.capacity import cluster_resources

            return cluster_resources(self, threads)
        num_gpus = _num_gpus()
        gpus = self.gpus_per_trial
        if gpus is None:
            gpus = 1.0 if num_gpus else 0.0
        check_gpus_per_trial(gpus)
        if gpus > num_gpus:
            raise UserError(f"--gpus-per-trial {gpus:g}: this machine has {num_gpus} GPUs")
        workers = self.workers
        if workers is None:
            cores = len(os.sched_getaffinity(0))
            workers = int(num_gpus / gpus + 1e-9) if gpus else max(1, cores // threads)
        if workers < 1:
            raise UserError(f"--workers must be at least 1 but got {workers}")
        return Resources(workers, gpus, self.address, self.cache_gb)

    @property
    def device(self) -> str:
        """Device of the trials."""
        return "cuda" if self.gpus_per_trial else "cpu"


def check_gpus_per_trial(gpus: float) -> None:
    """Refuse what Ray cannot place.

    Raises:
        UserError: negative, broken above 1, or several GPUs.
    """
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise UserError(f"--gpus-per-trial must be below 1 or a whole number but got {gpus:g}")
    if gpus > 1:
        raise UserError(
            f"--gpus-per-trial {gpus:g}: one trial on several GPUs is not available yet; "
            "use at most 1"
        )


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


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
    resources = resources.resolved(spec.compute.threads)
    store = Store(store_uri)
    begun = time.monotonic()
    with open_ledger(folder, store, progress.say) as (ledger, stored):
        try:
            check_same_sweep(folder, spec, dataset)
            from orchestrator.worker import end_leftovers

            end_leftovers(folder)
            (folder / "sweep.yaml").write_text(spec.to_yaml())
            manifest = write_manifest(folder, spec, dataset, store, resources.device, tracking_uri)
            if stored is not None:
                stored.mirror(ledger, manifest)
            ledger.append(
                "started", sweep=spec.name, seeds=list(spec.seeds), sampler=spec.search.sampler,
                driver=uuid.uuid4().hex[:12],
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
            keeper = DiskKeeper(schedule, max_disk_bytes)
            progress.started(schedule)
            keeper.settled()
            computed = schedule.num_computed
            first = schedule.next()
            if first != FINISHED:
                assert isinstance(first, Attempt)
                _drive(schedule, keeper, first, spec, dataset, store, folder, resources, progress)
            ledger.append("finished", stopped=schedule.stopping)
            return Outcome(
                records=dict(schedule.records),
                num_computed_now=schedule.num_computed - computed,
                stopped=schedule.stopping,
                seconds=time.monotonic() - begun,
                blocked=schedule.cut_off,
                num_stopped=schedule.num_stopped,
                notes=[*schedule.notes, *keeper.notes],
            )
        except KeyboardInterrupt:
            ledger.append("interrupted")
            raise
        finally:
            if ledger.events:
                write_records(folder, project(ledger.events))
            if stored is not None:
                with contextlib.suppress(OSError):  # copies for people; the events are there
                    stored.keep("sweep.yaml", "records.jsonl")


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

    from orchestrator.tune_round import run_round
    from orchestrator.tune_searcher import TreeSearcher

    workers, threads = resources.workers or 1, spec.compute.threads
    asked = Packing(workers, threads, resources.gpus_per_trial or 0.0)
    with _ray(resources, workers, threads, dataset, folder):
        probe_nodes(store.storage)
        context: dict[str, Any] = {
            "store": store.uri,
            "device": resources.device,
            "threads": threads,
            "mode": spec.search.mode,
            "folder": str(folder.absolute()),
            "cache_gb": resources.cache_gb,
        }
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


@contextlib.contextmanager
def _ray(
    resources: Resources, workers: int, threads: int, dataset: Dataset, folder: Path
) -> Iterator[None]:
    import ray

    if ray.is_initialized():  # somebody's cluster, or a test's: used as it is, left as it is
        yield
        return
    if resources.address:
        ray.init(address=resources.address, log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(
            address="local",  # not somebody's cluster that happens to run here
            num_cpus=max(len(os.sched_getaffinity(0)), workers * threads),
            object_store_memory=int(dataset.images_NHWC.nbytes * 1.3) + (200 << 20),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield
    finally:
        ray.shutdown()
