"""The fields of a RayJob: those of KubeRay's own schema (the custom resource definition
``ray.io_rayjobs.yaml``, version v1) of releases 1.6.2 and 1.7.0.

tests/cluster/test_kuberay_fields.py compares with such a file. Pod templates are the Kubernetes
API server's own: `kubectl apply --dry-run=server` checks them.
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
        "historyServerOptions",
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
        "ingressOptions",
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
        "priority",
        "rayStartParams",
        "replicas",
        "resources",
        "scaleStrategy",
        "suspend",
        "template",
    ]
)
SINCE_1_7 = frozenset(
    ["historyServerOptions", "ingressOptions", "networkPolicy", "priority", "tlsOptions"]
)
"""Operators before 1.7 drop these without a word."""
HEAD_NEEDS = ("template",)
WORKER_NEEDS = ("groupName", "maxReplicas", "minReplicas", "template")


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
    yield from _keys(file.get(*head), head, HEAD, HEAD_NEEDS)
    for group in cluster.groups:
        if not group.is_head:
            yield from _keys(file.get(*group.path), group.path, WORKER, WORKER_NEEDS)
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
        elif name in SINCE_1_7:
            message = f"{name} needs KubeRay 1.7: an older operator drops it"
            yield Finding(RULE, (*path, name), message, "note")
    for name in needed:
        if name not in value:
            yield Finding(RULE, path, f"{name} is missing")
