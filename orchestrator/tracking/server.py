"""``fatefront server``: MLflow's own server with a database, artifacts on any storage, and a
password wherever more than this machine can reach it; it ends with all that it started.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator.tracking.server_checks import (
    check_artifacts,
    check_auth,
    check_backend,
    check_port,
    is_loopback,
    write_auth,
)
from trainables.errors import UserError

START_SECONDS = 180.0
END_SECONDS = 15.0


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

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    with log.open("ab") as out:
        process = subprocess.Popen(
            plan.command, env=plan.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    seen: dict[int, psutil.Process] = {}
    try:
        _wait_ready(process, plan.address, log)
        say("\n".join([f"MLflow:    {plan.address}", *plan.told, f"log:       {log}"]))
        say(f"use it:    fatefront run SPACE --tracking-uri {plan.address}   (Ctrl-C ends it)")
        while process.poll() is None:
            _look(process, seen)
            time.sleep(1.0)
        raise UserError(f"MLflow's server ended by itself: {_last_line(log)} ({log})")
    except KeyboardInterrupt:
        say("ended")
    finally:
        _look(process, seen)
        _end(process, seen)
        signal.signal(signal.SIGTERM, before)


def _wait_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    address = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise UserError(f"MLflow's server did not start: {_last_line(log)} ({log})")
        with (
            contextlib.suppress(OSError),  # URLError is one
            urllib.request.urlopen(f"{address}/health", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.3)
    raise UserError(f"MLflow's server did not answer in {START_SECONDS:g} s (see {log})")


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")[:300]


def _look(process: subprocess.Popen[bytes], seen: dict[int, psutil.Process]) -> None:
    """Note what runs below it: some of MLflow's processes make sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            seen.setdefault(child.pid, child)


def _end(process: subprocess.Popen[bytes], seen: dict[int, psutil.Process]) -> None:
    """Ask first, then make sure."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    left = [child for child in seen.values() if child.is_running()]
    _, left = psutil.wait_procs(left, timeout=3)
    for child in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    if process.poll() is None:
        process.kill()
        process.wait()
