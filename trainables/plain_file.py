"""Reading a file that a user named: an ordinary one, of a size that fits in memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainables.errors import UserError

MAX_TEXT_BYTES = 4 << 20
"""Of a file that a person writes: a space, a trial, a card."""


def read_plain(path: Path, max_bytes: int) -> bytes:
    """The bytes of an ordinary file.

    A pipe would be waited for without end, a device read without end; both are refused unread.

    Raises:
        OSError: it is not there, may not be read, is no ordinary file, or holds more than
            ``max_bytes``; ``strerror`` says which.
    """
    check_plain(path)
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(0, f"more than {max_bytes >> 20} MB, the limit", str(path))
    return data


def check_plain(path: Path | str) -> os.stat_result:
    """The status of an ordinary file.

    Raises:
        OSError: as ``read_plain``.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise OSError(0, "a folder, not a file", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "no ordinary file (a pipe or a device)", str(path))
    return found


def read_user_text(path: Path, what: str) -> str:
    """The text of a small file in UTF-8; a byte order mark at its start is no part of it.

    Raises:
        UserError: as ``read_plain``, or not UTF-8; the line begins with ``what``.
    """
    try:
        return read_plain(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{what}: no such file {str(path)!r}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not a text file in UTF-8 (byte {error.start + 1} is "
            f"0x{error.object[error.start]:02x})"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # a null character in the name
        raise UserError(f"{what}: {str(path)!r} is no name of a file ({error})") from None
