"""Launches cluster.yaml against a simulated AWS (moto); what it asked for is in PLACE/found.json.

Run in a network namespace that has only loopback (`unshare --net`): the simulated machines have
public addresses, which Ray would otherwise really try to reach.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import yaml

ROOT = Path(__file__).resolve().parents[2]
PORT = 5777
BUCKET = "fatefront-test-bucket"
REGION = "us-west-2"


def main(place: Path) -> None:
    """Roles by the shipped template, `ray up`, look, `ray down`, look again."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        "HOME": str(place),
        "RAY_UP_enable_autoscaler_v2": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    server = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(PORT)],
        stdout=(place / "moto.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for_server()
        outputs = _roles()
        path = _adapted(place)
        _bring_files(place)
        _ray_up(path, place)
        _workers(path)
        found = _look() | {"roles": outputs}
        subprocess.run(
            [_ray(), "down", "-y", str(path)], cwd=place, check=True, timeout=120,
            stdout=(place / "down.log").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        found["states_after_down"] = [i["State"]["Name"] for i in _instances()]
    finally:
        server.terminate()
        server.wait(20)
    (place / "found.json").write_text(json.dumps(found, indent=1, default=str))


def _wait_for_server() -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/moto-api/", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("moto_server did not start")


def _roles() -> dict[str, Any]:
    """The bucket and the roles, as `aws cloudformation deploy` makes them."""
    client = boto3.client("cloudformation")
    client.create_stack(
        StackName="fatefront",
        TemplateBody=(ROOT / "clusters/aws-roles.yaml").read_text(),
        Parameters=[{"ParameterKey": "Bucket", "ParameterValue": BUCKET}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    iam = boto3.client("iam")
    attached = {}
    for role in ("fatefront-head", "fatefront-worker"):
        policies = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        profile = iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]
        attached[role] = {
            "policies": sorted(policy["PolicyName"] for policy in policies),
            "profile_roles": [r["RoleName"] for r in profile["Roles"]],
        }
    buckets = [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]]
    return attached | {"buckets": buckets}


def _adapted(place: Path) -> Path:
    """What a user changes: the bucket; and an AMI id, for the simulation has no DLAMI."""
    text = (ROOT / "cluster.yaml").read_text().replace("YOUR-BUCKET", BUCKET)
    document = yaml.safe_load(text)
    image = boto3.client("ec2").describe_images()["Images"][0]["ImageId"]
    for group in document["available_node_types"].values():
        group["node_config"]["ImageId"] = image
    path = place / "cluster.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _bring_files(place: Path) -> None:
    """What the file mounts, in the folder from which `ray up` is called."""
    (place / "dist").mkdir()
    (place / "dist" / "fatefront-0.1.0-py3-none-any.whl").write_bytes(b"not looked at")
    (place / "dist" / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    (place / ".ray").mkdir()
    (place / ".ray" / "auth_token").write_text("0" * 64)


def _ray_up(path: Path, place: Path) -> None:
    """Until the head runs: `ray up` then waits for an ssh that cannot come, and is ended."""
    with (place / "up.log").open("w") as log:
        up = subprocess.Popen(
            [_ray(), "up", "-y", str(path), "--no-config-cache"], cwd=place,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            for _ in range(900):
                if any(i["State"]["Name"] == "running" for i in _instances()):
                    time.sleep(3)  # tags are there from the start; the node's status follows
                    return
                if up.poll() is not None:
                    raise RuntimeError((place / "up.log").read_text())
                time.sleep(0.1)
            raise RuntimeError("no instance after 90 s: " + (place / "up.log").read_text())
        finally:
            up.kill()
            up.wait(20)


def _workers(path: Path) -> None:
    """One worker of each kind, started as the head's autoscaler starts them."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler._private.util import prepare_config

    config = bootstrap_aws(prepare_config(yaml.safe_load(path.read_text())))
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    for name, group in config["available_node_types"].items():
        if name != config["head_node_type"]:
            tags = {"ray-node-type": "worker", "ray-user-node-type": name}
            provider.create_node(group["node_config"], tags, 1)


def _ray() -> str:
    return str(Path(sys.executable).with_name("ray"))


def _instances() -> list[dict[str, Any]]:
    reservations = boto3.client("ec2").describe_instances()["Reservations"]
    return [instance for r in reservations for instance in r["Instances"]]


def _look() -> dict[str, Any]:
    ec2 = boto3.client("ec2")
    groups = ec2.describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["fatefront"]}]
    )["SecurityGroups"]
    roles = [role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"]]
    return {
        "instances": _instances(),
        "volumes": ec2.describe_volumes()["Volumes"],
        "security_groups": groups,
        "key_pairs": [key["KeyName"] for key in ec2.describe_key_pairs()["KeyPairs"]],
        "role_names": sorted(roles),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
