"""Portable models: the logits of an exported model are those its trial stored."""

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_sweep import run_tiny

from orchestrator.evaluation.evaluate import evaluate_file
from orchestrator.evaluation.predict import predict
from orchestrator.ledger.records import load_records
from trainables.data.load import load_dataset
from trainables.errors import UserError
from trainables.portable import load_portable, save_portable
from trainables.predictions import Predictions
from trainables.store import Store, StoreError
from trainables.trial import run_trial
from trainables.trial_spec import Trial

SCHEMAS = Path(__file__).resolve().parents[2] / "orchestrator/schemas"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    spec = run_tiny(folder, folder / "cache", seeds=(0,))
    yield folder, load_dataset(spec.data, cache_dir=folder / "cache"), load_records(folder)
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _give_back_the_disk(tmp_path):
    yield
    shutil.rmtree(tmp_path)


def keys_of(records, criterion):
    return [key for key, r in records.items() if r["trial"]["criterion"] == criterion]


@pytest.fixture
def model(sweep, tmp_path):
    folder, dataset, records = sweep
    key = keys_of(records, "snnl")[-1]
    store = Store(str(folder / "store"))
    extra = {
        "groups": list(dataset.groups),
        "attribute": dataset.attribute,
        "metrics": {"f1": 0.5},
    }
    return save_portable(store, key, tmp_path / "model", extra)


@pytest.mark.parametrize("criterion", [None, "none", "snnl"])
def test_logits_equal_the_stored_predictions(sweep, tmp_path, criterion):
    folder, dataset, records = sweep
    store = Store(str(folder / "store"))
    for key in keys_of(records, criterion):
        save_portable(store, key, tmp_path / key, {"groups": list(dataset.groups)})
        model = load_portable(tmp_path / key)
        rows = dataset.indices(1)
        stored = Predictions.from_bytes(store.read(key, "validation.npz")).logits_NK
        logits_NK = model.logits(dataset.images_NHWC[rows])
        assert logits_NK.dtype == np.float32
        np.testing.assert_array_equal(logits_NK.astype(np.float16), stored)
        assert len(np.unique(stored, axis=0)) > 1


def test_pruned_model_is_smaller_than_its_control(sweep, tmp_path):
    folder, dataset, records = sweep
    store = Store(str(folder / "store"))
    sizes = {}
    for criterion in ("none", "snnl"):
        key = keys_of(records, criterion)[0]
        save_portable(store, key, tmp_path / key, {"groups": list(dataset.groups)})
        model = load_portable(tmp_path / key)
        sizes[criterion] = sum(p.numel() for p in model.model.parameters())
        assert sizes[criterion] == records[key]["result"]["model"]["num_params"]
    assert sizes["snnl"] < sizes["none"]


def test_weight_masks_travel(sweep, tmp_path):
    folder, dataset, records = sweep
    store = Store(str(folder / "store"))
    trial = Trial.model_validate(store.node(keys_of(records, "snnl")[0])["trial"])
    masked = trial.model_copy(
        update={"prune": trial.prune.model_copy(update={"surgery": "weight_mask"})}
    ).resolved()
    node = run_trial(masked, dataset, store)
    save_portable(store, node["key"], tmp_path / "m", {"groups": list(dataset.groups)})
    model = load_portable(tmp_path / "m")
    name = f"net.{masked.prune.layer}.weight"
    weight = model.model.get_parameter(name).detach()
    masked_channels = sorted(
        set(np.flatnonzero((weight == 0).all(dim=(1, 2, 3)).numpy()).tolist())
    )
    assert masked_channels == node["plan"][masked.prune.layer]["masked"]
    assert len(masked_channels) == round(0.1 * 512)
    assert int((model.model.masks[name] == 0).sum()) == int((weight == 0).sum())


def test_card_fits_its_schema_and_says_what_it_is(model, sweep):
    _, dataset, _ = sweep
    card = json.loads((model / "model.json").read_text())
    jsonschema.validate(card, json.loads((SCHEMAS / "model.json").read_text()))
    assert card["format_version"] == 1
    assert card["classes"] == list(dataset.classes)
    assert card["metrics"] == {"f1": 0.5}
    assert card["normalise"] == "imagenet"
    assert sorted(p.name for p in model.iterdir()) == ["model.json", "weights.safetensors"]


