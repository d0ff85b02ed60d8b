"""What a front comes to, in one or two sentences: the first thing that is said of it."""

from __future__ import annotations

from orchestrator.fronts.front import Front
from trainables.metrics.verdict import metric_name


def headline(front: Front) -> str:
    """How many are on the front and which is best; of a confirmed front first what its fresh seeds
    say against it.
    """
    num = len(front.members) + len(front.dominated)
    if not front.members:
        return f"None of {num} configurations is on the front."
    if front.violating:
        return f"{_violated(front)} {_of_the_selection(front)}"
    best = front.members[0].aggregate.trial["label"]
    is_or_are = "is" if len(front.members) == 1 else "are"
    text = f"{len(front.members)} of {num} configurations {is_or_are} on the front"
    if len(front.members) > 1:
        last = max(front.members, key=lambda m: m.values[-1]).aggregate.trial["label"]
        first, other = metric_name(front.objectives[0]), metric_name(front.objectives[-1])
        text += f"; best in {first}: {best}, in {other}: {last}"
    if front.knee is not None:
        text += f"; knee: {front.members[front.knee].aggregate.trial['label']}"
    return text + "."


def is_refuted(front: Front) -> bool:
    """Whether fresh seeds leave no member that keeps the constraint."""
    return bool(front.members) and len(front.violating) == len(front.members)


def _violated(front: Front) -> str:
    assert front.max_f1_loss is not None
    seeds, limit = len(front.members[0].aggregate.seeds), front.max_f1_loss
    fresh = f"{seeds} fresh seed{'' if seeds == 1 else 's'}"
    lost = f"more than {limit:.1%} of a group's F1"
    num, bad = len(front.members), len(front.violating)
    if is_refuted(front):
        every = "the only member loses" if num == 1 else f"all {num} members lose"
        return f"No front is confirmed: on {fresh} {every} {lost}."
    names = ", ".join(str(m.aggregate.trial["label"]) for m in front.violating)
    lose = "loses" if bad == 1 else "lose"
    return (
        f"{num - bad} of {num} members are confirmed: on {fresh} {bad} {lose} {lost} ({names})."
    )


def _of_the_selection(front: Front) -> str:
    before = front.selection_hypervolume
    was = "" if before is None else f", where the hypervolume was {before:.4f}"
    return (
        f"The members are those that other seeds chose{was}; on the fresh ones it is "
        f"{front.hypervolume:.4f}."
    )


def why_empty(front: Front) -> str:
    """Why nothing is on a front, in one line."""
    if not front.undefined:
        return "no configuration is done for every seed"
    first = front.undefined[0]
    reasons = ", ".join(f"{name}: {reason}" for name, reason in first["reasons"].items())
    return f"no configuration has every objective defined ({first['configuration']}: {reasons})"
