"""``--gpus-per-trial auto`` on a real GPU, with CUDA's multi-process service where it is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orchestrator.running.gpu_sharing import CONTROL

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable, "-m", "orchestrator", "run", "quickstart", "--set", "seeds=[0]",
            "--gpus-per-trial", "auto", "--out", str(folder), "--tracking-uri", "none",
        ],
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip


def test_it_is_measured_once_and_the_service_is_ended(tmp_path):
    first = run(tmp_path / "sweep")
    assert first.returncode == 0, first.stderr
    found = json.loads((tmp_path / "sweep" / "packing.json").read_text())
    assert found["trials_per_gpu"] >= 1
    assert found["images_per_second"]["1"] > 0
    if shutil.which(CONTROL):
        told = "multi-process service" in first.stdout + first.stderr
        assert found["service"] or told  # used, or said why not
    assert "packing: " in first.stdout + first.stderr
    left = subprocess.run(["pgrep", "-f", "nvidia-cuda-mps"], capture_output=True, text=True)
    assert not left.stdout.split()
    written = (tmp_path / "sweep" / "packing.json").stat().st_mtime_ns
    again = run(tmp_path / "sweep")
    assert again.returncode == 0
    assert (tmp_path / "sweep" / "packing.json").stat().st_mtime_ns == written
