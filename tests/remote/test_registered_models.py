"""Members of a front on a real MLflow server: registered with aliases, loaded by `mlflow.pyfunc`
through it, and served by `mlflow models serve`, always with the numbers of our own model.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from servers import ROOT, end, free_port, mlflow_server, wait_for
from tiny_sweep import run_tiny, tiny_spec

from orchestrator.ledger.records import Ledger
from search_spaces.sweep_spec import Search
from trainables.data.base import VALIDATION
from trainables.data.load import load_dataset
from trainables.pruned_classifier import PrunedClassifier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    # MLflow, of its own types
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning"),
]


def fatefront(*words, environment):
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def invoke(address: str, images: np.ndarray) -> list[dict]:
    request = urllib.request.Request(
        f"{address}/invocations",
        data=json.dumps({"inputs": images.tolist()}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return list(json.load(answer)["predictions"])


def test_front_members_on_a_server_give_our_numbers(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("FATEFRONT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "sweep"
    search = Search(sampler="grid", max_f1_loss=None)
    run_tiny(folder, tmp_path / "cache", search=search, seeds=(0,))
    ledger = Ledger(folder).open()
    ledger.append("started")
    ledger.append("finished", stopped=None)
    ledger.close()
    data = load_dataset(tiny_spec().data, cache_dir=tmp_path / "cache")
    images = data.images_NHWC[data.indices(VALIDATION)]
    port = free_port()
    with mlflow_server(tmp_path, port):
        uri = f"http://127.0.0.1:{port}"
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"tracking_uri": uri}))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        words = ("export", folder, "--to", tmp_path / "front", "--no-test", "--register", "--json")
        exported = fatefront(*words, environment=environment)
        client = MlflowClient(uri, registry_uri=uri)
        aliases = client.get_registered_model("tiny-front").aliases
        assert {"best-f1", "best-fate"} <= set(aliases)
        paths = {model["key"]: model["path"] for model in exported["models"]}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        nets = {}
        for model in exported["registered"]:
            net = PrunedClassifier.load(paths[model["key"]])
            found = mlflow.pyfunc.load_model(f"models:/tiny-front/{model['version']}")
            table = found.predict(images)
            names = [f"logit_{name}" for name in net.classes_]
            np.testing.assert_array_equal(table[names].to_numpy(), net.decision_function(images))
            assert table["y_pred"].tolist() == net.predict(images).tolist()
            nets |= dict.fromkeys(model["aliases"], net)
        port = free_port()
        environment |= {
            "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        with (tmp_path / "serve.log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local",
                 "-m", "models:/tiny-front@best-f1", "--host", "127.0.0.1", "--port", str(port)],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(address), server, 150)
            rows = invoke(address, images[:3])
        finally:
            end(server)
    net = nets["best-f1"]
    served = np.array([[row[f"logit_{name}"] for name in net.classes_] for row in rows])
    np.testing.assert_allclose(served, net.decision_function(images[:3]), rtol=1e-5, atol=1e-6)
    assert [row["y_pred"] for row in rows] == net.predict(images[:3]).tolist()
