"""The example package, installed by pip, in a real trial of the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "{epochs: 1, batch_size: 16, learning_rate: 0.01, schedule: constant}"
TRIAL = f"""
data: {{name: synthetic, num_images: 40, image_size: 32}}
backbone: resnet18
baseline: {{name: label_smoothing, epsilon: 0.2, training: {RECIPE}}}
prune: {{criterion: apoz, ratio: 0.1, finetune: {RECIPE}}}
n: 1
seed: 0
"""


def install(folder: Path, **changed: str) -> Path:
    """The example package by pip; ``changed`` lines of its pyproject.toml."""
    source = folder / "source"
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "examples" / "plugin", source, ignore=ignored)
    project = source / "pyproject.toml"
    text = project.read_text("utf-8")
    for name, value in changed.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
        text = text.replace(line, f"{name} = {value}")
    project.write_text(text, "utf-8")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "installed", source], check=True)
    return folder / "installed"


def fatefront(*words: str, packages: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(packages)])
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=cwd, env=os.environ | {"PYTHONPATH": paths, "FATEFRONT_CACHE": str(cwd / "cache")},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def run_trial(packages: Path, cwd: Path) -> dict[str, Any]:
    (cwd / "trial.yaml").write_text(TRIAL)
    done = fatefront("trial", "trial.yaml", "--json", packages=packages, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def nodes(cwd: Path) -> set[Path]:
    return set((cwd / "runs" / "trial").rglob("node.json"))


def test_a_trial_uses_both_parts(tmp_path: Path) -> None:
    trial = run_trial(install(tmp_path), tmp_path)
    assert trial["label"].startswith("label_smoothing(epsilon=0.2) > apoz 10 % x 1")
    assert len(nodes(tmp_path)) == 2  # the trained root and the pruned trial


def test_a_space_is_searched_for_its_objective(tmp_path: Path) -> None:
    packages = install(tmp_path)
    asked = ("--set", "search.objectives=[recall_worst_group,f1]")
    shown = fatefront("show", "quickstart", *asked, packages=packages, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "recall_worst_group" in shown.stdout
    (tmp_path / "nothing").mkdir()
    shown = fatefront("show", "quickstart", *asked, packages=tmp_path / "nothing", cwd=tmp_path)
    assert shown.returncode == 2
    assert "unknown objective 'recall_worst_group', did you mean 'f1_worst_group'" in shown.stderr


@pytest.mark.slow
def test_another_release_computes_again(tmp_path: Path) -> None:
    first, second = install(tmp_path / "1"), install(tmp_path / "2", version='"0.2.0"')
    trial, stored = run_trial(first, tmp_path), nodes(tmp_path)
    assert run_trial(first, tmp_path)["key"] == trial["key"]
    assert nodes(tmp_path) == stored
    other = run_trial(second, tmp_path)
    assert other["key"] != trial["key"]
    assert other["result"] == trial["result"]  # the code was the same, which a key cannot know
    assert len(nodes(tmp_path)) == 4


@pytest.mark.slow
def test_a_broken_release_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    packages = install(tmp_path, apoz='"fatefront_example.gone:APoZ"')
    words = ("show", "quickstart", "--set", "prune.criterion=apoz")
    shown = fatefront(*words, packages=packages, cwd=tmp_path)
    assert shown.returncode == 2
    (line,) = shown.stderr.strip().splitlines()
    assert "criterion 'apoz' cannot be loaded: ModuleNotFoundError" in line
    assert "package fatefront-example 0.1.0" in line
    words = ("show", "quickstart", "--set", "baseline=label_smoothing")
    shown = fatefront(*words, packages=packages, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "label_smoothing" in shown.stdout


@pytest.mark.slow
def test_the_example_s_own_tests_pass(tmp_path: Path) -> None:
    packages = install(tmp_path)
    paths = os.pathsep.join([str(ROOT), str(packages)])
    tests = tmp_path / "source" / "tests"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, check=True,
    )  # fmt: skip
