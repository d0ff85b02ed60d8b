"""Who is photographed: patients with class, tone, sex and age; photographs with artefacts."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from trainables.data.attributes import Groups
from trainables.data.synthetic_classes import AGES, ALL_VIGNETTE, CLASSES, SEXES, sex_age_shares
from trainables.data.synthetic_colour import TONES
from trainables.data.synthetic_config import SyntheticConfig
from trainables.data.synthetic_draws import Purpose, stream

GROUPS: dict[str, tuple[str, ...]] = {
    "tone": ("light", "dark"),
    "tone6": TONES,
    "sex": SEXES,
    "age": AGES,
    "artefact": ("none", "artefact"),
}

# Share of dark patients that take the linked class at class_tone_link = 1: almost, not quite all,
# so that rates of the other classes stay defined.
_LINKED_SHARE = 0.95
# Odds of a pen mark in malignant and benign lesions against all; no measured rates, a choice.
_PEN_LOG_ODDS = (-0.7, 1.0)
# Hair coverage beyond 1 %: exponential, with 8 of 23 % above 4 %.
_HAIR_SCALE = 0.03 / math.log(23 / 8)


def people(config: SyntheticConfig) -> pd.DataFrame:
    """One row a photograph, ``num_images`` rows, patients in order.

    Every patient's and photograph's draws are its own: a larger ``num_images`` only appends rows.
    """
    rows: list[dict[str, object]] = []
    patient = 0
    while len(rows) < config.num_images:
        rows.extend(_patient_rows(config, patient))
        patient += 1
    return pd.DataFrame(rows[: config.num_images])


def _patient_rows(config: SyntheticConfig, patient: int) -> list[dict[str, object]]:
    rng = stream(config.seed, Purpose.PATIENT, patient)
    # All draws come first and always, so that no dial changes which number means what.
    u_dark, u_tone, u_class, u_link, u_cell, u_noise, u_wrong = rng.random(7)
    num_views = 1 + int(rng.poisson(config.images_per_patient - 1))
    dark = bool(u_dark < config.minority_share)
    tone = (
        1 + _pick(config.dark_shares, u_tone) + 3
        if dark
        else 1 + _pick(config.light_shares, u_tone)
    )
    shares = config.class_shares or (1.0,) * len(config.classes)
    true_label = config.classes[_pick(shares, u_class)]
    if dark and u_link < _LINKED_SHARE * config.class_tone_link:
        true_label = config.linked_class
    cell = _pick(sex_age_shares(true_label), u_cell)
    label = true_label
    if u_noise < config.label_noise:
        others = [name for name in config.classes if name != true_label]
        label = others[int(u_wrong * len(others))]
    shared = {
        "label": label,
        "true_label": true_label,
        "tone": tone,
        "rendered_tone": config.counterfactual_tone or tone,
        "tone_group": "dark" if dark else "light",
        "sex": SEXES[cell // len(AGES)],
        "age": AGES[cell % len(AGES)],
        "patient": patient,
    }
    return [
        {
            "image_id": f"synthetic_{patient:06d}_{view}",
            "path": f"images/synthetic_{patient:06d}_{view}.jpg",
            "group": None,  # its place among the columns; groups_of fills it
            "patient_id": f"patient_{patient:06d}",
            **shared,
            "view": view,
            **_artefacts(config, patient, view, true_label),
        }
        for view in range(num_views)
    ]


def groups_of(rows: pd.DataFrame, attribute: str) -> Groups:
    """The groups of the rows by one attribute.

    ``artefact``: dark corners or a pen mark, the two that can go with the class; known only here,
    where every photograph's are drawn.
    """
    if attribute == "tone6":
        return [TONES[tone - 1] for tone in rows["tone"]], GROUPS[attribute]
    if attribute == "artefact":
        marked = rows["vignette"] | rows["pen"]
        return [GROUPS[attribute][int(each)] for each in marked], GROUPS[attribute]
    return rows["tone_group" if attribute == "tone" else attribute].tolist(), GROUPS[attribute]


def _artefacts(config: SyntheticConfig, patient: int, view: int, label: str) -> dict[str, object]:
    rng = stream(config.seed, Purpose.VIEW_FLAGS, patient, view)
    u_hair, u_cover, u_vignette, u_pen = rng.random(4)
    lesion = CLASSES[label]
    link = config.artefact_class_link
    vignette = _logit(lesion.vignette) - _logit(ALL_VIGNETTE)
    pen = _PEN_LOG_ODDS[lesion.malignant]
    cover = 0.01 - _HAIR_SCALE * math.log(1 - u_cover)
    return {
        "hair": round(min(cover, 0.25), 6) if u_hair < config.hair_share else 0.0,
        "vignette": bool(u_vignette < _shifted(config.vignette_share, link * vignette)),
        "pen": bool(u_pen < _shifted(config.pen_share, link * pen)),
    }


def _pick(shares: Sequence[float], u: float) -> int:
    """Index of the share that the uniform number ``u`` falls into."""
    edge = np.cumsum(shares) / np.sum(shares)
    return min(int(np.searchsorted(edge, u, side="right")), len(shares) - 1)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _shifted(share: float, log_odds: float) -> float:
    """``share`` moved by ``log_odds``; 0 and 1 stay where they are."""
    return share if share in (0.0, 1.0) else 1 / (1 + math.exp(-_logit(share) - log_odds))
