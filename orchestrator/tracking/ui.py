"""``fatefront ui``: the pages on which a sweep's runs are compared, until Ctrl-C.

MLflow's own pages over the sweep's database, and Optuna's dashboard over the study that the ledger
rebuilds; both on this machine alone.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestrator.command import without_users
from orchestrator.ledger.manifest import read_manifest
from orchestrator.ledger.records import is_running
from orchestrator.tracking.client import TrackingError, quiet, tracking_errors
from orchestrator.tracking.process import default_uri
from orchestrator.tracking.server import ServerOptions, plan_server
from orchestrator.tracking.server_checks import check_port
from orchestrator.tracking.server_process import Server, until_interrupted
from orchestrator.tracking.up_to_date import bring_up_to_date
from orchestrator.tracking.view import CHART, LEVEL, TABLE, TAG, page_of, run_page
from trainables.errors import UserError

HERE = "127.0.0.1"
PORT, OPTUNA_PORT = 5000, 8080
NEAR = 50
"""Ports above that are tried where the usual one is taken."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class UiOptions:
    """The verb's options; a port that is None: the usual one, or the next that is free."""

    folder: Path
    port: int | None = None
    optuna: bool = False
    optuna_port: int | None = None
    open_page: bool = True


def show(options: UiOptions, say: Say) -> None:
    """Bring MLflow up to date, start the servers, say where they are, and wait for Ctrl-C.

    Raises:
        UserError: no sweep, a port that was asked for and is taken, a package that is missing, a
            server that does not come up.
    """
    folder = options.folder
    manifest = read_manifest(folder)
    if options.optuna and find_spec("optuna_dashboard") is None:
        raise UserError("--optuna needs a package: pip install 'fatefront[dashboard]'")
    uri = manifest.get("tracking_uri") or ""
    uri = default_uri(folder) if uri in ("", "none") else uri
    if uri.startswith("sqlite:"):
        _up_to_date(folder, uri, say)
    with tempfile.TemporaryDirectory(prefix="fatefront-ui-") as scratch:
        servers = []
        address = without_users(uri.rstrip("/"))
        if not uri.startswith(("http://", "https://")):
            port = _port("--port", options.port, PORT, say)
            plan = plan_server(
                ServerOptions(
                    folder, uri, str((folder / "mlartifacts").absolute()), HERE, port, workers=1
                )
            )
            address = plan.address
            health = f"{address}/health"
            log = folder / "ui.log"
            # its job runners, 250 MB each, are for features that a sweep has no use for
            environment = plan.environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            servers.append(Server("MLflow", plan.command, environment, health, log))
        told = _pages(uri, address, str(manifest["sweep"]))
        if options.optuna:
            port = _port("--optuna-port", options.optuna_port, OPTUNA_PORT, say)
            servers.append(_dashboard(folder, port, Path(scratch)))
            told.append(("Optuna:", f"http://{HERE}:{port}/dashboard/studies/1"))

        def ready() -> None:
            say("\n".join(f"{name:<9}{place}" for name, place in told))
            say("Ctrl-C ends it" if servers else "(a server of its own: nothing to end here)")
            if options.open_page:
                _open(told[0][1], say)

        if servers:
            until_interrupted(servers, ready)
            say("ended")
        else:
            ready()


def _up_to_date(folder: Path, uri: str, say: Say) -> None:
    """What the ledger has and MLflow has not."""
    if is_running(folder):
        return
    say("bringing MLflow up to date ...")
    try:
        bring_up_to_date(folder, uri)
    except TrackingError as error:
        say(f"note: not up to date: {error}")


def _pages(uri: str, address: str, name: str) -> list[tuple[str, str]]:
    """What is said: the front as a chart, the table of configurations, the sweep's own run with
    description and report; without the shared views (the sweep is not over yet) the experiment's
    runs.
    """
    with quiet(), _OneLine(uri):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return [("MLflow:", address)]
        number = str(experiment.experiment_id)
        sweeps = client.search_runs([number], f"tags.{LEVEL} = 'sweep'", max_results=1)
    if f"{TAG}{CHART}" not in experiment.tags:
        return [("runs:", f"{address}/#/experiments/{number}/runs")]
    return [
        ("front:", page_of(address, number, CHART)),
        ("table:", page_of(address, number, TABLE)),
        *(("sweep:", run_page(address, number, run.info.run_id)) for run in sweeps),
    ]


class _OneLine:
    """``tracking_errors`` as the user's mistake: MLflow cannot be reached."""

    def __init__(self, uri: str) -> None:
        self.inner = tracking_errors(uri)

    def __enter__(self) -> None:
        self.inner.__enter__()

    def __exit__(self, *about: Any) -> bool | None:
        try:
            return self.inner.__exit__(*about)
        except TrackingError as error:
            raise UserError(str(error)) from None


def _port(option: str, asked: int | None, usual: int, say: Say) -> int:
    """The port asked for, or the first free one from the usual one on."""
    if asked is not None:
        check_port(HERE, asked)
        return asked
    for port in range(usual, usual + NEAR):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HERE, port))
            except OSError:
                continue
        if port != usual:
            say(f"note: port {usual} is taken, {port} is used ({option} names another)")
        return port
    raise UserError(f"ports {usual} to {usual + NEAR - 1} are all taken: name one by {option}")


def _dashboard(folder: Path, port: int, scratch: Path) -> Server:
    """Optuna's dashboard over the study that the ledger rebuilds."""
    import optuna

    from orchestrator.report.facts import gather
    from orchestrator.report.study import rebuilt_study

    facts = gather(folder)
    storage = f"sqlite:///{scratch / 'study.db'}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.copy_study(
        from_study_name=(study := rebuilt_study(facts)).study_name,
        from_storage=study._storage,
        to_storage=storage,
        to_study_name=str(facts.manifest["sweep"]),
    )
    command = [
        sys.executable, "-c", "from optuna_dashboard._cli import main; main()", storage,
        "--host", HERE, "--port", str(port), "--server", "wsgiref", "--quiet",
    ]  # fmt: skip
    health = f"http://{HERE}:{port}/api/studies"
    return Server("Optuna's dashboard", command, os.environ, health, folder / "ui.log")


def _open(page: str, say: Say) -> None:
    """In the desktop's browser; a text browser in this terminal would be in the way."""
    is_desktop = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not is_desktop or not webbrowser.open(page):
        say("no desktop here: open it in a browser; from afar with ssh -L PORT:127.0.0.1:PORT")
