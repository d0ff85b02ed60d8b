"""How the front grew: its hypervolume over the hours that trials took."""

from __future__ import annotations

from orchestrator.pages.document import figure
from orchestrator.pages.svg import Chart, mark, number, path, scale_of
from orchestrator.report.facts import Facts
from orchestrator.report.section import Section

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1180, 360, 66, 24, 36, 310


def growth_section(facts: Facts) -> Section:
    """A step line; hours are those of trials, summed over workers."""
    hours = "GPU-hours" if facts.manifest["device"] == "cuda" else "trial-hours"
    title = f"Hypervolume over {hours}"
    history = facts.judgement.history
    if len(history) < 2:
        return Section("growth", title, "", "fewer than two trials have finished")
    chart = Chart(
        WIDTH, HEIGHT,
        scale_of([p["hours"] for p in history], LEFT, WIDTH - RIGHT, zero=True, pad=0.02),
        scale_of([p["hypervolume"] for p in history], BOTTOM, TOP, zero=True),
    )  # fmt: skip
    chart.axes(f"{hours} (of trials, summed over workers)", "hypervolume of the front")
    first, *rest = history
    d = f"M{number(chart.x(first['hours']))} {number(chart.y(first['hypervolume']))}"
    d += "".join(
        f"H{number(chart.x(p['hours']))}V{number(chart.y(p['hypervolume']))}" for p in rest
    )
    chart.add(path(d, "line c-blue"))
    chart.add(
        *(
            mark("circle", chart.x(p["hours"]), chart.y(p["hypervolume"]), 2.6, "c-blue")
            for p in history
        )
    )
    last = history[-1]
    told = (
        f"After {last['num_trials']} trials and {last['hours']:.3g} {hours}: "
        f"{last['hypervolume']:.4f}. Cached trials took no time. A configuration counts once all "
        "its seeds are done, and a front on few seeds is optimistic: the line may fall."
    )
    if facts.front.selected:
        told += " The line is that of the selection, before the fresh seeds."
    return Section("growth", title, figure(chart.svg(title, told), told))
