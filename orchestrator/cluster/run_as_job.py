"""``fatefront run --address http://HEAD:8265``: the same run, as a Ray job, watched from here."""

from __future__ import annotations

from typing import Any

from orchestrator.cluster.jobs import (
    JobOptions,
    job_logs,
    job_succeeded,
    refuse_notify,
    submit_space,
)
from orchestrator.cluster.jobs_view import render_submitted
from orchestrator.command import option_words
from orchestrator.console import OK, OURS, stderr, stdout
from orchestrator.run import RunOptions


def is_job_server(address: str | None) -> bool:
    """Whether an address is that of a dashboard, not of Ray itself."""
    return address is not None and address.startswith(("http://", "https://"))


def run_as_job(options: RunOptions, address: str) -> tuple[dict[str, Any], int]:
    """Submit; unless quiet, print what the driver says until the job ends. Ctrl-C ends the
    printing alone. Returns the document of ``submit`` and an exit code.
    """
    if options.notify is not None:
        refuse_notify()
    document = submit_space(
        JobOptions(
            space=options.space,
            address=address,
            overrides=options.overrides,
            out=None if options.out is None else str(options.out),
            options=tuple(option_words(options, ("out", "address"))),  # the driver gets the others
        )
    )
    if options.quiet:
        return document, OK
    stderr.print(render_submitted(document), soft_wrap=True)
    try:
        for text in job_logs(document["job"], address, follow=True):
            stdout.out(text, highlight=False, end="")
    except KeyboardInterrupt:
        stderr.print(f"the job goes on: fatefront logs {document['job']} --follow")
        return document, OK
    return document, OK if job_succeeded(document["job"], address) else OURS
