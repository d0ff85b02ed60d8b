"""What each criterion does against its controls: paired differences, intervals, verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.judging.columns import CONTROLS
from orchestrator.judging.seed_interval import mean_over_seeds
from orchestrator.pages.document import Cell, figure, folded, paragraph, table
from orchestrator.pages.svg import (
    COLOURS,
    SHAPES,
    Chart,
    Key,
    Scale,
    interval,
    legend,
    line,
    mark,
    scale_of,
    text,
)
from orchestrator.pages.tips import signed
from orchestrator.report.facts import Facts
from orchestrator.report.section import Section
from trainables.metrics.verdict import PLAIN_NAMES

LEFT, WIDTH, STEP = 330, 1180, 19
MAX_LINES = 60
"""Differences in the chart; the table has more of them."""
MAX_ROWS = 500


@dataclass(frozen=True)
class Effect:
    """One arm less one of its controls, paired by seed (and by patient where predictions are)."""

    configuration: str
    criterion: str
    control: str
    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    verdict: str | None
    kind: str | None


def effects_section(facts: Facts) -> Section:
    """Every treated configuration against each control, criterion by criterion."""
    title = "Effect of each criterion against its controls"
    found, name = _effects(facts)
    if not found:
        return Section("effects", title, "", "no treated arm has a control with the same seeds")
    is_tested = any(one.verdict for one in found)
    direction = "above 0 is better" if name.startswith("fate_") or name == "f1" else (
        "below 0 is better"
    )  # fmt: skip
    told = (
        f"Each arm less the control with the same root, seeds, batches and epochs: the difference "
        f"of {name} ({facts.split}), {direction}. "
    )
    told += (
        "Intervals are simultaneous (max-T over all differences here), 95 %, over seeds and "
        "patients; p values are adjusted the same way."
        if is_tested
        else "Intervals are 95 % of Student's t over seeds, each by itself: predictions are not "
        "at hand, so the differences are not tested together and there are no verdicts. Of many "
        "such intervals some miss 0 by chance."
    )
    body = paragraph(told) + _summary(found, is_tested)
    body += figure(_chart(facts, found[:MAX_LINES], name), _caption(found))
    full = _table(facts, found, name)
    shown = f"All {len(found)}" if len(found) <= MAX_ROWS else f"{MAX_ROWS} of {len(found)}"
    body += full if len(found) <= 12 else folded(f"{shown} differences", full)
    return Section("effects", title, body)


def _caption(found: list[Effect]) -> str:
    if len(found) <= MAX_LINES:
        return "Marks: the control that is compared with. Whiskers: intervals as above."
    return (
        f"The first {MAX_LINES} of {len(found)} differences: of each criterion those of the front "
        "first, then the largest. Whiskers: intervals as above."
    )


def _effects(facts: Facts) -> tuple[list[Effect], str]:
    """Differences in the order of the chart, and the figure they are of."""
    judged = facts.shown_judgement
    name = judged.contrasted or facts.gap
    found = []
    for key, member in facts.points.items():
        trial = member.aggregate.trial
        if trial["role"] != "treatment" or key not in facts.rows:
            continue
        if judged.points:
            own = judged.points[key].contrasts if key in judged.points else {}
            for control, (contrast, told) in own.items():
                ends = contrast.simultaneous
                found.append(
                    Effect(key, trial["criterion"], control, ends.value, ends.low, ends.high,
                           contrast.adjusted_p_value, told.text, told.kind)
                )  # fmt: skip
        else:
            found += _over_seeds(facts, key, name)
    members = {m.aggregate.configuration for m in facts.front.members}
    order = {key: number for number, key in enumerate(facts.points)}
    criteria = list(dict.fromkeys(sorted(one.criterion for one in found)))
    room = max(2, MAX_LINES // max(1, len(criteria)))
    first: list[Effect] = []
    rest: list[Effect] = []
    for criterion in criteria:
        ordered = sorted(
            (one for one in found if one.criterion == criterion),
            key=lambda one: (
                one.configuration not in members, -abs(one.value or 0), order[one.configuration],
            ),
        )  # fmt: skip
        first += sorted(
            ordered[:room], key=lambda one: (order[one.configuration], one.control)
        )
        rest += ordered[room:]
    return [*first, *rest], name


def _over_seeds(facts: Facts, key: str, name: str) -> list[Effect]:
    """Without predictions: paired by seed, Student's t."""
    point = facts.points[key].aggregate
    found = []
    for control in CONTROLS:
        pairs = [(k, facts.records[k]["compares_with"].get(control, "")) for k in point.keys]
        if not all(other in facts.records for _, other in pairs):
            continue
        both = [tuple(_metric(facts.records[k], name) for k in pair) for pair in pairs]
        if any(value is None for pair in both for value in pair):
            continue
        estimate = mean_over_seeds([(a or 0.0) - (b or 0.0) for a, b in both])
        low, high = estimate.interval or (None, None)
        criterion = point.trial["criterion"]
        found.append(
            Effect(key, criterion, control, estimate.value, low, high, None, None, None)
        )
    return found


