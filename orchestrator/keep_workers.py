"""A FIFO scheduler that keeps every started worker until the sweep ends."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler


class KeepWorkers(FIFOScheduler):  # type: ignore[misc]
    """Tune drops a finished trial's actor whenever another one is still starting.

    Starting a worker (process, torch, CUDA) can take longer than a trial, so workers would start
    for ever. Ray 2.60 has no public setting; raising the cache limit by one for each slot has the
    wanted effect. Without that attribute (another Ray) sweeps still run, only slower.
    """

    def __init__(self) -> None:
        super().__init__()
        self._slots: set[int] = set()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Reserve a place in the actor cache for the trial's slot, once."""
        slot = trial.config["slot"]
        cache = getattr(tune_controller, "_actor_cache", None)
        if slot not in self._slots and cache is not None:
            self._slots.add(slot)
            cache.increase_max(trial.placement_group_factory)
