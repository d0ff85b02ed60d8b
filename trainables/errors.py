"""What goes wrong, and one line of what others say about it."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
"""No room in the file system, or none within one's quota."""


class UserError(Exception):
    """A mistake of the user's: one line with the value, the limit and the place; exit code 2."""


class DiskFull(Exception):
    """There was no room for what had to be written: one line; exit code 1, and with room again the
    same command goes on.
    """


def room_missing(error: BaseException | None) -> str | None:
    """What a write failed of, in words, where the disk was full or a quota used up; else None.

    What an error was raised from counts: a writer may wrap it in one of its own.
    """
    while error is not None:
        if isinstance(error, DiskFull):
            return str(error)
        if isinstance(error, OSError) and error.errno in FULL:
            place = f": {error.filename}" if error.filename else ""
            return f"{error.strerror}{place}"
        error = error.__cause__
    return None


LONGEST_VALUE = 120


def shortened(value: object) -> str:
    """A user's value as it is shown in a line: its ``repr``, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of 5,000 digits, a list in itself
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def first_line(text: str, otherwise: str = "") -> str:
    """The first line of a message that has any."""
    return (text.strip().splitlines() or [otherwise])[0]


def last_line(text: str, otherwise: str = "") -> str:
    """The last line of one, where a trace of several processes ends in the reason."""
    return (text.strip().splitlines() or [otherwise])[-1]
