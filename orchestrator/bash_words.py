"""Completion of words with a colon or an equals sign in bash.

bash takes these for ends of words (``COMP_WORDBREAKS``): for ``run ham10000:me`` it asks about
``run``, ``ham10000``, ``:``, ``me`` and replaces only ``me``. Typer's script hands that on as it
is, so the words are joined again before the command line sees them, and what stands before the
last piece is taken from the answers.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable


def joined(words: list[str], place: int) -> tuple[list[str], str]:
    """The words up to the asked one as they were typed, and what bash keeps of that one.

    ``words`` are bash's, ``place`` is the index of the asked one; it is empty beyond the end.
    A space beside a colon cannot be known here; no word of ours has one.
    """
    typed: list[str] = []
    kept, open_end = "", False
    for k, word in enumerate([*words[:place], words[place] if place < len(words) else ""]):
        breaks = bool(word) and not word.strip(":=")
        if typed and (breaks or open_end):
            before = typed.pop()
            kept = before + word if breaks else before
            typed.append(before + word)
        else:
            typed.append(word)
            kept = ""
        open_end = breaks and k > 0
    return typed, kept


def answer(app: Callable[..., object]) -> None:
    """Answer bash's question in the environment, as Typer would, and exit as it does."""
    words, place = os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"])
    typed, kept = joined(words, place)
    os.environ |= {"COMP_WORDS": "\n".join(typed), "COMP_CWORD": str(len(typed) - 1)}
    found = io.StringIO()
    try:
        with contextlib.redirect_stdout(found):
            app(prog_name="fatefront")
    finally:
        for line in found.getvalue().splitlines():
            print(line.removeprefix(kept))
