"""What is the same on every version and processor, and what only where `results.json` says so.

`identical` holds wherever fatefront runs: splits, batches, draws, keys, figures from counts.
`results` are those of three small trials, to the bit for the versions and processors of one entry.
Elsewhere training amplifies rounding; there the first forward pass agrees within the tolerance.
``python tests/golden/test_results.py`` adds the present versions.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainables.data.augment import Augment, draw
from trainables.data.base import Dataset
from trainables.data.load import load_dataset
from trainables.data.synthetic import Synthetic
from trainables.environment import environment
from trainables.measurement import measure_node
from trainables.metrics.summary import compare, summarise
from trainables.models.resnet import ResNet18
from trainables.node import make_baseline
from trainables.specs import validate
from trainables.store import Store
from trainables.streams import stream, stream_seed
from trainables.trial import identity as data_identity
from trainables.trial import initial_model, run_trial
from trainables.trial_spec import Trial, node_key

GOLDEN = Path(__file__).with_name("results.json")
DECIDING = ("torch", "torchvision", "numpy", "cpu")
"""Of ``trainables.environment``: what an entry names."""
TOLERANCE = 1e-5
"""Of logits of the first forward pass, which are of the order of 1."""
RECIPE = {
    "epochs": 1, "batch_size": 8, "schedule": "constant", "normalise": "imagenet",
    "learning_rate": 0.001,
}  # fmt: skip
PRUNE = {"ratio": 0.3, "site": "conv", "finetune": RECIPE}
ARMS: dict[str, dict[str, Any]] = {
    "root": {},
    "snnl": {"prune": PRUNE | {"criterion": "snnl"}, "n": 1},
    "random": {"prune": PRUNE | {"criterion": "random"}, "n": 1},
}


def sha256(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def trial(name: str) -> Trial:
    whole = {"backbone": ResNet18.Config(), "baseline": {"name": "vanilla", "training": RECIPE}}
    return validate(Trial, whole | ARMS[name], place="test").resolved("cpu")


def data(cache: Path) -> Dataset:
    config = Synthetic.Config(
        num_images=64, image_size=32, classes=("nv", "mel"), minority_share=0.5,
        images_per_patient=1.0,
    )  # fmt: skip
    return load_dataset(config, cache_dir=cache)


def identical(dataset: Dataset) -> dict[str, str]:
    """Name -> digest of what no version and no processor may move."""
    rng = np.random.default_rng(0)
    counts = [rng.integers(0, 40, (2, 3, 3)) for _ in range(2)]
    names = {"groups": ["dark", "light"], "classes": ["a", "b", "c"]}
    ours, theirs = (summarise(count_GCC, **names) for count_GCC in counts)
    order = [torch.randperm(500, generator=stream(7, "order", 1, e)).tolist() for e in range(3)]
    drawn = draw(Augment(), 200, stream(7, "augment", 2, 1))
    purposes = ("init", "dropout", "select")
    return {
        "images": dataset.fingerprint,
        "groups": dataset.group_digest,
        "splits": sha256([dataset.indices(split).tolist() for split in range(3)]),
        "streams": sha256([stream_seed(s, p) for s in range(3) for p in purposes]),
        "batches": sha256(order),
        "draws": sha256(drawn.uniform_NK.tolist()),
        "figures": sha256([ours, theirs, compare(ours, theirs)]),
        "keys": sha256([key(name, dataset) for name in ARMS]),
    }


def key(name: str, dataset: Dataset) -> str:
    return node_key(trial(name), data_identity(dataset))


def first_logits(dataset: Dataset) -> list[float]:
    """Of eight images by the model that training begins with."""
    begun = trial("root")
    baseline = make_baseline(begun, dataset)
    model = initial_model(begun, baseline, torch.device("cpu")).eval()
    images = torch.tensor(dataset.images_NHWC[:8]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits_NK = baseline.logits(model, images, torch.zeros(8, dtype=torch.int64))
    return [round(float(x), 7) for x in logits_NK.ravel()]


def results(dataset: Dataset, store: Store) -> dict[str, dict[str, Any]]:
    """Arm -> digest of what is promised to the bit, and how many channels it has."""
    found = {}
    for name in ARMS:
        node = run_trial(trial(name), dataset, store)
        measured = measure_node(store, node["key"], dataset, "corrected")
        found[name] = {
            "sha256": sha256([node["model"], measured["metrics"], measured["counts_sha256"]]),
            "channels": node["model"]["channels"],
        }
    return found


def place() -> dict[str, str]:
    """Versions and processor of this process, as entries name them."""
    found = environment(torch.device("cpu"))
    return {name: found[name] for name in DECIDING}


def entry_of(golden: dict[str, Any], here: dict[str, str]) -> dict[str, Any] | None:
    """The results that are promised here to the bit; None: elsewhere."""
    return next((dict(e) for e in golden["results"] if here in e["where"]), None)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    base = tmp_path_factory.mktemp("golden")
    dataset = data(base / "cache")
    trained = results(dataset, Store(str(base / "store")))
    return identical(dataset), first_logits(dataset), trained


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


def test_what_no_version_may_move(computed, golden):
    assert computed[0] == golden["identical"]


def test_results_are_those_of_these_versions(computed, golden):
    """To the bit where an entry says so; what depends on no rounding everywhere."""
    entry = entry_of(golden, place())
    if entry is not None:
        assert computed[2] == entry["arms"], f"{place()}: results moved, see {GOLDEN.name}"
    channels = [{n: arm["channels"] for n, arm in arms.items()}
                for arms in (computed[2], golden["results"][0]["arms"])]  # fmt: skip
    assert channels[0] == channels[1]


def test_the_first_forward_pass_is_that_of_every_version(computed, golden):
    np.testing.assert_allclose(computed[1], golden["first_logits"], rtol=0, atol=TOLERANCE)
    assert np.std(golden["first_logits"]) > 100 * TOLERANCE


def test_an_entry_is_found_by_its_versions(golden):
    for entry in golden["results"]:
        for here in entry["where"]:
            assert entry_of(golden, here) == entry
            assert entry_of(golden, here | {"torch": "0.1"}) is None


def add_here(golden: dict[str, Any], own: dict[str, Any]) -> None:
    """Where the results are those of an entry they are promised to be the same to the bit."""
    here = place()
    for entry in golden["results"]:
        entry["where"] = [where for where in entry["where"] if where != here]
    same = next((e for e in golden["results"] if e["arms"] == own), None)
    if same is None:
        golden["results"].append({"where": [here], "arms": own})
    else:
        same["where"].append(here)
    golden["results"] = [entry for entry in golden["results"] if entry["where"]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        present = data(Path(folder) / "cache")
        fixed, trained = identical(present), results(present, Store(folder + "/store"))
        logits = first_logits(present)
    content = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"results": []}
    moved = [n for n, v in fixed.items() if content.get("identical", fixed).get(n, v) != v]
    print(place(), "moved, which must not:" if moved else "nothing moved", *moved)
    content["identical"] = content.get("identical", fixed)
    content["first_logits"] = content.get("first_logits", logits)
    print("first logits differ by", np.abs(np.subtract(content["first_logits"], logits)).max())
    add_here(content, trained)
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
