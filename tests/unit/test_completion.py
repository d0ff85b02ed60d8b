"""What the shell completes: verbs, options and their values, names of spaces (without importing
any), folders of sweeps, tables.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.completion import complete_sweep, complete_table
from orchestrator.ledger.manifest import NEEDED
from orchestrator.space_names import (
    built_in_names,
    complete_space,
    complete_space_or_sweep,
    functions_of,
)
from orchestrator.tables.choices import CHOICES

ROOT = Path(__file__).resolve().parents[2]


def test_names_functions_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.yaml").write_text("")
    (tmp_path / "quiet.txt").write_text("")
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "mine.py").write_text(
        "def mine() -> SweepSpec:\n    ...\ndef other() -> int:\n    ...\n"
    )
    assert complete_space("qui") == ["quickstart", "quick.yaml"]
    assert complete_space("sp") == ["spaces/"]
    assert complete_space("spaces/m") == ["spaces/mine.py"]
    assert complete_space("spaces/mine.py:") == ["spaces/mine.py:mine"]
    assert complete_space("nowhere/") == complete_space("nothing:") == []
    assert set(built_in_names()) <= set(complete_space(""))


@pytest.mark.parametrize("name", ["ham10000", "fitzpatrick17k", "isic2019", "quickstart"])
def test_functions_are_those_that_run(name):
    from orchestrator.spaces import load_space

    for word in complete_space(f"{name}:"):
        load_space(word)
    assert f"{name}:{name}" in complete_space(f"{name}:")
    assert functions_of("def (") == []


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A sweep under runs, a table beside, and what is neither."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/mine", "runs/broken", "archive/old/kept"):
        (tmp_path / name).mkdir(parents=True)
    for sweep in ("runs/mine", "archive/old/kept"):
        (tmp_path / sweep / "manifest.json").write_text(json.dumps(dict.fromkeys(NEEDED, "x")))
    for name in ("lesions.csv", "lesions.txt", "archive/more.PARQUET", ".hidden.csv"):
        (tmp_path / name).write_text("")
    (tmp_path / "spec.yaml").write_text("data: {}")


@pytest.mark.usefixtures("folders")
def test_folders_of_sweeps(tmp_path):
    assert complete_sweep("") == ["archive/", "runs/"]
    assert complete_sweep("ru") == ["runs/broken/", "runs/mine"]
    assert complete_sweep("runs/m") == ["runs/mine"]
    assert complete_sweep("arch") == ["archive/old/kept"]
    assert complete_sweep(f"{tmp_path}/runs/m") == [f"{tmp_path}/runs/mine"]
    assert complete_sweep("les") == complete_sweep("no/such/") == complete_sweep("~nobody-/") == []
    assert complete_sweep("runs/b") == ["runs/broken/"]
    assert complete_space_or_sweep("runs/") == ["runs/broken/", "runs/mine"]
    assert complete_space_or_sweep("quick") == ["quickstart"]


@pytest.mark.usefixtures("folders")
def test_tables():
    assert complete_table("les") == ["lesions.csv"]
    assert complete_table("") == ["archive/", "lesions.csv", "runs/"]
    assert complete_table("archive/m") == ["archive/more.PARQUET"]


def test_tilde_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lesions.csv").write_text("")
    assert complete_table("~/les") == ["~/lesions.csv"]


SWEEP = "archive/old/kept"
FIXED = {
    ("run", "quickstart", "--log-format"): "text json",
    ("watch", SWEEP, "--log-format"): "text json",
    ("report", SWEEP, "--split"): "validation test",
    ("evaluate", "lesions.csv", "--mode"): "corrected paper",
    ("evaluate", "lesions.csv", "--absent"): "skip zero",
    ("tables", SWEEP, "--format"): "md latex csv",
    ("tables", SWEEP, "--style"): "default paper",
    ("tables", SWEEP, "--split"): "validation test",
    ("tables", SWEEP, "--mode"): "corrected paper",
    ("tables", SWEEP, "--reference"): "vanilla own",
    ("tables", SWEEP, "--published"): "match all none",
    ("tables", SWEEP, "--seeds"): "selection fresh",
    ("tables", SWEEP, "--intervals"): "patients seeds",
    ("exits", SWEEP, "--device"): "cpu cuda auto",
    ("trial", "spec.yaml", "--device"): "cpu cuda",
    ("data", "fetch"): "ham10000 isic2019 fitzpatrick17k pad_ufes_20",
}
"""What completes, by the words before it; a verb that gets another value names these."""


def offered(*words: str) -> list[str]:
    """What the program itself answers to the shell, without starting one."""
    variables = {
        "_FATEFRONT_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(["fatefront", *words]) + " ",
        "COMP_CWORD": str(len(words) + 1),
    }
    return CliRunner().invoke(app, [], prog_name="fatefront", env=variables).output.split()


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(("words", "values"), FIXED.items(), ids=map(" ".join, FIXED))
def test_fixed_values_are_those_that_the_verb_takes(words, values):
    assert offered(*words) == values.split()
    refused = CliRunner().invoke(app, [*words, "nonsense"])
    assert refused.exit_code == 2
    assert "nonsense" in refused.stderr
    assert all(value in refused.stderr for value in values.split()), refused.stderr


def test_every_choice_of_tables_is_offered():
    assert {words[-1] for words in FIXED if words[0] == "tables"} == set(CHOICES)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script of the shell, and a program that stands for the installed one."""
    place = tmp_path_factory.mktemp("completion")
    program = place / "fatefront"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from orchestrator.__main__ import main\nmain()\n"
        "assert not {'torch', 'pydantic', 'pandas', 'ray'} & set(sys.modules)\n"
    )
    program.chmod(0o755)
    shown = subprocess.run(
        [program, "--show-completion", "bash"], capture_output=True, text=True, check=True,
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},  # no shell
    )  # fmt: skip
    (place / "completion.sh").write_text(shown.stdout)
    (place / "sweeps" / "mine").mkdir(parents=True)
    (place / "sweeps" / "mine" / "manifest.json").write_text("{}")
    (place / "lesions.csv").write_text("")
    return place


