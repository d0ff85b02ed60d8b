"""A Ray cluster of three nodes of which one cannot reach the store: named before the first trial.

Nodes of one machine differ in their environment, as machines do in their roles and mounts.
"""

import os
import subprocess
import sys

import pytest
from servers import ROOT

pytestmark = pytest.mark.slow

CLUSTER = """
import sys
from orchestrator.running.environment import prepare
prepare()
import ray
from ray.cluster_utils import Cluster
from orchestrator.ledger.storage_probe import probe_nodes
from trainables.errors import UserError
from trainables.storage import Storage

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
if sys.argv[1] == "one without":
    cluster.add_node(num_cpus=1, env_vars={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
ray.init(address=cluster.address, log_to_driver=False)
storage = Storage("s3://bucket/probed")
try:
    probe_nodes(storage)
    print("all can")
except UserError as error:
    print(f"refused: {error}")
print("left", len(storage.sizes(f"{storage.root}/probes")))
ray.shutdown()
cluster.shutdown()
"""


def probed(case: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, case], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("all", "ref", "left"))]


def test_every_node_is_asked(s3):
    assert probed("all with") == ["all can", "left 0"]


def test_the_node_that_cannot_is_named_with_its_reason(s3):
    line, left = probed("one without")
    assert line.startswith("refused: --store s3://bucket/probed: node ")
    assert "cannot write: s3://bucket/probed: Could not connect to the endpoint URL" in line
    assert left == "left 0"
