"""``fatefront trial --profile``: a real trace of a real trial."""

import gzip
import json
from collections import Counter

import pytest
import yaml

from orchestrator.single import run_single
from trainables.errors import UserError
from trainables.profiling import EPOCHS

RECIPE = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01}
TRIAL = {
    "data": {"name": "synthetic", "num_images": 48, "image_size": 32},
    "backbone": "resnet18",
    "baseline": {"name": "vanilla", "training": RECIPE},
    "prune": {"criterion": "snnl", "ratio": 0.1, "finetune": RECIPE},
    "n": 1,
}


def test_a_trace_holds_every_part_of_a_trial_but_two_epochs_of_each_training(tmp_path):
    spec, path = tmp_path / "trial.yaml", tmp_path / "trace.json.gz"
    spec.write_text(yaml.safe_dump(TRIAL))
    run_single(spec, tmp_path / "store", "cpu", quiet=True, trace=path)
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    found = Counter(event["name"] for event in events if event.get("ph") == "X")
    # of the root's and of the pruned model's
    assert found["epoch"] == found["validation"] == 2 * EPOCHS
    assert found["training step"] % found["epoch"] == 0
    assert found["scoring pass"] == 1
    assert found["predictions"] == 2 * 3  # three splits
    assert found["aten::conv2d"] > 0
    with pytest.raises(UserError, match="nothing would run"):
        run_single(spec, tmp_path / "store", "cpu", quiet=True, trace=path)


@pytest.mark.parametrize(
    ("update", "path", "said"),
    [
        ({}, "no/trace.json", "no such folder"),
        ({"compute": {"world_size": 2}}, "t.json", "one process"),
    ],
)
def test_what_cannot_be_traced_is_said_before_anything_runs(tmp_path, update, path, said):
    spec = tmp_path / "trial.yaml"
    spec.write_text(yaml.safe_dump(TRIAL | update))
    with pytest.raises(UserError, match=said):
        run_single(spec, tmp_path / "store", "cpu", quiet=True, trace=tmp_path / path)
