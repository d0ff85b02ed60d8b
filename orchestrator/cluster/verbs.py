"""The command line of clusters: ``cluster check``, and the verbs of Ray jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.console import Verbs, emit, exit_codes, stdout
from orchestrator.space_names import complete_space

SET_HELP = "Override one field: training.epochs=20, 'seeds=[0,1,2]'; any number of times."
cluster_app = typer.Typer(cls=Verbs, help="Check a cluster file before paying for it.")


@cluster_app.callback()
def cluster() -> None:
    """Check a cluster file before paying for it."""


@cluster_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A file of `ray up`, or a RayJob.", metavar="FILE")],
    prices: Annotated[
        Path | None, typer.Option(help="CSV with prices of your own, over those shipped.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")
    ] = False,
) -> None:
    """Check a cluster file offline, and say what it would cost an hour."""
    with exit_codes(json):
        from orchestrator.cluster.check import check_file, render_check

        document = check_file(file, prices)
        emit(document, json, render_check)
        if document["exit_code"]:
            raise typer.Exit(document["exit_code"])


Address = Annotated[
    str,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS", help="The head's dashboard, as `ray dashboard` brings it."
    ),
]
HERE = "http://127.0.0.1:8265"
Job = Annotated[str, typer.Argument(help="Name of the job, as `submit` printed it.")]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")
]


def submit(
    context: typer.Context,
    space: Annotated[
        str,
        typer.Argument(
            help="A name (quickstart), FILE.py:FUNCTION, or a YAML file.",
            autocompletion=complete_space,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Folder of the sweep on the head; if not given: ~/runs/NAME."),
    ] = None,
    address: Address = HERE,
    json: Json = False,
) -> None:
    """Run a sweep on a cluster as a Ray job: it goes on when this machine is off.

    All other options are those of `run` and are handed to it.
    """
    with exit_codes(json):
        from orchestrator.cluster.jobs import JobOptions, submit_space
        from orchestrator.cluster.jobs_view import render_submitted

        options = JobOptions(space, address, tuple(overrides or ()), out, tuple(context.args))
        emit(submit_space(options), json, render_submitted)


def jobs(address: Address = HERE, json: Json = False) -> None:
    """List the jobs of a cluster, the newest first."""
    with exit_codes(json):
        from orchestrator.cluster.jobs import list_jobs
        from orchestrator.cluster.jobs_view import render_jobs

        emit(list_jobs(address), json, render_jobs)


def logs(
    job: Job,
    address: Address = HERE,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on until the job ends; exit code 1 if badly."),
    ] = False,
) -> None:
    """Print what a job's driver has said; Ctrl-C ends the printing, not the job."""
    with exit_codes():
        from orchestrator.cluster.jobs import job_logs, job_succeeded

        for text in job_logs(job, address, follow):
            stdout.out(text, highlight=False, end="")
        if follow and not job_succeeded(job, address):
            raise typer.Exit(1)


def stop(job: Job, address: Address = HERE, json: Json = False) -> None:
    """Stop a job; what is finished is kept, and submitting the sweep again goes on."""
    with exit_codes(json):
        from orchestrator.cluster.jobs import stop_job
        from orchestrator.cluster.jobs_view import render_stopped

        emit(stop_job(job, address), json, render_stopped)


def add_job_verbs(app: typer.Typer) -> None:
    """Put the verbs of Ray jobs on the root command."""
    handed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(context_settings=handed_on)(submit)
    for verb in (jobs, logs, stop):
        app.command()(verb)
