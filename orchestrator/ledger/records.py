"""The ledger of a sweep: ``events.jsonl``, append-only, and its projection ``records.jsonl``, one
line a node.

The only source of truth about what ran. Everything else (study, MLflow, front) is read from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import IO, Any

from trainables.errors import UserError
from trainables.metrics.summary import compare
from trainables.storage import write_whole

MAX_LINE = 4096
OPEN_FIGURES = (
    "mode", "num_samples", "precision", "recall", "f1", "accuracy", "f1_pooled", "precision_diff",
    "recall_diff", "f1_diff", "eopp0", "eopp1", "eodd", "eodd_hardt", "demographic_parity",
)  # fmt: skip
SCORE_FIGURES = ("auroc", "gap_debiased")
"""Of validation, where they were measured: they need more than counts."""
_NODE: dict[str, type] = {"key": str, "trial": dict, "parents": list, "compares_with": dict}
NEEDED: dict[str, dict[str, type]] = {
    "environment": {"id": str, "versions": dict},
    "scheduled": _NODE | {"attempt": str},
    "done": _NODE | {"result": dict, "execution": dict},
    "failed": _NODE | {"error": dict},
    "compared": {"key": str, "compares_with": dict},
    "dropped": {"keys": list},
}
"""Without which an event that is read is none: the ledger was edited."""
GROUP_DECIMALS = 9
"""Of each group's scores, so that eight groups fit into a line; the counts themselves are in the
store.
"""
TRAIN_FIGURES = ("f1", "accuracy", "eopp1", "eodd_hardt")


FREEZE_EVERY = 1000
"""Events after which what there is goes out of the garbage collector's sight: it lives as long as
the driver, and one look through all of it holds up a suggestion for most of a second.
"""


class Ledger:
    """One sweep's events on disk; open for appending in one process at a time."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds, of a clock that nobody sets; replaced in tests."""
        self.folder = folder
        self._clock, self._opened = clock, clock()
        self._file: FileIO | None = None
        self._lock: IO[bytes] | None = None
        self._mirror: Callable[[int, bytes], None] | None = None
        self.events: list[dict[str, Any]] = []
        self._trials: dict[str, dict[str, Any]] = {}

    @property
    def path(self) -> Path:
        """The events file."""
        return self.folder / "events.jsonl"

    def open(self) -> Ledger:
        """Take the driver's lock, read what is there, cut off a half-written last line.

        Raises:
            UserError: another driver is at work in this folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / ".lock").open("ab")
        # a look from `status` or the tracking process holds the lock for an instant
        for _ in range(10):
            try:
                fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.1)
        else:
            holder = _holder(self.folder / ".lock")
            self.close()
            raise UserError(
                f"another `fatefront run`{holder} is at work in {self.folder}: wait for it, or "
                "stop it"
            ) from None
        self._sign()
        self.events = [self._sharing(event) for event in read_events(self.folder)]
        gc.freeze()
        whole = sum(len(line) for line in _whole_lines(self.path))
        self._file = self.path.open("ab", buffering=0)  # what failed must not be written later
        self._file.truncate(whole)
        return self

    def _sign(self) -> None:
        """Say in the lock whose it is; a courtesy to those who are refused, so no error."""
        assert self._lock is not None
        with contextlib.suppress(OSError):
            self._lock.truncate(0)
            self._lock.write(json.dumps({"host": platform.node(), "pid": os.getpid()}).encode())
            self._lock.flush()

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one event and make it last; returns it with its number and time."""
        document: dict[str, Any] = {
            "seq": len(self.events),
            "time": round(time.time(), 3),
            "elapsed": round(self._clock() - self._opened, 3),
            "event": event,
        } | fields
        line = event_line(document)
        if self._mirror is not None:  # first: a refused event must not stand in this folder alone
            self._mirror(document["seq"], line)
        self._write(line)
        self.events.append(self._sharing(document))
        if len(self.events) % FREEZE_EVERY == 0:
            gc.freeze()
        return document

    def _sharing(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event; the description of its trial, which stands in each event of a node, is kept
        once.
        """
        if "trial" in event and "key" in event:
            known = self._trials.setdefault(event["key"], event["trial"])
            if known == event["trial"]:
                event["trial"] = known
        return event

    def _write(self, data: bytes) -> None:
        """Whole and lasting, or not at all: half a line would be taken for one when the next
        stands behind it.
        """
        assert self._file is not None, "ledger is not open"
        begin = os.fstat(self._file.fileno()).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(begin)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def extend(self, lines: list[bytes]) -> None:
        """Take in events that stand elsewhere, as they are, and make them last.

        Raises:
            UserError: one of them is not the next event.
        """
        taken = []
        for seq, line in enumerate(lines, len(self.events)):
            event = _parsed(line)
            if event is None or event.get("seq") != seq:
                raise UserError(f"{self.path}: stored event {seq} is damaged")
            taken.append(event)
        self._write(b"".join(lines))
        self.events += map(self._sharing, taken)

    def mirror(self, put: Callable[[int, bytes], None]) -> None:
        """From now on hand every event to ``put`` (number, line) before it is written here."""
        self._mirror = put

    def close(self) -> None:
        """Release the lock."""
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None


def _holder(lock: Path) -> str:
    """`` (host, pid)`` of who holds a folder's lock, as far as it is known."""
    try:
        found = json.loads(lock.read_bytes())
        return f" (host {str(found['host'])[:64]}, pid {int(found['pid'])})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def is_running(folder: Path) -> bool:
    """Whether a driver holds the folder's lock; nothing is written, and who looks at the same time
    does not see the other one.
    """
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _whole_lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Events of a folder, oldest first; a line still being written is left out.

    Raises:
        UserError: a whole line is not JSON.
    """
    path = folder / "events.jsonl"
    for number, line in enumerate(_whole_lines(path), start=1):
        event = _parsed(line)
        if event is None:
            raise UserError(
                f"{path}: line {number} is not JSON of an event; the ledger was edited or damaged"
            )
        yield event


def event_line(event: Mapping[str, Any]) -> bytes:
    """An event as it is written."""
    return json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line, object_pairs_hook=_named)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    needed = NEEDED.get(event["event"], {})
    return event if all(isinstance(event.get(n), kind) for n, kind in needed.items()) else None


def _named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are the same strings in every line: they would take more memory than
    its figures.
    """
    return {sys.intern(name): value for name, value in pairs}


def compact(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of ``trainables.predictions.measure`` that fit into one line of the ledger."""
    validation = measured["metrics"]["validation"]
    figures = {name: validation[name] for name in OPEN_FIGURES}
    figures |= {name: validation[name] for name in SCORE_FIGURES if name in validation}
    figures["groups"] = {
        group: {k: v if v is None else round(v, GROUP_DECIMALS) for k, v in scores.items()}
        for group, scores in validation["groups"].items()
    }
    figures["undefined"] = {k: v for k, v in validation["undefined"].items() if k in figures}
    train = {name: measured["metrics"]["train"][name] for name in TRAIN_FIGURES}
    return {
        "metrics": {"validation": figures, "train": train},
        "counts_sha256": dict(measured["counts_sha256"]),
    }


def project(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Key -> record: the last word of the ledger on every node, FATE against the reference
    included.
    """
    records: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["event"] == "scheduled":
            records[event["key"]] = _record(event) | {
                "status": "running",
                "attempt": event["attempt"],
            }
        elif event["event"] in ("done", "failed"):
            old = records.get(event["key"])
            if old is not None and old["status"] == "done":
                continue  # the first result of a key holds
            records[event["key"]] = _record(event) | {
                "status": event["event"],
                "result": event.get("result"),
                "execution": event.get("execution", {}),
                "error": event.get("error"),
            }
        elif event["event"] == "compared":
            # an extension gave a finished node further nodes to be compared with
            records[event["key"]]["compares_with"] |= event["compares_with"]
    for record in records.values():
        record["fate"] = _fate(record, records)
    return records


def _record(event: Mapping[str, Any]) -> dict[str, Any]:
    names = ("key", "trial", "parents", "compares_with")
    return {name: event[name] for name in names}


def _fate(record: Mapping[str, Any], records: Mapping[str, Any]) -> dict[str, Any] | None:
    reference = records.get(record["compares_with"].get("reference", ""))
    if record["status"] != "done" or reference is None or reference["status"] != "done":
        return None
    ours, theirs = (r["result"]["metrics"]["validation"] for r in (record, reference))
    compared = compare(ours, theirs)
    return {k: compared[k] for k in compared if k.startswith("fate_")} | {
        "tag": compared["tag"],
        "group_changes": compared["group_changes"],
        "undefined": compared["undefined"],
    }


def write_records(folder: Path, records: Mapping[str, dict[str, Any]]) -> None:
    """Write ``records.jsonl`` anew, in the order of first events: whole or not at all."""
    lines = [
        json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"
        for record in records.values()
    ]
    write_whole(folder / "records.jsonl", "".join(lines).encode())


def load_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Records of a sweep folder, from its events.

    Raises:
        UserError: there is no sweep in this folder.
    """
    if not (folder / "events.jsonl").exists():
        raise UserError(f"no sweep in {folder}: it has no events.jsonl")
    return project(list(read_events(folder)))
