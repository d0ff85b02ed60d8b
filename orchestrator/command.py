"""The command that a sweep was started with, as the ledger and the report show it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.run import RunOptions

MAX_COMMAND = 2500
"""Characters; an event of the ledger is a line below 4 KB."""
_OPTIONS = (
    "out", "trials", "configurations", "hours", "workers", "gpus_per_trial", "store",
    "tracking_uri", "seed", "address", "max_disk",
)  # fmt: skip
_USER = re.compile(r"(?<=://)[^/@\s]+@")


def run_command(options: RunOptions) -> str | None:
    """``fatefront run ...`` with every option that was given; None where it is too long to keep.

    What stands before an ``@`` in a URI is left out: it may be a password.
    """
    words = ["fatefront", "run", options.space]
    for name in _OPTIONS:
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for override in options.overrides:
        words += ["--set", override]
    words += ["--retry-failed"] if options.retry_failed else []
    command = without_users(shlex.join(words))
    return command if len(command) <= MAX_COMMAND else None


def without_users(text: str) -> str:
    """Text without the names and passwords of its URIs."""
    return _USER.sub("", text)
