"""Storage that is damaged, moved, shared or read-only, under real sweeps.

A damaged file is named or its node is made again; nothing is computed from it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from disturbed import orphan_files
from sweep_runs import assert_each_node_once, results, write_space

from orchestrator.ledger.records import load_records

pytestmark = pytest.mark.slow
PRUNE = {"criterion": "snnl", "ratio": 0.3, "site": "conv"}
KINDS = (
    "weights.safetensors", "train.npz", "validation.npz", "test.npz", "scores.json",
    "curves.json", "counts-*.json", "node.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def space(place):
    return write_space(place / "tiny.yaml", prune=PRUNE, controls=["none"], iterations=1)


@pytest.fixture(scope="module")
def wider(place):
    return write_space(place / "wider.yaml", prune=PRUNE, controls=["none"], iterations=2)


@pytest.fixture(scope="module")
def reference(cli, place, space, wider):
    """The sweep, and what the wider one gives where nothing is damaged."""
    code, _, err = cli.run(space, place / "reference", "--workers", "2")
    assert code == 0, err
    whole = place / "wider"
    linked_copy(place / "reference", whole)
    code, _, err = cli.run(wider, whole, "--workers", "2")
    assert code == 0, err
    return place / "reference", results(whole)


def linked_copy(source: Path, target: Path) -> None:
    """The same files in another place, as hard links; what is written in place is copied."""
    shutil.copytree(source, target, copy_function=os.link)
    for path in target.glob("*"):
        if path.is_file():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["store"] = str(target / "store")
    (target / "manifest.json").write_text(json.dumps(manifest))


def damage(path: Path, how: str, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    path.unlink()  # a link: the others keep theirs
    if how == "flip":
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes({"flip": content, "half": content[: len(content) // 2], "empty": b""}[how])


@pytest.mark.parametrize("how", ["flip", "half", "empty"])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_or_mended(cli, place, wider, reference, kind, how):
    """The files of one kind of all nodes are damaged before the sweep is made wider."""
    source, expected = reference
    folder = place / f"{kind.replace('*', '')}-{how}"
    linked_copy(source, folder)
    found = sorted((folder / "store" / "nodes").rglob(kind))
    assert found
    rng = np.random.default_rng(len(kind) + len(how))
    for path in found:
        damage(path, how, rng)
    code, _, err = cli.start(wider, folder, "--workers", "2").finish()
    assert "Traceback" not in err
    own = {k: r["result"] for k, r in load_records(folder).items() if r["status"] == "done"}
    assert own == {key: expected[key] for key in own}
    if code == 0:
        assert own == expected
    else:
        assert kind.split("*")[0].split(".")[0] in err, err
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["weights.safetensors", "validation.npz", "node.json"])
def test_files_that_a_copy_left_behind(cli, place, wider, reference, kind):
    """A store that was copied from another machine, and not all of it came: what is wanted is made
    again, under the same keys and with the same results.
    """
    source, expected = reference
    folder = place / f"without-{kind}"
    linked_copy(source, folder)
    for note in (folder / ".workers").glob("*.json"):  # of processes of that machine
        note.write_text(json.dumps(json.loads(note.read_text()) | {"host": "elsewhere"}))
    found = sorted((folder / "store" / "nodes").rglob(kind))
    assert found
    for path in found:
        path.unlink()
    code, _, err = cli.start(wider, folder, "--workers", "2").finish()
    assert code == 0, err
    assert "Traceback" not in err
    assert results(folder) == expected
    assert_each_node_once(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["train.npz", "validation.npz"])
def test_damage_in_a_store_that_another_sweep_filled(cli, place, space, reference, kind):
    """One line that names the file; with the node removed the same command computes it again."""
    source, expected = reference
    store, folder = place / "theirs", place / f"mine-{kind}"
    shutil.copytree(source / "store", store)
    path = min((store / "nodes").rglob(kind))
    damage(path, "flip", np.random.default_rng(0))
    code, out, err = cli.start(space, folder, "--store", str(store), "--workers", "2").finish()
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    node = path.parents[1]
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert kind in line
    assert node.name in line
    shutil.rmtree(node)
    code, _, err = cli.start(space, folder, "--store", str(store), "--workers", "2").finish()
    assert code == 0, err
    own = results(folder)
    assert own == {key: expected[key] for key in own}
    assert len(own) == len(results(source))
    shutil.rmtree(store)


def test_a_moved_folder_goes_on(cli, place, wider, reference):
    source, expected = reference
    folder = place / "moved" / "elsewhere"
    folder.parent.mkdir()
    shutil.copytree(source, folder)
    code, document, err = cli.run(wider, folder, "--workers", "2")
    assert code == 0, err
    assert results(folder) == expected
    assert document["num_computed_now"] == len(expected) - len(results(source))


def test_two_sweeps_share_a_store_at_once(cli, place, wider, reference):
    _, expected = reference
    store = place / "shared"
    folders = [place / "one", place / "two"]
    drivers = [cli.start(wider, f, "--store", str(store), "--workers", "1") for f in folders]
    for driver, folder in zip(drivers, folders, strict=True):
        code, _, err = driver.finish()
        assert code == 0, err
        assert results(folder) == expected
        assert_each_node_once(folder)
    assert len(list((store / "nodes").glob("*/*/node.json"))) == len(expected)
    assert orphan_files(store / "nodes") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mount needs root")
def test_a_read_only_folder_is_one_line(cli, space, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)], check=True)
    try:
        code, out, err = cli.start(space, disk / "sweep").finish()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert code == 2
    assert out == ""
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert "Read-only file system" in line
    assert str(disk) in line
    assert "Traceback" not in err
