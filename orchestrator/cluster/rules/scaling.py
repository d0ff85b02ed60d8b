"""Nodes come, and go again when they are idle."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.cluster.description import Cluster, NodeGroup
from orchestrator.cluster.findings import Finding
from orchestrator.cluster.spot_notice import NOTICES

RULE = "scaling"
V2 = "RAY_enable_autoscaler_v2"
LONG_IDLE = 60


def check(cluster: Cluster) -> Iterator[Finding]:
    """Traps of Ray's autoscaler, and nodes that would go on costing."""
    if cluster.kind == "rayjob":
        yield from _rayjob(cluster)
    elif cluster.provider == "local":
        yield from _local(cluster)
    else:
        yield from _cloud(cluster)


def _local(cluster: Cluster) -> Iterator[Finding]:
    starts = [c for c in cluster.head.commands if re.search(r"\bray\s+start\b", c.text)]
    for command in starts:
        before = command.text.split("ray start")[0]
        if not re.search(rf"\b{V2}=0\b", before):
            yield Finding(
                RULE,
                command.path,
                f"autoscaler v2 starts only one worker of a list of machines: put `export {V2}=0;`"
                " before `ray start`",
            )
    if not starts:
        yield Finding(
            RULE,
            ("head_start_ray_commands",),
            f"Ray's default start commands use autoscaler v2, which starts only one worker of a "
            f"list of machines: give your own with `export {V2}=0;`",
        )
    path = cluster.head.environment.get("PATH")
    environments = [
        (match.group(1), command)
        for command in cluster.commands
        if (
            match := re.search(r"(\S+)/bin/(?:pip3?|python3?)\s+(?:-m pip )?install", command.text)
        )
    ]
    for folder, command in environments:
        if path is None or f"{folder}/bin".replace("~", "$HOME") not in _home(path.text):
            yield Finding(
                RULE,
                command.path,
                f"{folder}/bin is on no login shell's PATH: `ray down` would say that it ended "
                "Ray and not find it; export PATH in ~/.bashrc",
            )
            break


def _home(text: str) -> str:
    return text.replace("${HOME}", "$HOME").replace("~", "$HOME")


def _cloud(cluster: Cluster) -> Iterator[Finding]:
    minutes = cluster.file.get("idle_timeout_minutes")
    if isinstance(minutes, int | float) and minutes > LONG_IDLE:
        yield Finding(
            RULE,
            ("idle_timeout_minutes",),
            f"idle workers are paid for {minutes:g} minutes",
            "note",
        )
    for group in cluster.groups:
        if not group.is_head and group.minimum > 0:
            yield Finding(
                RULE,
                (*group.path, "min_workers"),
                f"{group.minimum} workers of {group.name} are paid whether or not they work",
                "note",
            )
    kept = cluster.file.get("provider", "cache_stopped_nodes")
    if cluster.provider == "aws" and kept is not False:
        yield Finding(
            RULE,
            ("provider",),
            "cache_stopped_nodes is on: workers are stopped, not terminated, and their disks cost",
            "note",
        )
    spot = [g for g in cluster.groups if g.spot and not g.is_head]
    if spot and not any(not g.spot and not g.is_head for g in cluster.groups):
        yield Finding(
            RULE,
            spot[0].path,
            "there are only spot workers: without spot capacity nothing runs",
            "note",
        )
    yield from _notices(cluster, spot)
    if cluster.head.spot:
        yield Finding(
            RULE, cluster.head.path, "the head is a spot machine: the driver goes when it goes"
        )


def _notices(cluster: Cluster, spot: list[NodeGroup]) -> Iterator[Finding]:
    """Somebody on a spot worker listens for its notice, in the words of its cloud."""
    if not spot or cluster.provider not in NOTICES:
        return
    started = [
        (match.group(1), command)
        for command in spot[0].commands
        for match in re.finditer(r"orchestrator\.cluster\.spot_notice\s+(\S+)", command.text)
    ]
    if not started:
        yield Finding(
            RULE,
            spot[0].path,
            f"nothing listens for the notice of a spot machine: start `python -m "
            f"orchestrator.cluster.spot_notice {cluster.provider}` after `ray start`",
            "note",
        )
    for cloud, command in started:
        if cloud != cluster.provider:
            yield Finding(
                RULE, command.path, f"spot_notice {cloud} asks another cloud than this cluster's"
            )


def _rayjob(cluster: Cluster) -> Iterator[Finding]:
    file = cluster.file
    if not file.get("spec", "shutdownAfterJobFinishes"):
        yield Finding(
            RULE,
            ("spec",),
            "shutdownAfterJobFinishes is not true: the pods stay when the job ends",
        )
    scaled = any(not g.is_head and g.minimum != g.maximum for g in cluster.groups)
    if scaled and not file.get("spec", "rayClusterSpec", "enableInTreeAutoscaling"):
        yield Finding(
            RULE,
            ("spec", "rayClusterSpec"),
            "enableInTreeAutoscaling is not true: minReplicas and maxReplicas mean nothing",
        )
