"""``fatefront server``: MLflow's own server with a database, artifacts on any storage, and a
password wherever more than this machine can reach it; it ends with all that it started.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.tracking.server_checks import (
    check_artifacts,
    check_auth,
    check_backend,
    check_port,
    is_loopback,
    write_auth,
)
from orchestrator.tracking.server_process import Server, until_interrupted
from trainables.errors import UserError

WORKER_SECONDS = 60
"""How long a worker of the server may be silent before it is replaced. Its default of 5 is less
than a busy machine takes to import MLflow: workers would be replaced for ever.
"""


@dataclass(frozen=True)
class ServerOptions:
    """The verb's options; ``backend`` and ``artifacts`` lie in ``folder`` if not given."""

    folder: Path = Path("runs/server")
    backend: str | None = None
    artifacts: str | None = None
    host: str = "127.0.0.1"
    port: int = 5000
    auth: bool = False
    allowed_hosts: str | None = None
    workers: int = 2


@dataclass(frozen=True)
class Plan:
    """What is started: the command, the environment, and what people are told."""

    command: list[str]
    environment: dict[str, str]
    address: str
    told: list[str]


def plan_server(options: ServerOptions) -> Plan:
    """Check everything that can be wrong, write the settings of authentication.

    Raises:
        UserError: a database that is not SQLite or PostgreSQL or cannot be reached, a port in use,
            a host that others can reach without a password, a package that is not installed.
    """
    folder = options.folder.absolute()
    backend = options.backend or f"sqlite:///{folder / 'mlflow.db'}"
    artifacts = options.artifacts or str(folder / "mlartifacts")
    auth = options.auth or not is_loopback(options.host)
    if auth:
        check_auth(options.host)
    check_port(options.host, options.port)  # before anything is written
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--folder {folder}: {error.strerror}") from None
    check_artifacts(artifacts)
    shown = check_backend(backend)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", options.host,
        "--port", str(options.port), "--workers", str(options.workers),
        "--artifacts-destination", artifacts,
        "--uvicorn-opts", f"--timeout-worker-healthcheck {WORKER_SECONDS}",
    ]  # fmt: skip
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": backend,  # not an argument: it may hold a password
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    if options.allowed_hosts:
        command += ["--allowed-hosts", options.allowed_hosts]
    told = [f"backend:   {shown}", f"artifacts: {artifacts}"]
    if auth:
        command += ["--app-name", "basic-auth"]
        environment["MLFLOW_AUTH_CONFIG_PATH"] = str(write_auth(folder))
        environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_hex(32)
        told.append(
            "password:  asked for; sweeps find it in MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    if not is_loopback(options.host):
        told.append("note:      http is not encrypted: put a TLS proxy or an ssh tunnel before it")
    host = f"[{options.host}]" if ":" in options.host else options.host
    return Plan(command, environment, f"http://{host}:{options.port}", told)


def serve(plan: Plan, log: Path, say: Callable[[str], None]) -> None:
    """Run it until Ctrl-C or SIGTERM, then end it with all its children.

    Raises:
        UserError: it did not come up; the reason is in the log.
    """
    health = f"{plan.address}/health"
    server = Server("MLflow's server", plan.command, plan.environment, health, log)

    def ready() -> None:
        say("\n".join([f"MLflow:    {plan.address}", *plan.told, f"log:       {log}"]))
        say(f"use it:    fatefront run SPACE --tracking-uri {plan.address}   (Ctrl-C ends it)")

    until_interrupted([server], ready)
    say("ended")
