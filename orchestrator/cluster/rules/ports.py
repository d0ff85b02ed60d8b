"""Nothing but ssh is open to others: dashboards and servers listen on loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.cluster.description import Cluster, option
from orchestrator.cluster.findings import Finding, Located

RULE = "ports"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
EVERYWHERE = {"0.0.0.0", "::", "*", "[::]"}
SERVERS = ("mlflow server", "mlflow ui", "fatefront server", "tensorboard", "jupyter")
SSH = 22


def check(cluster: Cluster) -> Iterator[Finding]:
    """Addresses that servers are told to listen on, and what a firewall would let in."""
    for command in cluster.commands:
        yield from _command(command, cluster)
    for group in cluster.groups:
        value = group.environment.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
        if value is not None and value.text == "0":
            yield Finding(
                RULE,
                value.path,
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 puts all of Ray on loopback: "
                "no other node could join",
            )
            break
    if cluster.provider == "aws":
        yield from _security_group(cluster)
    if cluster.kind == "rayjob":
        yield from _services(cluster)


def _command(command: Located, cluster: Cluster) -> Iterator[Finding]:
    text = command.text
    if re.search(r"\bray\s+start\b", text) and "--head" in text:
        client = option(text, "--ray-client-server-port")
        if client is not None and not 1024 <= int(client if client.isdigit() else 0) <= 65535:
            yield Finding(
                RULE,
                command.path,
                f"--ray-client-server-port={client}: Ray refuses it; its client cannot be turned "
                "off, the token keeps others out",
            )
        host = option(text, "--dashboard-host")
        if host is not None and host not in LOOPBACK:
            yield Finding(
                RULE,
                command.path,
                f"--dashboard-host {host}: must be 127.0.0.1, `ray dashboard` reaches it by ssh",
            )
    for server in SERVERS:
        spaced = server.replace(" ", r"\s+")
        if re.search(rf"\b{spaced}\b", text):
            host = option(text, "--host") or option(text, "--ip")
            if host is not None and host not in LOOPBACK:
                yield Finding(RULE, command.path, f"{server} listens on {host}: must be 127.0.0.1")
            return
    if cluster.kind == "launcher" and any(
        re.search(rf"--[a-z-]*(host|ip|bind|address)[= ]{re.escape(place)}(\s|$)", text)
        and "--dashboard-host" not in text
        for place in EVERYWHERE
    ):
        yield Finding(RULE, command.path, "a server listens on all interfaces: use 127.0.0.1")


def _security_group(cluster: Cluster) -> Iterator[Finding]:
    """Beside ssh nothing may be open to any address."""
    path: tuple[str | int, ...] = ("provider", "security_group", "IpPermissions")
    rules = cluster.file.get(*path)
    for index, rule in enumerate(rules if isinstance(rules, list) else []):
        if not isinstance(rule, dict):
            continue
        ranges = [*(rule.get("IpRanges") or []), *(rule.get("Ipv6Ranges") or [])]
        open_to = [r.get("CidrIp") or r.get("CidrIpv6") for r in ranges if isinstance(r, dict)]
        wide = [c for c in open_to if isinstance(c, str) and c.endswith("/0")]
        only_ssh = rule.get("FromPort") == SSH and rule.get("ToPort") == SSH
        if wide and not only_ssh:
            ports = f"{rule.get('FromPort', 'all')} to {rule.get('ToPort', 'all')}"
            yield Finding(
                RULE,
                (*path, index),
                f"ports {ports} are open to {wide[0]}: only ssh (22) may be, "
                "all else is reached through it",
            )


def _services(cluster: Cluster) -> Iterator[Finding]:
    """A RayJob's ports stay inside the cluster; `kubectl port-forward` reaches them."""
    head = cluster.head
    for path in (
        (*head.path, "serviceType"),
        (*head.path, "headService", "spec", "type"),
    ):
        kind = cluster.file.get(*path)
        if kind in ("LoadBalancer", "NodePort"):
            yield Finding(
                RULE, path, f"a service of type {kind} opens the dashboard: use ClusterIP"
            )
    if cluster.file.get(*head.path, "enableIngress"):
        yield Finding(RULE, (*head.path, "enableIngress"), "an ingress opens the dashboard")
    for group in cluster.groups:
        path = (*group.path, "template", "spec", "hostNetwork")
        if cluster.file.get(*path):
            yield Finding(RULE, path, "hostNetwork opens Ray's ports on the node's addresses")
