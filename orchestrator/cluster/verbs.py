"""The command line of clusters: ``fatefront cluster check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.console import Verbs, emit, exit_codes

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
