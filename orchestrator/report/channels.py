"""Scores of the channels before each pruning step, the pruned ones marked."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.pages.document import paragraph
from orchestrator.pages.svg import Chart, Key, legend, mark, path, scale_of, text
from orchestrator.report.facts import Facts, best_of_criteria
from orchestrator.report.node_files import LayerScores, read_scores
from orchestrator.report.section import Section

MAX_PANELS, MAX_LAYERS = 16, 4
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 250, 56, 10, 60, 200


def channels_section(facts: Facts) -> Section:
    """One panel a pruning step, of the first seed of each chain."""
    title = "Channel scores"
    panels: list[str] = []
    steps = pruned_steps(facts)
    for name, key in steps:
        if len(panels) >= MAX_PANELS:
            break
        for layer in read_scores(facts.store, key)[:MAX_LAYERS]:
            panels.append(_panel(facts, name, layer))
    if not steps:
        return Section("channels", title, "", "no channel was scored")
    if not panels:
        return Section("channels", title, "", "the nodes' channel scores are not at hand")
    told = (
        "Channels of a layer in the order of their scores, before the step that pruned them, of "
        "the first seed: the pruned ones are marked by triangles, the others by a line. What a "
        "score means is the criterion's own; scores of different criteria do not compare. Shown "
        "are members of the front and, of each criterion, the configuration best in the first "
        f"objective; at most {MAX_PANELS} steps."
    )
    key_chart = Chart(1180, 24, scale_of([], 0, 1), scale_of([], 0, 1))
    entries = [Key("kept", "circle", "c-blue", 3), Key("pruned", "down", "c-vermilion", 5)]
    key_chart.add(*legend(entries, 0, 16, 1180)[0])
    body = paragraph(told) + key_chart.svg("Legend", "Marks of the channels")
    return Section("channels", title, body + f'<div class="panels">{"".join(panels)}</div>')


def pruned_steps(facts: Facts) -> list[tuple[str, str]]:
    """(configuration, node of its first seed) of every step worth showing, chains in order."""
    members = [m.aggregate.configuration for m in facts.front.members]
    found: dict[str, str] = {}
    for name in dict.fromkeys([*members, *best_of_criteria(facts.points)]):
        chain = facts.chain_of.get(name, (name,))
        for step in chain[1 : chain.index(name) + 1]:
            if step in facts.points and facts.points[step].aggregate.trial["ratio"] is not None:
                found.setdefault(step, facts.points[step].aggregate.keys[0])
    return list(found.items())


def _panel(facts: Facts, name: str, layer: LayerScores) -> str:
    order = sorted(range(len(layer.scores)), key=lambda c: _height(layer.scores[c]))
    defined = [s for s in layer.scores if s is not None]
    chart = Chart(
        WIDTH, HEIGHT, scale_of([0, len(order) - 1], LEFT, WIDTH - RIGHT, pad=0.02),
        scale_of(defined, BOTTOM, TOP),
    )  # fmt: skip
    chart.axes("channels, by score", f"score ({layer.layer})")
    chart.add(text(0, 14, facts.label(name)))
    chart.add(text(0, 31, f"{len(layer.removed)} of {len(order)} channels pruned", "soft"))
    chart.add(_line(chart, order, layer))
    for place, channel in enumerate(order):
        score = layer.scores[channel]
        if channel in layer.removed and score is not None:
            chart.add(mark("down", chart.x(place), chart.y(score) - 6, 3.2, "flat c-vermilion"))
    told = f"Pruned: channels {', '.join(map(str, sorted(layer.removed)[:60]))}"
    title = f"Channel scores of {facts.label(name)}, {layer.layer}"
    return f"<figure>{chart.svg(title, told)}</figure>"


def _height(score: float | None) -> float:
    return float("-inf") if score is None else score


def _line(chart: Chart, order: Sequence[int], layer: LayerScores) -> str:
    points = [
        (chart.x(place), chart.y(score))
        for place, channel in enumerate(order)
        if (score := layer.scores[channel]) is not None
    ]
    return path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), "line c-blue")
