"""``--notify``: a command or a webhook that is told when a sweep ends or fails.

Whatever it does, the sweep's result and exit code stay as they are. What was given may hold a
secret, so it is told to nobody: neither printed nor stored.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from trainables.errors import UserError

ENVIRONMENT = "FATEFRONT_NOTIFY"
OPTION = "--notify"
TIME_LIMIT = 10.0
"""Seconds for one notification, all in all."""


@dataclass(frozen=True)
class Notifier:
    """Where to; ``target`` is a URL, or words for the shell."""

    target: str
    time_limit: float = TIME_LIMIT

    @property
    def is_webhook(self) -> bool:
        """Whether it is a URL, not a command."""
        return self.target.startswith(("http://", "https://"))

    @property
    def place(self) -> str:
        """How it may be called in public: a webhook's host, or that it is a command."""
        host = urlsplit(self.target).hostname
        return f"the webhook at {host}" if self.is_webhook else "the command"

    def __repr__(self) -> str:
        return f"Notifier({self.place})"

    def notify(self, document: Mapping[str, Any]) -> str | None:
        """Tell it; returns what went wrong in words, without what was given. Never raises."""
        send = self._post if self.is_webhook else self._run
        problems: list[str | None] = [f"did not end within {self.time_limit:g} s"]

        def work() -> None:
            try:
                problems[0] = send(json.dumps(document).encode())
            except Exception as error:  # of whatever kind: a hook never harms the sweep
                problems[0] = f"failed: {type(error).__name__}"

        # a limit on all that it may do: names that do not resolve, an answer of one byte a second
        thread = threading.Thread(target=work, name="notify", daemon=True)
        thread.start()
        thread.join(self.time_limit + (0 if self.is_webhook else 5))
        return None if problems[0] is None else f"--notify: {self.place} {problems[0]}"

    def _post(self, body: bytes) -> str | None:
        import requests

        try:
            answer = requests.post(
                self.target, body, headers={"Content-Type": "application/json"},
                timeout=self.time_limit, stream=True,
            )  # fmt: skip
        except requests.Timeout:
            return f"did not answer within {self.time_limit:g} s"
        except requests.RequestException as error:  # its text holds the URL
            return f"cannot be reached ({type(error).__name__})"
        with answer:
            return None if answer.ok else f"answered {answer.status_code}"

    def _run(self, body: bytes) -> str | None:
        process = subprocess.Popen(
            self.target, shell=True, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            with contextlib.suppress(BrokenPipeError):  # it need not read
                process.communicate(body, timeout=self.time_limit)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"was ended after {self.time_limit:g} s"
        return None if process.returncode == 0 else f"ended with {process.returncode}"


def make_notifier(target: str | None) -> Notifier | None:
    """A checked one.

    Raises:
        UserError: an empty text, or a URL without a host; what was given is not repeated.
    """
    if target is None:
        return None
    notifier = Notifier(target.strip())
    try:
        complete = not notifier.is_webhook or bool(urlsplit(notifier.target).hostname)
    except ValueError:
        complete = False
    if not notifier.target or not complete:
        raise UserError("--notify must be a command, or a URL http(s)://HOST/...")
    return notifier


def end_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a sweep that ended; ``document``: that of the verb ``run``."""
    ended = "failed" if document["exit_code"] else "finished"
    early = f", stopped early: {document['stopped']}" if document["stopped"] else ""
    text = (
        f"{document['sweep']}: {ended}, {document['num_done']} trials done, "
        f"{document['num_failed']} failed{early}"
    )
    names = (
        "sweep", "folder", "num_done", "num_failed", "num_cached", "hypervolume", "seconds",
        "stopped", "exit_code",
    )  # fmt: skip
    told = {name: document[name] for name in names} | {"error": None}
    return {"event": ended, "time": round(time.time(), 3), "text": text} | told


def failure_document(sweep: str, folder: str, error: str, exit_code: int) -> dict[str, Any]:
    """What is told of a sweep that an error ended."""
    return {
        "event": "failed",
        "time": round(time.time(), 3),
        "text": f"{sweep}: failed: {error}",
        "sweep": sweep,
        "folder": folder,
        "num_done": None,
        "num_failed": None,
        "num_cached": None,
        "hypervolume": None,
        "seconds": None,
        "stopped": None,
        "exit_code": exit_code,
        "error": error,
    }


def without_notify(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words of a command line without the option, and what it was given."""
    left: list[str] = []
    value = None
    rest = iter(words)
    for word in rest:
        if word == "--":
            left += [word, *rest]
        elif word == OPTION:
            following = next(rest, None)
            if following is None:
                return list(words), None  # the parser says what is missing
            value = following
        elif word.startswith(f"{OPTION}="):
            value = word.partition("=")[2]
        else:
            left.append(word)
    return left, value


def hide(execute: Callable[[str, list[str]], object] = os.execv) -> None:
    """Take the option off this process's command line, which every user of the machine may read
    and Ray keeps: start it again with the value in the environment.
    """
    words, value = without_notify(sys.orig_argv[1:])
    if value is not None and "run" in words:
        os.environ[ENVIRONMENT] = value
        execute(sys.executable, [sys.executable, *words])


def take_from_environment() -> None:
    """What this process has read is no business of those it starts."""
    os.environ.pop(ENVIRONMENT, None)
