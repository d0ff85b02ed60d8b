"""Models of a real sweep for other tools give the predictions of the sweep: MLflow's registry,
ONNX, torch.export, scikit-learn."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_sweep import run_tiny, tiny_spec
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.fronts.front import sweep_front
from orchestrator.ledger.manifest import read_sweep
from orchestrator.ledger.records import Ledger, load_records
from orchestrator.models.aliases import aliased
from orchestrator.models.graph_files import scaled
from orchestrator.models.publish import render_published
from orchestrator.tracking.process import default_uri
from search_spaces.sweep_spec import Search
from trainables.data.base import VALIDATION
from trainables.data.load import load_dataset
from trainables.errors import UserError
from trainables.portable import load_portable
from trainables.predictions import Predictions
from trainables.pruned_classifier import PrunedClassifier
from trainables.store import Store

# MLflow and the exporters, asked by the tests themselves, warn of their own ways
pytestmark = [
    pytest.mark.slow,  # two minutes: a sweep, its models four times over
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two seeds of a tiny sweep, whose front holds every configuration that nothing dominates."""
    base = tmp_path_factory.mktemp("published")
    patch = pytest.MonkeyPatch()
    patch.setenv("FATEFRONT_CACHE", str(base / "cache"))
    search = Search(sampler="grid", max_f1_loss=None, objectives=("fate_eodd_hardt", "f1"))
    run_tiny(base / "sweep", base / "cache", search=search)
    ledger = Ledger(base / "sweep").open()
    ledger.append("started")
    ledger.append("finished", stopped=None)
    ledger.close()
    yield base / "sweep"
    patch.undo()


@pytest.fixture(scope="module")
def exported(sweep):
    """The document of an export with everything."""
    options = ["--onnx", "--torch-export", "--register", "--json"]
    to = sweep.parent / "front"
    result = CliRunner().invoke(app, ["export", str(sweep), "--to", str(to), *options])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def images(sweep):
    """Validation images, uint8, and their rows."""
    dataset = load_dataset(tiny_spec().data, cache_dir=sweep.parent / "cache")
    return dataset.images_NHWC[dataset.indices(VALIDATION)]


def stored(sweep: Path, key: str) -> np.ndarray:
    """Logits of validation as the trial stored them."""
    found = Predictions.from_bytes(Store(str(sweep / "store")).read(key, "validation.npz"))
    return found.logits_NK.astype(np.float32)


def test_every_member_has_its_graphs_and_they_are_right(sweep, exported, images):
    import onnxruntime
    import torch

    for model in exported["models"]:
        graphs = {graph["format"]: graph for graph in model["graphs"]}
        assert graphs.keys() == {"onnx", "torch_export"}
        assert all(graph["reason"] is None for graph in graphs.values())
        logits_NK = load_portable(model["path"]).logits(images)
        allowed = 1e-4 * max(1.0, float(np.abs(logits_NK).max()))
        assert all(0 <= graph["max_difference"] <= allowed for graph in graphs.values())
        session = onnxruntime.InferenceSession(graphs["onnx"]["path"])
        image_NCHW = scaled(images, 32)
        (found_NK,) = session.run(["logits"], {"image": image_NCHW})
        np.testing.assert_allclose(found_NK, logits_NK, atol=allowed)
        about = json.loads(session.get_modelmeta().custom_metadata_map["fatefront"])
        assert about["key"] == model["key"]
        net = torch.export.load(graphs["torch_export"]["path"]).module()
        with torch.inference_mode():
            again_NK = net(torch.from_numpy(image_NCHW[:3])).numpy()
        np.testing.assert_allclose(again_NK, logits_NK[:3], atol=allowed)
        with zipfile.ZipFile(graphs["torch_export"]["path"]) as archive:
            for name in archive.namelist():  # a pickle would name what it calls
                assert b"torch._utils" not in archive.read(name)
                assert not name.endswith(".pkl")
        # the stored logits are float16: 11 bits
        np.testing.assert_allclose(logits_NK, stored(sweep, model["key"]), rtol=1e-3, atol=1e-3)


def test_a_graph_that_is_wrong_is_not_written(exported, tmp_path):
    from orchestrator.models.graph_files import FORMATS, write_graph

    source = Path(exported["models"][0]["path"])
    for name in ("model.json", "weights.safetensors"):
        shutil.copy(source / name, tmp_path / name)
    real = FORMATS["torch_export"]

    def shifted(net, example, note, path):
        run = real.write(net, example, note, path)
        return lambda image: run(image) + 0.1

    found = write_graph(tmp_path, replace(real, write=shifted))
    assert found["path"] is None
    assert "differ by 0.1" in found["reason"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.json", "weights.safetensors",
    ]  # fmt: skip


