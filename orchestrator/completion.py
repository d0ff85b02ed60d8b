"""What the shell completes besides spaces: fixed values, folders of sweeps, tables.

Nothing heavy is imported, for the shell asks at every TAB. Values are offered, not enforced: the
verbs check them and say what is wrong in their own words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

TABLES = (".csv", ".parquet")


def one_of(*values: str) -> Callable[[str], list[str]]:
    """A completion for something with a fixed set of values."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def complete_sweep(incomplete: str) -> list[str]:
    """Folders of sweeps, and folders that may lead to some (these end in a slash)."""
    return _leading_to(incomplete, is_sweep)


def complete_table(incomplete: str) -> list[str]:
    """CSV and Parquet files, and folders that may lead to some (these end in a slash)."""
    return _leading_to(incomplete, lambda path: path.suffix.lower() in TABLES)


def is_sweep(folder: Path) -> bool:
    """Whether there is a sweep in a folder."""
    return (folder / "manifest.json").is_file()


def beside(incomplete: str) -> list[tuple[str, Path]]:
    """Files and folders that a word may become: as the shell would write them, and their paths.

    Hidden ones are left out, folders end in a slash; none where the folder cannot be read.
    """
    folder, slash, begun = incomplete.rpartition("/")
    try:
        found = sorted(Path(folder + slash or ".").expanduser().iterdir())
    except (OSError, RuntimeError):  # the latter: no such user after ~
        return []
    return [
        (f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}", path)
        for path in found
        if path.name.startswith(begun) and not path.name.startswith(".")
    ]


def _leading_to(incomplete: str, wanted: Callable[[Path], bool]) -> list[str]:
    """What is wanted, and folders; where one folder is all there is, what lies in it: a shell
    would put a space behind that folder.
    """
    found = []
    for word, path in beside(incomplete):
        if wanted(path):
            found.append(word.rstrip("/"))
        elif path.is_dir():
            found.append(word)
    if len(found) == 1 and found[0].endswith("/"):
        return _leading_to(found[0], wanted) or found
    return found
