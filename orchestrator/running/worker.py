"""What runs on a Ray worker: a thin controller for Tune, and the child actor that does a trial's
work.

An out-of-memory kill of a Tune trial ends the whole `Tuner.fit`; of a child actor it is one
trial's result. Both are reused from trial to trial: starting a process with torch costs seconds.
So nothing here imports torch before a child runs: the controller never needs it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import resource
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import tune
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.running.drained import DrainedNode
from orchestrator.running.leftovers import enlist
from orchestrator.running.watchdog import (
    STALLED,
    START_SECONDS,
    Stalled,
    beating,
    outcome_of,
)
from orchestrator.search.full_disk import DISK_FULL
from orchestrator.search.lost_data import DATA_LOST, FETCH_SECONDS
from orchestrator.search.memory_retries import OUT_OF_MEMORY, is_out_of_memory
from orchestrator.search.taken_back import PREEMPTED
from trainables.errors import first_line, room_missing

CONTROLLER_CPUS = 0.01
LEAK_BYTES = 1 << 30
"""Growth of a child's memory over its first trial's at which it is replaced."""


def bundles(slot: int, cpus: float, gpus: float, size: int = 1) -> list[dict[str, float]]:
    """Placement of one trial: the controller's bundle and one for each of its ``size`` processes;
    together ``cpus`` CPUs and ``gpus`` GPUs.

    Each slot asks for a slightly different split. Tune gives a pending trial any cached actor with
    the same request and then removes the one still starting for it: with short trials all but one
    worker would for ever be starting.
    """
    own = CONTROLLER_CPUS + slot * 1e-4
    each = {"CPU": cpus / size} | ({"GPU": gpus / size} if gpus else {})
    first = each | {"CPU": round(each["CPU"] - own, 4)}
    return [{"CPU": own}, first, *[each] * (size - 1)]


@dataclass
class Children:
    """The processes of one placement, and the memory the first had after its first trial."""

    processes: list[Any]
    first_memory: int | None = None


_children: dict[Any, Children] = {}
"""By placement group; lives in the reused controller."""


def controller(config: dict[str, Any], context: dict[str, Any]) -> None:
    """The Tune trainable: hand the trial to the child, report what became of it, once."""
    group = get_current_placement_group()
    try:
        children = _children_of(group, context)
        references = [
            child.run.remote(config["trial"], config["key"]) for child in children.processes
        ]
        outcome = outcome_of(references, config["key"], context["stalled_after"])
        error = outcome.get("error", {})
        if children.first_memory is None:
            children.first_memory = outcome["memory"]
        has_leaked = outcome["memory"] > children.first_memory + LEAK_BYTES
        # of several processes one may still wait for another that has failed
        if error.get("type") == OUT_OF_MEMORY or has_leaked or (error and len(references) > 1):
            _drop(group)
    except Stalled as error:
        _drop(group)
        outcome = {"error": {"type": STALLED, "reason": str(error), "infrastructure": True}}
    except ray.exceptions.RayError as error:
        # the child died: killed for memory, lost with its node, or crashed in native code
        _drop(group)
        outcome = {"error": describe_loss(error)}
    tune.report({"outcome": json.dumps(outcome, allow_nan=False)})


def _children_of(group: Any, context: dict[str, Any]) -> Children:
    if group.id not in _children:
        found = [_started(group, index, context) for index in range(1, len(group.bundle_specs))]
        _children[group.id] = Children(found)
        if len(found) > 1:
            from trainables.replicas import free_address

            address = free_address()
            ray.get([
                child.join.remote(rank, len(found), address) for rank, child in enumerate(found)
            ], timeout=START_SECONDS)  # fmt: skip
    return _children[group.id]


def _started(group: Any, index: int, context: dict[str, Any]) -> Any:
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    bundle = group.bundle_specs[index]
    return Worker.options(  # type: ignore[attr-defined]
        num_cpus=bundle.get("CPU", 0),
        num_gpus=bundle.get("GPU", 0),
        scheduling_strategy=strategy,
    ).remote(context)


def _drop(group: Any) -> None:
    children = _children.pop(group.id, None)
    for child in children.processes if children else ():
        ray.kill(child)


@ray.remote
class Worker:
    """Runs trials one after another in one process, with the data set in shared memory."""

    def __init__(self, context: dict[str, Any]) -> None:
        import torch

        from trainables import leaving
        from trainables.node_cache import set_limit_gb
        from trainables.replicas import ALONE
        from trainables.store import Store

        if context["cache_gb"] is not None:
            set_limit_gb(context["cache_gb"])
        leaving.ask_by(DrainedNode())
        torch.set_num_threads(context["threads"])
        self._images = context["dataset"]
        self.dataset: Any = None
        self.store = Store(context["store"])
        self.device = context["device"]
        self.mode = context["mode"]
        self.checkpoint_every = context["checkpoint_every"]
        self.replicas = ALONE
        self.folder: Path | None = Path(context["folder"])
        self._is_frozen = False

    def join(self, rank: int, size: int, address: str) -> None:
        """Be one of several that compute each trial together."""
        from trainables.replicas import join

        self.replicas = join(rank, size, address, self.device)

    def run(self, trial: str, key: str) -> dict[str, Any]:
        """Compute a node; returns its result and execution, or the error in words. Of several
        processes the first does; the others' answers say only what went wrong.
        """
        with beating(key) if self.replicas.is_first else contextlib.nullcontext():
            return self._run(trial, key)

    def _run(self, trial: str, key: str) -> dict[str, Any]:
        from orchestrator.search.schedule import result_of
        from trainables.measurement import measure_node
        from trainables.trial import identity, run_trial
        from trainables.trial_spec import Trial, node_key

        started = time.perf_counter()
        try:
            if self.folder is not None:  # not in __init__, whose errors Ray keeps to itself
                enlist(self.folder)
                self.folder = None
            if self.dataset is None:
                self.dataset = ray.get(self._images, timeout=FETCH_SECONDS)
            spec = Trial.model_validate_json(trial)
            if node_key(spec, identity(self.dataset)) != key:
                raise RuntimeError(
                    "the worker's code or data differs from the driver's: another key"
                )
            node = run_trial(
                spec, self.dataset, self.store, device=self.device, replicas=self.replicas,
                checkpoint_every=self.checkpoint_every,
            )  # fmt: skip
            if not self.replicas.is_first:
                return {}
            measured = measure_node(self.store, key, self.dataset, self.mode)
            outcome = {
                "result": result_of(node, measured),
                "execution": node["execution"] | {"wall": round(time.perf_counter() - started, 3)},
            }
        except Exception as error:
            outcome = {
                "error": describe(error),
                "execution": _where(time.perf_counter() - started),
            }
        return outcome | {"memory": self._memory()}

    def _memory(self) -> int:
        import torch

        gc.collect()
        if not self._is_frozen:
            # what lives now is modules and data: to look through it all takes .3 s a trial
            gc.freeze()
            self._is_frozen = True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            return int(torch.cuda.memory_allocated()) + psutil.Process().memory_info().rss
        return int(psutil.Process().memory_info().rss)


def describe_loss(error: ray.exceptions.RayError) -> dict[str, Any]:
    """A child that is gone, as the ledger keeps it."""
    reason = first_line(str(getattr(error, "cause", None) or error))
    if isinstance(error, ray.exceptions.OutOfMemoryError):  # Ray's monitor ended it
        return {
            "type": OUT_OF_MEMORY,
            "reason": f"the machine was out of memory: {reason}"[:300],
            "infrastructure": False,
        }
    preempted = isinstance(error, ray.exceptions.RayActorError) and error.preempted
    name = PREEMPTED if preempted else type(error).__name__
    return {"type": name, "reason": reason, "infrastructure": True}


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as the ledger keeps it: type, one line, and where it came from."""
    name = type(error).__name__
    reason = first_line(str(error)) or name
    if isinstance(error, ray.exceptions.ObjectLostError | ray.exceptions.GetTimeoutError):
        return {"type": DATA_LOST, "reason": reason[:300], "infrastructure": True}
    if is_out_of_memory(error):
        name, reason = OUT_OF_MEMORY, f"out of memory: {reason}"
    if (missing := room_missing(error)) is not None:
        name, reason = DISK_FULL, missing
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return {
        "type": name,
        "reason": reason[:300],
        "place": place,
        "infrastructure": isinstance(error, OSError) or name == DISK_FULL,
    }


def _where(seconds: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "seconds": {"all": round(seconds, 3)},
        "peak_kb": peak,
    }
