"""docs/tutorial.md, every file and command of it, in one shell and an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


def test_every_block_is_a_file_or_commands() -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"}
    assert "".join(text for kind, text in BLOCKS if kind == "bash").count("fatefront ") >= 11


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    command = commands / "fatefront"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestrator "$@"\n')
    command.chmod(0o755)
    script = ["set -euo pipefail"]
    folder = tmp_path / "empty"
    folder.mkdir()
    for kind, text in BLOCKS:
        if kind == "python":
            name = text.splitlines()[0].removeprefix("# ")
            assert re.fullmatch(r"\w+\.py", name)
            (folder / name).write_text(text)
        else:
            script.append(text)
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FATEFRONT_CACHE": str(tmp_path / "cache"),
        "COLUMNS": "200",
    }
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    # what the page promises
    assert re.search(r"trials\s+│\s+14 │", done.stdout)
    assert "14 computed now" in done.stdout + done.stderr
    assert "7 computed now" in done.stdout + done.stderr
    expected = re.findall(r"recall 0\.8: (0\.\d+) corrected", done.stdout)
    assert min(map(float, expected)) > 0.1
    assert (folder / "runs" / "tutorial" / "report.html").exists()
    front = json.loads((folder / "front" / "front.json").read_text("utf-8"))
    assert front["members"]
    assert "research only" in (folder / "front" / "card.md").read_text("utf-8")
