"""Simultaneous intervals and adjusted p-values of all (configuration, control) contrasts.

Single-step max-T (Westfall and Young 1993, section 2.5): each contrast is divided by its standard
error, and what is compared with is the largest of all contrasts' |t| in joint draws where no arm
differs. Contrasts with other degrees of freedom have other tails: |t| is read on the scale of its
two-sided p-value, so that the largest |t| is the smallest p (single-step min-P, the same where
all degrees of freedom are equal).

Among several contrasts |t| has S - 1 degrees of freedom, not Satterthwaite's: these are estimated,
come out too high where the seeds' variance came out too low, and those are the contrasts that a
maximum picks (simulated family-wise error of 12 contrasts of F1 with 3 seeds: .22). One contrast
keeps Satterthwaite's, which are near nominal by themselves. Each contrast's chi-square is drawn by
itself, for contrasts of different arms have different variance estimates.

The level of a single contrast is never above alpha and never below alpha / C (Bonferroni), and an
adjusted p never below the plain p.

Shape legend: A arms, S seeds, R replicates, C contrasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainables.metrics.crossed import CONFIDENCE, Interval
from trainables.metrics.figures import Figure, contrast_figure
from trainables.metrics.joint import deviations, seed_freedom
from trainables.metrics.student_t import chi_square_quantile, t_quantile, two_sided_p

_CHI_SQUARE = 5  # name of the random stream, see trainables.metrics.joint


@dataclass(frozen=True)
class Contrast:
    """``arm`` less ``other``: the interval by itself, and the one that holds for all at once.

    ``p_value`` and ``adjusted_p_value`` are None where the difference has no interval.
    """

    arm: int
    other: int
    plain: Interval
    simultaneous: Interval
    p_value: float | None = None
    adjusted_p_value: float | None = None


def smallest_sign_flip_p(num_seeds: int) -> float:
    """The least two-sided p of a sign-flip test on S paired differences: 2 ** (1 - S), at most 1.

    With 3 seeds .25: no such test can find anything at .05 below 6 seeds (Fisher 1935).

    Raises:
        ValueError: no seed.
    """
    if num_seeds < 1:
        raise ValueError(f"no seed: {num_seeds}")
    return 2.0 ** (1 - num_seeds)


def max_t(
    figure: Figure,
    pairs: Sequence[tuple[int, int]],
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[Contrast, ...]:
    """All contrasts of one objective, in the order of ``pairs``.

    Args:
        figure: the objective named beforehand, of all arms.
        pairs: (arm, control), differences are over the seeds that both have.
        confidence: of the simultaneous intervals together, in (0, 1).
        seed: of the draws.
    """
    contrasts = contrast_figure(figure, pairs)
    deviation_RC, _ = deviations(contrasts, seed=seed)
    plain = [contrasts.interval(row, confidence=confidence) for row in range(len(pairs))]
    tested = [row for row, one in enumerate(plain) if one.low is not None]
    found = [Contrast(*pair, one, one) for pair, one in zip(pairs, plain, strict=True)]
    if not tested:
        return tuple(found)
    value_C, error_C, own_df_C = (
        np.array([getattr(plain[row], name) for row in tested])
        for name in ("value", "standard_error", "df")
    )
    many = len(tested) > 1
    df_C = np.array([seed_freedom(plain[row]) for row in tested]) if many else own_df_C
    uniform_RC = np.random.default_rng([seed, _CHI_SQUARE]).random(
        (len(deviation_RC), len(tested))
    )
    scale_RC = np.sqrt(chi_square_quantile(df_C, uniform_RC) / df_C)
    drawn_RC = _ratio(deviation_RC[:, tested], error_C) / scale_RC
    smallest_R = two_sided_p(drawn_RC, df_C).min(1)
    t_C = _ratio(value_C, error_C)
    p_C, family_p_C = two_sided_p(t_C, own_df_C), two_sided_p(t_C, df_C)
    level = float(np.quantile(smallest_R, 1 - confidence))
    level = min(max(level, (1 - confidence) / len(tested)), 1 - confidence)
    for i, row in enumerate(tested):
        one, p = plain[row], float(family_p_C[i])
        adjusted = float((1 + (smallest_R <= p).sum()) / (1 + len(smallest_R)))
        half = t_quantile(float(df_C[i]), 1 - level) * float(error_C[i])
        found[row] = replace(
            found[row],
            simultaneous=replace(
                one, low=float(value_C[i]) - half, high=float(value_C[i]) + half, df=float(df_C[i])
            ),
            p_value=float(p_C[i]),
            adjusted_p_value=min(max(adjusted, p, float(p_C[i])), p * len(tested), 1.0),
        )
    return tuple(found)


def _ratio(numerator: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Divide; without any error a difference of 0 is 0 and another infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(numerator == 0, 0.0, numerator / error)
