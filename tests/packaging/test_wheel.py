"""The wheel: what is in it, and that it works where there is no repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("orchestrator", "trainables", "search_spaces")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, as `make wheel` builds it, by the setuptools that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "runs", "data", "*.egg-info", ".*_cache", "results"
    )
    shutil.copytree(
        ROOT, folder / "source", ignore=lambda path, names: ignored(path, names) - _kept(path)
    )
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", folder, folder / "source"], check=True)
    (built,) = folder.glob("*.whl")
    return built


def _kept(path: str) -> set[str]:
    """``data`` is ignored at the root, and a package below it."""
    return set() if Path(path) == ROOT else {"data"}


def test_the_wheel_holds_the_packages_their_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"{wheel.name.rsplit('-', 3)[0]}.dist-info"
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(ROOT)) in names
        assert f"{package}/py.typed" in names
    assert {name.split("/")[0] for name in names} == {*PACKAGES, info}
    assert f"{info}/licenses/LICENSE" in names
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_string(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["License-Expression"] == "MIT"
    assert "fatefront = orchestrator.__main__:main" in scripts


@pytest.fixture(scope="module")
def fatefront(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a clean environment, which finds other packages where this test does."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    # a folder named by a .pth file has its own .pth files left alone: no editable install is seen
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = folder / "venv" / "lib" / version / "site-packages"
    (site / "present.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--ignore-installed", wheel], check=True)
    return folder / "venv" / "bin" / "fatefront"


def run(command: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [command, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_installed_command_is_that_of_the_wheel(fatefront: Path, tmp_path: Path) -> None:
    code = "import orchestrator, trainables, search_spaces as s; print(*(m.__path__[0] for m in "
    code += "(orchestrator, trainables, s)), sep='\\n')"
    found = run(fatefront.with_name("python"), "-c", code, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    places = found.stdout.split()
    assert len(places) == 3
    assert all(place.startswith(str(fatefront.parents[1])) for place in places)


def test_help_show_and_evaluate_work_outside_the_repository(
    fatefront: Path, tmp_path: Path
) -> None:
    help_page = run(fatefront, "--help", cwd=tmp_path)
    assert help_page.returncode == 0, help_page.stderr
    assert "evaluate" in help_page.stdout
    shown = run(fatefront, "show", "quickstart", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "name: quickstart" in shown.stdout
    rows = [f"{k % 2},{(k % 2) if k % 5 else 0},{'ab'[k // 2 % 2]}" for k in range(60)]
    table = tmp_path / "preds.csv"
    table.write_text("\n".join(["y_true,y_pred,group", *rows]) + "\n")
    judged = run(
        fatefront, "evaluate", str(table), "--replicates", "200", "--json", cwd=tmp_path
    )
    assert judged.returncode == 0, judged.stderr
    document = json.loads(judged.stdout)
    right = sum(row.split(",")[0] == row.split(",")[1] for row in rows)
    assert document["accuracy"] == pytest.approx(right / 60)


def test_audit_finds_the_tables_that_the_wheel_ships(fatefront: Path, tmp_path: Path) -> None:
    audited = run(fatefront, "audit", "--json", cwd=tmp_path)
    assert audited.returncode == 0, audited.stderr
    assert json.loads(audited.stdout)