def test_wrong_images_are_refused(model):
    loaded = load_portable(model)
    assert loaded.geometry == (32, 32)
    with pytest.raises(ValueError, match=r"uint8 \(N, 32, 32, 3\)"):
        loaded.logits(np.zeros((2, 31, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        loaded.logits(np.zeros((2, 32, 32, 3), np.float32))
    assert loaded.logits(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 2)


def edit_card(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_mistakes_are_one_line(model, tmp_path):
    with pytest.raises(UserError, match=r"no model in .*nowhere: it has no model.json"):
        load_portable(tmp_path / "nowhere")
    edit_card(model, format_version=2)
    with pytest.raises(UserError, match="format_version must be 1 but got 2"):
        load_portable(model)
    edit_card(model, format_version=1, clases=["a"])
    with pytest.raises(UserError, match="did you mean 'classes'"):
        load_portable(model)


def test_damage_is_noticed(model):
    weights = model / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"damaged: its SHA-256") as caught:
        load_portable(model)
    assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(UserError, match=r"has no weights\.safetensors"):
        load_portable(model)


def test_a_plan_that_does_not_fit_is_one_line(model):
    edit_card(model, plan={})
    with pytest.raises(UserError, match="the weights do not fit") as caught:
        load_portable(model)
    assert "\n" not in str(caught.value)


def test_missing_node_and_dropped_weights(sweep, tmp_path):
    folder, _, _ = sweep
    store = Store(str(folder / "store"))
    with pytest.raises(StoreError, match="is not in"):
        save_portable(store, "0" * 32, tmp_path / "x", {})
    assert not (tmp_path / "x").exists()


def write_table(folder, dataset, rows):
    """PNG files of resident images (lossless, so that decoding gives the same pixels), and a table
    of them."""
    (folder / "images").mkdir(parents=True)
    lines = ["path,diagnosis,skin,note"]
    for row in rows:
        name = f"images/{row}.png"
        Image.fromarray(np.array(dataset.images_NHWC[row])).save(folder / name)
        label, group = dataset.classes[dataset.label_N[row]], dataset.groups[dataset.group_N[row]]
        lines.append(f'{name},{label},{group},"007, NA"')
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_predict_equals_logits_and_can_be_evaluated(model, sweep, tmp_path):
    _, dataset, records = sweep
    rows = dataset.indices(1)
    table = write_table(tmp_path / "own", dataset, rows)
    out = tmp_path / "out.csv"
    document = predict(model, table, output=out, batch_size=5)
    jsonschema.validate(document, json.loads((SCHEMAS / "predict.json").read_text()))
    frame = pd.read_csv(out, dtype={"note": str})
    assert document["num_predicted"] == len(frame) == len(rows)
    assert set(frame["note"]) == {"007, NA"}
    logits_NK = load_portable(model).logits(dataset.images_NHWC[rows])
    np.testing.assert_allclose(frame[["logit_nv", "logit_mel"]], logits_NK, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(frame[["p_nv", "p_mel"]].sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(
        frame["p_mel"], 1 / (1 + np.exp(logits_NK[:, 0] - logits_NK[:, 1])), rtol=1e-4
    )
    assert list(frame["y_pred"]) == [dataset.classes[k] for k in logits_NK.argmax(1)]
    evaluated = evaluate_file(out, label="diagnosis", group="skin")
    key = json.loads((model / "model.json").read_text())["key"]
    expected = records[key]["result"]["metrics"]["validation"]
    assert evaluated["f1"] == pytest.approx(expected["f1"])
    assert evaluated["eodd_hardt"] == pytest.approx(expected["eodd_hardt"])


def test_predict_names_bad_images_and_goes_on(model, sweep, tmp_path):
    _, dataset, _ = sweep
    rows = dataset.indices(1)[:6]
    table = write_table(tmp_path / "own", dataset, rows)
    (tmp_path / f"own/images/{rows[1]}.png").write_bytes(b"no image")
    (tmp_path / f"own/images/{rows[4]}.png").unlink()
    table.write_text(table.read_text() + ",nv,dark,\n")
    out = tmp_path / "out.parquet"
    document = predict(model, table, output=out, batch_size=4)
    assert [s["row"] for s in document["skipped"]] == [2, 5, 7]
    assert document["skipped"][1]["image"] == f"images/{rows[4]}.png"
    assert "No such file" in document["skipped"][1]["reason"]
    assert (document["num_rows"], document["num_predicted"], document["num_skipped"]) == (7, 4, 3)
    frame = pd.read_parquet(out)
    assert list(frame["path"]) == [f"images/{rows[i]}.png" for i in (0, 2, 3, 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "pth"}, "no column 'pth' in .* did you mean 'path'"),
        ({"output": "x.txt"}, "must end in .csv or .parquet"),
        ({"batch_size": 0}, "at least 1 but got 0"),
        ({"root": "elsewhere"}, "not one of the 3 images"),
    ],
)
def test_predict_mistakes(model, sweep, tmp_path, change, message):
    _, dataset, _ = sweep
    table = write_table(tmp_path / "own", dataset, dataset.indices(1)[:3])
    with pytest.raises(UserError, match=message):
        predict(model, table, **({"output": tmp_path / "out.csv"} | change))
    assert not (tmp_path / "out.csv").exists()


def test_predict_overwrites_nothing(model, sweep, tmp_path):
    _, dataset, _ = sweep
    table = write_table(tmp_path / "own", dataset, dataset.indices(1)[:3])
    with pytest.raises(UserError, match="is the table itself"):
        predict(model, table, output=table)
    table.write_text(table.read_text().replace("note", "y_pred"))
    with pytest.raises(UserError, match="already has the column 'y_pred'"):
        predict(model, table, output=tmp_path / "out.csv")
