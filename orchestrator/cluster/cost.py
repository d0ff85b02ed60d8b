"""What a cluster costs an hour: while it waits, and at its largest."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.cluster.description import Cluster, NodeGroup
from orchestrator.cluster.prices import ADDRESS, DISK, UNCHECKED, Price, PriceTable


@dataclass(frozen=True)
class GroupCost:
    """One node of a group: machine, disk and public address; None where the table has no row."""

    group: NodeGroup
    usd_per_hour: float | None


@dataclass(frozen=True)
class Cost:
    """US dollars an hour; None where a machine that counts has no price.

    ``idle`` is the head with the workers that always run; ``maximum`` adds the dearest workers
    that ``max_workers`` allows. Traffic and the object store are not in it.
    """

    groups: tuple[GroupCost, ...]
    idle: float | None
    maximum: float | None
    as_of: str | None
    not_priced: tuple[str, ...]


def cost_of(cluster: Cluster, prices: PriceTable) -> Cost:
    """Look every machine up and add up."""
    used: list[Price] = []
    missing: list[str] = []
    groups = tuple(_group(group, cluster, prices, used, missing) for group in cluster.groups)
    idle = _sum((entry, entry.group.minimum) for entry in groups)
    return Cost(
        groups=groups,
        idle=idle,
        maximum=_sum(_dearest(groups, cluster.max_workers)),
        as_of=_ages(used),
        not_priced=tuple(dict.fromkeys(missing)),
    )


def _ages(used: list[Price]) -> str | None:
    """The oldest date, and that some have none."""
    dated = [price.as_of for price in used if price.as_of != UNCHECKED]
    ages = [min(dated)] if dated else []
    if len(dated) < len(used):
        ages.append(UNCHECKED)
    return ", some ".join(ages) or None


def _group(
    group: NodeGroup, cluster: Cluster, prices: PriceTable, used: list[Price], missing: list[str]
) -> GroupCost:
    where = f" in {cluster.region}" if cluster.region else ""
    if group.machine is None:
        missing.append(f"{group.name}: the file does not say which machine it is")
        return GroupCost(group, None)
    kind = "spot" if group.spot else "on demand"
    machine = prices.find(cluster.provider, cluster.region, group.machine, spot=group.spot)
    if machine is None:
        missing.append(f"{group.machine} {kind}{where}: no such row in the price table")
        return GroupCost(group, None)
    used.append(machine)
    usd = machine.usd_per_hour
    extras = [(DISK, group.disk_gb)]
    if cluster.kind == "launcher" and not cluster.file.get("provider", "use_internal_ips"):
        extras.append((ADDRESS, 1))
    for name, number in extras:
        price = prices.find(cluster.provider, cluster.region, name)
        if price is not None:
            used.append(price)
            usd += price.usd_per_hour * number
        elif number and cluster.provider != "local":
            missing.append(f"{name}{where}: no such row in the price table; not added")
    return GroupCost(group, usd)


def _dearest(groups: tuple[GroupCost, ...], max_workers: int) -> list[tuple[GroupCost, int]]:
    """The head, the workers that always run, then the dearest ones that there may be."""
    chosen = [(entry, entry.group.minimum) for entry in groups]
    left = max_workers - sum(e.group.minimum for e in groups if not e.group.is_head)
    workers = [entry for entry in groups if not entry.group.is_head]
    for entry in sorted(workers, key=lambda entry: -(entry.usd_per_hour or 0)):
        number = max(0, min(left, entry.group.maximum - entry.group.minimum))
        chosen.append((entry, number))
        left -= number
    return chosen


def _sum(entries: object) -> float | None:
    total = 0.0
    for entry, number in entries:  # type: ignore[attr-defined]
        if number and entry.usd_per_hour is None:
            return None
        total += number * (entry.usd_per_hour or 0.0)
    return round(total, 4)
