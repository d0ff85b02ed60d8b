"""What `fatefront server` refuses before it starts anything, each in one line."""

import socket

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.tracking.server import ServerOptions, plan_server
from orchestrator.tracking.server_checks import is_loopback

PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"


@pytest.fixture(autouse=True)
def _no_password(monkeypatch):
    monkeypatch.delenv(PASSWORD, raising=False)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.8.0.1", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("head", False),
    ],
)  # fmt: skip
def test_what_is_loopback(host, here):
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--host", "0.0.0.0"], ["--host 0.0.0.0", PASSWORD, "12 characters"]),
        (["--host", "::"], ["--host ::", PASSWORD]),
        (["--auth"], ["--auth", PASSWORD]),
        (["--backend-store-uri", "mysql://me:secret@h/d"], ["sqlite:", "postgresql:", "h/d"]),
        (["--backend-store-uri", "postgresql://me:secret@127.0.0.1:9/d"], ["me:***@", "refused"]),
        (["--port", "70000"], ["--port", "65535", "70000"]),
        (["--host", "192.0.2.1", "--port", "5000"], ["192.0.2.1"]),
        (["--artifacts", "foo://x"], ["--artifacts foo://x", "not known"]),
        (["--artifacts", "/proc/nowhere"], ["--artifacts /proc/nowhere"]),
        (["--workers", "0"], ["workers", "0"]),
    ],
)
def test_mistakes_are_one_line(arguments, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "192.0.2.1" in arguments:  # no address of this machine; with a password it is looked at
        monkeypatch.setenv(PASSWORD, "long enough it is")
    port = [] if "--port" in arguments else ["--port", str(free_port())]
    result = CliRunner().invoke(app, ["server", *arguments, *port])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert [part for part in parts if part not in line] == [], line
    assert "secret" not in line


def test_a_port_in_use_is_said(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(
            app, ["server", "--folder", str(tmp_path / "f"), "--port", str(port)]
        )
    assert result.exit_code == 2
    assert f"--port {port}: address already in use" in result.stderr


def test_a_short_password_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(PASSWORD, "short")
    result = CliRunner().invoke(
        app, ["server", "--folder", str(tmp_path / "f"), "--host", "0.0.0.0"]
    )
    assert result.exit_code == 2
    assert "12 characters or more" in result.stderr


def test_loopback_needs_no_password_and_others_get_basic_auth(monkeypatch, tmp_path):
    here = plan_server(ServerOptions(tmp_path / "a", port=free_port()))
    assert "--app-name" not in here.command
    assert here.command[here.command.index("--host") + 1] == "127.0.0.1"
    monkeypatch.setenv(PASSWORD, "long enough it is")
    backend = f"sqlite:///{tmp_path / 'db' / 'mlflow.db'}"
    open_to_all = plan_server(
        ServerOptions(tmp_path / "b", backend=backend, host="0.0.0.0", port=free_port())
    )
    command = open_to_all.command
    assert command[command.index("--app-name") + 1] == "basic-auth"
    assert open_to_all.environment["MLFLOW_BACKEND_STORE_URI"] == backend
    assert len(open_to_all.environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]) >= 32
    settings = tmp_path / "b" / "auth.ini"
    assert "default_permission = NO_PERMISSIONS" in settings.read_text()
    assert "long enough" not in settings.read_text() + " ".join(command)
    assert settings.stat().st_mode & 0o077 == 0
