"""The command line of watching a sweep."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.completion import complete_sweep, one_of
from orchestrator.console import emit, exit_codes, write_event

LogFormat = Annotated[
    str,
    typer.Option(
        metavar="text|json", help="Of what is said on stderr: lines, or JSON lines.",
        autocompletion=one_of("text", "json"),
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")
]


def watch(
    where: Annotated[
        str,
        typer.Argument(
            help="Folder of a sweep, or STORE/sweeps/NAME of any store.", metavar="DIR|URI",
            autocompletion=complete_sweep,
        ),
    ],
    log_format: LogFormat = "text",
    json: Json = False,
) -> None:
    """Watch a sweep that runs elsewhere until it ends; nothing is written, any number may watch.

    With --json: one look.
    """
    with exit_codes(json, json_log=log_format == "json"):
        from orchestrator.watching.log import parse_format
        from orchestrator.watching.watch import look
        from orchestrator.watching.watch import watch as follow

        if json:
            emit(look(where), json, str)
        else:
            follow(where, parse_format(log_format))
        if log_format == "json":
            write_event("ended", exit_code=0)
