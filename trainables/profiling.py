"""A trace of one trial, in the format that Chrome (chrome://tracing) and Perfetto open."""

from __future__ import annotations

import types
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from trainables.errors import UserError

EPOCHS = 2
"""Of each training that are in the trace: the first, in which cuDNN looks for its algorithms, and
one that stands for all others. All of them would be gigabytes.
"""


class Trace:
    """Record what runs while it is open, but of each training the first epochs only.

    ``report`` is the ``report`` of ``trainables.trial.run_trial``.

    Raises:
        UserError: the trace cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            self._activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=self._activities)
        self._records = True

    def __enter__(self) -> Trace:
        if not self.path.parent.is_dir():
            raise UserError(f"--profile {self.path}: no such folder as {self.path.parent}")
        self._profile.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: types.TracebackType | None,
    ) -> None:
        self._switch(True)
        self._profile.stop()
        if kind is None:
            self._profile.export_chrome_trace(str(self.path))

    def report(self, what: str, done: int, of: int) -> None:
        """An epoch has ended."""
        if what == "epoch":
            self._switch(done < EPOCHS or done >= of)

    def _switch(self, records: bool) -> None:
        if records != self._records:
            self._profile.toggle_collection_dynamic(records, self._activities)
            self._records = records