def _metric(record: Mapping[str, object], name: str) -> float | None:
    if record["status"] != "done":
        return None
    result = record["result"]
    assert isinstance(result, Mapping)
    value = result["metrics"]["validation"].get(name)
    return None if value is None else float(value)


def _summary(found: list[Effect], is_tested: bool) -> str:
    """One line a criterion: how many of its differences say what."""
    if not is_tested:
        return ""
    rows: list[list[str | Cell]] = []
    for criterion in dict.fromkeys(one.criterion for one in found):
        for control in dict.fromkeys(one.control for one in found):
            kinds = Counter(
                one.kind for one in found if (one.criterion, one.control) == (criterion, control)
            )
            if kinds:
                rows.append(
                    [
                        criterion,
                        Cell(PLAIN_NAMES.get(control, control), "text"),
                        *(
                            str(kinds[kind])
                            for kind in ("better", "worse", "not distinguishable",
                                         "not determined")
                        ),
                    ]
                )  # fmt: skip
    heads: list[str | Cell] = [
        Cell("Criterion", "text"), Cell("Against", "text"), "Better", "Worse",
        "Not distinguishable", "Not determined",
    ]  # fmt: skip
    return table("Configurations by verdict.", heads, rows, "Verdicts of each criterion")


def _chart(facts: Facts, found: list[Effect], name: str) -> str:
    ends = [v for one in found for v in (one.value, one.low, one.high) if v is not None]
    controls = list(dict.fromkeys(one.control for one in found))
    top, bottom = 10, 10 + STEP * len(found) + 10
    chart = Chart(
        WIDTH, bottom + 80, scale_of(ends, LEFT, WIDTH - 24, zero=True), Scale(0, 1, bottom, top)
    )
    chart.axes(f"difference of {name}", grid="x")
    zero = chart.x(0)
    chart.add(line(zero, top, zero, bottom, "zero"))
    before = ""
    for number, one in enumerate(found):
        at = top + STEP * (number + 0.5) + 2
        label = facts.label(one.configuration)
        if label != before:
            chart.add(text(LEFT - 12, at + 4, label, anchor="end"))
        before = label
        index = controls.index(one.control)
        colour, shape = f"c-{COLOURS[index]}", SHAPES[index]
        if one.low is not None and one.high is not None:
            chart.add(interval(chart, one.low, one.high, at, colour))
        if one.value is not None:
            against = PLAIN_NAMES.get(one.control, one.control)
            told = one.verdict or f"difference {signed(one.value)} from {against}"
            chart.add(
                mark(shape, chart.x(one.value), at, 5, colour, key=one.configuration,
                     name=f"{label}: {told}")
            )  # fmt: skip
    entries = [
        Key(f"less {PLAIN_NAMES.get(c, c)}", SHAPES[i], f"c-{COLOURS[i]}")
        for i, c in enumerate(controls)
    ]
    parts, _ = legend(entries, LEFT, bottom + 66, WIDTH - LEFT)
    chart.add(*parts)
    return chart.svg("Paired differences from the controls", "The table below has the figures.")


def _table(facts: Facts, found: list[Effect], name: str) -> str:
    rows: list[list[str | Cell]] = [
        [
            facts.label(one.configuration),
            Cell(one.criterion, "text"),
            Cell(PLAIN_NAMES.get(one.control, one.control), "text"),
            signed(one.value)
            + ("" if one.low is None else f" [{signed(one.low)}, {signed(one.high)}]"),
            "–" if one.p_value is None else f"{one.p_value:.3f}",
            Cell(one.verdict or "not tested", "text tags verdict"),
        ]
        for one in found[:MAX_ROWS]
    ]
    heads: list[str | Cell] = [
        Cell("Configuration", "text"), Cell("Criterion", "text"), Cell("Less", "text"),
        f"Difference of {name}", "p, adjusted", Cell("Verdict", "text"),
    ]  # fmt: skip
    return table(f"Paired differences of {name}, {facts.split}.", heads, rows, "Differences")
