"""What the name of a column says about it: words that tables of medical images use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

IMAGE = ("path", "file", "filename", "filepath", "image", "img", "photo", "picture", "md5hash")
LABEL = ("label", "diagnosis", "dx", "class", "target", "disease", "condition", "category", "y")
PATIENT = ("patient", "subject", "person", "case", "pid", "lesion", "study")
SPLIT = ("split", "partition", "subset", "set", "fold")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "skin tone": ("tone", "fitzpatrick", "fst", "skintone", "fitspatrick"),
    "sex": ("sex", "gender"),
    "race": ("race", "ethnicity", "ethnic"),
    "age": ("age",),
}
"""Sensitive attributes, in the order in which one is taken for the sweep's own."""
NUMBERING = {"id", "ids", "no", "nr", "num", "number", "code", "hash", "name", "path"}


def words(name: str) -> list[str]:
    """``patientAge_years`` -> patient, age, years."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", parted.lower()) if word]


def rank(name: str, hints: Sequence[str]) -> int | None:
    """How well a name fits, 0 best; None: not at all. The whole name counts more than a word."""
    own = words(name)
    whole = [i for i, hint in enumerate(hints) if own == [hint]]
    if whole:
        return whole[0]
    inside = [i for i, hint in enumerate(hints) if hint in own]
    return len(hints) + inside[0] if inside else None


def by_rank(names: Iterable[str], hints: Sequence[str]) -> list[str]:
    """The names that fit, the best first, then in their order."""
    ranked = [(rank(name, hints), name) for name in names]
    return [name for _, name in sorted(((r, n) for r, n in ranked if r is not None), key=_first)]


def _first(entry: tuple[int, str]) -> int:
    return entry[0]


def identifies(name: str, hints: Sequence[str]) -> int | None:
    """Rank of ``patient_id`` among what identifies; ``patient_age`` does not."""
    own = [word for word in words(name) if word not in NUMBERING]
    return hints.index(own[0]) if len(own) == 1 and own[0] in hints else None


def attribute_kind(name: str) -> str | None:
    """Which sensitive attribute a column seems to hold."""
    own = words(name)
    for kind, hints in ATTRIBUTES.items():
        if any(hint in own for hint in hints) or (
            kind == "skin tone" and own[:2] == ["skin", "type"]
        ):
            return kind
    return None


def sounds_malignant(label: str) -> bool:
    """Whether a class is malignant by its name."""
    own = words(label)
    if "non" in own or "benign" in own or "nonmalignant" in own:
        return False
    codes = {"mel", "bcc", "scc", "mcc", "melanoma", "malignant"}
    return bool(codes & set(own)) or any("carcinoma" in word for word in own)
