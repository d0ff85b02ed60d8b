"""``fatefront status JOB``: where its sweep stands, asked on the head, where the folder is."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from orchestrator.cluster.jobs import (
    ASKED,
    ENDED,
    connect,
    folder_on_head,
    no_such_job,
    one_line,
)
from orchestrator.status import render_status, sweep_status
from trainables.errors import UserError

JOB = re.compile(r".+-\d{8}-\d{6}")
"""What `submit` names its jobs."""
ASK_SECONDS = 90.0
"""A process has to start on the head."""


def status_of(where: str, address: str | None, default_address: str) -> dict[str, Any]:
    """The document of a folder here, or of a job on a cluster.

    A folder that is there is meant before a job of that name, unless an address is given.

    Raises:
        UserError: neither is there, or the cluster does not answer.
    """
    path = Path(where)
    if address is None and (path.exists() or not JOB.fullmatch(where)):
        if path.is_file():
            raise UserError(f"DIR {where} is a file")
        return sweep_status(path)
    return job_status(where, address or default_address)


def job_status(job: str, address: str) -> dict[str, Any]:
    """What Ray knows of the job, and what ``fatefront status`` says on the head.

    ``sweep`` is None, and ``error`` says why, where the head has no ledger of it (yet).

    Raises:
        UserError: no such job, or one that `submit` did not start.
    """
    client = connect(address)
    with one_line(address):
        details = next((d for d in client.list_jobs() if d.submission_id == job), None)
        if details is None:
            raise no_such_job(client, job)
        folder = (details.metadata or {}).get("folder")
        if folder is None:
            raise UserError(f"job {job} was not started by `fatefront submit`")
        answer = _ask(client, job, folder)
    error = answer.get("error") if set(answer) <= {"error", "exit_code"} else None
    return {
        "job": job,
        "address": address,
        "status": str(details.status.value),
        "message": details.message or "",
        "folder": folder,
        "sweep": None if error else answer,
        "error": error,
    }


def _ask(client: Any, job: str, folder: str) -> dict[str, Any]:
    """Run the verb on the head as a job of its own, which `jobs` leaves out."""
    asking = client.submit_job(
        entrypoint=f"python -m orchestrator status {folder_on_head(folder)} --json 2>/dev/null",
        submission_id=f"status-{uuid.uuid4().hex[:12]}",
        metadata={ASKED: job},
    )
    end = time.monotonic() + ASK_SECONDS
    while client.get_job_status(asking).value not in ENDED:
        if time.monotonic() > end:
            client.stop_job(asking)
            raise UserError(f"job {job}: the head did not say in {ASK_SECONDS:g} s")
        time.sleep(0.2)
    # not deleted: Ray's own watch over the job would then list it as failed
    text = client.get_job_logs(asking)
    start = re.search(r"^\{", text, re.MULTILINE)  # Ray's own lines come first
    if start is None:
        raise UserError(f"job {job}: the head could not say: {text.strip()[-200:] or 'nothing'}")
    answer: dict[str, Any] = json.JSONDecoder().raw_decode(text[start.start() :])[0]
    return answer


def render_any_status(document: dict[str, Any]) -> Group:
    """For people: the job's line, then the sweep's table."""
    if "job" not in document:
        return render_status(document)
    job = document
    line = Text(f"job {job['job']}: {job['status']}, {job['folder']} on the head", no_wrap=True)
    rest = Text(f"no sweep there: {job['error']}") if job["error"] else render_status(job["sweep"])
    message = [Text(job["message"], no_wrap=True)] if job["status"] == "FAILED" else []
    return Group(line, *message, rest)
