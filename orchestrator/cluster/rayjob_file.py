"""Reading a RayJob of KubeRay."""

from __future__ import annotations

from typing import Any

from orchestrator.cluster.description import Cluster, NodeGroup
from orchestrator.cluster.findings import Located, Path
from orchestrator.cluster.yaml_file import YamlFile

MACHINE_LABEL = "node.kubernetes.io/instance-type"
SPOT_LABELS = {
    "eks.amazonaws.com/capacityType": "SPOT",
    "cloud.google.com/gke-spot": "true",
    "karpenter.sh/capacity-type": "spot",
}


def read_rayjob(file: YamlFile) -> Cluster:
    """The groups of a RayJob: one a pod template; the entrypoint is a command of the head."""
    base: Path = ("spec", "rayClusterSpec")
    groups = [_group(file, (*base, "headGroupSpec"), is_head=True)]
    workers = file.get(*base, "workerGroupSpecs")
    for index in range(len(workers) if isinstance(workers, list) else 0):
        groups.append(_group(file, (*base, "workerGroupSpecs", index), is_head=False))
    return Cluster(
        file,
        "rayjob",
        "kubernetes",
        _region(groups),
        tuple(groups),
        sum(group.maximum for group in groups if not group.is_head),
    )


def _region(groups: list[NodeGroup]) -> str | None:
    """A pod's nodes may be asked for by region; the price table is by region, too."""
    for group in groups:
        region = group.node_config.get("topology.kubernetes.io/region")
        if region:
            return str(region)
    return None


def _group(file: YamlFile, path: Path, *, is_head: bool) -> NodeGroup:
    pod: Path = (*path, "template", "spec")
    containers = file.get(*pod, "containers")
    count = len(containers) if isinstance(containers, list) else 0
    images, commands = [], []
    environment: dict[str, Located] = {}
    for index in range(count):
        here: Path = (*pod, "containers", index)
        image = file.get(*here, "image")
        if isinstance(image, str):
            images.append(Located(image, (*here, "image")))
        for name in ("command", "args"):
            value = file.get(*here, name)
            if isinstance(value, list):
                commands.append(Located(" ".join(map(str, value)), (*here, name)))
        for number, variable in enumerate(file.get(*here, "env") or []):
            if isinstance(variable, dict) and "value" in variable:
                text = Located(str(variable["value"]), (*here, "env", number, "value"))
                environment[str(variable.get("name"))] = text
    entrypoint = file.get("spec", "entrypoint")
    if is_head and isinstance(entrypoint, str):
        commands.append(Located(entrypoint, ("spec", "entrypoint")))
    selector = file.get(*pod, "nodeSelector")
    selector = selector if isinstance(selector, dict) else {}
    return NodeGroup(
        name="head" if is_head else str(file.get(*path, "groupName") or path[-1]),
        is_head=is_head,
        path=path,
        commands=tuple(commands),
        environment=environment,
        images=tuple(images),
        machine=selector.get(MACHINE_LABEL),
        spot=any(str(selector.get(label)) == value for label, value in SPOT_LABELS.items()),
        minimum=1 if is_head else _whole(file.get(*path, "minReplicas"), 0),
        maximum=1 if is_head else _whole(file.get(*path, "maxReplicas"), 1),
        node_config=selector,
        mounts=_claims(file, pod, count),
    )


def _claims(file: YamlFile, pod: Path, num_containers: int) -> tuple[str, ...]:
    """Where the pod's containers see a persistent volume claim: what all nodes may share."""
    claims = {
        volume.get("name")
        for volume in file.get(*pod, "volumes") or []
        if isinstance(volume, dict) and "persistentVolumeClaim" in volume
    }
    found = []
    for index in range(num_containers):
        for mount in file.get(*pod, "containers", index, "volumeMounts") or []:
            if isinstance(mount, dict) and mount.get("name") in claims:
                found.append(str(mount.get("mountPath")))
    return tuple(found)


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise
