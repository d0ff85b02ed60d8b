"""The tree a sweep would run, counted and costed; nothing is run, no image is opened."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.search.tree import Node, Tree, full_tree, grid
from search_spaces.sweep_spec import SweepSpec
from search_spaces.words import is_finite
from trainables.errors import UserError
from trainables.registry import backbones
from trainables.trial_spec import DataIdentity

ASSUMED_FLOPS = {"cpu": 2.0e10, "cuda": 2.0e13}
"""Floating point operations a second one worker is assumed to do (one CPU thread; one H100 in
bf16).
"""

ANYWHERE = DataIdentity("planned", "planned")


def plan_space(spec: SweepSpec, device: str | None = None) -> dict[str, Any]:
    """Numbers of trials and nodes, estimated seconds and bytes, with sharing and without.

    Exact in its numbers for ``grid``; an upper bound for any other sampler. ``search.trials`` and
    ``search.configurations`` lower the bound: the costliest trials they can buy are counted.

    Raises:
        UserError: a space with real-valued words has no number of trials.
    """
    from orchestrator.running.resources import Resources

    resources = Resources().resolved(spec.compute)
    device = device or resources.device
    if not is_finite([spec.baseline, spec.prune]):
        raise UserError(
            f"{spec.name}: the space has real-valued words, so it has no number of trials; "
            "plan it with choice(...) in their place, or give `run` a budget"
        )
    tree = tree_of_grid(spec, ANYWHERE, device)
    cost = Cost(spec, device)
    nodes = list(tree.nodes.values())
    num_trials = min(len(nodes), trials_at_most(spec, tree))
    # whichever trials a budget buys, the costliest are the bound; sorting leaves a whole tree as
    # it is
    seconds = sorted((cost.seconds(node) for node in nodes), reverse=True)[:num_trials]
    alone = sorted((_alone(tree, node, cost) for node in nodes), reverse=True)[:num_trials]
    steps = sorted((len(node.trial.chain) for node in nodes), reverse=True)[:num_trials]
    treated = [n for n in nodes if n.role == "treatment"]
    shared = sum(seconds)
    if spec.search.hours is not None:
        cost.notes.append(f"search.hours starts nothing new after {spec.search.hours:g} h")
    if spec.search.racing or spec.search.num_confirming:
        cost.notes.append("racing and fresh seeds come on top: which ones, the results decide")
    free = shutil.disk_usage(Path.cwd()).free
    if num_trials * cost.node_bytes > free:
        cost.notes.append(
            f"only {free / 1e9:.1f} GB are free here: `run --max-disk` drops models that nothing "
            "starts from any more, `--store` puts them elsewhere"
        )
    document: dict[str, Any] = {
        "sweep": spec.name,
        "exact": spec.search.sampler == "grid"
        and num_trials == len(nodes)
        and not spec.search.hours,
        "sampler": spec.search.sampler,
        "num_configurations": len({n.configuration for n in treated}),
        "num_seeds": len(spec.seeds),
        "num_trials": num_trials,
        "num_nodes": len(nodes),
        "num_baselines": sum(n.role == "baseline" for n in nodes),
        "num_treatments": len(treated),
        "num_controls": sum(n.role == "control" for n in nodes),
        "num_steps_without_sharing": sum(steps),
        "workers": resources.workers,
        "device": device,
        "num_train_images": cost.num_train,
        "bytes": num_trials * cost.node_bytes,
        "bytes_without_sharing": sum(steps) * cost.node_bytes,
        "seconds": _rounded(shared),
        "seconds_without_sharing": _rounded(sum(alone)),
        "seconds_on_the_wall": _rounded(shared / (resources.workers or 1)),
        "sharing": round(sum(alone) / shared, 2) if shared else None,
        "assumes": f"{ASSUMED_FLOPS[device]:.0e} operations a second and worker ({device})",
        "notes": cost.notes,
        "warnings": cost.warnings,
    }
    return document


def tree_of_grid(spec: SweepSpec, data: DataIdentity, device: str) -> Tree:
    """The whole grid; of a grid with ``search.configurations`` the ones that come first."""
    limit = spec.search.configurations
    if spec.search.sampler != "grid" or limit is None:
        return full_tree(spec, data, device)
    tree = Tree(spec, data, device)
    for _, configuration in itertools.islice(grid(spec), limit):
        tree.add(configuration)
    return tree


def trials_at_most(spec: SweepSpec, tree: Tree) -> int:
    """Trials that the budgets of the search leave at most."""
    most = len(tree.nodes)
    if spec.search.trials is not None:
        most = min(most, spec.search.trials)
    if spec.search.sampler != "grid" and spec.search.configurations is not None:
        deepest = [c for _, c in grid(spec) if c.n == spec.iterations]
        needed = max(len(tree.needs(configuration)) for configuration in deepest)
        most = min(most, needed * spec.search.configurations)
    return most


def _rounded(seconds: float) -> float | None:
    return round(seconds, 1) if seconds else None


def _alone(tree: Tree, node: Node, cost: Cost) -> float:
    """Seconds of a trial that shares nothing: its whole chain from the data."""
    return cost.seconds(node) + sum(
        _alone(tree, tree.nodes[parent], cost) for parent in node.parents
    )


class Cost:
    """Seconds and bytes of a node, from the net's operations and parameters, counted without
    computing anything.

    ``size`` is (images, classes) where they are known; else the data's table is read.
    """

    def __init__(
        self, spec: SweepSpec, device: str, size: tuple[int, int] | None = None
    ) -> None:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        self.rate = ASSUMED_FLOPS[device]
        self.notes: list[str] = []
        self.warnings: list[str] = []  # of the data: what no budget mends
        num_images, num_classes = self._size(spec) if size is None else size
        fractions = spec.data.split.fractions
        self.num_train = round(num_images * fractions[0] / sum(fractions)) if num_images else None
        self.num_images = num_images or 0
        with torch.device("meta"), torch.no_grad():
            net = backbones.get(spec.backbone.name).construct(spec.backbone, num_classes, None)
            pixels = spec.data.image_size
            with FlopCounterMode(display=False) as counter:
                net(torch.zeros(2, 3, pixels, pixels))
        self.flops = counter.get_total_flops() / 2
        num_params = sum(p.numel() for p in net.parameters())
        self.node_bytes = 4 * num_params + 2 * self.num_images * num_classes + 20_000

    def _size(self, spec: SweepSpec) -> tuple[int, int]:
        from trainables.data.load import load_rows, rows_warnings

        try:
            table, split_N, _ = load_rows(spec.data)
        except UserError as error:
            self.notes.append(f"time unknown: {error}")
            return 0, 7
        self.warnings = list(rows_warnings(table, split_N))
        return len(table.rows), len(table.classes)

    def seconds(self, node: Node) -> float:
        """Training, validation, scoring and prediction of one node."""
        prune = node.trial.prune
        recipe = prune.finetune if prune else node.trial.baseline.training
        num_train = self.num_train or 0
        num_validation = (self.num_images - num_train) / 2
        epochs = 1 if node.trial.kind == "derive" else recipe.epochs  # it trains nothing
        images = epochs * (3 * num_train + num_validation) + self.num_images
        if prune is not None and prune.cuts and node.role == "treatment":
            images += num_train
        return images * self.flops / self.rate


def render_plan(plan: dict[str, Any]) -> Group:
    """For people."""
    table = Table(title=f"plan of {plan['sweep']}", show_header=True)
    for column in ("", "with sharing", "without"):
        table.add_column(column, justify="left" if not column else "right")
    bound = "" if plan["exact"] else "at most "
    table.add_row(
        "trials", f"{bound}{plan['num_trials']}",
        f"{plan['num_baselines']} baselines, {plan['num_treatments']} treated, "
        f"{plan['num_controls']} controls",
    )  # fmt: skip
    table.add_row(
        "steps to compute",
        f"{bound}{plan['num_trials']}",
        f"{bound}{plan['num_steps_without_sharing']}",
    )
    table.add_row(
        "time of the trials", _at_most(bound, plan["seconds"]),
        _at_most(bound, plan["seconds_without_sharing"]),
    )  # fmt: skip
    table.add_row(
        f"time with {plan['workers']} workers", _at_most(bound, plan["seconds_on_the_wall"]), ""
    )
    table.add_row(
        "disk", f"{bound}{plan['bytes'] / 1e9:.2f} GB",
        f"{bound}{plan['bytes_without_sharing'] / 1e9:.2f} GB",
    )  # fmt: skip
    lines = [f"time assumes {plan['assumes']}", *plan["notes"]]
    if bound:
        lines.insert(0, f"an upper bound: sampler {plan['sampler']} and the budgets of the search")
    table.caption = "; ".join(lines)
    return Group(table, *(Text(f"warning: {line}") for line in plan["warnings"]))


def _at_most(bound: str, seconds: float | None) -> str:
    return f"{bound if seconds is not None else ''}{duration(seconds)}"


def duration(seconds: float | None) -> str:
    """Seconds as people write them."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
