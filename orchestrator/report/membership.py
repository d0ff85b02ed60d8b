"""How often each configuration is on the front when seeds and patients are drawn again."""

from __future__ import annotations

from orchestrator.pages.document import figure
from orchestrator.pages.front_chart import ROLES
from orchestrator.pages.svg import Chart, Key, Scale, bar, legend, mark, text
from orchestrator.report.facts import Facts
from orchestrator.report.section import Section

MAX_ROWS, LEFT, WIDTH, STEP = 24, 330, 1180, 22


def membership_section(facts: Facts) -> Section:
    """Bars of the share of joint redraws, members of the front marked."""
    title = "Membership of the front"
    found = [
        (name, place.frequency, place.state)
        for name, judged in facts.judgement.points.items()
        if (place := judged.membership) is not None
        and place.frequency is not None
        and name in facts.points
    ]
    if not found:
        reason = "; ".join(facts.judgement.problems[:1]) or "an objective has no draws"
        return Section("membership", title, "", reason)
    found.sort(key=lambda one: -one[1])
    members = {m.aggregate.configuration for m in facts.front.members}
    kept = [one for one in found[:MAX_ROWS] if one[1] >= 0.005 or one[0] in members]
    top, bottom = 6, 12 + STEP * len(kept)
    chart = Chart(WIDTH, bottom + 76, Scale(0, 1, LEFT, WIDTH - 150), Scale(0, 1, bottom, top))
    chart.axes("share of joint redraws of seeds and patients in which nothing dominates it",
               grid="x")  # fmt: skip
    for index, (name, frequency, state) in enumerate(kept):
        at = top + STEP * (index + 0.5) + 3
        shape, colour = ROLES[facts.points[name].aggregate.trial["role"]]
        end = chart.x(frequency)
        told = f"{frequency:.0%}, {state}"
        chart.add(
            text(LEFT - 12, at + 4, facts.label(name), anchor="end"),
            bar(LEFT, at - 7, end - LEFT, 14, f"bar {colour}"),
            mark(shape, end, at, 5, colour, key=name, name=f"{facts.label(name)}: {told}"),
            text(end + 12, at + 4, told, "soft"),
        )
    entries = [Key(role, shape, colour) for role, (shape, colour) in ROLES.items()]
    chart.add(*legend(entries, LEFT, bottom + 64, WIDTH - LEFT)[0])
    caption = (
        "In or out is decided at 95 % with an indifference zone of .02 FATE and .005 F1, out only "
        "from five seeds; open: undecided with these seeds and patients. Numbered: members of the "
        "front."
    )
    if len(kept) < len(found):
        caption += f" The first {len(kept)} of {len(found)} configurations."
    return Section("membership", title, figure(chart.svg(title, caption), caption))
