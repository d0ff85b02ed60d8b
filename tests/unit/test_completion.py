"""What the shell completes: verbs, options, and the names of spaces, without importing any."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.space_names import built_in_names, complete_space, functions_of

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
    ],
)
def test_bash(script, words, found):
    assert completed(script, "fatefront", *words) == found
