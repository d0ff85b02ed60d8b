"""Files that would run code if anything unpickled them: nothing here does, and each is refused."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hostile_case import Case, run_here
from table_cases import whole, words
from tiny_sweep import copy_sweep, run_tiny

from trainables.errors import UserError
from trainables.models.resnet import ResNet18
from trainables.predictions import Predictions
from trainables.store import Store


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """Where a bomb would leave its mark; the bomb itself is shown to work."""
    seen = tmp_path / "shown"
    pickle.loads(pickle.dumps(Bomb(seen)))
    assert seen.is_dir()
    path = tmp_path / "mark"
    yield path
    assert not path.exists(), "a pickle was run"


def archive(mark: Path) -> bytes:
    """An .npz whose logits are a pickled object."""
    buffer = io.BytesIO()
    np.savez(buffer, logits=np.array([Bomb(mark)], dtype=object), image_id=np.array(["a"]),
             patient_id=np.array(["p"]))  # fmt: skip
    return buffer.getvalue()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("security") / "sweep"
    run_tiny(folder, folder.parent / "cache", seeds=(0,))
    return folder


def test_weights_that_are_a_pickle_are_not_opened(tmp_path, mark):
    for name in ("w.pt", "w.pth", "w.bin", "w.safetensors"):
        path = tmp_path / name
        torch.save({"conv1.weight": Bomb(mark)}, path)
        config = ResNet18.Config(weights=str(path))
        with pytest.raises(UserError, match="safetensors"):
            ResNet18.build(config, 2, torch.Generator())


def test_a_space_that_names_a_pickle_says_so_in_one_line(tmp_path, mark):
    torch.save({"conv1.weight": Bomb(mark)}, tmp_path / "w.pt")
    trial = {
        "data": {"name": "synthetic", "num_images": 64, "image_size": 32},
        "backbone": {"name": "resnet18", "weights": str(tmp_path / "w.pt")},
        "baseline": {"name": "vanilla", "training": {"epochs": 0}},
    }
    (tmp_path / "t.yaml").write_text(json.dumps(trial))
    case = Case("", ("trial", "{}/t.yaml", "--store", "{}/store"), ())
    code, out, err = run_here(case, tmp_path)
    assert code == 2, err
    assert "w.pt is not a .safetensors file" in err
    assert out == ""


def test_predictions_that_are_a_pickle(mark):
    with pytest.raises(ValueError, match="allow_pickle"):
        Predictions.from_bytes(archive(mark))


def test_an_archive_of_predictions_whose_member_climbs_out(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("../../climbed.npy", b"x")
    with pytest.raises(KeyError):
        Predictions.from_bytes(buffer.getvalue())
    assert not (tmp_path.parent / "climbed.npy").exists()


@pytest.mark.parametrize("file", ["weights.safetensors", "validation.npz", "curves.json"])
def test_a_store_whose_files_are_pickles(sweep, tmp_path, mark, file):
    """Swapped in a node: the digest in `node.json` does not fit, and nothing is opened."""
    folder = copy_sweep(sweep, tmp_path / "sweep")
    bomb = archive(mark) if file.endswith("npz") else pickle.dumps(Bomb(mark))
    swapped = 0
    for path in folder.rglob(file):
        path.unlink()
        path.write_bytes(bomb)
        swapped += 1
    assert swapped
    for verb in (("report", "{}"), ("tables", "{}"), ("status", "{}"),
                 ("export", "{}", "--to", f"{tmp_path}/front")):  # fmt: skip
        code, _, err = run_here(Case("", verb, ()), folder)
        assert "Traceback" not in err, err
        assert code in (0, 2)
    store = Store(str(folder / "store"))
    for path in (folder / "store").rglob("node.json"):
        document = json.loads(path.read_text())
        if file in document["files"]:
            with pytest.raises(Exception, match="damaged"):
                store.read(path.parent.name, file)


def test_a_parquet_table_of_pickles_is_bytes_that_are_no_image(tmp_path, mark, monkeypatch):
    whole(tmp_path)
    frame = pd.read_csv(tmp_path / "t.csv").assign(
        path=[pickle.dumps(Bomb(mark))] * 24, i=range(24)
    )
    frame.to_parquet(tmp_path / "t.parquet")
    case = Case("", words("image_id: i", "t.parquet"), ())
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))
    code, _, err = run_here(case, tmp_path)
    assert code == 2
    assert "24 of 24 images cannot be used" in err


def test_a_space_that_is_code_runs_and_a_yaml_never(tmp_path):
    """What is code says so by its name: FILE.py:FUNCTION."""
    (tmp_path / "mine.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    assert run_here(Case("", ("show", "{}/mine.py:mine"), ()), tmp_path)[0] == 2
    assert (tmp_path / "ran").is_dir()
    (tmp_path / "mine.yaml").write_text(f"!!python/object/apply:os.mkdir ['{tmp_path}/yaml']\n")
    assert run_here(Case("", ("show", "{}/mine.yaml"), ()), tmp_path)[0] == 2
    assert not (tmp_path / "yaml").exists()
