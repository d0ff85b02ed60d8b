"""What must be said below a table: where its figures come from and what they do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
FITZPATRICK = "fitzpatrick17k"


def notes_of(document: Document) -> list[str]:
    """The notes of a document of ``make_tables``, in the order in which they are read."""
    return [
        _split(document),
        _seeds(document),
        _fate(document),
        *_floor(document),
        *_not_determined(document),
        _mode(document),
        *_marks(document),
        *_adaptive(document),
        *_incomplete(document),
        *_published(document),
    ]


def _split(document: Document) -> str:
    if document["split"] == "validation":
        return "figures of the validation split; the test split was not read"
    return (
        "figures of the test split, which this table opened (the ledger says so); which rows are "
        "here and their order come from validation, and the best on test is not marked"
    )


def _seeds(document: Document) -> str:
    num = len(document["seeds"])
    level = f"{100 * document['confidence']:g} %"
    if num < 2 and document["intervals"] == "seeds and patients":
        return (
            f"one seed: the {level} intervals are over patients alone, how much training varies "
            "is not in them, and nothing can be said of ties"
        )
    if num < 2:
        return "one seed: no interval, and nothing can be said of ties"
    if document["intervals"] == "seeds and patients":
        return (
            f"mean ± half width of the {level} interval over {num} seeds and patients, crossed "
            "(contracts: saying how sure), its ends in brackets where it is not symmetric (gaps); "
            "ties are of the seeds alone"
        )
    return (
        f"mean ± half width of the {level} t interval over {num} seeds; patients are not "
        "resampled: it says how much training varies, not how much another data set would differ"
    )


def _fate(document: Document) -> str:
    against = "each chain's own root" if document["reference"] == "own" else "vanilla"
    return (
        f"FATE is that of the seed means against {against}; the last column says what happened to "
        "the groups' F1 against the same, because FATE can rise while every group loses"
    )


def _floor(document: Document) -> list[str]:
    if document["intervals"] == "seeds" or document["style"] == "paper":
        return []
    notes = [
        "floor: what a classifier with equal per-class rates would show on these images, and p "
        "that it shows as much (groups permuted among patients of the same classes); a gap less "
        "its floor is no estimate of the gap, the debiased one is in the CSV"
    ]
    rows = sorted(document["rows"], key=lambda row: row["tag"] != "reference")
    least = [(row["gaps"]["eodd_hardt"]["detectable"], row["configuration"]) for row in rows]
    known = [(value, name) for value, name in least if value is not None]
    if known:
        value, name = known[0]
        notes.append(
            f"a gap of the true rates below {value:.2f} cannot be shown by this split (Eodd after "
            f"Hardt, without sampling noise, 80 % power, {name})"
        )
    return notes


def _not_determined(document: Document) -> list[str]:
    fates = [fate for row in document["rows"] for fate in row["fates"].values()]
    notes = []
    if document["style"] == "default" and any(f["reason"] and not _undefined(f) for f in fates):
        notes.append(
            "n.d.: not determined, the interval of the reference's gap reaches 0 or its floor; Δ "
            "is the change of the gap itself"
        )
    reasons = dict.fromkeys(f["reason"] for f in fates if f["reason"] and _undefined(f))
    return [*notes, *(f"-: undefined ({reason})" for reason in reasons)]


def _undefined(fate: Mapping[str, Any]) -> bool:
    return fate["value"] is None


def _mode(document: Document) -> str:
    read = "read as 0" if document["mode"] == "paper" else "left out"
    text = f"mode {document['mode']}: rates of a class that a group lacks are {read}"
    if len(document["groups"]) > 2:
        text += "; gaps are the largest over pairs of groups"
    return f"{text}; Eodd is the paper's signed one, Hardt's is in the CSV and the JSON"


def _marks(document: Document) -> list[str]:
    if document["split"] != "validation":
        return []
    if document["style"] == "paper":
        return ["bold: best, underlined: second, by the means alone, as published"]
    if len(document["seeds"]) < 2:
        return []
    return [
        "bold: best, and no other ties with it; ≈: the best and what ties with it (the interval "
        "of the paired difference to the best holds 0; each comparison by itself)"
    ]


def _adaptive(document: Document) -> list[str]:
    num = sum(row["adaptive"] for row in document["rows"])
    if not num or document["split"] != "test":
        return []
    return [
        f"{num} of {len(document['rows'])} configurations were computed after the test split had "
        "been opened: their figures are no longer those of an untouched split"
    ]


def _incomplete(document: Document) -> list[str]:
    num = len(document["incomplete"])
    if not num:
        return []
    return [f"{num} configurations are not here: not every seed of them is done"]


def _published(document: Document) -> list[str]:
    beside = [block for row in document["rows"] for block in row["published"]]
    shown = [*beside, *document["published"]]
    if not shown:
        return []
    notes = [
        "published rows are printed as published (test split, gaps in mode paper, one run, no "
        "interval), are in no comparison here, and are not reproduced by it"
    ]
    notes += dict.fromkeys(
        f"published {block['method']} ({block['table']}) is of another pruning than ours above "
        f"it: {'; '.join(block['differs'])}"
        for block in beside
        if block["differs"]
    )
    others = {block["dataset"] for block in shown} - {document["dataset"]}
    if others:
        notes.append(
            f"published rows of {' and '.join(sorted(others))} are of other images than ours: the "
            "figures cannot be compared"
        )
    if FITZPATRICK in others:
        notes.append(
            "Fitzpatrick-17k: no real image of it was run; its published rows stand beside, not "
            "reproduced"
        )
    return notes
