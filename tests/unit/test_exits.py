"""`fatefront exits`: a real sweep of `multi_exit` models against a loop over its images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from tiny_sweep import DATA, RECIPE, copy_sweep, run_tiny
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.exits import rows
from orchestrator.exits.models import wanted_records
from orchestrator.exits.rows import About
from orchestrator.ledger.records import load_records
from search_spaces.words import one_of
from trainables.data.augment import apply_eval, normalisation
from trainables.data.base import VALIDATION
from trainables.data.load import load_dataset
from trainables.errors import UserError
from trainables.models.exits import THRESHOLDS, ExitCounts, exit_logits
from trainables.node import load_model, make_baseline
from trainables.store import Store
from trainables.trial_spec import Recipe, Trial

OWN = 0.7
BASELINES = one_of(
    "vanilla",
    {"name": "multi_exit", "threshold": OWN},
    {"name": "obd", "source": {"name": "multi_exit", "threshold": OWN}},
)
ARMS = 2
"""The root and SNNL, of each baseline."""


def call(*arguments: object):
    return CliRunner().invoke(app, ["exits", *map(str, arguments)])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    base = tmp_path_factory.mktemp("exits")
    patch = pytest.MonkeyPatch()
    patch.setenv("FATEFRONT_CACHE", str(base / "cache"))
    run_tiny(
        base / "sweep", base / "cache", baseline=BASELINES,
        training=Recipe(epochs=2, **RECIPE), seeds=(0, 1),
        prune={"criterion": "snnl", "ratio": 0.3, "site": "block"}, controls=(),
    )  # fmt: skip
    yield base / "sweep"
    patch.undo()


def by_hand(sweep: Path, key: str, threshold: float) -> dict:
    """One image after another: (group, exit) -> [images, right ones], and (label, class) pairs."""
    dataset = load_dataset(DATA)
    store = Store(str(sweep / "store"))
    trial = Trial.model_validate(store.node(key)["trial"])
    model, _ = load_model(store, key, trial, make_baseline(trial, dataset))
    mean, std = normalisation("imagenet")
    cells: dict = {}
    pairs: dict = {}
    for row in dataset.indices(VALIDATION):
        image = torch.from_numpy(np.array(dataset.images_NHWC[row : row + 1]))
        with torch.no_grad():
            logits_EK = exit_logits(
                model.eval(), apply_eval(image, image_size=32, mean=mean, std=std)
            )[:, 0]
        chances_EK = logits_EK.softmax(1)
        leaves = next((e for e in range(4) if float(chances_EK[e].max()) >= threshold), 4)
        label, predicted = int(dataset.label_N[row]), int(logits_EK[leaves].argmax())
        group = dataset.groups[dataset.group_N[row]]
        cell = cells.setdefault((group, leaves), [0, 0])
        cell[0] += 1
        cell[1] += predicted == label
        pairs.setdefault(group, []).append((label, predicted))
    return {"cells": cells, "pairs": pairs}


@pytest.mark.slow
def test_shares_and_accuracies_by_group_are_those_of_a_loop(sweep):
    document = json.loads(call(sweep, "--json", "--device", "cpu").stdout)
    assert document["exits"] == ["exit1", "exit2", "exit3", "exit4", "head"]
    found = {c["configuration_key"]: c for c in document["configurations"]}
    assert len(found) == 2 * ARMS  # of multi_exit and of what is made of it; none of vanilla
    assert {c["own_threshold"] for c in found.values()} == {OWN}
    assert [c["n"] for c in found.values()] == [0, 0, 1, 1]
    parted = 0
    for one in found.values():
        assert [row["threshold"] for row in one["rows"]] == sorted({*THRESHOLDS, OWN})
        assert [model["seed"] for model in one["models"]] == [0, 1]
        assert all(model["num_differ"] == 0 for model in one["models"])
        hand = [by_hand(sweep, model["key"], 0.8) for model in one["models"]]
        for number, model in enumerate(one["models"]):
            parted += check(model["rows"][1], hand[number : number + 1])
        check(one["rows"][1], hand)
    assert parted > 8  # some rows have images at several exits


def check(row: dict, hand: list[dict]) -> int:
    """One row against the cells of its models; how many exits are used."""
    assert row["threshold"] == 0.8
    groups = sorted(row["groups"])
    assert groups == sorted({group for one in hand for group, _ in one["cells"]})
    for name in [None, *groups]:
        figures = row if name is None else row["groups"][name]
        cells = [[0, 0] for _ in range(5)]
        for one in hand:
            for (group, leaves), (num, right) in one["cells"].items():
                if name in (None, group):
                    cells[leaves][0] += num
                    cells[leaves][1] += right
        total = sum(num for num, _ in cells)
        assert figures["share"] == pytest.approx([num / total for num, _ in cells])
        for got, (num, right) in zip(figures["accuracy"], cells, strict=True):
            assert got == (pytest.approx(right / num) if num else None)
        assert figures["overall_accuracy"] == pytest.approx(sum(r for _, r in cells) / total)
        if name is not None:
            assert figures["num_images"] * len(hand) == total
            scores = [macro_f1(one["pairs"][name]) for one in hand]
            assert figures["f1"] == pytest.approx(np.mean(scores))
    return sum(share > 0 for share in row["share"])


def macro_f1(pairs: list[tuple[int, int]]) -> float:
    label, predicted = zip(*pairs, strict=True)
    return float(f1_score(label, predicted, average="macro", zero_division=0))


@pytest.mark.slow
def test_one_model_at_thresholds_of_ones_own(sweep):
    key = next(
        k for k, r in load_records(sweep).items() if r["trial"]["baseline"]["name"] == "obd"
    )
    result = call(sweep, "--key", key, "--threshold", 1.5, "--threshold", 0, "--json")
    (one,) = json.loads(result.stdout)["configurations"]
    assert [model["key"] for model in one["models"]] == [key]
    first, last = one["rows"]
    assert (first["threshold"], first["share"]) == (0, [1, 0, 0, 0, 0])
    assert (last["threshold"], last["share"]) == (1.5, [0, 0, 0, 0, 1])
    assert last["accuracy"] == [None] * 4 + [last["overall_accuracy"]]
    shown = call(sweep, "--key", key)
    assert shown.exit_code == 0
    assert "0.7 *: all" in shown.stdout
    assert "the test split was not read" in shown.stdout
    sealed = [e for e in (sweep / "events.jsonl").read_text().splitlines() if "test_opened" in e]
    assert sealed == []


@pytest.mark.slow
def test_what_is_not_there_is_said_in_one_line(sweep, tmp_path):
    def line(*arguments: object) -> str:
        result = call(*arguments)
        assert result.exit_code == 2
        (text,) = result.stderr.splitlines()
        return text

    records = load_records(sweep)
    vanilla = next(k for k, r in records.items() if r["trial"]["baseline"]["name"] == "vanilla")
    assert "has no exits" in line(sweep, "--key", vanilla)
    assert "no trial of" in line(sweep, "--key", "f" * 32)
    assert "must be at least 0 and finite but got nan" in line(sweep, "--threshold", "nan")
    assert "must be at least 0 and finite but got -1" in line(sweep, "--threshold", "-1")
    assert "no sweep in" in line(tmp_path)
    copy = copy_sweep(sweep, tmp_path / "copy")
    shutil.rmtree(sweep.parent / "cache")
    text = (copy / "sweep.yaml").read_text()
    (copy / "sweep.yaml").write_text(text.replace("num_images: 120", "num_images: 100"))
    assert "the images are not those that" in line(copy)
    (copy / "sweep.yaml").write_text(text)
    gone = [r for r in records.values() if r["trial"]["baseline"]["name"] == "multi_exit"]
    for record in gone:
        shutil.rmtree(copy / "store/nodes" / record["key"][:2] / record["key"])
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"store": str(copy / "store")}))
    document = json.loads(call(copy, "--json").stdout)
    assert len(document["configurations"]) == ARMS
    assert {one["key"] for one in document["missing"]} == {record["key"] for record in gone}


def test_a_sweep_without_exits_is_refused():
    def record(baseline: dict, status: str = "done") -> dict:
        trial = {"baseline": baseline, "label": baseline["name"], "n": 0, "seed": 0}
        return {"trial": trial, "status": status}

    vanilla, exits = record({"name": "vanilla"}), record({"name": "multi_exit"}, "failed")
    folder = Path("runs/mine")
    with pytest.raises(UserError, match=r"and it has none \(--set baseline=multi_exit"):
        wanted_records({"a": vanilla}, None, folder)
    with pytest.raises(UserError, match="and none of 1 is done"):
        wanted_records({"a": vanilla, "b": exits}, None, folder)
    with pytest.raises(UserError, match="--key b: multi_exit is not done but failed"):
        wanted_records({"b": exits}, "b", folder)


def test_an_odd_device_is_refused_before_anything_is_read(tmp_path):
    assert "must be cpu, cuda or auto but got 'gpu'" in call(tmp_path, "--device", "gpu").stderr


def test_groups_and_exits_without_images_have_no_figure():
    """A group that is not in the split, an exit that nobody takes."""
    counts = ExitCounts(
        np.array([[3, 1], [0, 0]]), np.array([[3, 0], [0, 0]]), np.array([[[3, 1], [0, 0]]] * 2)
    )
    counts.count_GCC[1] = 0
    found = rows.row(0.9, [counts], About(("a", "b"), ("x", "y"), "corrected"))
    assert (found["share"], found["accuracy"]) == ([0.75, 0.25], [1, 0])
    assert found["groups"]["b"] == {
        "num_images": 0, "share": [None, None], "accuracy": [None, None],
        "overall_accuracy": None, "f1": None,
    }  # fmt: skip
    assert found["eodd_hardt"] is None
