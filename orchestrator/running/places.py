"""Whether a sweep can be written where it is asked to be, before any image is read."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.ledger.storage_probe import probe
from orchestrator.search.disk import nearest_existing
from trainables.errors import UserError, shortened
from trainables.storage import Storage


def check_places(folder: Path, store: str, tracking_uri: str, address: str | None) -> None:
    """Find out where nothing can be written before any image is read.

    Raises:
        UserError: a folder that cannot be made or written, or a URI that nothing here understands.
    """
    _check_writable(folder, "--out")
    try:
        storage = Storage(store, patience=0.0)
    except UserError as error:
        raise UserError(f"--store {error}") from None
    if storage.is_local:
        _check_writable(Path(storage.root), "--store")
    else:
        problem = probe(storage)
        if problem is not None:
            raise UserError(f"--store {store}: {problem}")
    scheme, separator, _ = tracking_uri.partition("://")
    if tracking_uri != "none" and (not separator or scheme == "file"):
        raise UserError(
            "--tracking-uri must be none, a database (sqlite:////PATH/mlflow.db) or a server "
            f"(http://HOST:PORT) but got {tracking_uri!r}"
        )
    if urlsplit(tracking_uri).password:
        raise UserError(
            "--tracking-uri holds a password, which would stand in the sweep's folder: use "
            "PGPASSWORD or ~/.pgpass, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if address is not None and address.startswith("ray://"):
        raise UserError(
            f"--address {address}: Ray Client is not supported, start this on the head with "
            "--address auto"
        )


def _check_writable(folder: Path, option: str) -> None:
    """Look at the folder, or at the first of its parents that is there.

    Raises:
        UserError: it cannot be made, or written.
    """
    try:
        found = nearest_existing(folder)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option} {shortened(str(folder))}: {reason}") from None
    if not found.is_dir():
        raise UserError(f"{option} {folder}: {found} is not a folder")
    if not os.access(found, os.W_OK | os.X_OK, effective_ids=True):
        raise UserError(f"{option} {folder}: {found} cannot be written")
