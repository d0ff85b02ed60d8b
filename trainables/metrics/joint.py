"""Joint draws of the figures of all arms: what the front could be, given seeds and patients.

Draw r of an arm's mean over seeds is

    value + patients_r + seeds_r,   times sqrt(df / chi2_r) around the value,

* patients_r: the mean over seeds of replicate r, centred (a gap's replicates lie above the gap);
* seeds_r: sum over seeds of w_rs (t_s - value) / sqrt(S (S - 1)) with standard normal w_rs, the
  multiplier bootstrap (van der Vaart and Wellner 1996, section 3.6), shrunk to the seed part of
  ``crossed.interval``, which is net of patient noise;
* chi2_r: chi-square with df = S - 1 degrees of freedom, from one uniform a replicate, so that few
  seeds are not overconfident. (The interval's own df can be higher, for patients share in its
  variance. But where arms are compared the patients cancel and the seeds remain.)

Replicate, w_rs and the uniform are shared by all arms and figures: the same seed number is the
same initialisation and the same batches, so that what arms share cancels where they are compared.
The variance before the chi-square is that of the arm's interval; the draws of one arm by itself
reach at least as far.

For choosing where a further seed tells most (orchestrator/search/racing.py) ``pooled`` draws are
better: seeds_r is normal, independent between arms and figures, with the variance of one seed
averaged over arms, for of three seeds neither variance nor covariance is known well; and there is
no chi-square. They are not wide enough to decide anything by.

Shape legend: A arms, S seeds, R replicates, K figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trainables.metrics.crossed import Interval
from trainables.metrics.figures import Figure
from trainables.metrics.student_t import chi_square_quantile

# Names of the random streams: a generator is a function of (seed, purpose).
_SEED_WEIGHTS, _UNIFORM, _OWN = 3, 4, 5


def deviations(
    figure: Figure, *, seed: int = 0, pooled: bool = False, place: int = 0
) -> tuple[np.ndarray, list[Interval]]:
    """Draws less the value and without the chi-square (R, A), and each row's interval.

    NaN in rows without a variance: undefined figures. ``place``: of the figure among several, for
    pooled draws are independent between figures.
    """
    num, num_rows, num_seeds = figure.replicate_RAS.shape
    weight_RS = np.random.default_rng([seed, _SEED_WEIGHTS]).standard_normal((num, num_seeds))
    own_RA = np.random.default_rng([seed, _OWN, place]).standard_normal((num, num_rows))
    draw_RA = np.full((num, num_rows), np.nan)
    intervals = [figure.variance(row) for row in range(num_rows)]
    fixed_A = [not (x.seed_part or x.patient_part) for x in intervals]  # FATE of the reference
    one_seed = [
        x.seed_part * x.num_seeds
        for x, fixed in zip(intervals, fixed_A, strict=True)
        if x.seed_part is not None and x.num_seeds > 1 and not fixed
    ]
    for row, found in enumerate(intervals):
        on_S: np.ndarray = figure.present_AS[row]
        if found.seed_part is None or found.patient_part is None:
            continue
        patient_R = figure.replicate_RAS[:, row][:, on_S].mean(1)
        centred_R = patient_R - patient_R.mean()
        draw_RA[:, row] = _scaled(centred_R, float(patient_R.std(ddof=1)), found.patient_part)
        count = int(on_S.sum())
        if pooled and one_seed and not fixed_A[row]:
            draw_RA[:, row] += own_RA[:, row] * math.sqrt(float(np.mean(one_seed)) / count)
        elif count > 1:
            value_S = figure.value_AS[row, on_S]
            sum_R = weight_RS[:, on_S] @ (value_S - value_S.mean())
            error = float(value_S.std(ddof=1)) * math.sqrt(
                count - 1
            )  # the sum's standard deviation
            draw_RA[:, row] += _scaled(sum_R, error, found.seed_part)
    return draw_RA, intervals


def seed_freedom(found: Interval) -> float:
    """Degrees of freedom of a comparison between arms: S - 1; with one seed, the patients'."""
    df = 1.0 if found.df is None else found.df
    return min(df, found.num_seeds - 1.0) if found.num_seeds > 1 else df


def _scaled(draw_R: np.ndarray, deviation: float, variance: float) -> np.ndarray:
    """Bring draws of a known standard deviation to a variance."""
    return draw_R * (math.sqrt(variance) / deviation) if deviation > 0 else draw_R * 0.0


def joint_draws(
    figures: Sequence[Figure], *, seed: int = 0, pooled: bool = False
) -> np.ndarray:
    """Draws of several figures of the same arms, (R, A, K); NaN where a figure is undefined.

    Args:
        figures: K of them, of the same replicates (``metric_figure``, ``fate_figure``); an arm
            that is not determined has draws too, see ``Figure.reason_A``.
        seed: of the draws.
        pooled: see the module's docstring.

    Raises:
        ValueError: no figure, or of other arms or replicates.
    """
    shapes = {one.replicate_RAS.shape for one in figures}
    if len(shapes) != 1:
        raise ValueError(f"figures must be of the same replicates but have shapes {shapes}")
    num = next(iter(shapes))[0]
    uniform_R1 = np.random.default_rng([seed, _UNIFORM]).random((num, 1))
    drawn = []
    for place, figure in enumerate(figures):
        deviation_RA, intervals = deviations(figure, seed=seed, pooled=pooled, place=place)
        if not pooled:
            df_A = np.array([seed_freedom(one) for one in intervals])
            deviation_RA = deviation_RA * np.sqrt(df_A / chi_square_quantile(df_A, uniform_R1))
        value_A = np.array([math.nan if x.value is None else x.value for x in intervals])
        drawn.append(value_A + deviation_RA)
    return np.stack(drawn, axis=-1)
