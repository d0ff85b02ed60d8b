"""Student's t for real degrees of freedom, as Satterthwaite's are.

SciPy's special functions are called, not ``scipy.stats``: the same routines, a quarter of the time
to import, and that only where a figure is computed.
"""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4096)
def t_quantile(df: float, confidence: float) -> float:
    """The t with P(|T| <= t) = confidence for Student's T with real degrees of freedom >= 1.

    Raises:
        ValueError: ``df`` below 1 or ``confidence`` outside (0, 1).
    """
    from scipy.special import stdtrit

    if not df >= 1 or not 0 < confidence < 1:
        raise ValueError(f"no t quantile for {df} degrees of freedom at {confidence}")
    return float(stdtrit(df, (1 + confidence) / 2))


def two_sided_p(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """P(|T| >= |t|), elementwise; shapes broadcast."""
    from scipy.special import stdtr

    return 2 * stdtr(df, -np.abs(t))


def chi_square_quantile(df: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The x with P(X <= x) = probability for chi-square X, elementwise; shapes broadcast."""
    from scipy.special import gammaincinv

    return 2 * gammaincinv(np.asarray(df) / 2, probability)