def completed(place: Path, *words: str) -> list[str]:
    """What a real bash gets for the last of the words."""
    source = (
        f"source {place}/completion.sh\nCOMP_WORDS=({shlex.join(words)})\n"
        f"COMP_CWORD={len(words) - 1}\n_fatefront_completion {place}/fatefront\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", source], capture_output=True, text=True, cwd=place,
        env=os.environ | {"HOME": str(place)},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("wat",), ["watch"]),
        (("plan", "quick"), ["quickstart"]),
        (("run", "ham"), ["ham10000"]),
        (("data", "inspect", "isic"), ["isic2019"]),
        (("run", "quickstart", "--log"), ["--log-format"]),
        (("doctor", "fitz"), ["fitzpatrick17k"]),
        (("tables", "x", "--style", "p"), ["paper"]),
        (("run", "quickstart", "--log-format", ""), ["text", "json"]),
        (("data", "fetch", "pad"), ["pad_ufes_20"]),
        (("report", "sw"), ["sweeps/mine"]),
        (("show", "sweeps/m"), ["sweeps/mine"]),
        (("merge", "sweeps/mine", "sw"), ["sweeps/mine"]),
        (("init", "les"), ["lesions.csv"]),
        # as bash takes them apart: a colon and an equals sign end a word
        (("run", "ham10000", ":", "me"), ["methods", "methods_vgg11"]),
        (("run", "quickstart", ":"), ["quickstart"]),
        (("run", "ham10000", ":", "methods", "--log"), ["--log-format"]),
        (("run", "quickstart", "--log-format", "=", "te"), ["text"]),
        (("run", "ham10000:me"), ["ham10000:methods", "ham10000:methods_vgg11"]),
    ],
)
def test_bash(script, words, found):
    assert completed(script, "fatefront", *words) == found
