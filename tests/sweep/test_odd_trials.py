"""Sweeps in which trials cannot end well: they end all the same, the ledger says why, and the
front has only what was finished.
"""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sweep_runs import RECIPE, SPACE, assert_each_node_once, write_space

from orchestrator.ledger.records import load_records, read_events
from trainables.store import Store

pytestmark = pytest.mark.slow
NUM = 90


@pytest.fixture(scope="module")
def table(place):
    """Random images; class c and group l are in no validation image."""
    folder = place / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    with (place / "t.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label", "tone", "split"])
        for i in range(NUM):
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                folder / f"{i}.png"
            )
            split = ("train", "validation", "test")[i // 30]
            label = "ab"[i % 2] if split == "validation" else "abc"[i % 3]
            tone = "d" if split == "validation" else "dl"[i // 3 % 2]
            lines.writerow([f"{i}.png", label, tone, split])
    return {
        "name": "table", "path": str(place / "t.csv"), "root": str(folder), "attribute": "tone",
        "split": "column", "split_column": "split", "image_size": 32,
    }  # fmt: skip


def ended(cli, place, name, *, code=0, **changes):
    """(folder, document, records) of a sweep that has to end so."""
    space = write_space(place / f"{name}.yaml", **({"iterations": 1} | changes))
    folder = place / name
    found, document, err = cli.run(space, folder, "--workers", "2")
    assert found == code, err[-2000:]
    assert "Traceback" not in err
    records = load_records(folder)
    kinds = [event["event"] for event in read_events(folder)]
    assert kinds[-1] == "finished"
    assert kinds.count("done") + kinds.count("failed") == len(records)
    assert not [r for r in records.values() if r["status"] == "running"]
    done = {r["trial"]["configuration"] for r in records.values() if r["status"] == "done"}
    front = json.loads((folder / "front.json").read_text())
    assert {member["configuration_key"] for member in front["members"]} <= done
    assert_each_node_once(folder)
    return folder, document, records


def arm(name, **fields):
    return {"criterion": name, "ratio": 0.3, "site": "conv"} | fields


def test_a_class_and_a_group_that_validation_lacks(cli, place, table):
    """The gap cannot be known: null with a reason, never a number; nothing fails."""
    _, document, records = ended(cli, place, "absent", data=table, prune=arm("snnl"))
    assert document["num_failed"] == 0
    for record in records.values():
        figures = record["result"]["metrics"]["validation"]
        assert figures["eodd_hardt"] is None
        assert "eodd_hardt" in figures["undefined"]
        assert figures["f1"] is not None
    assert document["front"] == []


def test_a_reference_without_a_gap(cli, place):
    """After one epoch the net predicts one class for everybody: FATE would divide by 0."""
    _, document, records = ended(
        cli, place, "zero", training=RECIPE, finetune=RECIPE | {"epochs": 0},
        prune=arm("magnitude"),
    )  # fmt: skip
    assert document["num_failed"] == 0
    roots = [r for r in records.values() if r["trial"]["role"] == "baseline"]
    assert [r["result"]["metrics"]["validation"]["eodd_hardt"] for r in roots] == [0.0]
    for member in document["front"]:
        assert member["fate_eodd_hardt"] is None


def test_a_ratio_that_would_prune_everything(cli, place):
    """Three times 45 % of the original channels: the third finds too few, and one always stays."""
    _, document, records = ended(
        cli, place, "everything", iterations=3, controls=["none"], prune=arm("snnl", ratio=0.45)
    )
    assert document["num_done"] >= 5
    for record in records.values():
        if record["status"] == "done":
            for before_after in record["result"]["model"]["channels"].values():
                assert min(before_after) >= 1
        else:
            assert "channel" in record["error"]["reason"]


def test_all_channels_with_the_same_score(cli, place, table):
    """Images that are all alike: no channel separates groups, and the first ones go."""
    images = place / "alike"
    images.mkdir()
    for i in range(NUM):
        Image.fromarray(np.full((32, 32, 3), 90, dtype=np.uint8)).save(images / f"{i}.png")
    folder, document, records = ended(
        cli, place, "same", prune={"one_of": [arm("snnl"), arm("skewness"), arm("hsic")]},
        controls=["none"], data=table | {"root": str(images)},
        training=RECIPE | {"learning_rate": 1e-5}, finetune=RECIPE | {"epochs": 0},
    )  # fmt: skip
    assert document["num_failed"] == 0
    treated = {k: r["trial"] for k, r in records.items() if r["trial"]["role"] == "treatment"}
    assert {trial["criterion"] for trial in treated.values()} == {"snnl", "skewness", "hsic"}
    store = Store(str(folder / "store"))
    for key in treated:
        scores = json.loads(store.read(key, "scores.json"))
        assert len(set(scores["score"])) == 1
        assert scores["removed"] == list(range(len(scores["removed"])))
        assert scores["removed"]


def test_a_tenth_of_the_trials_failing(cli, place):
    """One arm of ten explodes; the others are done, the exit code is 0."""
    arms = [arm("snnl", ratio=r) for r in (0.1, 0.2, 0.3)]
    arms += [arm("magnitude", ratio=r) for r in (0.1, 0.2, 0.3)]
    arms += [arm("skewness", ratio=0.1), arm("taylor", ratio=0.1)]
    arms.append(arm("snnl", ratio=0.5, finetune=RECIPE | {"learning_rate": 1e30}))
    _, document, records = ended(
        cli,
        place,
        "tenth",
        controls=["none"],
        prune={"one_of": arms},
        training=RECIPE | {"epochs": 4},
        data=SPACE["data"] | {"num_images": 120},
    )
    failed = [r for r in records.values() if r["status"] == "failed"]
    assert len(failed) == 2  # the arm and the control that shares its recipe
    assert {r["error"]["type"] for r in failed} == {"TrainingError"}
    assert all("epoch 1 of 1" in r["error"]["reason"] for r in failed)
    assert document["num_failed"] == 2
    assert document["stopped"] is None
    assert document["front"]
