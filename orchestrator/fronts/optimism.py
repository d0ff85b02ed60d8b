"""How much of the best figure of several is the luck of having been chosen."""

import math

import numpy as np


def expected_optimism(value_A: np.ndarray, draw_RA: np.ndarray) -> float:
    """How far the largest of several noisy figures is expected to lie above its own truth.

    Truths are drawn up for the arms, and the draws say what might have been seen of them: the mean
    over draws of (draw - truth) of the arm that is largest in the draw. 0 with one arm.

    The point values themselves are no truths: they lie further apart than those by the noise in
    them. They are shrunk towards their mean by 1 - noise / spread, at least 0 (Efron and Morris
    1973, J. Am. Stat. Assoc. 68, 117: the positive part), where noise is the variance of the draws
    about what all arms share in a draw, and spread that of the points. Of arms that are all alike
    the points as truths would give 1 / sqrt(2) of the optimism that there is.
    """
    defined_A = ~(np.isnan(value_A) | np.isnan(draw_RA).any(0))
    if not defined_A.any():
        return math.nan
    value_A, draw_RA = value_A[defined_A], draw_RA[:, defined_A]
    if len(value_A) == 1:
        return 0.0
    noise_RA = draw_RA - draw_RA.mean(0)
    own_RA = noise_RA - noise_RA.mean(1, keepdims=True)
    noise = float((own_RA**2).sum(1).mean()) / (len(value_A) - 1)
    spread = float(value_A.var(ddof=1))
    kept = max(0.0, 1 - noise / spread) if spread > 0 else 0.0
    truth_A = value_A.mean() + kept * (value_A - value_A.mean())
    seen_RA = truth_A + noise_RA
    best_R = seen_RA.argmax(1)
    return float((seen_RA.max(1) - truth_A[best_R]).mean())
