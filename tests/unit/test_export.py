"""Exporting a real tiny sweep: files, models, and the test split that is opened once and chooses
nothing."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, recall_score
from tiny_sweep import copy_sweep, run_tiny

from orchestrator.fronts.export import export_sweep, render_export
from orchestrator.fronts.export_models import model_name, model_names
from orchestrator.fronts.front import build_front
from orchestrator.fronts.page import Page, front_page
from orchestrator.ledger.records import Ledger, load_records, read_events
from orchestrator.ledger.sealed import adaptive_keys
from orchestrator.pages.front_chart import axes
from trainables.data.load import load_dataset
from trainables.errors import UserError
from trainables.portable import load_portable
from trainables.predictions import Predictions
from trainables.store import Store

SCHEMA = Path(__file__).resolve().parents[2] / "orchestrator/schemas/export.json"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    base = tmp_path_factory.mktemp("export")
    spec = run_tiny(base / "sweep", base / "cache")
    yield base, load_dataset(spec.data, cache_dir=base / "cache")
    shutil.rmtree(base)


@pytest.fixture
def sweep(original, tmp_path, monkeypatch):
    """A copy, so that what one test opens is sealed in the next."""
    base, dataset = original
    monkeypatch.setenv("FATEFRONT_CACHE", str(base / "cache"))
    copy_sweep(base / "sweep", tmp_path / "sweep")
    manifest = json.loads((tmp_path / "sweep/manifest.json").read_text())
    manifest["store"] = str(tmp_path / "sweep/store")
    (tmp_path / "sweep/manifest.json").write_text(json.dumps(manifest))
    yield tmp_path / "sweep", dataset
    shutil.rmtree(tmp_path)


def export(folder, to, **options):
    document = export_sweep(folder, to, **options)
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert str(to) in render_export(document)
    return document


def openings(folder):
    return [event["keys"] for event in read_events(folder) if event["event"] == "test_opened"]


def test_members_are_those_of_the_front_in_all_files(sweep, tmp_path):
    folder, _ = sweep
    document = export(folder, tmp_path / "out")
    front = build_front(load_records(folder), ("fate_eodd_hardt", "f1"))
    names = [member.aggregate.configuration for member in front.members]
    assert [row["configuration_key"] for row in document["members"]] == names
    with (tmp_path / "out/front.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["configuration_key"] for line in lines] == names
    frame = pd.read_parquet(tmp_path / "out/front.parquet")
    assert list(frame["configuration_key"]) == names
    assert list(frame.columns) == list(lines[0])
    written = json.loads((tmp_path / "out/front.json").read_text())
    assert written["members"] == document["members"]
    for line, row in zip(lines, document["members"], strict=True):
        assert float(line["test_f1"]) == row["test_f1"]
        assert line["adaptive"] == "false"


def test_test_figures_equal_scikit_learn(sweep, tmp_path):
    folder, dataset = sweep
    document = export(folder, tmp_path / "out")
    rows = dataset.indices(2)
    label_N, group_N = dataset.label_N[rows], dataset.group_N[rows]
    store = Store(str(folder / "store"))
    records = load_records(folder)

    def f1_and_gap(key):
        logits_NK = Predictions.from_bytes(store.read(key, "test.npz")).logits_NK
        found_N = logits_NK.argmax(1)
        parts = [(label_N[group_N == g], found_N[group_N == g]) for g in (0, 1)]
        assert all(len(set(label)) == 2 for label, _ in parts)
        f1 = np.mean([f1_score(*part, average="macro") for part in parts])
        # with two classes, one's false positive rate is 1 minus the other's recall
        recall_GC = [recall_score(*part, average=None) for part in parts]
        return f1, np.abs(np.subtract(*recall_GC)).mean()

    for row in document["members"]:
        keys = row["keys"].split()
        references = [records[key]["compares_with"]["reference"] for key in keys]
        ours, theirs = (np.mean([f1_and_gap(k) for k in ks], axis=0) for ks in (keys, references))
        assert row["test_num_seeds"] == len(keys) == 2
        assert row["test_f1"] == pytest.approx(ours[0])
        assert row["test_eodd_hardt"] == pytest.approx(ours[1])
        fate = (ours[0] - theirs[0]) / theirs[0] - (ours[1] - theirs[1]) / theirs[1]
        assert row["test_fate_eodd_hardt"] == pytest.approx(fate)
        assert row["test_f1"] != row["f1"]


def test_opening_is_in_the_ledger_once(sweep, tmp_path):
    folder, _ = sweep
    document = export(folder, tmp_path / "out")
    records = load_records(folder)
    members = [key for row in document["members"] for key in row["keys"].split()]
    references = {records[key]["compares_with"]["reference"] for key in members}
    (keys,) = openings(folder)
    assert set(keys) == {*members, *references}
    assert document["test"] == {
        "opened": True,
        "num_keys": len(keys),
        "num_newly_opened": len(keys),
    }
    again = export(folder, tmp_path / "again")
    assert openings(folder) == [keys]
    assert again["test"]["num_newly_opened"] == 0
    assert again["members"] == document["members"]


def test_no_test_leaves_the_split_sealed(sweep, tmp_path):
    folder, _ = sweep
    for path in Path(folder / "store").rglob("sealed"):
        shutil.rmtree(path)  # nothing may even look there
    before = (folder / "events.jsonl").read_bytes()
    document = export(folder, tmp_path / "out", open_test=False)
    assert (folder / "events.jsonl").read_bytes() == before
    assert not any(name.startswith("test_") for name in document["members"][0])
    assert any("the test split was not read" in note for note in document["notes"])
    assert "test_" not in (tmp_path / "out/front.csv").read_text().splitlines()[0]


def test_test_figures_choose_nothing(sweep, tmp_path):
    """Members and order are the same whether the test split is opened or not."""
    folder, _ = sweep
    sealed = export(folder, tmp_path / "sealed", open_test=False)
    opened = export(folder, tmp_path / "opened")
    strip = [
        {k: v for k, v in row.items() if not k.startswith("test_")} for row in opened["members"]
    ]
    assert strip == sealed["members"]
    assert opened["hypervolume"] == sealed["hypervolume"]


def test_test_figures_have_intervals_floors_and_an_optimism(sweep, tmp_path):
    folder, _ = sweep
    document = export(folder, tmp_path / "out")
    for row in document["members"]:
        assert row["test_f1_low"] < row["test_f1"] < row["test_f1_high"]
        assert 0 < row["test_eodd_hardt_p_value"] <= 1
        assert row["test_optimism_f1"] == pytest.approx(row["f1"] - row["test_f1"])
    assert any("validation less test" in note for note in document["notes"])


def test_unreadable_test_predictions_are_named(sweep, tmp_path):
    folder, _ = sweep
    front = build_front(load_records(folder), ("fate_eodd_hardt", "f1"))
    best = front.members[0].aggregate
    store = Store(str(folder / "store"))
    entry = store.node(best.keys[0])["files"]["test.npz"]
    (Path(store.folder(best.keys[0])) / entry["path"]).unlink()
    document = export(folder, tmp_path / "out")
    assert document["members"][0]["test_num_seeds"] == 1
    assert any(best.keys[0] in note for note in document["notes"])


def test_nodes_computed_after_an_opening_are_adaptive(original, sweep, tmp_path):
    base, _ = original
    folder, _ = sweep
    export(folder, tmp_path / "out")
    events = list(read_events(folder))
    assert adaptive_keys(events) == set()
    before = set(load_records(folder))
    run_tiny(folder, base / "cache", iterations=2)
    new = set(load_records(folder)) - before
    assert len(new) == 6
    assert adaptive_keys(list(read_events(folder))) == new
    document = export(folder, tmp_path / "later")
    for row in document["members"]:
        assert row["adaptive"] == (not before.issuperset(row["keys"].split()))
    num = sum(row["adaptive"] for row in document["members"])
    assert any("flagged adaptive" in note for note in document["notes"]) == bool(num)


def test_refuses_to_open_while_a_driver_is_at_work(sweep, tmp_path):
    folder, _ = sweep
    ledger = Ledger(folder).open()
    try:
        with pytest.raises(UserError, match="wait, or export with --no-test"):
            export_sweep(folder, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        export(folder, tmp_path / "out", open_test=False)
    finally:
        ledger.close()
    assert openings(folder) == []


def test_without_the_data_set_the_front_is_exported_all_the_same(sweep, tmp_path, monkeypatch):
    folder, _ = sweep
    path = folder / "sweep.yaml"
    path.write_text(path.read_text().replace("num_images: 120", "num_images: 119"))
    document = export(folder, tmp_path / "out")
    assert document["test"]["opened"] is False
    assert any("not the one the sweep was run on" in note for note in document["notes"])
    monkeypatch.setenv("FATEFRONT_CACHE", "/dev/null/cache")
    document = export(folder, tmp_path / "out")
    assert any("the data set cannot be loaded here" in note for note in document["notes"])
    assert openings(folder) == []


def test_models_are_the_members_and_carry_their_figures(sweep, tmp_path):
    folder, dataset = sweep
    document = export(folder, tmp_path / "out", open_test=False)
    keys = [key for row in document["members"] for key in row["keys"].split()]
    assert [model["key"] for model in document["models"]] == keys
    assert document["missing_models"] == []
    store, records = Store(str(folder / "store")), load_records(folder)
    for about in document["models"]:
        model = load_portable(about["path"])
        stored = Predictions.from_bytes(store.read(about["key"], "validation.npz")).logits_NK
        logits_NK = model.logits(dataset.images_NHWC[dataset.indices(1)])
        np.testing.assert_array_equal(logits_NK.astype(np.float16), stored)
        expected = records[about["key"]]["result"]["metrics"]["validation"]
        assert model.card.metrics["f1"] == expected["f1"]
        assert model.card.attribute == "tone"


def test_dropped_weights_are_named_not_fatal(sweep, tmp_path):
    folder, _ = sweep
    for path in (folder / "store").rglob("weights.safetensors"):
        path.unlink()
    document = export(folder, tmp_path / "out")
    assert document["models"] == []
    num = sum(row["num_seeds"] for row in document["members"])
    assert len(document["missing_models"]) == num
    assert all("is gone from" in m["reason"] for m in document["missing_models"])
    assert document["test"]["opened"] is True


def test_dropped_models_are_trained_again_when_asked(sweep, tmp_path):
    folder, _ = sweep
    before = export(folder, tmp_path / "before", open_test=False)
    store = Store(str(folder / "store"))
    kept = {key: {**store.node(key), "files": None} for key in load_records(folder)}
    for path in (folder / "store").rglob("weights.safetensors"):
        path.unlink()
    document = export(folder, tmp_path / "after", open_test=False, remake=True)
    assert document["missing_models"] == []
    for old, new in zip(before["models"], document["models"], strict=True):
        a, b = (load_portable(about["path"]).model.state_dict() for about in (old, new))
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert {key: {**store.node(key), "files": None} for key in kept} == kept
    path = folder / "sweep.yaml"
    path.write_text(path.read_text().replace("num_images: 120", "num_images: 119"))
    store.drop(document["models"][0]["key"], ["weights.safetensors"])
    with pytest.raises(UserError, match=r"--remake: node .* from other data"):
        export(folder, tmp_path / "other", open_test=False, remake=True)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "vanilla-snnl-5pct-x2-seed0"),
        ({"criterion": "none", "ratio": None}, "vanilla-none-x2-seed0"),
        ({"criterion": None, "ratio": None, "n": 0, "seed": 7}, "vanilla-seed7"),
        (
            {"baseline": {"name": "../Group_DRO"}, "ratio": 0.125},
            "group-dro-snnl-12.5pct-x2-seed0",
        ),
    ],
)
def test_names_of_models(changes, name):
    trial = {
        "baseline": {"name": "vanilla"},
        "criterion": "snnl",
        "ratio": 0.05,
        "n": 2,
        "seed": 0,
    }
    assert model_name(trial | changes) == name


def test_configurations_that_read_alike_get_names_of_their_own():
    trial = {
        "baseline": {"name": "vanilla"},
        "criterion": "snnl",
        "ratio": 0.05,
        "n": 1,
        "seed": 0,
    }
    records = {k: {"trial": trial | {"configuration": k * 16}} for k in "ab"}
    assert model_names("ab", records) == {
        "a": "vanilla-snnl-5pct-x1-seed0-aaaaaaaa",
        "b": "vanilla-snnl-5pct-x1-seed0-bbbbbbbb",
    }


class Reader(HTMLParser):
    """Collects what a page loads from elsewhere, its tags, and its cells."""

    def __init__(self):
        super().__init__()
        self.tags, self.elsewhere, self.cells, self._cell = [], [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.elsewhere += [v for k, v in attrs if k in ("src", "href", "srcset")]
        if tag in ("td", "th"):
            self.cells.append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self._cell:
            self.cells[-1] += data


def test_the_page_works_offline_and_has_every_member(sweep, tmp_path):
    folder, _ = sweep
    document = export(folder, tmp_path / "out")
    html = (tmp_path / "out/front.html").read_text()
    reader = Reader()
    reader.feed(html)
    assert reader.elsewhere == []
    assert {"title", "h1", "table", "caption", "figcaption"} <= set(reader.tags)
    assert '<html lang="en">' in html
    for row in document["members"]:
        assert any(row["configuration"] in cell for cell in reader.cells)
        assert f"{row['f1']:.3f} [{row['f1_low']:.3f}, {row['f1_high']:.3f}]" in reader.cells
        place = f"{row['membership_frequency']:.0%} ({row['membership']})"
        assert place in reader.cells
        assert f"{row['eodd_hardt_floor']:.3f}" in reader.cells
        assert f"{row['test_f1']:.3f}" in reader.cells
    assert f"{document['hypervolume']:.4f}" in html
    assert "fate_eodd_hardt = -1, f1 = 0" in html
    assert "figures on the validation split" in html
    assert re.search(r"2 seeds a configuration", html)


def test_text_of_the_sweep_cannot_run_in_the_page(sweep):
    folder, _ = sweep
    records = load_records(folder)
    evil = "<script>alert(1)</script>"
    for record in records.values():
        record["trial"]["label"] = evil
    front = build_front(records, ("fate_eodd_hardt", "f1"))
    added = [{"adaptive": False} for _ in front.members]
    html = front_page(front, records, added, Page(evil, evil, evil, (evil,)))
    assert evil not in html


def test_every_objective_pair_can_be_drawn(sweep):
    folder, _ = sweep
    records = load_records(folder)
    assert axes(("fate_eodd_hardt", "f1")) == ("fate_eodd_hardt", "f1")
    assert axes(("f1",)) == ("fate_eodd_hardt", "f1")
    assert axes(("fate_eopp1", "fate_eopp0")) == ("fate_eopp1", "fate_eopp0")
    for names in (("f1",), ("f1", "fate_eopp1"), ("fate_eodd_hardt", "fate_eopp1", "f1")):
        front = build_front(records, names)
        added = [{"adaptive": False} for _ in front.members]
        assert "<table>" in front_page(front, records, added, Page("s", "d", "v", ()))


def test_mistakes(sweep, tmp_path):
    folder, _ = sweep
    with pytest.raises(UserError, match="no sweep in"):
        export_sweep(tmp_path / "none", tmp_path / "out")
    with pytest.raises(UserError, match="is the sweep folder itself"):
        export_sweep(folder, folder)
    with pytest.raises(UserError, match="unknown objective 'auc'"):
        export_sweep(folder, tmp_path / "out", objectives=["auc"])
    assert openings(folder) == []
