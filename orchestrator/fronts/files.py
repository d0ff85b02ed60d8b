"""A front's files and what people see of it: rows, ``front.csv``, ``front.json``, a table."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.fronts.aggregate import spread
from orchestrator.fronts.front import Front, Member
from orchestrator.fronts.headline import headline
from orchestrator.fronts.objectives import directions
from orchestrator.fronts.sure import is_not_determined
from orchestrator.judging.columns import COLUMNS as JUDGED_COLUMNS
from orchestrator.judging.columns import columns_of, judgement_document
from orchestrator.judging.judgement import Judgement
from trainables.metrics.verdict import metric_name
from trainables.storage import write_whole

if TYPE_CHECKING:
    from rich.table import Table

ONE_LINE = 78
"""Characters of a note that are shown in a terminal in any case."""
MEASURED = ("f1_worst_group", "gap_debiased", "auroc", "params", "latency")
"""Further objectives; ``flops`` has its column."""

COLUMNS = (
    "configuration", "role", "baseline", "criterion", "site", "ratio", "iterations", "num_seeds",
    "f1", "fate_eodd_hardt", "fate_eodd", "fate_eopp1", "fate_eopp0", "eopp0", "eopp1", "eodd",
    "eodd_hardt", "f1_sd", "fate_eodd_hardt_seed_mean", "fate_eodd_hardt_seed_sd", "tag",
    "tags",
    "num_params", "flops", "knee", "keys", "configuration_key", "seeds", "layer", "baseline_spec",
    "prune_spec", "f1_loss", "feasible", "confirmed", "num_selection_seeds", "selection_values",
    *MEASURED, *JUDGED_COLUMNS,
)  # fmt: skip


def columns(front: Front) -> tuple[str, ...]:
    """Of ``front.csv``: those of every front, and the objectives of other packages."""
    return (*COLUMNS, *(name for name in front.objectives if name not in COLUMNS))


def row(
    member: Member, front: Front, *, is_knee: bool = False, judgement: Judgement | None = None
) -> dict[str, Any]:
    """One point as a flat row; the columns of ``columns``, undefined figures None."""
    point, trial, figures = member.aggregate, member.aggregate.trial, member.aggregate.figures
    fate_mean, fate_sd = spread(point.per_seed["fate_eodd_hardt"])
    chosen = front.selected.get(point.configuration)
    known = {
        "configuration": trial["label"],
        "role": trial["role"],
        "baseline": trial["baseline"]["name"],
        "iterations": trial["n"],
        "num_seeds": len(point.seeds),
        "f1_sd": spread(point.per_seed["f1"])[1],
        "fate_eodd_hardt_seed_mean": fate_mean,
        "fate_eodd_hardt_seed_sd": fate_sd,
        "tag": point.tag,
        "tags": "; ".join(point.tags),
        "num_params": member.num_params,
        "flops": member.flops,
        "knee": is_knee,
        "feasible": front.is_feasible(point),
        "confirmed": chosen is not None,
        "num_selection_seeds": len((chosen.aggregate if chosen else point).seeds),
        "selection_values": dict(
            zip(front.objectives, (chosen or member).values, strict=True)
        ),
        "keys": " ".join(point.keys),
        "configuration_key": point.configuration,
        "seeds": " ".join(map(str, point.seeds)),
        "baseline_spec": trial["baseline"],
        "prune_spec": trial["prune"],
    } | columns_of(judgement, point.configuration)
    return {
        name: known[name] if name in known else figures.get(name, trial.get(name))
        for name in columns(front)
    }


def rows(front: Front, judgement: Judgement | None = None) -> list[dict[str, Any]]:
    """One row a member, in the front's order."""
    return [
        row(member, front, is_knee=number == front.knee, judgement=judgement)
        for number, member in enumerate(front.members)
    ]


def document(front: Front, judgement: Judgement | None = None) -> dict[str, Any]:
    """``front.json``: see ``orchestrator/schemas/front.json``."""
    return {
        "objectives": list(front.objectives),
        "directions": directions(front.objectives),
        "reference_point": list(front.reference_point),
        "headline": headline(front),
        "hypervolume": front.hypervolume,
        "selection_hypervolume": front.selection_hypervolume,
        "level": front.level,
        "knee": front.knee,
        **judgement_document(judgement),
        "members": rows(front, judgement),
        "dominated": [row(member, front, judgement=judgement) for member in front.dominated],
        "incomplete": list(front.incomplete),
        "undefined": list(front.undefined),
        "notes": all_notes(front, judgement),
    }


def all_notes(front: Front, judgement: Judgement | None) -> list[str]:
    """The front's notes and those of its judgement."""
    if judgement is None:
        return list(front.notes)
    return [
        *front.notes,
        *judgement.notes,
        *_optimism(judgement),
        *_approximate(front, judgement),
        *judgement.problems[:3],
    ]


def _optimism(judgement: Judgement) -> list[str]:
    luck = judgement.optimism
    found = [f"{metric_name(name)} {value:+.3f}" for name, value in luck.items()]
    if not any(value >= 0.0005 for value in luck.values()):
        return []
    return [
        "the best of several noisy figures is expected to lie above its own truth, by its luck "
        f"alone: {', '.join(found)}"
    ]


