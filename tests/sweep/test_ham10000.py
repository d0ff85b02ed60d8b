"""The space of docs/results/ham10000-first.md, end to end on 200 real images at 32 pixels."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
ARCHIVES = sorted(SHARED.glob("HAM10000_images_part_*.tar"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not ARCHIVES, reason="the HAM10000 images are not in ../shared/data (never shipped)"
    ),
]


def test_the_first_space_on_200_real_images(tmp_path: Path) -> None:
    root = tmp_path / "HAM10000"
    root.mkdir()
    for archive in ARCHIVES:
        with tarfile.open(archive) as files:
            files.extractall(root, filter="data")
    (root / "HAM10000_metadata.csv").write_bytes((SHARED / "HAM10000_metadata.csv").read_bytes())
    overrides = {
        "data.root": root,
        "data.limit": 200,
        "data.image_size": 32,
        "training.epochs": 1,
        "finetune.epochs": 1,
        "seeds": [0],
    }
    command = [sys.executable, "-m", "orchestrator", "run", "ham10000", "--json"]
    command += ["--out", str(tmp_path / "run"), "--tracking-uri", "none"]
    for name, value in overrides.items():
        command += ["--set", f"{name}={value}"]
    environment = os.environ | {"FATEFRONT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["num_done"], document["num_failed"]) == (22, 0), document["errors"]
    # 1 root, then snnl and random at 2, 5 and 10 % and none, three iterations each
    records = [
        json.loads(line) for line in (tmp_path / "run/records.jsonl").read_text().splitlines()
    ]
    cut = {
        (r["trial"]["criterion"], r["trial"]["ratio"], r["trial"]["n"]): channels[1]
        for r in records
        for channels in r["result"]["model"]["channels"].values()
    }
    assert cut["snnl", 0.02, 3] == cut["random", 0.02, 3] == 512 - 3 * 10
    assert cut["snnl", 0.1, 2] == 512 - 2 * 51
    assert len(cut) == 18
    groups = records[0]["result"]["metrics"]["validation"]["groups"]
    assert sorted(groups) == ["female", "male"]
    (note,) = {note for r in records for note in r["execution"]["notes"]}
    assert "1 x 1 at image size 32" in note
    assert all(r["fate"] is not None for r in records)
