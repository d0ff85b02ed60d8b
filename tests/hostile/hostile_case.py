"""One bad input: its files, the command that meets it, and what the one line must say."""

from __future__ import annotations

import codecs
import importlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

NOBODY = 65534
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
LONGEST = 4_000
"""Characters of a line that a person may still be asked to read."""


@dataclass(frozen=True)
class Case:
    """``words`` are the command's, ``{}`` in them is the case's folder; ``says`` are parts of the
    line: the place, the value, what is allowed.
    """

    name: str
    words: tuple[str, ...]
    says: tuple[str, ...]
    make: Callable[[Path], object] = lambda folder: None
    unprivileged: bool = False
    slow: bool = False

    def command(self, folder: Path) -> list[str]:
        """The words with the folder put in."""
        return [word.replace("{}", str(folder)) for word in self.words]


def text(name: str, content: str | bytes) -> Callable[[Path], object]:
    """A maker of one file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with size and time of change; links are not followed."""
    found = {}
    for path, folders, names in os.walk(folder):
        for name in (*folders, *names):
            status = os.lstat(os.path.join(path, name))
            found[os.path.join(path, name)] = (
                (0, 0) if name in folders else (status.st_size, status.st_mtime_ns)
            )
    return found


@contextmanager
def as_nobody(active: bool) -> Iterator[None]:
    """Files are opened as a user without rights; root may read everything."""
    if not active:
        yield
        return
    codecs.lookup("utf-8-sig")  # nobody may not read Python's own folder either
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


LATE = (
    "orchestrator.run", "orchestrator.show", "orchestrator.evaluation.evaluate",
    "orchestrator.datasets.verbs", "pandas", "pyarrow.parquet",
)  # fmt: skip


def run_here(case: Case, folder: Path) -> tuple[int, str, str]:
    """The command in this process; returns exit code, stdout and stderr."""
    from orchestrator.cli import app

    if case.unprivileged:  # nobody may not read the Python of root, and verbs import late
        for name in LATE:
            importlib.import_module(name)
    with as_nobody(case.unprivileged):
        result = CliRunner().invoke(app, case.command(folder))
    return result.exit_code, result.stdout, result.stderr


def problems(case: Case, code: int, out: str, err: str) -> list[str]:
    """What is wrong with an answer to a bad input; nothing where it is as promised."""
    lines = [
        line for line in err.split("\n") if line and not line.startswith(("warning: ", "note: "))
    ]
    found = []
    if code != 2:
        found.append(f"exit code {code}")
    if len(lines) != 1 or not lines[0].startswith("error: "):
        found.append(f"{len(lines)} lines on stderr")
    if "Traceback" in err:
        found.append("a traceback")
    if "--json" in case.words:
        document = json.loads(out) if out else {}
        if document.get("exit_code") != 2 or f"error: {document.get('error')}" not in lines:
            found.append(f"stdout is not the error's document: {out[:200]!r}")
    elif out:
        found.append(f"output on stdout: {out[:200]!r}")
    if any(CONTROL.search(line) for line in lines):
        found.append("control characters reach the terminal")
    if any(len(line) > LONGEST for line in lines):
        found.append(f"a line of {max(map(len, lines))} characters")
    found += [f"does not say {part!r}" for part in case.says if part not in err]
    return found
