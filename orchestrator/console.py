"""What the user sees: results on stdout (one JSON document with ``--json``), everything else on
stderr; exit codes.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import typer
from rich.console import Console

from trainables.errors import UserError

OK, OURS, USERS, INTERRUPTED = 0, 1, 2, 130

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def emit(document: dict[str, Any], as_json: bool, render: Callable[[dict[str, Any]], Any]) -> None:
    """Print a verb's result: one JSON document, or what ``render`` makes of it for people.

    Names that begin with an underscore are for ``render`` alone.
    """
    if as_json:
        shown = {name: value for name, value in document.items() if not name.startswith("_")}
        sys.stdout.write(json.dumps(shown, indent=1, allow_nan=False) + "\n")
    else:
        stdout.print(render(document))


@contextlib.contextmanager
def exit_codes(as_json: bool = False, how_to_go_on: str = "") -> Iterator[None]:
    """Turn exceptions into exit codes: 2 for the user's mistakes in one line, 1 with a traceback
    for ours.
    """
    try:
        yield
    except UserError as error:
        _fail(str(error), USERS, as_json)
    except KeyboardInterrupt:
        _fail(f"interrupted; all that was finished is kept{how_to_go_on}", INTERRUPTED, as_json)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {error}", OURS, as_json)


def _fail(message: str, code: int, as_json: bool) -> None:
    stderr.print(
        f"error: {message}" if code != INTERRUPTED else message,
        style="bold red",
        markup=False,
        soft_wrap=True,
    )
    if as_json:
        sys.stdout.write(json.dumps({"error": message, "exit_code": code}) + "\n")
    raise typer.Exit(code)
