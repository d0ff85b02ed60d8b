"""Training curves: loss and accuracy over epochs, along each chain in focus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.pages.document import paragraph
from orchestrator.pages.svg import Chart, Key, legend, line, mark, polyline, scale_of, text
from orchestrator.report.facts import Facts
from orchestrator.report.node_files import read_curves
from orchestrator.report.section import Section

MAX_PANELS = 12
SERIES = (
    ("train_loss", "training loss", "c-blue", "circle"),
    ("validation_loss", "validation loss", "c-vermilion", "square"),
)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 270, 46, 10, 44, 196


@dataclass(frozen=True)
class ChainCurves:
    """Epochs of one chain and seed, node after node; ``starts``: where each node begins."""

    epochs: tuple[Mapping[str, Any], ...]
    starts: tuple[int, ...]


def curves_section(facts: Facts) -> Section:
    """One panel a chain, the seeds as thin lines and the first one strong."""
    title = "Training curves"
    wanted = _chains(facts)
    panels, num_gone = [], 0
    for name, chain in wanted[:MAX_PANELS]:
        seeds = [c for c in (_along(facts, chain, s) for s in _seeds(facts, name)) if c]
        if seeds:
            panels.append(_panel(facts, name, seeds))
        else:
            num_gone += 1
    if not panels:
        return Section("curves", title, "", "the nodes' epoch curves are not at hand")
    told = (
        "Losses over epochs, from the root to the configuration; dashed lines: a pruning step. "
        "The first seed is strong, the others thin. The chains are those of the front's members, "
        "of the best configuration of each criterion, and of what they are compared with."
    )
    if len(wanted) > MAX_PANELS:
        told += f" {MAX_PANELS} of {len(wanted)} chains are shown."
    if num_gone:
        told += f" Curves of {num_gone} chains are not at hand."
    key = Chart(1180, 24, scale_of([], 0, 1), scale_of([], 0, 1))
    entries = [Key(word, shape, colour, 4) for _, word, colour, shape in SERIES]
    key.add(*legend(entries, 0, 16, 1180)[0])
    body = paragraph(told) + key.svg("Legend", "Colours of the lines")
    return Section("curves", title, body + f'<div class="panels">{"".join(panels)}</div>')


def _chains(facts: Facts) -> list[tuple[str, tuple[str, ...]]]:
    """The deepest configuration in focus of each chain, and the chain up to it."""
    found: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {}
    depth = {name: facts.points[name].aggregate.trial["n"] for name in facts.focus}
    for name in facts.focus:
        whole = facts.chain_of.get(name, (name,))
        if whole not in found or depth[found[whole][0]] < depth[name]:
            found[whole] = (name, whole[: whole.index(name) + 1])
    roots = {chain[0] for _, chain in found.values() if len(chain) > 1}
    return [(n, chain) for n, chain in found.values() if len(chain) > 1 or n not in roots]


def _seeds(facts: Facts, name: str) -> tuple[int, ...]:
    return facts.points[name].aggregate.seeds


def _along(facts: Facts, chain: Sequence[str], seed: int) -> ChainCurves | None:
    """Curves of one seed's nodes, one after the other; None where one of them is missing."""
    epochs: list[Mapping[str, Any]] = []
    starts = []
    for name in chain:
        key = facts.node_of.get((name, seed))
        found = None if key is None else read_curves(facts.store, key)
        if found is None:
            return None
        starts.append(len(epochs))
        epochs += found
    return ChainCurves(tuple(epochs), tuple(starts))


def _panel(facts: Facts, name: str, seeds: Sequence[ChainCurves]) -> str:
    shown = [
        (series, [e.get(series) for c in seeds for e in c.epochs]) for series, *_ in SERIES
    ]
    values = [float(v) for _, found in shown for v in found if v is not None]
    length = max(len(c.epochs) for c in seeds)
    chart = Chart(
        WIDTH, HEIGHT - 30, scale_of([1, length], LEFT, WIDTH - RIGHT, pad=0.02),
        scale_of(values, BOTTOM, TOP, zero=True),
    )  # fmt: skip
    chart.axes("epoch", "loss")
    chart.add(text(0, 14, facts.label(name), "title"))
    for start in seeds[0].starts[1:]:
        at = chart.x(start + 0.5)
        chart.add(line(at, TOP, at, BOTTOM, "zero"))
    for number, curves in reversed(list(enumerate(seeds))):
        for series, _, colour, shape in SERIES:
            points = [
                (chart.x(i + 1), chart.y(float(e[series])))
                for i, e in enumerate(curves.epochs)
                if e.get(series) is not None
            ]
            if not points:
                continue
            chart.add(polyline(points, f"line {colour}{' thin' if number else ''}"))
            if not number:
                chart.add(mark(shape, *points[-1], 4, colour))
    last = seeds[0].epochs[-1]
    told = ", ".join(
        f"{word} {last[series]:.3f}" for series, word, *_ in SERIES if last.get(series) is not None
    )
    return f"<figure>{chart.svg(f'Curves of {facts.label(name)}', f'Last epoch: {told}')}</figure>"