def _approximate(front: Front, judgement: Judgement) -> list[str]:
    """Why the members' intervals are approximate; few seeds are said by the judgement."""
    found: dict[str, None] = {}
    for member in front.members:
        judged = judgement.points.get(member.aggregate.configuration)
        for interval in judged.intervals.values() if judged else ():
            found |= dict.fromkeys(text for text in interval.approximate if "seed" not in text)
    shown = list(found)[:3]
    return [f"intervals of the members are approximate: {'; '.join(shown)}"] if shown else []


def write_front(folder: Path, front: Front, judgement: Judgement | None = None) -> None:
    """Write ``front.csv`` and ``front.json``: each whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(front), lineterminator="\n")
    writer.writeheader()
    for line in rows(front, judgement):
        writer.writerow({name: _cell(value) for name, value in line.items()})
    _replace(folder / "front.csv", text.getvalue())
    _replace(
        folder / "front.json",
        json.dumps(document(front, judgement), indent=1, allow_nan=False) + "\n",
    )


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _replace(path: Path, text: str) -> None:
    write_whole(path, text.encode())


def render(front: Front, judgement: Judgement | None = None) -> Table:
    """The members for people, notes below.

    The tag is that of the means over seeds, with how many seeds say the same by themselves.
    """
    from rich.table import Table

    shown = list(dict.fromkeys((*front.objectives, "f1")))
    fates = [name for name in shown if name.startswith("fate_")]
    short = {fates[0]: "FATE"} if len(fates) == 1 else {}
    title = f"Pareto front: {' and '.join(front.objectives)}"
    if front.violating:
        title = f"{headline(front)}\n{title}"
    table = Table(title=title)
    table.add_column("configuration")
    table.add_column("role")
    for name in shown:
        table.add_column(short.get(name, name), justify="right")
    judged = judgement is not None and bool(judgement.points)
    if judged:
        table.add_column("on front", justify="right")
    table.add_column("groups")
    lines, undetermined = rows(front, judgement), set[str]()
    for line in lines:
        tags = Counter(line["tags"].split("; "))
        told = line["tag"]
        told += f" ({tags[told]} of {tags.total()} seeds)" if tags.keys() != {told} else ""
        told += "; violates the constraint" if not line["feasible"] else ""
        name = line["configuration"] + (" *" if line["knee"] else "")
        frequency = line["membership_frequency"]
        place = ["-" if frequency is None else f"{frequency:.0%}"] if judged else []
        key = line["configuration_key"]
        open_ = {name for name in fates if is_not_determined(judgement, key, name)}
        undetermined |= open_
        figures = [_figure(line, name) + ("\nn.d." if name in open_ else "") for name in shown]
        table.add_row(name, line["role"], *figures, *place, told)
    legend = [f"FATE is {name}" for name in short]
    if undetermined:
        legend.append("n.d.: not determined, the reference's gap may be chance")
    legend += ["* the knee"] if any(line["knee"] for line in lines) else []
    if judged:
        legend.append("on front: share of joint redraws of seeds and patients")
    captions = ["; ".join(legend)] if legend else []
    if judged:
        captions += [f"{line['configuration']}: {text}" for line in lines for text in _told(line)]
    for line in lines:
        if line["confirmed"]:
            chosen = ", ".join(f"{k} {v:.3f}" for k, v in line["selection_values"].items())
            num = line["num_selection_seeds"]
            captions.append(f"{line['configuration']}: chosen by {num} seeds at {chosen}")
    table.caption = "\n".join([*captions, *_in_short(all_notes(front, judgement))])
    return table


def _in_short(notes: Sequence[str]) -> list[str]:
    """Notes that are longer than a line as far as their first semicolon; that these say more is
    said.
    """
    short = [n if len(n) <= ONE_LINE else n.partition("; ")[0] for n in notes]
    shown = [f"· {note}" for note in short]
    if short != list(notes):
        shown.append("(in short: front.json and the report have these notes whole)")
    return shown


def _figure(line: Mapping[str, Any], name: str) -> str:
    """A figure with its interval, or else ± one standard deviation over seeds."""
    if line[name] is None:
        return "-"
    text = _magnitude(name, line[name])
    low, high = line.get(f"{name}_low"), line.get(f"{name}_high")
    if low is not None and high is not None:
        return f"{text}\n[{low:.3f}, {high:.3f}]"
    return f"{text}±{line['f1_sd']:.3f}" if name == "f1" and line["f1_sd"] is not None else text


def _magnitude(name: str, value: float) -> str:
    """Three places; sizes in millions, seconds to three digits."""
    if name in ("params", "flops"):
        return f"{value / 1e6:.2f} M"
    return f"{value:.3g}" if name == "latency" else f"{value:.3f}"


def _told(line: Mapping[str, Any]) -> list[str]:
    """Verdicts of a member, in the order of the controls."""
    verdicts = (line[name] for name in JUDGED_COLUMNS if name.endswith("_verdict"))
    return [verdict for verdict in verdicts if verdict]
