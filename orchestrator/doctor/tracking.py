"""Whether MLflow, wherever it is, can be reached; passwords are never shown."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from orchestrator.doctor.finding import Finding, fail, ok, warn
from orchestrator.doctor.places import try_folder

PATIENCE = 10
CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def check_tracking(uri: str | None) -> Finding:
    """A server, a database, a file; None: each sweep's own file."""
    if uri is None:
        return ok("tracking", "each sweep has its own MLflow database in its folder")
    if uri == "none":
        return ok("tracking", "off")
    shown = without_password(uri)
    if urlsplit(uri).password:
        message = f"the URI of {shown} holds a password"
        return fail("tracking", message, f"leave it out; {CREDENTIALS}")
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in ("http", "https"):
        return _server(uri.rstrip("/"), shown)
    if scheme == "sqlite":
        return _file(Path("/" + uri.partition("://")[2].lstrip("/")), uri)
    if scheme == "postgresql":
        return _database(uri, shown)
    return fail("tracking", f"{shown} is no server and no database",
                "http://HOST:PORT, sqlite:////PATH/mlflow.db, postgresql://...")  # fmt: skip


def without_password(uri: str) -> str:
    """The URI without user and password."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _server(uri: str, shown: str) -> Finding:
    import requests

    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    auth = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
    url = f"{uri}/api/2.0/mlflow/experiments/search"
    try:
        answer = requests.post(url, json={"max_results": 1}, auth=auth, timeout=PATIENCE)
    except requests.Timeout:
        return fail("tracking", f"{shown} does not answer in {PATIENCE} s",
                    "is it the right address; does a firewall stand between?")  # fmt: skip
    except requests.RequestException as error:
        return fail("tracking", f"{shown} cannot be reached ({type(error).__name__})",
                    "start it (`fatefront server`), or check host, port and tunnel")  # fmt: skip
    if answer.status_code == 401:
        return fail("tracking", f"{shown} asks for a password", CREDENTIALS)
    if answer.status_code == 403:
        return fail("tracking", f"{shown} refuses (403)",
                    "start it with --allowed-hosts HOST, or ask for the permission")  # fmt: skip
    if not answer.ok or not answer.text.lstrip().startswith("{"):
        return fail("tracking", f"{shown} answers {answer.status_code}, but not as MLflow does",
                    "check host, port and path")  # fmt: skip
    return _versions(uri, shown, auth)


def _versions(uri: str, shown: str, auth: tuple[str, str] | None) -> Finding:
    """The server's version beside ours."""
    from importlib.metadata import version

    import requests

    ours = version("mlflow")
    try:
        theirs = requests.get(f"{uri}/version", auth=auth, timeout=PATIENCE).text.strip()[:20]
    except requests.RequestException:
        theirs = "unknown"
    if theirs.split(".")[0] != ours.split(".")[0]:
        return warn("tracking", f"{shown} is MLflow {theirs}, here is {ours}",
                    f"pip install 'mlflow=={ours}' there")  # fmt: skip
    return ok("tracking", f"{shown} answers (MLflow {theirs})")


def _file(path: Path, uri: str) -> Finding:
    import sqlite3

    problem = try_folder(path.parent)
    if problem is not None:
        return fail("tracking", problem, "choose another file, or chown the folder")
    if not path.exists():
        return ok("tracking", f"{uri}: will be made")
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE) as database:
            (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
        database.close()
    except sqlite3.Error as error:
        state = str(error)
    if state != "ok":
        return fail("tracking", f"{uri} is damaged: {state}"[:200],
                    "move it away: `run` fills a new one from the ledger")  # fmt: skip
    return ok("tracking", f"{uri} can be used")


def _database(uri: str, shown: str) -> Finding:
    from orchestrator.tracking.server_checks import check_backend
    from trainables.errors import UserError

    try:
        check_backend(uri)
    except UserError as error:
        line = str(error).removeprefix("--backend-store-uri").lstrip(": ")
        return fail("tracking", line, "check host, database and PGPASSWORD or ~/.pgpass")
    return ok("tracking", f"{shown} answers")
