"""What a cloud would refuse, or silently ignore, of ``node_config``: its own API says which keys
there are.

Ray does not look into `node_config`: a typo such as `InstanceTyp` shows only at the launch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from orchestrator.cluster.description import Cluster
from orchestrator.cluster.findings import Finding, Path, nearest

RULE = "node_config"
RAYS_OWN = {"SubnetIds", "SecurityGroupIds", "NetworkInterfaces", "LaunchTemplate"}
"""Keys that Ray's AWS provider reads itself and turns into those of the API."""


def check(cluster: Cluster) -> Iterator[Finding]:
    """Unknown keys, wrong kinds of values and unknown machines of AWS and GCP."""
    if cluster.kind != "launcher":
        return
    if cluster.provider == "aws":
        yield from _aws(cluster)
    elif cluster.provider == "gcp":
        yield from _gcp(cluster)


@cache
def _run_instances() -> Any:
    """What EC2's RunInstances takes, from the client library's own description."""
    import botocore.session

    service = botocore.session.get_session().get_service_model("ec2")
    return service.operation_model("RunInstances").input_shape


def _aws(cluster: Cluster) -> Iterator[Finding]:
    try:
        shape = _run_instances()
    except ImportError:
        yield Finding(
            RULE,
            ("provider",),
            "boto3 is not installed, which `ray up` needs: pip install 'fatefront[aws]'",
        )
        return
    for group in cluster.groups:
        path = (*group.path, "node_config")
        yield from _aws_value(group.node_config, shape, path, RAYS_OWN)
        if group.machine is None:
            yield Finding(RULE, path, f"{group.name} has no InstanceType")


def _aws_value(value: Any, shape: Any, path: Path, also: set[str]) -> Iterator[Finding]:
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, Mapping):
            yield Finding(RULE, path, "must be a mapping")
            return
        for name, below in value.items():
            if name in shape.members:
                yield from _aws_value(below, shape.members[name], (*path, name), set())
            elif name not in also:
                known = set(shape.members) | also
                yield Finding(RULE, (*path, name), f"EC2 knows no {name}{nearest(name, known)}")
    elif kind == "list":
        if not isinstance(value, list):
            yield Finding(RULE, path, "must be a list")
            return
        for index, below in enumerate(value):
            yield from _aws_value(below, shape.member, (*path, index), set())
    elif kind == "string":
        if not isinstance(value, str):
            yield Finding(RULE, path, f"must be a text but is {value!r}: quote it")
        elif shape.enum and value not in shape.enum:
            hint = nearest(value, shape.enum)
            yield Finding(RULE, path, f"EC2 knows no {shape.name} {value}{hint}")
    elif kind in ("integer", "long"):
        if not isinstance(value, int) or isinstance(value, bool):
            yield Finding(RULE, path, f"must be a whole number but is {value!r}")
    elif kind == "boolean" and not isinstance(value, bool):
        yield Finding(RULE, path, f"must be true or false but is {value!r}")


@cache
def _compute_schemas() -> dict[str, Any]:
    """The schemas of Google's Compute Engine API v1, which its client library brings along."""
    import json

    from googleapiclient.discovery_cache import get_static_doc

    text = get_static_doc("compute", "v1")
    schemas: dict[str, Any] = json.loads(text)["schemas"] if text else {}
    return schemas


def _gcp(cluster: Cluster) -> Iterator[Finding]:
    try:
        schemas = _compute_schemas()
    except ImportError:
        yield Finding(
            RULE,
            ("provider",),
            "google-api-python-client is not installed, which `ray up` "
            "needs: pip install 'fatefront[gcp]'",
        )
        return
    for group in cluster.groups:
        path = (*group.path, "node_config")
        yield from _gcp_value(group.node_config, {"$ref": "Instance"}, path, schemas)
        if group.machine is None:
            yield Finding(RULE, path, f"{group.name} has no machineType")


def _gcp_value(
    value: Any, schema: dict[str, Any], path: Path, schemas: dict[str, Any]
) -> Iterator[Finding]:
    while "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind, properties = schema.get("type"), schema.get("properties")
    if kind == "object" and properties is not None:
        if not isinstance(value, Mapping):
            yield Finding(RULE, path, "must be a mapping")
            return
        for name, below in value.items():
            if name in properties:
                yield from _gcp_value(below, properties[name], (*path, name), schemas)
            else:
                hint = nearest(name, properties)
                yield Finding(RULE, (*path, name), f"Compute Engine knows no {name}{hint}")
    elif kind == "array":
        if not isinstance(value, list):
            yield Finding(RULE, path, "must be a list")
            return
        for index, below in enumerate(value):
            yield from _gcp_value(below, schema["items"], (*path, index), schemas)
    elif kind == "string" and schema.get("enum") and value not in schema["enum"]:
        hint = nearest(str(value), schema["enum"])
        yield Finding(RULE, path, f"Compute Engine knows no {path[-1]} {value}{hint}")
    elif kind == "boolean" and not isinstance(value, bool):
        yield Finding(RULE, path, f"must be true or false but is {value!r}")
