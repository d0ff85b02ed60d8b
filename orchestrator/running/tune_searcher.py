"""Our schedule in the shape Ray Tune wants: a searcher that hands out nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from orchestrator.search.schedule import FINISHED, Attempt, Schedule

if TYPE_CHECKING:
    from orchestrator.running.sweep import Progress


class TreeSearcher(Searcher):
    """`suggest` is the next ready node; None while parents run, `FINISHED` at the end."""

    def __init__(
        self,
        schedule: Schedule,
        first: Attempt,
        progress: Progress,
        num_slots: int,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._free = list(range(num_slots))[::-1]  # a stack: the slot used last is the warmest
        self._slots: dict[str, int] = {}
        self._schedule = schedule
        self._first: Attempt | None = first
        self._progress = progress
        self._make_room = make_room
        self._keys: dict[str, str] = {}
        self.crashed: BaseException | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its searcher for `restore`, which is never used; the ledger is the
        state.
        """
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Tune's question for work."""
        if not self._free:
            return None
        try:
            attempt = self._first or self._schedule.next()
        except Exception as error:  # Tune would log it and go on for ever
            self.crashed = error
            return Searcher.FINISHED
        self._first = None
        if attempt == FINISHED:
            return Searcher.FINISHED
        if not isinstance(attempt, Attempt):
            return None
        self._keys[trial_id] = attempt.node.key
        self._slots[trial_id] = self._free.pop()
        self._progress.tick(self._schedule)
        return {
            "trial": attempt.node.trial.model_dump_json(),
            "key": attempt.node.key,
            "slot": self._slots[trial_id],
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tune's word that a trial ended; the outcome is what its controller reported."""
        key = self._keys.pop(trial_id, None)
        if key is None:
            return
        self._free.append(self._slots.pop(trial_id))
        try:
            self._take(key, result, error)
        except Exception as crash:
            self.crashed = crash
            self._schedule.stopping = "crashed"

    def _take(self, key: str, result: dict[str, Any] | None, error: bool) -> None:
        if error or not result or "outcome" not in result:
            outcome: dict[str, Any] = {
                "error": {
                    "type": "WorkerDied",
                    "reason": "the worker died",
                    "infrastructure": True,
                }
            }
        else:
            outcome = json.loads(result["outcome"])
        if "error" in outcome:
            self._schedule.failed(key, outcome["error"], outcome.get("execution"))
        else:
            self._schedule.succeeded(key, outcome["result"], outcome["execution"])
        self._make_room()
        self._progress.settled(self._schedule, key, self._schedule.settled.get(key, "retried"))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Never used."""
