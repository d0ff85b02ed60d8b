"""``fatefront cluster check``: what is wrong with a cluster file, and what it would cost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from rich.text import Text

from orchestrator.cluster.cost import Cost, cost_of
from orchestrator.cluster.description import Cluster
from orchestrator.cluster.findings import Finding, dotted
from orchestrator.cluster.launcher_file import read_launcher
from orchestrator.cluster.prices import PriceTable
from orchestrator.cluster.rayjob_file import read_rayjob
from orchestrator.cluster.rules import (
    credentials,
    node_config,
    pins,
    placeholders,
    ports,
    ray_schema,
    rayjob_schema,
    scaling,
    storage,
    token,
)
from orchestrator.cluster.yaml_file import YamlFile
from orchestrator.console import OK, USERS
from trainables.errors import UserError


class Rule(Protocol):
    """A module of ``rules``."""

    def check(self, cluster: Cluster) -> Iterable[Finding]:
        """What is wrong with a file."""
        ...


OUR_RULES: tuple[Rule, ...] = (
    node_config, ports, pins, token, credentials, storage, scaling, placeholders,
)  # fmt: skip


def check_file(path: Path, own_prices: Path | None = None) -> dict[str, Any]:
    """Check a file offline; returns the verb's document. Nothing is launched or asked for.

    Raises:
        UserError: the file cannot be read, is no cluster file, or the price table is not one.
    """
    prices = PriceTable(own_prices)
    cluster = read_cluster(path)
    findings = check_cluster(cluster)
    wrong = any(finding.severity == "error" for finding in findings)
    return {
        "file": str(path),
        "kind": cluster.kind,
        "provider": cluster.provider,
        "region": cluster.region,
        "max_workers": cluster.max_workers,
        "findings": [_finding(cluster, finding) for finding in findings],
        "cost": _cost(cost_of(cluster, prices), prices),
        "exit_code": USERS if wrong else OK,
    }


def read_cluster(path: Path) -> Cluster:
    """Read a file of Ray's launcher or a RayJob.

    Raises:
        UserError: it is neither.
    """
    file = YamlFile(path)
    if file.get("kind") == "RayJob":
        return read_rayjob(file)
    if file.get("apiVersion") or file.get("kind"):
        found = file.get("kind")
        line = file.line(("kind",))
        raise UserError(f"{path}:{line} kind must be RayJob but is {found}")
    if not isinstance(file.get("provider"), dict):
        raise UserError(
            f"{path} is no cluster file: it has neither `provider` (ray up) nor `kind: RayJob`"
        )
    return read_launcher(file)


def check_cluster(cluster: Cluster) -> list[Finding]:
    """All findings, errors first, each in the order of the file."""
    schema: Rule = rayjob_schema if cluster.kind == "rayjob" else ray_schema
    found = [
        finding
        for rule in (schema, *OUR_RULES)
        for finding in rule.check(cluster)
    ]
    unique = list(dict.fromkeys(found))
    return sorted(unique, key=lambda f: (f.severity != "error", cluster.file.line(f.path)))


def _finding(cluster: Cluster, finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity,
        "rule": finding.rule,
        "line": cluster.file.line(finding.path),
        "key": dotted(finding.path),
        "message": finding.message,
    }


def _cost(cost: Cost, prices: PriceTable) -> dict[str, Any]:
    return {
        "usd_per_hour_idle": cost.idle,
        "usd_per_hour_maximum": cost.maximum,
        "groups": [
            {
                "name": entry.group.name,
                "machine": entry.group.machine,
                "market": "spot" if entry.group.spot else "on_demand",
                "num_minimum": entry.group.minimum,
                "num_maximum": entry.group.maximum,
                "usd_per_hour": None
                if entry.usd_per_hour is None
                else round(entry.usd_per_hour, 4),
            }
            for entry in cost.groups
        ],
        "prices": prices.files,
        "as_of": cost.as_of,
        "not_priced": list(cost.not_priced),
    }


def render_check(document: dict[str, Any]) -> Text:
    """One line a finding, then the cost."""
    findings = document["findings"]
    lines = [
        f"{document['file']}:{f['line']} {f['key']}: "
        f"{'' if f['severity'] == 'error' else 'note: '}{f['message']} [{f['rule']}]"
        for f in findings
    ]
    errors = sum(f["severity"] == "error" for f in findings)
    lines.append(f"{errors} errors, {len(findings) - errors} notes" if errors else "ok")
    cost = document["cost"]
    for group in cost["groups"]:
        price = group["usd_per_hour"]
        number = (
            str(group["num_maximum"])
            if group["num_minimum"] == group["num_maximum"]
            else f"{group['num_minimum']} to {group['num_maximum']}"
        )
        lines.append(
            f"  {group['name']}: {number} x {group['machine'] or '?'} "
            f"{group['market'].replace('_', ' ')}, "
            + ("no price" if price is None else f"${price:.3f} an hour each")
        )
    lines.append(
        f"an hour: {_dollars(cost['usd_per_hour_idle'])} idle, "
        f"{_dollars(cost['usd_per_hour_maximum'])} with {document['max_workers']} workers"
        + (f" (prices of {cost['as_of']}, without traffic)" if cost["as_of"] else "")
    )
    lines += [f"  not priced: {line}" for line in cost["not_priced"]]
    return Text("\n".join(lines), no_wrap=True, overflow="ignore")


def _dollars(value: float | None) -> str:
    return "unknown" if value is None else f"${value:.2f}"
