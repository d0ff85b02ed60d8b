"""The command that a sweep was started with, as the ledger and the report show it."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.run import RunOptions

MAX_COMMAND = 2500
"""Characters; an event of the ledger is a line below 4 KB."""
_NOT_NAMED = ("space", "overrides", "quiet", "log_format", "notify")
"""Fields of the options that are written in a way of their own, say nothing of the sweep, or may
hold a secret.
"""
_USER = re.compile(r"(?<=://)[^/@\s]+@")


def run_command(options: RunOptions) -> str | None:
    """``fatefront run ...`` with every option that was given; None where it is too long to keep.

    What stands before an ``@`` in a URI is left out: it may be a password.
    """
    words = ["fatefront", "run", options.space, *option_words(options)]
    for override in options.overrides:
        words += ["--set", override]
    command = without_users(shlex.join(words))
    return command if len(command) <= MAX_COMMAND else None


def option_words(options: RunOptions, leaving_out: tuple[str, ...] = ()) -> list[str]:
    """Options of ``run`` as words, those alone that were given; ``--set`` is not among them."""
    words: list[str] = []
    for field in fields(options):
        value = getattr(options, field.name)
        is_silent = field.name in (*_NOT_NAMED, *leaving_out)
        if is_silent or value is None or value is False:
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        words += [] if value is True else [str(value)]
    return words


def without_users(text: str) -> str:
    """Text without the names and passwords of its URIs."""
    return _USER.sub("", text)
