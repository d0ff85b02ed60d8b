"""Files in a folder, a shared folder or an object store, under one URI: whole, never renamed.

fsspec speaks to all of them. What is added here: a put that creates or refuses (S3's
``If-None-Match: *``, Google's ``ifGenerationMatch=0``, a hard link in a folder), patience with an
object store that is away for a while, and errors of one line.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import fsspec

from trainables.errors import FULL, UserError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Scheme of a URI -> extra of this package that can speak it."""

CLIENTS = {
    "aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "requests", "s3fs",
    "urllib3",
}  # fmt: skip
"""Packages whose exceptions mean that the object store did not answer as hoped."""

PATIENCE = 600.0
"""Seconds for which an operation on an object store is tried again before it is given up."""
MAX_PAUSE = 30.0
LASTING = (errno.ENOENT, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOSYS)
"""What trying again does not change."""

Answer = TypeVar("Answer")


class StorageError(OSError):
    """An object store cannot be reached, refuses or has a fault; ``strerror`` is one line."""


class Storage:
    """Whole files under a URI. Paths are those of the file system, below ``root``.

    A file that is missing is a ``FileNotFoundError``. Whatever else is wrong with an object store
    is a ``StorageError``, after ``patience`` seconds of trying where that may help; with a folder
    it is an ``OSError``.
    """

    def __init__(self, uri: str, *, patience: float = PATIENCE) -> None:
        scheme = uri.partition("://")[0] if "://" in uri else ""
        # without it gcsfs asks for the kind of bucket first, which needs a further permission
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        if "\0" in uri:
            raise UserError(f"{uri!r} is no name of a folder: it has a null character")
        try:
            # a listing kept from before would hide what another machine has written since
            self.fs, self.root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        except ImportError as error:
            extra = EXTRAS.get(scheme)
            advice = f"pip install 'fatefront[{extra}]'" if extra else str(error)
            raise UserError(f"{uri}: needs a package that is not installed: {advice}") from None
        except ValueError as error:
            raise UserError(f"{uri}: {str(error).splitlines()[0]}") from None
        protocols = self.fs.protocol
        self.is_local = "file" in ([protocols] if isinstance(protocols, str) else protocols)
        self.uri = self.root if self.is_local else uri
        self.patience = patience

    def read(self, path: str) -> bytes:
        """The content of a file."""
        return bytes(self._patiently(lambda: self.fs.cat_file(path)))

    def read_all(self, paths: list[str]) -> list[bytes]:
        """The contents of several files, asked for at once where the file system can."""
        if not paths:
            return []
        found = self._patiently(lambda: self.fs.cat(paths, on_error="raise"))
        return [bytes(found[path]) for path in paths]

    def put(self, path: str, data: bytes) -> None:
        """Write a file, over an older one if there is one."""
        if self.is_local:
            write_whole(Path(path), data)
        else:
            self._patiently(lambda: self._put_object(path, data))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create a file whole, or return False where another one is; of several writers one wins.

        Where the very same content is there already it counts as put: the answer to a first try
        may have been lost, and a second is then refused by the file of the first.
        """
        create = _create_locally if self.is_local else self._create_object
        return self._patiently(lambda: create(path, data)) or self._holds(path, data)

    def _create_object(self, path: str, data: bytes) -> bool:
        try:
            self._put_object(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if _precondition_failed(error):
                return False
            raise
        return True

    def _put_object(self, path: str, data: bytes, **options: str) -> None:
        try:
            self.fs.pipe_file(path, data, **options)
        except FileNotFoundError as error:  # not of the file, which is only being made
            raise StorageError(errno.ENOENT, f"{self.uri}: {_line(error)}") from error

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self.read(path) == data
        except FileNotFoundError:
            return False

    def remove(self, path: str) -> bool:
        """Remove a file; returns False where a folder had none (an object store does not say)."""
        try:
            self._patiently(lambda: self.fs.rm_file(path))
        except FileNotFoundError:
            return False
        return True

    def remove_empty(self, folder: str) -> None:
        """Remove a folder that holds nothing; an object store has no folders."""
        if self.is_local:
            with contextlib.suppress(OSError):
                Path(folder).rmdir()

    def exists(self, path: str) -> bool:
        """Whether there is a file."""
        return bool(self._patiently(lambda: self.fs.isfile(path)))

    def sizes(self, folder: str) -> dict[str, int]:
        """Path -> bytes of every file below a folder; empty where there is no such folder."""
        found = self._patiently(lambda: self.fs.find(folder, detail=True))
        return {str(path): int(entry["size"]) for path, entry in found.items()}

    def _patiently(self, operation: Callable[[], Answer]) -> Answer:
        """Do it; try an object store again that is away, throttles or has a fault of its own."""
        deadline, pause = time.monotonic() + self.patience, 1.0
        while True:
            try:
                with self._in_one_line():
                    return operation()
            except OSError as error:
                left = deadline - time.monotonic()
                if self.is_local or _lasts(error) or left <= 0:
                    raise
            time.sleep(min(pause, left))
            pause = min(MAX_PAUSE, 2 * pause)

    @contextlib.contextmanager
    def _in_one_line(self) -> Iterator[None]:
        """Errors of the clients become OSErrors of one line that begins with the URI."""
        try:
            yield
        except OSError as error:
            known = isinstance(error, FileNotFoundError | FileExistsError | StorageError)
            if self.is_local or known or _precondition_failed(error):
                raise
            refused = isinstance(error, PermissionError)
            number = error.errno or (errno.EACCES if refused else errno.EIO)
            raise StorageError(number, f"{self.uri}: {_line(error)}") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in CLIENTS:
                raise
            number = errno.EACCES if "Credential" in type(error).__name__ else errno.EIO
            raise StorageError(number, f"{self.uri}: {_line(error)}") from error


def reason(error: OSError) -> str:
    """What an operation failed of, in words."""
    return error.strerror or _line(error)


def _line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:300] or type(error).__name__


def _lasts(error: OSError) -> bool:
    lasting = (FileNotFoundError, FileExistsError, PermissionError)
    return isinstance(error, lasting) or error.errno in LASTING


def _precondition_failed(error: OSError) -> bool:
    """Whether an S3 server that names no condition in its answer refused to overwrite."""
    response = getattr(error.__cause__, "response", None) or {}
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code in ("PreconditionFailed", "412")


def write_whole(target: Path, data: bytes) -> None:
    """Write a file of a folder. Who reads at the same time sees the old content or the new one,
    whole; a write that fails leaves the old one and no draft.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with _named(target):
            draft.write_bytes(data)
            _rename(draft, target, data)
    finally:
        draft.unlink(missing_ok=True)


def _rename(draft: Path, target: Path, data: bytes) -> None:
    """On NFS the answer may get lost: the client asks again, and the draft is no longer there."""
    try:
        draft.replace(target)
    except FileNotFoundError:
        if draft.exists() or not target.exists() or target.read_bytes() != data:
            raise


@contextlib.contextmanager
def _named(target: Path) -> Iterator[None]:
    """What cannot be written is named; a write that fails does not say of which file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error


def _create_locally(path: str, data: bytes) -> bool:
    """Atomic in a folder, on NFS too: a draft is linked to its name, which fails where one is."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with _named(target), draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return _linked(draft, target, data)
    finally:
        draft.unlink(missing_ok=True)


def _linked(draft: Path, target: Path, data: bytes) -> bool:
    try:
        os.link(draft, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in FULL:
            raise
        # a shared folder without hard links: whole files, but seen as they grow
        try:
            with target.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        except OSError as failure:
            target.unlink(missing_ok=True)  # it would be taken for the whole
            raise OSError(failure.errno, failure.strerror, str(target)) from failure
    return True
