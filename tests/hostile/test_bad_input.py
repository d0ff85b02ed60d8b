"""Every bad input that we could think of: exit code 2, one line with the place, the value and what
is allowed, no traceback, nothing written.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import command_cases
import image_cases
import prediction_cases
import pytest
import space_cases
import spoken_cases
import table_cases
import yaml_cases
from hostile_case import Case, listing, problems, run_here

MODULES = (
    space_cases, yaml_cases, spoken_cases, table_cases, image_cases, prediction_cases,
    command_cases,
)  # fmt: skip
CASES = [case for module in MODULES for case in module.CASES]
EVERY = 23
"""One case of so many is met by a process of its own, too."""
MEMORY = 1_500 << 20
"""Bytes that a table of 10^7 rows may take, PyTorch, pandas and pyarrow included."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a case's files lie, with a home and a cache beside it that anybody may write."""
    place = tmp_path / "case"
    for path in (place, tmp_path / "cache"):
        path.mkdir()
    ours = [path for path in tmp_path.parents if path.name.startswith(("pytest-", "popen-"))]
    for path in (tmp_path, place, tmp_path / "cache", *ours):
        path.chmod(0o777 if path == tmp_path / "cache" else 0o755)
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    yield place
    for path in place.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)


def test_there_are_as_many_as_promised() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 250


@pytest.mark.parametrize("case", [case for case in CASES if not case.slow], ids=lambda c: c.name)
def test_bad_input(case: Case, folder: Path) -> None:
    if case.unprivileged and os.geteuid():
        pytest.skip("only root can stop being root")
    case.make(folder)
    before = listing(folder)
    code, out, err = run_here(case, folder)
    assert not problems(case, code, out, err), f"{code}\n{out[-2000:]}\n{err[-4000:]}"
    assert listing(folder) == before, "something was written"


def run_process(case: Case, folder: Path) -> tuple[subprocess.CompletedProcess[str], int]:
    """The command as users start it; with the most memory that any child has had so far."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *case.command(folder)],
        capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    return done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10


IN_PROCESSES = [c for c in CASES if not (c.slow or c.unprivileged or "\0" in "".join(c.words))]


@pytest.mark.slow
@pytest.mark.parametrize("case", IN_PROCESSES[::EVERY], ids=lambda c: c.name)
def test_bad_input_to_a_process(case: Case, folder: Path) -> None:
    case.make(folder)
    before = listing(folder)
    done, _ = run_process(case, folder)
    assert not problems(case, done.returncode, done.stdout, done.stderr), done.stderr
    assert listing(folder) == before, "something was written"


@pytest.mark.slow
def test_three_bad_inputs_to_a_process(folder: Path) -> None:
    """A space, a table and an option; `make test-hostile` does the same with one in 23."""
    wanted = ("yaml: anchor bomb", "table: path climbs out", "command: as JSON")
    for case in (case for case in CASES if case.name in wanted):
        place = folder / case.name.partition(":")[0]
        place.mkdir()
        case.make(place)
        done, _ = run_process(case, place)
        assert not problems(case, done.returncode, done.stdout, done.stderr), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.slow], ids=lambda c: c.name)
def test_ten_million_rows_in_bounded_memory(case: Case, folder: Path) -> None:
    case.make(folder)
    done, memory = run_process(case, folder)
    assert not problems(case, done.returncode, done.stdout, done.stderr), done.stderr
    assert memory < MEMORY
