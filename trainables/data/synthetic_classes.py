"""What tells the classes apart: medians of real dermoscopy, and a few structures a class.

Medians were measured on HAM10000 (Tschandl et al. 2018, Scientific Data 5:180161). Cues follow
textbook dermoscopy in the simplest form that a small network can use; their Lab offsets, rates
and the spread round each median are choices, not measurements.
"""

from dataclasses import dataclass
from typing import Literal

Shape = Literal["network", "globules", "blotch", "centre", "vessels"]


@dataclass(frozen=True)
class Cue:
    """One structure: where it is, its Lab offset at full weight, the share of lesions with it.

    ``count``, ``radius`` (of the lesion's radius) and ``band`` (distance from the centre, 1 = the
    border) matter for globules; ``count`` and ``radius`` (half width) for vessels.
    """

    shape: Shape
    offset: tuple[float, float, float]
    share: float
    count: int = 0
    radius: float = 0.0
    band: tuple[float, float] = (0.0, 0.9)


@dataclass(frozen=True)
class LesionClass:
    """Medians of one class.

    ``area`` is a share of the frame; ``offset`` is lesion minus surrounding skin in CIELAB;
    ``spread_l`` and ``spread_b`` are s.d. of L* and b* inside; ``compactness`` is
    perimeter^2 / (4 pi area); ``softness`` is the width of the border's sigmoid in shorter sides,
    chosen so that the L* step over +-4 px at 200x150 comes out near the measured one.
    """

    area: float
    offset: tuple[float, float, float]
    spread_l: float
    spread_b: float
    compactness: float
    edge: float
    softness: float
    vignette: float
    malignant: bool
    cues: tuple[Cue, ...]


CLASSES: dict[str, LesionClass] = {
    "nv": LesionClass(
        0.20,
        (-20.0, 9.6, 11.7),
        9.9,
        4.7,
        1.25,
        4.3,
        0.085,
        0.050,
        False,
        (
            Cue("network", (-10, 1, -2), 0.75),
            Cue("globules", (-9, 1, -2), 0.35, count=10, radius=0.13),
        ),
    ),
    "mel": LesionClass(
        0.30,
        (-20.1, 8.5, 10.8),
        12.1,
        6.6,
        1.34,
        5.2,
        0.072,
        0.138,
        True,
        (
            Cue("blotch", (-16, -2, -5), 0.85),
            Cue("blotch", (7, -7, -17), 0.55),
            Cue("globules", (-15, -2, -5), 0.60, count=12, radius=0.08, band=(0.6, 1.05)),
            Cue("network", (-7, 0, -1), 0.35),
        ),
    ),
    "bkl": LesionClass(
        0.29,
        (-10.0, 4.9, 7.8),
        8.1,
        4.9,
        1.33,
        3.0,
        0.064,
        0.073,
        False,
        (
            Cue("globules", (13, -3, 3), 0.75, count=14, radius=0.09),
            Cue("globules", (-13, 1, 2), 0.45, count=8, radius=0.08),
        ),
    ),
    "bcc": LesionClass(
        0.23,
        (-7.3, 6.7, 1.8),
        7.7,
        4.2,
        1.27,
        1.8,
        0.080,
        0.073,
        True,
        (
            Cue("vessels", (-11, 14, 3), 0.75, count=5, radius=0.045),
            Cue("globules", (-16, -4, -10), 0.55, count=4, radius=0.22, band=(0.1, 0.9)),
            Cue("blotch", (8, -3, -3), 0.35),
        ),
    ),
    "akiec": LesionClass(
        0.40,
        (-6.1, 6.3, 4.0),
        7.3,
        4.8,
        1.40,
        2.0,
        0.062,
        0.073,
        True,
        (
            Cue("globules", (10, -8, 3), 0.75, count=18, radius=0.08),
            Cue("blotch", (-7, 7, 4), 0.50),
        ),
    ),
    "df": LesionClass(
        0.28,
        (-10.3, 9.3, 4.4),
        6.5,
        4.8,
        1.22,
        2.2,
        0.100,
        0.073,
        False,
        (
            Cue("centre", (15, -6, -4), 0.80),
            Cue("network", (-6, 1, 1), 0.50),
        ),
    ),
    "vasc": LesionClass(
        0.10,
        (-21.8, 17.4, -3.8),
        8.9,
        4.8,
        1.14,
        6.5,
        0.063,
        0.073,
        False,
        (Cue("globules", (-12, 8, -6), 0.90, count=9, radius=0.26),),
    ),
}

ALL_VIGNETTE = 0.073
"""Share of all images with two dark corners or more."""

SEXES = ("female", "male")
AGES = ("<=45", "50-60", ">=65")

# Share of the class among lesions of that sex and age; what is left belongs to bkl, df and vasc.
_SHARE_BY_SEX_AGE: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "nv": ((0.874, 0.709, 0.316), (0.869, 0.672, 0.359)),
    "mel": ((0.059, 0.093, 0.179), (0.044, 0.133, 0.206)),
    "bcc": ((0.012, 0.027, 0.143), (0.018, 0.031, 0.124)),
    "akiec": ((0.001, 0.028, 0.070), (0.009, 0.041, 0.074)),
}


def sex_age_shares(label: str) -> list[float]:
    """Shares of the six sex x age cells (female's ages first) among lesions of one class.

    Bayes' rule on the measured class shares by sex and age, with equally large cells.
    """
    cells = []
    for sex in range(len(SEXES)):
        for age in range(len(AGES)):
            known = {name: rows[sex][age] for name, rows in _SHARE_BY_SEX_AGE.items()}
            cells.append(known.get(label, 1 - sum(known.values())))
    return [cell / sum(cells) for cell in cells]
