"""The command line of ``fatefront exits``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.completion import complete_sweep, one_of
from orchestrator.console import emit, exit_codes


def exits(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of a sweep.", metavar="DIR", file_okay=False,
            autocompletion=complete_sweep,
        ),
    ],
    key: Annotated[str | None, typer.Option(help="Only the model of this trial.")] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            help="Probability from which an exit decides, once each; if not given: the paper's "
            "six and each model's own."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, or auto: the GPU if any.",
            autocompletion=one_of("cpu", "cuda", "auto"),
        ),
    ] = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")
    ] = False,
) -> None:
    """Say where images leave the nets of baseline multi_exit, and how often each exit is right.

    By threshold, over all images of the validation split and by group.
    """
    with exit_codes(json):
        from orchestrator.exits.exits import ExitsOptions, sweep_exits
        from orchestrator.exits.view import render_exits

        options = ExitsOptions(key, tuple(threshold or ()), device)
        emit(sweep_exits(folder, options), json, render_exits)
