"""How many trials a cluster takes: what is up, and what the autoscaler may add."""

from pathlib import Path

import pytest
import yaml

from orchestrator.cluster.capacity import _may_come, trials_on

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("node", "threads", "gpus", "number"),
    [
        ({"CPU": 4}, 1, 0, 4),
        ({"CPU": 4}, 3, 0, 1),
        ({"CPU": 4, "GPU": 1}, 1, 1, 1),
        ({"CPU": 4, "GPU": 1}, 1, 0.25, 4),
        ({"CPU": 4, "GPU": 1}, 2, 0.25, 2),
        ({"CPU": 32, "GPU": 8}, 1, 0.4, 16),  # two fit on each, a third would lie on two
        ({"CPU": 4}, 1, 1, 0),
        ({}, 1, 0, 0),
    ],
)
def test_trials_on_a_node(node, threads, gpus, number):
    assert trials_on(node, threads, gpus) == number


def test_workers_that_may_come_as_far_as_max_workers_goes():
    file = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    assert _may_come(file, 1) == [{"CPU": 4, "GPU": 1}] * 8
    assert _may_come(file, 4) == [{"CPU": 4, "GPU": 1}] * 5
    assert _may_come(file, 20) == []


def test_the_largest_come_first():
    kinds = {
        "head": {"resources": {"CPU": 0}},
        "small": {"resources": {"CPU": 2}, "max_workers": 3},
        "large": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 1},
    }
    file = {"available_node_types": kinds, "head_node_type": "head", "max_workers": 2}
    assert _may_come(file, 1) == [{"CPU": 8, "GPU": 1}, {"CPU": 2}]


def test_a_fixed_list_of_machines_adds_none():
    assert _may_come({"provider": {"type": "local"}, "max_workers": 2}, 1) == []
    assert _may_come(None, 3) == []