def test_the_registry_gives_our_predictions_by_alias(sweep, exported, images):
    import mlflow
    from mlflow import MlflowClient

    uri = default_uri(sweep)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    records = load_records(sweep)
    wanted = aliased(sweep_front(records, read_sweep(sweep)), records)
    assert {"best-f1", "best-fate"} <= wanted.keys()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    for alias, key in wanted.items():
        version = client.get_model_version_by_alias("tiny-front", alias)
        assert version.tags["fatefront.key"] == key
        assert "Research only" in version.description
        assert version.run_id
        model = mlflow.pyfunc.load_model(f"models:/tiny-front@{alias}")
        table = model.predict(images)
        path = next(m["path"] for m in exported["models"] if m["key"] == key)
        portable = load_portable(path)
        logits_NK = portable.logits(images)
        names = [f"logit_{name}" for name in portable.classes]
        np.testing.assert_array_equal(table[names].to_numpy(), logits_NK)
        expected = np.array(portable.classes)[logits_NK.argmax(1)]
        assert table["y_pred"].tolist() == expected.tolist()
        assert model.metadata.signature.inputs.inputs[0].shape == (-1, 32, 32, 3)
        assert model.input_example.shape == (1, 32, 32, 3)
    assert "# Models of tiny" in client.get_registered_model("tiny-front").description
    files = [path for path in (sweep / "mlartifacts").rglob("*") if path.is_file()]
    assert {"served.py", "card.md", "weights.safetensors"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pth", ".pt")]


def test_the_model_is_served_with_the_same_numbers(sweep, exported, images):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).resolve().parents[2]
    log = sweep.parent / "serve.log"
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/tiny-front@best-f1",
        "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": default_uri(sweep),
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.5)
        request = urllib.request.Request(
            f"{address}/invocations",
            data=json.dumps({"inputs": images[:3].tolist()}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            rows = json.load(answer)["predictions"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    (key,) = (m["key"] for m in exported["registered"] if "best-f1" in m["aliases"])
    path = next(m["path"] for m in exported["models"] if m["key"] == key)
    portable = load_portable(path)
    logits_NK = portable.logits(images[:3])
    found_NK = [[row[f"logit_{name}"] for name in portable.classes] for row in rows]
    np.testing.assert_allclose(found_NK, logits_NK, rtol=1e-6)
    assert [row["y_pred"] for row in rows] == [
        portable.classes[k] for k in logits_NK.argmax(1)
    ]  # fmt: skip


def test_registering_again_changes_nothing(sweep, exported):
    from orchestrator.models.register import register_models

    again = register_models(sweep, exported["models"], sweep.parent / "front" / "card.md")
    assert again == exported["registered"]
    assert {len(m["aliases"]) for m in again} != {0}


def test_the_classifier_of_scikit_learn_is_ours(sweep, exported, images):
    from sklearn.base import clone, is_classifier
    from sklearn.exceptions import NotFittedError
    from sklearn.metrics import f1_score
    from sklearn.utils.validation import check_is_fitted

    model = exported["models"][0]
    net = PrunedClassifier.load(model["path"])
    portable = load_portable(model["path"])
    logits_NK = portable.logits(images, batch_size=64)
    assert is_classifier(net)
    assert net.classes_.tolist() == list(portable.classes)
    np.testing.assert_array_equal(net.decision_function(images), logits_NK)
    probability_NK = net.predict_proba(images)
    np.testing.assert_allclose(probability_NK.sum(1), 1)
    np.testing.assert_array_equal(probability_NK.argmax(1), logits_NK.argmax(1))
    assert net.predict(images).tolist() == net.classes_[logits_NK.argmax(1)].tolist()
    node = PrunedClassifier.load(model["key"], store=str(sweep / "store"))
    np.testing.assert_array_equal(node.decision_function(images), logits_NK)
    copy = clone(node)
    with pytest.raises(NotFittedError):
        check_is_fitted(copy)
    with pytest.raises(NotFittedError, match="no weights loaded"):
        copy.predict(images)
    assert copy.get_params() == node.get_params()
    label = net.predict(images)
    assert copy.fit(images, label).score(images, label) == 1
    assert f1_score(label, copy.predict(images), average="macro") == 1
    with pytest.raises(UserError, match="labels that the net does not know: scc"):
        copy.fit(images, ["scc"] * len(images))
    with pytest.raises(ValueError, match="uint8"):
        net.predict(images.astype(np.float32))


def test_scikit_learn_s_own_checks(exported):
    from sklearn.utils.estimator_checks import (
        check_estimator_cloneable,
        check_estimator_repr,
        check_estimator_tags_renamed,
        check_get_params_invariance,
        check_no_attributes_set_in_init,
        check_set_params,
        check_valid_tag_types,
    )

    net = PrunedClassifier(exported["models"][0]["path"])
    for check in (
        check_estimator_cloneable,
        check_estimator_repr,
        check_estimator_tags_renamed,
        check_get_params_invariance,
        check_no_attributes_set_in_init,
        check_set_params,
        check_valid_tag_types,
    ):
        check("PrunedClassifier", net)


def test_people_read_a_line_a_kind_of_graph_and_one_of_the_registry(exported):
    num = len(exported["models"])
    lines = render_published(exported).splitlines()
    assert sum(f"model.onnx of {num} model" in line for line in lines) == 1
    assert sum(f"model.pt2 of {num} model" in line for line in lines) == 1
    (told,) = [line for line in lines if line.startswith("registered in MLflow: tiny-front")]
    version = next(m["version"] for m in exported["registered"] if "best-f1" in m["aliases"])
    assert f"@best-f1 is {version}" in told
    failed = deepcopy(exported)
    failed["models"][0]["graphs"][0] |= {"path": None, "reason": "it reads [groups]"}
    (line,) = [x for x in render_published(failed).splitlines() if x.startswith("no onnx of ")]
    assert line.endswith(r"it reads \[groups]")  # escaped: the console takes brackets for styles
