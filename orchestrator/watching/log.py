"""What is said while something runs, on stderr: lines for people, or JSON lines for programs."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from orchestrator.console import stderr, write_event
from trainables.errors import UserError

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")


class Log(Protocol):
    """Says what happens: as an event with fields, or as the line that stands for it."""

    def event(self, name: str, line: str | None = None, **fields: Any) -> None:
        """Say one thing; without a line people are told nothing."""
        ...


class TextLog:
    """Lines for people; ``quiet``: none."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet

    def event(self, name: str, line: str | None = None, **fields: Any) -> None:
        """Print the line."""
        if line is not None and not self._quiet:
            stderr.print(line, markup=False, soft_wrap=True)


class JsonLog:
    """One JSON object a line: ``time`` (Unix), ``event`` and its fields (``log.json``)."""

    def event(self, name: str, line: str | None = None, **fields: Any) -> None:
        """Write the event."""
        write_event(name, **fields)


def make_log(format: Format, quiet: bool = False) -> Log:
    """The log of a format; JSON is asked for by name and therefore never quiet."""
    return JsonLog() if format == "json" else TextLog(quiet)


def parse_format(text: str) -> Format:
    """``--log-format`` as typed.

    Raises:
        UserError: neither text nor json.
    """
    for known in FORMATS:
        if text == known:
            return known
    from trainables.data.parse import nearest

    raise UserError(f"--log-format must be text or json but got {text!r}{nearest(text, FORMATS)}")
