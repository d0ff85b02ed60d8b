"""A real sweep with marked secrets, patients and images: every byte that it wrote is searched, and
the command lines of every process it had.
"""

import csv
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweep_runs import RECIPE, Cli, write_space

SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "marked-user-3f1b",
    "MLFLOW_TRACKING_PASSWORD": "marked-secret-9d2c",
    "MLFLOW_TRACKING_TOKEN": "marked-token-77aa",
    "AWS_ACCESS_KEY_ID": "marked-key-id-41e0",
    "AWS_SECRET_ACCESS_KEY": "marked-aws-secret-c0de",
    "AWS_SESSION_TOKEN": "marked-session-51ab",
    "PGPASSWORD": "marked-pg-8e8e",
    "HTTPS_PROXY_PASSWORD": "marked-proxy-2b2b",
}
PATIENT, IMAGE = "marked-patient-", "marked-image-"
NUM = 120


def marked_table(folder: Path) -> Path:
    """Random images, two a patient; patients and files bear the marks."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "lesions.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["file", "diagnosis", "tone", "patient", "id"])
        for i in range(NUM):
            bright = 90 * (i // 2 % 2) if i // 4 % 2 else 90 * (i % 2)  # no use in one group
            pixels = random.integers(0, 160, (32, 32, 3)) + bright
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{IMAGE}{i}.png")
            patient = f"{PATIENT}{i // 2}"
            lines.writerow(
                [f"{IMAGE}{i}.png", "ab"[i // 2 % 2], "dl"[i // 4 % 2], patient, f"n{i}"]
            )
    return folder / "lesions.csv"


def files_with(
    marks: tuple[str, ...], folder: Path, *, without: tuple[str, ...] = ()
) -> list[str]:
    """Files below a folder that hold one of the marks, and which."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and not set(path.parts) & set(without):
            content = path.read_bytes()
            if zipfile.is_zipfile(path):  # .npz too
                with zipfile.ZipFile(path) as archive:
                    members = b"".join(archive.read(name) for name in archive.namelist())
                content += members + members.replace(
                    b"\0\0\0", b""
                )
            found += [f"{path}: {mark}" for mark in marks if mark.encode() in content]
    return found


@pytest.fixture(scope="module")
def client(cache):
    found = Cli(cache)
    yield found
    assert not found.end()


@pytest.fixture(scope="module")
def swept(tmp_path_factory, client):
    """(folder of the sweep, folder of Ray's logs, all that was printed, the driver, command lines
    seen).
    """
    place = tmp_path_factory.mktemp("secrets")
    ray = Path(tempfile.mkdtemp(prefix="ff", dir="/tmp"))  # sockets' names must be short
    table = marked_table(place / "data")
    space = write_space(
        place / "s.yaml", search={"sampler": "grid", "objectives": ["f1", "params"]},
        iterations=1, controls=["none"], training=RECIPE | {"epochs": 5}, finetune=RECIPE,
        prune={"criterion": "snnl", "ratio": 0.3, "site": "conv"},
        data={
            "name": "table", "path": str(table), "root": str(table.parent / "images"),
            "image": "file", "label": "diagnosis", "attribute": "tone", "patient": "patient",
            "image_id": "id", "image_size": 32,
        },
    )  # fmt: skip
    client.environment |= SECRETS | {"RAY_TMPDIR": str(ray)}
    folder = place / "swept"
    driver = client.start(
        space, folder, "--workers", "1", "--tracking-uri", f"sqlite:///{folder}/mlflow.db"
    )
    lines = driver.command_lines()
    code, out, err = driver.finish()
    assert code == 0, err
    said = out + err
    for verb in (
        ["status", str(folder), "--json"], ["tables", str(folder)], ["show", str(folder)],
        ["report", str(folder)],
        ["export", str(folder), "--to", str(folder / "front")],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *verb], capture_output=True, text=True,
            env=client.environment, check=True, timeout=200,
        )  # fmt: skip
        said += done.stdout + done.stderr
    return folder, ray, said, driver, lines


@pytest.mark.slow
def test_secrets_are_in_no_byte_written_or_printed(swept):
    folder, ray, said, *_ = swept
    marks = tuple(SECRETS.values())
    assert (folder / "mlflow.db").stat().st_size > 10_000
    assert files_with(marks, folder) == []
    assert files_with(marks, ray) == []
    assert not [mark for mark in marks if mark in said]


@pytest.mark.slow
def test_all_of_ray_listens_on_loopback(swept):
    """Raylet and GCS listen on every interface by default, without a password."""
    driver = swept[3]
    assert {"raylet", "gcs_server"} <= {name for _, name in driver.listening}
    addresses = {address for address, _ in driver.listening}
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, driver.listening


@pytest.mark.slow
def test_secrets_are_in_no_command_line(swept):
    *_, lines = swept
    assert any("raylet" in line for line in lines)
    assert any("orchestrator.tracking" in line for line in lines)
    assert not [line for line in lines for mark in SECRETS.values() if mark in line]


@pytest.mark.slow
def test_patients_and_images_are_only_in_the_nodes(swept):
    """The store keeps them: metrics can then be computed again. MLflow, ledger, report, front and
    what is printed have none.
    """
    folder, _, said, *_ = swept
    assert files_with((PATIENT,), folder / "store")
    assert files_with((PATIENT, IMAGE), folder, without=("store", ".images")) == []
    assert PATIENT not in said
    assert IMAGE not in said
