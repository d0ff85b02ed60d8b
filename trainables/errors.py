"""What goes wrong, and one line of what others say about it."""


class UserError(Exception):
    """A mistake of the user's: one line with the value, the limit and the place; exit code 2."""


def first_line(text: str, otherwise: str = "") -> str:
    """The first line of a message that has any."""
    return (text.strip().splitlines() or [otherwise])[0]


def last_line(text: str, otherwise: str = "") -> str:
    """The last line of one, where a trace of several processes ends in the reason."""
    return (text.strip().splitlines() or [otherwise])[-1]
