"""What the user sees: results on stdout (one JSON document with ``--json``), everything else on
stderr; exit codes.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from orchestrator.running import terminated
from orchestrator.wrapped_table import fitted
from trainables.errors import UserError, room_missing

OK, OURS, USERS, INTERRUPTED = 0, 1, 2, 130
TERMINATED = 143
"""128 and the number of SIGTERM, as shells have it."""

LONGEST_LINE = 3_900

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def emit(document: dict[str, Any], as_json: bool, render: Callable[[dict[str, Any]], Any]) -> None:
    """Print a verb's result: one JSON document, or what ``render`` makes of it for people.

    Names that begin with an underscore are for ``render`` alone.
    """
    if as_json:
        public = {name: value for name, value in document.items() if not name.startswith("_")}
        sys.stdout.write(json.dumps(public, indent=1, allow_nan=False) + "\n")
    else:
        shown = fitted(render(document), stdout.width)
        # lines are not folded: paths and commands are there to be copied
        stdout.print(shown, crop=False, soft_wrap=isinstance(shown, str | Text))


def write_event(name: str, **fields: Any) -> None:
    """One JSON line on stderr (``log.json``), whole and at once: several threads may write."""
    document = {"time": round(time.time(), 3), "event": name} | fields
    sys.stderr.write(json.dumps(document, allow_nan=False) + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def exit_codes(
    as_json: bool = False, *, resumes: bool = False, json_log: bool = False
) -> Iterator[None]:
    """Turn exceptions into exit codes: 2 for the user's mistakes in one line, 1 with a traceback
    for ours, but for a full disk, which is ours and one line.

    Args:
        as_json: say it on stdout as a JSON document, too.
        resumes: the same command goes on where Ctrl-C stopped it, and the last line says so.
        json_log: what stands on stderr is JSON lines (``log.json``).
    """
    try:
        yield
    except UserError as error:
        raise typer.Exit(_say(str(error), USERS, as_json, json_log)) from None
    except KeyboardInterrupt:
        by_signal = terminated.came()
        message = "ended by SIGTERM" if by_signal else "interrupted"
        if resumes:
            command = shlex.join(["fatefront", *sys.argv[1:]])
            message += f"; all that was finished is kept; go on with: {command}"
        code = TERMINATED if by_signal else INTERRUPTED
        raise typer.Exit(_say(message, code, as_json, json_log)) from None
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise  # a closed pipe (`| head`) is the reader's business
    except Exception as error:
        if (missing := room_missing(error)) is not None:
            message = f"disk full: {missing}"
            if resumes:
                message += "; all that was finished is kept: make room, then the same command"
            raise typer.Exit(_say(message, OURS, as_json, json_log)) from None
        if not json_log:
            traceback.print_exc()
        line = f"{type(error).__name__}: {error}"
        raise typer.Exit(_say(line, OURS, as_json, json_log, traceback.format_exc())) from None


def _say(
    message: str, code: int, as_json: bool, json_log: bool = False, trace: str | None = None
) -> int:
    """One line on stderr and, with ``--json``, the same as the document; returns the code."""
    message = _printable(" ".join(message.split()))
    if json_log:
        write_event("error", message=message, exit_code=code, traceback=trace)
    else:
        stderr.print(
            f"error: {message}" if code not in (INTERRUPTED, TERMINATED) else message,
            style="bold red",
            markup=False,
            soft_wrap=True,
        )
    if as_json:
        sys.stdout.write(json.dumps({"error": message, "exit_code": code}) + "\n")
    return code


def _printable(text: str) -> str:
    """Without characters that would steer the terminal or turn the direction of reading; they come
    from names of files and cells of tables.
    """
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= LONGEST_LINE else f"{shown[:LONGEST_LINE]}..."


class Verbs(TyperGroup):
    """The root command; a mistake in options or arguments is one line and exit code 2, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """No arguments at all: the help."""
        return super().parse_args(ctx, args or ["--help"])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse and run, then leave with the exit code."""
        given = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(
                given, prog_name, complete_var, False, windows_expand_args, **extra
            )
        except Exception as error:
            if not hasattr(error, "format_message"):  # only errors of parsing have one
                raise
            message = str(error.format_message()).rstrip(".")
            context = getattr(error, "ctx", None)
            place = context.command_path if context is not None else "fatefront"
            message = message[:1].lower() + message[1:] + _value(error, given)
            code = _say(f"{message} ({place} --help says more)", USERS, "--json" in given)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else OK)


def _value(error: Any, given: list[str]) -> str:
    """`` but got 'abc'`` where an option's value did not parse; the parser leaves it out."""
    for option in getattr(getattr(error, "param", None), "opts", ()):
        for word, following in zip(given, [*given[1:], ""], strict=True):
            if word == option and following:
                return f" but got {following!r}"
            if word.startswith(f"{option}="):
                return f" but got {word.partition('=')[2]!r}"
    return ""
