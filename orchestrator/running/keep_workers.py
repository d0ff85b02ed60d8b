"""A FIFO scheduler that keeps every started worker until the sweep ends, or room is needed."""

from __future__ import annotations

import time
from typing import Any

from ray.tune.schedulers import FIFOScheduler

PATIENCE = 10.0
"""Seconds that a trial waits for a machine before an idle worker makes room for it."""


class KeepWorkers(FIFOScheduler):  # type: ignore[misc]
    """Tune drops a finished trial's actor whenever another one is still starting.

    Starting a worker (process, torch, CUDA) can take longer than a trial, so workers would start
    for ever. Ray 2.60 has no public setting; raising the cache limit by one for each slot has the
    wanted effect. Without that attribute (another Ray) sweeps still run, only slower.

    A worker that is kept keeps its share of a machine, too. When a machine is gone for good, the
    others have fewer shares than there are slots, and a trial could wait for one for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._slots: dict[int, Any] = {}  # slot -> what it asks of Ray
        self._waiting_since: float | None = None

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Reserve a place in the actor cache for the trial's slot, once."""
        slot = trial.config["slot"]
        cache = getattr(tune_controller, "_actor_cache", None)
        if slot not in self._slots and cache is not None:
            self._slots[slot] = trial.placement_group_factory
            cache.increase_max(trial.placement_group_factory)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first that is pending; asked at every step of Tune."""
        self._make_room(tune_controller)
        return super().choose_trial_to_run(tune_controller)

    def _make_room(self, tune_controller: Any) -> None:
        """Give up one idle worker when a trial has waited long enough."""
        cache = getattr(tune_controller, "_actor_cache", None)
        actors = getattr(tune_controller, "_actor_manager", None)
        now = time.monotonic()
        if cache is None or not getattr(actors, "num_pending_actors", 0):
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        elif now > self._waiting_since + PATIENCE:
            self._waiting_since = now
            for slot, asked in self._slots.items():
                if cache.has_cached_object(asked):
                    cache.decrease_max(asked)  # Tune ends it after this step
                    del self._slots[slot]
                    return
