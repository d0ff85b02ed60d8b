"""How much of the best figure of several is the luck of having been chosen."""

import math

import numpy as np


def expected_optimism(value_A: np.ndarray, draw_RA: np.ndarray) -> float:
    """How far the largest of several noisy figures is expected to lie above its own truth.

    The point values stand for the truth and the draws for what might have been seen: the mean over
    draws of (draw - value) of the arm that is largest in the draw. 0 with one arm.
    """
    defined_A = ~(np.isnan(value_A) | np.isnan(draw_RA).any(0))
    if not defined_A.any():
        return math.nan
    value_A, draw_RA = value_A[defined_A], draw_RA[:, defined_A]
    centred_RA = draw_RA - draw_RA.mean(0) + value_A
    best_R = centred_RA.argmax(1)
    return float((centred_RA.max(1) - value_A[best_R]).mean())
