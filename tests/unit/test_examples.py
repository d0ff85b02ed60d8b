"""examples/*.py are run as they stand, each in an empty folder, in the order that they name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("evaluate_predictions", "write_a_criterion")
SWEEP = ("sweep_and_front", "load_a_front_member")


def run(name: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FATEFRONT_CACHE": str(folder / "cache")}
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        environment.pop(variable, None)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_run_and_named_by_the_documentation() -> None:
    found = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert found == {*QUICK, *SWEEP}
    page = (ROOT / "docs/examples.md").read_text("utf-8")
    for name in found:
        assert f"../examples/{name}.py" in page


@pytest.mark.parametrize("name", [*QUICK, *SWEEP])
def test_an_example_is_cells_of_text_and_code(name: str) -> None:
    text = (ROOT / "examples" / f"{name}.py").read_text("utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    cells = re.split(r"^# %%", text, flags=re.M)[1:]
    assert sum(cell.startswith(" [markdown]") for cell in cells) >= 3
    told = [cell for cell in cells if cell.startswith(" [markdown]")]
    lines = [line for cell in told for line in cell.splitlines()[1:] if line.strip()]
    assert all(line.startswith("#") for line in lines)


def test_predictions_of_any_model_are_judged(tmp_path: Path) -> None:
    shown = run("evaluate_predictions", tmp_path)
    assert re.search(r"^dark: \d+ images, F1 0\.\d+ \([+-]0\.\d+\)$", shown, re.M)
    assert re.search(r"^gap 0\.\d+, 95 % interval \[-?0\.\d+, 0\.\d+\]$", shown, re.M)


def test_a_criterion_is_written_checked_and_used(tmp_path: Path) -> None:
    shown = run("write_a_criterion", tmp_path)
    assert shown.count("passed: ") >= 10
    sizes = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) parameters", shown)]
    assert sizes[0] > sizes[1]


@pytest.mark.slow
def test_a_sweep_is_run_read_and_its_model_taken(tmp_path: Path) -> None:
    assert "12 trials, 12 computed now" in (shown := run("sweep_and_front", tmp_path))
    assert shown.count(": F1 ") >= 1
    assert "12 trials, 0 computed now" in run("sweep_and_front", tmp_path)
    shown = run("load_a_front_member", tmp_path)
    assert "@best-f1" in shown
    assert float(shown.split("largest difference of the two ways:")[1]) < 1e-6
    assert not (tmp_path / "mlflow.db").exists()
