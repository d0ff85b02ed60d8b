"""``fatefront schema``: the JSON Schema of a space written as YAML."""

from __future__ import annotations

from pathlib import Path

from search_spaces.json_schema import as_text, space_schema
from trainables.errors import UserError


def schema_text() -> str:
    """The schema with all parts that are installed."""
    return as_text(space_schema())


def write_schema(to: Path) -> str:
    """Write it; returns the line that tells editors of it.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        to.write_text(schema_text())
    except OSError as error:
        raise UserError(f"--to {to}: {error.strerror}") from None
    return editor_line(str(to.absolute()))


def editor_line(path: str) -> str:
    """First line of a space, by which editors with a YAML language server find its schema."""
    return f"# yaml-language-server: $schema={path}"
