"""How sure a sweep's front is: the judgement of its selection, and of its fresh seeds where it is
confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.fronts.front import Front, build_front, confirming
from orchestrator.fronts.history import hypervolume_history
from orchestrator.judging.judge import judge_folder
from orchestrator.judging.judgement import Judgement
from orchestrator.ledger.records import read_events
from trainables.metrics.verdict import metric_name

Records = Mapping[str, Mapping[str, Any]]


def judge_front(folder: Path, front: Front, records: Records) -> Judgement:
    """How sure every point of the front is, as far as its sweep's predictions are at hand.

    Of a confirmed front the members' intervals, floors and contrasts and the hypervolume are those
    of the fresh seeds; membership and the expected optimism are those of the selection, in which
    all configurations took part. At trial level there is one seed each and nothing to judge by.
    """
    if front.level == "trial":
        return Judgement()
    chosen = list(front.selected.values() or front.members)
    points = [member.aggregate for member in (*chosen, *front.dominated)]
    judgement = judge_folder(
        folder, points, records, front.objectives, front.reference_point,
        max_f1_loss=front.max_f1_loss,
    )  # fmt: skip
    if front.selected:
        judgement = _with_fresh(judgement, folder, front, records)

    def volume(known: Records) -> float:
        selection = build_front(
            known,
            front.objectives,
            max_f1_loss=front.max_f1_loss,
            raced_from=front.raced_from,
            confirmed=False,
        )
        return selection.hypervolume

    history = hypervolume_history(list(read_events(folder)), volume)
    return replace(judgement, history=history)


def _with_fresh(selection: Judgement, folder: Path, front: Front, records: Records) -> Judgement:
    fresh = judge_folder(
        folder, confirming(front, records), records, front.objectives, front.reference_point,
        competing=set(front.selected), max_f1_loss=front.max_f1_loss,
    )  # fmt: skip
    points = dict(selection.points)
    for name in front.selected:
        points.pop(name, None)
        if name in fresh.points:
            place = selection.points[name].membership if name in selection.points else None
            points[name] = replace(fresh.points[name], membership=place)
    notes = [
        "membership, expected optimism and the history of the hypervolume are those of the "
        "selection, before the fresh seeds"
    ]
    if selection.contrasted != fresh.contrasted and selection.contrasted:
        notes.append(
            "differences from controls of configurations that are no members are those of "
            f"{metric_name(selection.contrasted)}, on the seeds of the selection"
        )
    return replace(
        selection,
        points=points,
        contrasted=fresh.contrasted,
        hypervolume=fresh.hypervolume,
        notes=(*fresh.notes, *notes),
        problems=tuple(dict.fromkeys((*selection.problems, *fresh.problems))),
    )
