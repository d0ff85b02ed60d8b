"""Reading a file of Ray's cluster launcher (``ray up``)."""

from __future__ import annotations

from typing import Any

from orchestrator.cluster.description import Cluster, NodeGroup, exports
from orchestrator.cluster.findings import Located
from orchestrator.cluster.yaml_file import YamlFile

LOCAL_MACHINE = "host"
"""Name under which the price table may hold what one of your own machines costs."""


def read_launcher(file: YamlFile) -> Cluster:
    """The groups of a launcher file; what is not of the expected kind is left to Ray's schema."""
    provider = _mapping(file.get("provider"))
    name = str(provider.get("type", ""))
    own = file.get("metadata", "fatefront", "shared_folders")
    mounts = tuple(map(str, own)) if isinstance(own, list) else ()
    if name == "local":
        groups = _local_groups(file, provider, mounts)
    else:
        groups = _cloud_groups(file, name, mounts)
    workers = file.get("max_workers")
    if not isinstance(workers, int):
        # Ray's own default, except for a list of machines
        workers = 2 if name != "local" else sum(g.maximum for g in groups if not g.is_head)
    return Cluster(file, "launcher", name, _region(provider), groups, workers)


def _region(provider: dict[str, Any]) -> str | None:
    region = provider.get("region")
    return region if isinstance(region, str) else None


def _local_groups(
    file: YamlFile, provider: dict[str, Any], mounts: tuple[str, ...]
) -> tuple[NodeGroup, ...]:
    ips = provider.get("worker_ips")
    count = len(ips) if isinstance(ips, list) else 0
    groups = []
    for is_head, number in ((True, 1), (False, count)):
        commands = _commands(file, is_head)
        groups.append(
            NodeGroup(
                name="head" if is_head else "workers",
                is_head=is_head,
                path=("provider", "head_ip" if is_head else "worker_ips"),
                commands=commands,
                environment=exports(commands),
                images=_images(file, is_head),
                machine=LOCAL_MACHINE,
                spot=False,
                minimum=number,
                maximum=number,
                mounts=mounts,
            )
        )
    return tuple(groups)


def _cloud_groups(file: YamlFile, provider: str, mounts: tuple[str, ...]) -> tuple[NodeGroup, ...]:
    head = file.get("head_node_type")
    types = _mapping(file.get("available_node_types"))
    if head not in types:  # Ray's schema says so; the rules still need a head
        head = next(iter(types), "head")
    groups = []
    for name, given in (types or {"head": {}}).items():
        node_type, is_head = _mapping(given), name == head
        config = _mapping(node_type.get("node_config"))
        path = ("available_node_types", name)
        commands = _commands(file, is_head, name)
        maximum = node_type.get("max_workers", file.get("max_workers"))
        groups.append(
            NodeGroup(
                name=str(name),
                is_head=is_head,
                path=path,
                commands=commands,
                environment=exports(commands),
                images=_images(file, is_head, name),
                machine=_text(config.get("InstanceType" if provider == "aws" else "machineType")),
                spot=_is_spot(provider, config),
                minimum=1 if is_head else _whole(node_type.get("min_workers"), 0),
                maximum=1 if is_head else _whole(maximum, 2),
                disk_gb=_disk(provider, config),
                node_config=config,
                mounts=mounts,
            )
        )
    return tuple(groups)


def _commands(file: YamlFile, is_head: bool, node_type: str | None = None) -> tuple[Located, ...]:
    role = "head" if is_head else "worker"
    paths: list[tuple[str, ...]] = [("initialization_commands",), ("setup_commands",)]
    if node_type is not None and not is_head:
        own = ("available_node_types", node_type, "worker_setup_commands")
        paths.append(own if file.get(*own) is not None else ("worker_setup_commands",))
    else:
        paths.append((f"{role}_setup_commands",))
    paths.append((f"{role}_start_ray_commands",))
    found = []
    for path in paths:
        commands = file.get(*path)
        for index, command in enumerate(commands if isinstance(commands, list) else []):
            found.append(Located(str(command), (*path, index)))
    return tuple(found)


def _images(file: YamlFile, is_head: bool, node_type: str | None = None) -> tuple[Located, ...]:
    role = "head_image" if is_head else "worker_image"
    paths: list[tuple[str, ...]] = [("docker", role), ("docker", "image")]
    if node_type is not None:
        paths.insert(0, ("available_node_types", node_type, "docker", role))
    for path in paths:
        image = file.get(*path)
        if isinstance(image, str) and image:
            return (Located(image, path),)
    return ()


def _is_spot(provider: str, config: dict[str, Any]) -> bool:
    if provider == "aws":
        return _mapping(config.get("InstanceMarketOptions")).get("MarketType") == "spot"
    scheduling = config.get("scheduling")
    if isinstance(scheduling, list):  # as some of Ray's examples have it
        scheduling = scheduling[0] if scheduling else {}
    scheduling = _mapping(scheduling)
    return scheduling.get("provisioningModel") == "SPOT" or bool(scheduling.get("preemptible"))


def _disk(provider: str, config: dict[str, Any]) -> int:
    """Gigabytes of the disks that are asked for; 0 where the image's own size holds."""
    if provider == "aws":
        sizes = [
            _mapping(_mapping(disk).get("Ebs")).get("VolumeSize")
            for disk in _sequence(config.get("BlockDeviceMappings"))
        ]
    else:
        sizes = [
            _mapping(_mapping(disk).get("initializeParams")).get("diskSizeGb")
            for disk in _sequence(config.get("disks"))
        ]
    return sum(_whole(size, 0) for size in sizes)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any, otherwise: int) -> int:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else otherwise
