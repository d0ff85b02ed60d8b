"""What must be in order before MLflow's server starts: address, password, database, artifacts."""

from __future__ import annotations

import configparser
import ipaddress
import os
import socket
from importlib.util import find_spec
from pathlib import Path

from orchestrator.ledger.storage_probe import probe
from trainables.errors import UserError
from trainables.storage import Storage

USER, PASSWORD = "MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"
MIN_PASSWORD = 12


def is_loopback(host: str) -> bool:
    """Whether nothing outside this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_auth(host: str) -> None:
    """A password and the package that asks for it.

    Raises:
        UserError: one of them is missing.
    """
    why = "--auth" if is_loopback(host) else f"--host {host}: others can reach it, so it"
    if find_spec("flask_wtf") is None:
        raise UserError(f"{why} needs a package: pip install 'fatefront[server]'")
    if len(os.environ.get(PASSWORD, "")) < MIN_PASSWORD:
        raise UserError(
            f"{why} needs a password: set {PASSWORD} ({MIN_PASSWORD} characters or more; the user "
            f"is admin, or {USER})"
        )


def write_auth(folder: Path) -> Path:
    """The settings of MLflow's basic authentication; the password stays in the environment."""
    parser = configparser.ConfigParser(interpolation=None)
    parser["mlflow"] = {
        "default_permission": "NO_PERMISSIONS",  # nobody sees another one's runs unless allowed to
        "database_uri": f"sqlite:///{folder / 'users.db'}",
        "admin_username": os.environ.get(USER, "admin"),
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    path = folder / "auth.ini"
    with path.open("w") as file:
        parser.write(file)
    for private in (path, folder / "users.db"):
        private.touch()
        private.chmod(0o600)
    return path


def check_port(host: str, port: int) -> None:
    """An address that is free.

    Raises:
        UserError: it is not one, not of this machine, or taken.
    """
    if not 1 <= port <= 65535:
        raise UserError(f"--port must be from 1 to 65535 but got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"--host {host} --port {port}: {reason}") from None


def check_artifacts(place: str) -> None:
    """A place that can be written.

    Raises:
        UserError: it cannot.
    """
    try:
        problem = probe(Storage(place, patience=0.0))
    except UserError as error:
        raise UserError(f"--artifacts {error}") from None
    if problem is not None:
        raise UserError(f"--artifacts {place}: {problem}")


def check_backend(uri: str) -> str:
    """Connect to the database; returns its URI without a password.

    Raises:
        UserError: not SQLite or PostgreSQL, or it does not answer.
    """
    import sqlalchemy

    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in ("sqlite", "postgresql"):
        raise UserError(
            f"--backend-store-uri must be sqlite:////PATH or postgresql://USER@HOST/DATABASE but "
            f"got {uri.partition('@')[2] or uri!r}"
        )
    try:
        url = sqlalchemy.make_url(uri)
        shown = url.render_as_string(hide_password=True)
        if scheme == "sqlite":
            Path(url.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
        engine = sqlalchemy.create_engine(url)
        try:
            with engine.connect():
                pass
        finally:
            engine.dispose()
    except ModuleNotFoundError as error:
        raise UserError(
            f"--backend-store-uri: {scheme} needs {error.name}: pip install 'fatefront[server]'"
        ) from None
    except sqlalchemy.exc.ArgumentError:
        raise UserError("--backend-store-uri is not the URI of a database") from None
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        line = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
        raise UserError(f"--backend-store-uri {shown}: {line}") from None
    return shown
