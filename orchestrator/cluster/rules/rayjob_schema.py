"""The fields of a RayJob that this project reads or that KubeRay needs; KubeRay 1.6.

Pod templates are the Kubernetes API server's own: `kubectl apply --dry-run=server` checks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.cluster.description import Cluster
from orchestrator.cluster.findings import Finding, Path, nearest

RULE = "schema"
JOB = frozenset(
    [
        "activeDeadlineSeconds",
        "backoffLimit",
        "clusterSelector",
        "deletionStrategy",
        "entrypoint",
        "entrypointNumCpus",
        "entrypointNumGpus",
        "entrypointResources",
        "jobId",
        "managedBy",
        "metadata",
        "preRunningDeadlineSeconds",
        "rayClusterSpec",
        "runtimeEnvYAML",
        "shutdownAfterJobFinishes",
        "submissionMode",
        "submitterConfig",
        "submitterPodTemplate",
        "suspend",
        "ttlSecondsAfterFinished",
    ]
)
CLUSTER = frozenset(
    [
        "authOptions",
        "autoscalerOptions",
        "enableInTreeAutoscaling",
        "gcsFaultToleranceOptions",
        "headGroupSpec",
        "headServiceAnnotations",
        "managedBy",
        "networkPolicy",
        "rayVersion",
        "suspend",
        "tlsOptions",
        "upgradeStrategy",
        "workerGroupSpecs",
    ]
)
HEAD = frozenset(
    [
        "enableIngress",
        "headService",
        "labels",
        "rayStartParams",
        "resources",
        "serviceType",
        "template",
    ]
)
WORKER = frozenset(
    [
        "groupName",
        "idleTimeoutSeconds",
        "labels",
        "maxReplicas",
        "minReplicas",
        "numOfHosts",
        "rayStartParams",
        "replicas",
        "resources",
        "scaleStrategy",
        "suspend",
        "template",
    ]
)


def check(cluster: Cluster) -> Iterator[Finding]:
    """Keys that KubeRay does not know, and those it needs."""
    file = cluster.file
    if file.get("apiVersion") != "ray.io/v1":
        found = file.get("apiVersion")
        yield Finding(RULE, ("apiVersion",), f"apiVersion must be ray.io/v1 but is {found}")
    if not file.get("metadata", "name"):
        yield Finding(RULE, ("metadata",), "a RayJob needs metadata.name")
    spec: Path = ("spec", "rayClusterSpec")
    yield from _keys(file.get("spec"), ("spec",), JOB, ("entrypoint", "rayClusterSpec"))
    yield from _keys(file.get(*spec), spec, CLUSTER, ("headGroupSpec", "rayVersion"))
    head: Path = (*spec, "headGroupSpec")
    yield from _keys(file.get(*head), head, HEAD, ("template",))
    for group in cluster.groups:
        if not group.is_head:
            yield from _keys(file.get(*group.path), group.path, WORKER, ("groupName", "template"))
        containers = file.get(*group.path, "template", "spec", "containers")
        if not (isinstance(containers, list) and containers):
            yield Finding(RULE, group.path, f"{group.name} has no container")
        if group.minimum > group.maximum:
            yield Finding(
                RULE,
                (*group.path, "minReplicas"),
                f"minReplicas {group.minimum} is above maxReplicas {group.maximum}",
            )


def _keys(
    value: Any, path: Path, known: frozenset[str], needed: tuple[str, ...]
) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield Finding(RULE, path, "must be a mapping")
        return
    for name in value:
        if name not in known:
            yield Finding(
                RULE, (*path, name), f"KubeRay knows no key {name}{nearest(name, known)}"
            )
    for name in needed:
        if name not in value:
            yield Finding(RULE, path, f"{name} is missing")
