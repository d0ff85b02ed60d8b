"""cluster.yaml against a simulated AWS: what it asks for, and that it gives it all back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("moto.server")
pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
NAMESPACES = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
"""Only loopback: the simulated machines' public addresses cannot be reached."""


def _allowed() -> bool:
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    if not _allowed():
        pytest.skip("needs root, unshare and ip")
    place = tmp_path_factory.mktemp("aws")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RAY_"))}
    ended = subprocess.run(
        [*NAMESPACES, sys.executable, str(HERE / "aws_launch.py"), str(place)],
        capture_output=True, text=True, timeout=240, env=environment,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads((place / "found.json").read_text())


def tags(instance):
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


def by_type(launch):
    return {tags(i)["ray-user-node-type"]: i for i in launch["instances"]}


def test_the_instances_and_their_tags(launch):
    found = by_type(launch)
    assert {name: i["InstanceType"] for name, i in found.items()} == {
        "head": "m6i.xlarge",
        "gpu.spot": "g6.xlarge",
        "gpu.on_demand": "g6.xlarge",
    }
    assert found["gpu.spot"]["InstanceLifecycle"] == "spot"
    assert "InstanceLifecycle" not in found["gpu.on_demand"]
    for instance in launch["instances"]:
        assert tags(instance)["ray-cluster-name"] == "fatefront"
    assert tags(found["head"])["Name"] == "ray-fatefront-head"


def test_each_node_has_its_own_role_and_no_other_is_made(launch):
    roles = {name: i["IamInstanceProfile"]["Arn"] for name, i in by_type(launch).items()}
    assert roles["head"].endswith("instance-profile/fatefront-head")
    assert roles["gpu.spot"].endswith("instance-profile/fatefront-worker")
    assert roles["gpu.on_demand"].endswith("instance-profile/fatefront-worker")
    assert launch["role_names"] == ["fatefront-head", "fatefront-worker"]
    assert launch["roles"]["fatefront-head"]["policies"] == ["fatefront-launch", "fatefront-store"]
    assert launch["roles"]["fatefront-worker"]["policies"] == ["fatefront-store"]
    assert launch["roles"]["buckets"] == ["fatefront-test-bucket"]


def test_the_security_group_lets_in_ssh_and_itself(launch):
    (group,) = launch["security_groups"]
    for instance in launch["instances"]:
        assert [g["GroupId"] for g in instance["SecurityGroups"]] == [group["GroupId"]]
    within, ssh = sorted(group["IpPermissions"], key=lambda rule: rule.get("FromPort", 0))
    assert [pair["GroupId"] for pair in within["UserIdGroupPairs"]] == [group["GroupId"]]
    assert within["IpRanges"] == []
    assert (ssh["FromPort"], ssh["ToPort"]) == (22, 22)


def test_the_disks(launch):
    volumes = launch["volumes"]
    assert [(v["Size"], v["VolumeType"], v["Encrypted"]) for v in volumes] == [
        (150, "gp3", True)
    ] * len(launch["instances"])


def test_down_leaves_nothing_running(launch):
    assert launch["states_after_down"] == ["terminated"] * 3
