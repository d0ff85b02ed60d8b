"""Sweeps as Ray jobs: the driver runs on the head and goes on when the laptop is closed."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from orchestrator.spaces import load_space
from search_spaces.sweep_spec import SweepSpec
from trainables.errors import UserError

SPACE_FILE = "space.yaml"
ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
STOP_SECONDS = 60.0
ASKED = "status of"
"""Key of the metadata of jobs that only ask (job_status.py): nobody's business."""


@dataclass(frozen=True)
class JobOptions:
    """What ``fatefront run`` would get, for a run on the head. ``out`` is a folder there."""

    space: str
    address: str
    overrides: tuple[str, ...] = ()
    out: str | None = None
    options: tuple[str, ...] = ()


def submit_space(given: JobOptions) -> dict[str, Any]:
    """Start ``fatefront run`` on the head as a Ray job; returns the verb's document.

    The space travels as the YAML it resolves to, so that no file of the user's is needed there.

    Raises:
        UserError: the space is wrong, it reads files of this machine, or there is no cluster.
    """
    if any(word.partition("=")[0] == "--notify" for word in given.options):
        refuse_notify()
    spec = load_space(given.space, list(given.overrides))
    _check_paths(spec)
    out = given.out or f"~/runs/{spec.name}"
    client = connect(given.address)
    entrypoint = _entrypoint(out, given.options)
    job = f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    with tempfile.TemporaryDirectory(prefix="fatefront-") as folder:
        (Path(folder) / SPACE_FILE).write_text(spec.to_yaml())
        client.submit_job(
            entrypoint=entrypoint,
            submission_id=job,
            runtime_env={"working_dir": folder},
            metadata={"sweep": spec.name, "folder": out},
        )
    return {
        "job": job,
        "address": given.address,
        "sweep": spec.name,
        "folder": out,
        "entrypoint": entrypoint,
    }


def refuse_notify() -> NoReturn:
    """A job's command line is kept by Ray and shown on its dashboard.

    Raises:
        UserError: always.
    """
    raise UserError(
        "--notify would stand in the job's command line, which everybody on the cluster can read: "
        "set FATEFRONT_NOTIFY in the environment of the head's `ray start`"
    )


def _entrypoint(out: str, options: tuple[str, ...]) -> str:
    """A shell command; ``~`` is the home of whoever runs Ray on the head."""
    words = ["run", SPACE_FILE, "--address", "auto", *options]
    return f"python -m orchestrator.cluster.driver {shlex.join(words)} --out {folder_on_head(out)}"


def folder_on_head(out: str) -> str:
    """A folder as a word of a shell there."""
    return '"$HOME"' + shlex.quote(out[1:]) if out.startswith("~/") else shlex.quote(out)


def _check_paths(spec: SweepSpec) -> None:
    """Relative paths of the data would be looked for in the job's own folder on the head."""
    for name, value in spec.data.model_dump().items():
        if not isinstance(value, str) or "://" in value or PurePosixPath(value).is_absolute():
            continue
        if os.sep in value or name in ("path", "root", "duplicates"):
            raise UserError(
                f"data.{name} {value!r} is a path from this folder: give an absolute path that "
                "the head sees"
            )


def connect(address: str) -> Any:
    """The client of Ray's jobs at ``http://HOST:8265``.

    Raises:
        UserError: no such server, or it does not take our token.
    """
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"--address must be http://HOST:8265 (`ray dashboard FILE` brings the head's to "
            f"http://localhost:8265) but got {address!r}"
        )
    if Path("~/.ray/auth_token").expanduser().exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.job_submission import JobSubmissionClient

    with one_line(address):
        return JobSubmissionClient(address)


class one_line:
    """Whatever Ray raises about a server that the user named is one line of theirs."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, UserError):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = lines[0] if lines else type(error).__name__
            raise UserError(f"--address {self.address}: {said[:200]}") from None


def list_jobs(address: str) -> dict[str, Any]:
    """All jobs of the cluster, the newest first."""
    client = connect(address)
    with one_line(address):
        found = client.list_jobs()
    jobs = [
        {
            "job": details.submission_id,
            "sweep": (details.metadata or {}).get("sweep"),
            "folder": (details.metadata or {}).get("folder"),
            "status": str(details.status.value),
            "message": details.message or "",
            "started": _seconds(details.start_time),
            "ended": _seconds(details.end_time),
        }
        for details in found
        if details.submission_id and ASKED not in (details.metadata or {})
    ]
    jobs.sort(key=lambda job: -(job["started"] or 0))
    return {"address": address, "jobs": jobs}


def _seconds(milliseconds: int | None) -> float | None:
    return None if not milliseconds else milliseconds / 1000


def stop_job(job: str, address: str) -> dict[str, Any]:
    """End a job's driver; what is finished is kept, and the same submission goes on with it."""
    client = connect(address)
    with one_line(address):
        _status(client, job)
        client.stop_job(job)
        end = time.monotonic() + STOP_SECONDS
        while _status(client, job) not in ENDED and time.monotonic() < end:
            time.sleep(0.5)
        return {"job": job, "address": address, "status": _status(client, job)}


def _status(client: Any, job: str) -> str:
    try:
        return str(client.get_job_status(job).value)
    except RuntimeError:
        raise no_such_job(client, job) from None


def no_such_job(client: Any, job: str) -> UserError:
    """A user's mistake, with the jobs that there are."""
    jobs = [d for d in client.list_jobs() if d.submission_id and ASKED not in (d.metadata or {})]
    known = ", ".join(details.submission_id for details in jobs)
    return UserError(f"no job {job}; there are: {known or 'none'}")


def job_logs(job: str, address: str, follow: bool) -> Iterator[str]:
    """The driver's output so far; with ``follow`` until the job ends."""
    client = connect(address)
    with one_line(address):
        _status(client, job)
        shown = 0
        while True:
            over = _status(client, job) in ENDED
            text = client.get_job_logs(job)
            if len(text) > shown:
                yield text[shown:]
                shown = len(text)
            if over or not follow:
                return
            time.sleep(1.0)


def job_succeeded(job: str, address: str) -> bool:
    """Whether the job has ended well."""
    return _status(connect(address), job) == "SUCCEEDED"
