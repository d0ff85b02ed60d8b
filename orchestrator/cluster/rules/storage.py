"""Every node reaches the store: an object store, or a folder that is the same one everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from orchestrator.cluster.description import Cluster, NodeGroup, option
from orchestrator.cluster.findings import Finding, Located

RULE = "storage"
VARIABLE = "FATEFRONT_STORE"
"""``fatefront run`` takes its ``--store`` from this variable where the option is not given."""
OBJECT_STORES = {"s3": "aws", "s3a": "aws", "gs": "gcp", "gcs": "gcp"}
NODE_LOCAL = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/scratch", "/proc")
PLACEHOLDER = re.compile(r"[<>]|YOUR-|CHANGE-ME|\bTODO\b")


def check(cluster: Cluster) -> Iterator[Finding]:
    """Where nodes would be stored, for each place the file names."""
    named = False
    seen = set()
    for group in cluster.groups:
        for place in _places(group):
            named = True
            if (place.text, place.path) not in seen:
                seen.add((place.text, place.path))
                yield from _place(place, cluster)
    if not named:
        yield Finding(
            RULE,
            ("setup_commands",) if cluster.kind == "launcher" else ("spec", "entrypoint"),
            f"the file does not say where results go: export {VARIABLE} (s3://..., gs://... or a "
            "shared folder), or `fatefront run` would store them on the head alone",
        )


def _places(group: NodeGroup) -> Iterator[Located]:
    if VARIABLE in group.environment:
        yield group.environment[VARIABLE]
    for command in group.commands:
        store = option(command.text, "--store")
        if store is not None and "fatefront" in command.text:
            yield Located(store, command.path)


def _place(place: Located, cluster: Cluster) -> Iterator[Finding]:
    text = place.text
    if text.startswith("$"):
        return  # another variable; the probe at the start of a sweep sees what it holds
    scheme, separator, rest = text.partition("://")
    if PLACEHOLDER.search(text):
        yield Finding(
            RULE, place.path, f"store {text}: put your own bucket or folder here", "note"
        )
    if separator and scheme in OBJECT_STORES:
        if not rest.strip("/"):
            yield Finding(RULE, place.path, f"store {text} names no bucket")
        if OBJECT_STORES[scheme] == "aws" and cluster.provider == "aws":
            yield from _roles(cluster)
        return
    if separator and scheme not in ("file", "local", "memory"):
        return  # another file system of fsspec, on a server
    path = rest if separator else text
    if scheme == "memory" and separator:
        yield Finding(RULE, place.path, f"store {text} lives in one process")
    elif not path.startswith("/"):
        yield Finding(
            RULE,
            place.path,
            f"store {text}: each node has another folder of that name; give an "
            "absolute shared folder or an object store",
        )
    elif any(_below(path, folder) for folder in NODE_LOCAL):
        yield Finding(RULE, place.path, f"store {text} is local to each node")
    else:
        yield from _shared(text, path, place, cluster)


def _shared(text: str, path: str, place: Located, cluster: Cluster) -> Iterator[Finding]:
    for group in cluster.groups:
        if any(_below(path, folder) for folder in group.mounts):
            continue
        how = (
            "name it in metadata.fatefront.shared_folders if it is the same folder on every node"
            if cluster.kind == "launcher"
            else "mount a persistent volume claim there in every group"
        )
        yield Finding(
            RULE, place.path, f"store {text}: nothing says that {group.name} sees it; {how}"
        )
        return
    if cluster.file.get("docker") and not any(
        path.startswith(mount)
        for value in cluster.file.get("docker", "run_options") or []
        for mount in re.findall(r"(?:-v|--volume)[= ][^:\s]+:([^:\s]+)", str(value))
    ):
        yield Finding(
            RULE,
            place.path,
            f"store {text}: containers do not see it; add '-v {path}:{path}' to "
            "docker.run_options",
        )


def _roles(cluster: Cluster) -> Iterator[Finding]:
    """Ray gives only the head a role; a worker without one cannot write to S3."""
    for group in cluster.groups:
        if "IamInstanceProfile" not in group.node_config:
            yield Finding(
                RULE,
                (*group.path, "node_config"),
                f"{group.name} has no IamInstanceProfile: it could not reach the store in S3",
            )


def _below(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(PurePosixPath(folder))
