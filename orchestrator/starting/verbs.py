"""The command line of the first steps: ``doctor``, ``init``, ``schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.completion import complete_table
from orchestrator.console import emit, exit_codes, stdout
from orchestrator.space_names import complete_space

Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")
]


def doctor(
    space: Annotated[
        str | None,
        typer.Argument(
            help="What is to be run: its data, and its needs of memory and disk.",
            autocompletion=complete_space,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of sweeps.")] = Path("runs"),
    store: Annotated[
        str | None, typer.Option(envvar="FATEFRONT_STORE", help="Where nodes will live.")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(envvar="FATEFRONT_TRACKING_URI", help="MLflow's.")
    ] = None,
    json: Json = False,
) -> None:
    """Say whether this machine can run sweeps, and what to do where it cannot.

    Exit code 1 where something failed.
    """
    with exit_codes(json):
        from orchestrator.doctor.doctor import examine, render_examined

        document = examine(space, out, store, tracking_uri)
        emit(document, json, render_examined)
        if document["exit_code"]:
            raise typer.Exit(document["exit_code"])


def init(
    table: Annotated[
        Path,
        typer.Argument(help="CSV or Parquet, one row an image.", autocompletion=complete_table),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; if not given: it is looked for.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="YAML to write; if not given: TABLE's name here.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Column of the image's path.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the class.")] = None,
    attribute: Annotated[
        str | None, typer.Option(help="Column of the sensitive attribute.")
    ] = None,
    patient: Annotated[str | None, typer.Option(help="Column of the patient or lesion.")] = None,
    json: Json = False,
) -> None:
    """Write a commented space for a table of one's own, from looking at it.

    Says what it guessed and what it did not know; the options say it better.
    """
    with exit_codes(json):
        from orchestrator.starting.guess import Given
        from orchestrator.starting.init import init_space, render_init

        given = Given(image, label, attribute, patient)
        emit(init_space(table, images, out, given), json, render_init)


def schema(
    to: Annotated[Path | None, typer.Option(help="File to write; if not given: stdout.")] = None,
) -> None:
    """Print the JSON Schema of spaces in YAML, for editors; parts of other packages included."""
    with exit_codes():
        from orchestrator.starting.schema import schema_text, write_schema

        if to is None:
            stdout.out(schema_text(), highlight=False, end="")
        else:
            stdout.print(write_schema(to), markup=False, soft_wrap=True)


def add_start_verbs(app: typer.Typer) -> None:
    """Put them on the root command."""
    for verb in (doctor, init, schema):
        app.command()(verb)
