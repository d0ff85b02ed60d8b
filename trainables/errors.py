"""What goes wrong, and one line of what others say about it."""


class UserError(Exception):
    """A mistake of the user's: one line with the value, the limit and the place; exit code 2."""


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
