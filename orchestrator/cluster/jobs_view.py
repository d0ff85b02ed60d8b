"""What the verbs of Ray jobs show to people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.text import Text


def render_submitted(document: dict[str, Any]) -> Text:
    """The job, and the commands that follow."""
    job, address = document["job"], document["address"]
    return _text(
        [
            f"job {job}: {document['sweep']} into {document['folder']} on the head",
            f"watch: fatefront logs {job} --follow --address {address}",
            f"stop:  fatefront stop {job} --address {address}",
        ]
    )


def render_jobs(document: dict[str, Any]) -> Text:
    """One line a job."""
    lines = [
        f"{job['job']:40} {job['status']:10} {_time(job['started'])}  {job['folder'] or ''}"
        for job in document["jobs"]
    ]
    return _text(lines or [f"no jobs at {document['address']}"])


def render_stopped(document: dict[str, Any]) -> Text:
    """What became of it."""
    return _text([f"job {document['job']}: {document['status']}"])


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def _text(lines: list[str]) -> Text:
    return Text("\n".join(lines), no_wrap=True, overflow="ignore")
