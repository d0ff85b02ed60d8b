"""The quantile of Student's t for real degrees of freedom, as Satterthwaite's are.

With T = sqrt(df) tan(angle), P(|T| <= t) = 2 Gamma((df + 1)/2) / (sqrt(pi) Gamma(df/2)) times the
integral of cos(angle)^(df - 1) from 0 to atan(t / sqrt(df)).
"""

import math
from functools import lru_cache

import numpy as np

_NODE, _NODE_WEIGHT = np.polynomial.legendre.leggauss(96)


def _central(t: float, df: float) -> float:
    """P(|T| <= t), by quadrature over the angle."""
    angle = math.atan(t / math.sqrt(df))
    log_scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2)
    log_cosine = np.log(np.cos(angle * (_NODE + 1) / 2))
    integrand = np.exp(log_scale + (df - 1) * log_cosine)
    return float(_NODE_WEIGHT @ integrand) * angle / math.sqrt(math.pi)


@lru_cache(maxsize=4096)
def t_quantile(df: float, confidence: float) -> float:
    """The t with P(|T| <= t) = confidence for Student's T with real degrees of freedom >= 1.

    Raises:
        ValueError: ``df`` below 1 or ``confidence`` outside (0, 1).
    """
    if not df >= 1 or not 0 < confidence < 1:
        raise ValueError(f"no t quantile for {df} degrees of freedom at {confidence}")
    df = min(df, 1e6)  # beyond it the normal to 6 digits, and lgamma's difference loses its own
    low, high = 0.0, 1.0
    while _central(high, df) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, df) < confidence else (low, middle)
    return (low + high) / 2
