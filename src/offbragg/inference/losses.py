r"""How far expected values are from observed ones, voxel by voxel: three losses.

Scope: NumPy arrays in, NumPy arrays out. Each loss is a convex function of the expected value μ;
with it come its first and second derivatives by μ, which is all that exact derivatives by anything
else need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from offbragg.conventions import FloatArray

# Residuals beyond so many standard deviations count less: 95 % efficient for normal errors.
HUBER = 1.345


class VoxelLoss(NamedTuple):
    """A loss and its derivatives by the expected value μ.

    Attributes
    ----------
    value, slope, curvature : ndarray, shape (n,)
        ℓ, ∂ℓ/∂μ and ∂²ℓ/∂μ² of each voxel.
    """

    value: FloatArray
    slope: FloatArray
    curvature: FloatArray


Loss = Callable[[FloatArray, FloatArray, FloatArray], VoxelLoss]


def squares(expected: FloatArray, observed: FloatArray, weights: FloatArray) -> VoxelLoss:
    r"""Weighted square of the residual.

    .. math:: \ell = \omega (n - \mu)^2

    Parameters
    ----------
    expected : ndarray, shape (n,), float64
        μ.
    observed : ndarray, shape (n,), float64
        n [the unit of μ].
    weights : ndarray, shape (n,), float64
        ω, at least 0 [1/unit²].

    Returns
    -------
    VoxelLoss

    Examples
    --------
    >>> [x.tolist() for x in squares(np.array([1.0]), np.array([3.0]), np.array([0.5]))]
    [[2.0], [-2.0], [1.0]]
    """
    residual = observed - expected
    return VoxelLoss(weights * residual**2, -2.0 * weights * residual, 2.0 * weights)


def huber(expected: FloatArray, observed: FloatArray, weights: FloatArray) -> VoxelLoss:
    r"""Huber's loss: the square up to 1.345 standard deviations, beyond them a straight line.

    .. math:: \ell = \begin{cases} t^2 & |t| \le k \\ 2k|t| - k^2 & |t| > k \end{cases}, \qquad
              t = \sqrt\omega\,(n - \mu), \quad k = 1.345

    Parameters
    ----------
    expected, observed, weights
        As for `squares`; ω = 1/σ², so that t counts standard deviations.

    Returns
    -------
    VoxelLoss
        The curvature is 0 beyond the threshold; at the threshold itself it jumps.

    References
    ----------
    .. [1] Huber, Ann. Math. Stat. 35, 73 (1964).

    Examples
    --------
    >>> found = huber(np.zeros(2), np.array([1.0, -10.0]), np.ones(2))
    >>> found.value.round(3).tolist(), found.slope.tolist(), found.curvature.tolist()
    ([1.0, 25.091], [-2.0, 2.69], [2.0, 0.0])
    """
    roots = np.sqrt(weights)
    deviation = roots * (observed - expected)
    kept = np.clip(deviation, -HUBER, HUBER)
    return VoxelLoss(
        kept * (2.0 * deviation - kept),
        -2.0 * roots * kept,
        2.0 * weights * (np.abs(deviation) <= HUBER),
    )


def poisson(expected: FloatArray, observed: FloatArray, weights: FloatArray) -> VoxelLoss:
    r"""Poisson deviance of counts: twice the log likelihood that is lost by μ in place of n.

    .. math:: \ell = 2\omega \left[\mu - n + n \log\frac n\mu\right], \qquad 0 \log 0 = 0

    Parameters
    ----------
    expected : ndarray, shape (n,), float64
        Expected counts μ.
    observed : ndarray, shape (n,), float64
        Counts n, at least 0, whole or not.
    weights : ndarray, shape (n,), float64
        ω, at least 0, without a unit: 1 for counts as they fell.

    Returns
    -------
    VoxelLoss
        Where μ cannot be, below 0 or with counts at 0, the value is infinite and the
        derivatives are NaN; where ω = 0 all three are 0 whatever μ is.

    References
    ----------
    .. [1] McCullagh & Nelder, Generalized Linear Models (Chapman & Hall, 1989), section 2.3.

    Examples
    --------
    >>> found = poisson(np.array([2.0, 2.0, 0.0]), np.array([4.0, 0.0, 1.0]), np.ones(3))
    >>> found.value.round(4).tolist(), found.slope.tolist(), found.curvature.tolist()
    ([1.5452, 4.0, inf], [-2.0, 2.0, nan], [2.0, 0.0, nan])
    """
    counted, used = observed > 0, weights > 0
    possible = np.where(counted, expected > 0, expected >= 0)
    usual = counted & possible
    n, mu = np.where(usual, observed, 1.0), np.where(usual, expected, 1.0)
    # Where μ is near n, terms that vanish with their difference: large counts lose no digits.
    excess = (mu - n) / n
    log_ratio = np.where(np.abs(excess) < 0.5, np.log1p(np.maximum(excess, -0.5)), np.log(mu / n))
    value = np.where(counted, n * (excess - log_ratio), expected)
    slope = np.where(counted, (mu - n) / mu, 1.0)
    curvature = np.where(counted, n / mu / mu, 0.0)
    impossible = used & ~possible
    parts = [2.0 * weights * np.where(used, part, 0.0) for part in (value, slope, curvature)]
    for part, instead in zip(parts, (np.inf, np.nan, np.nan), strict=True):
        part[impossible] = instead
    return VoxelLoss(*parts)


LOSSES: dict[str, Loss] = {"squares": squares, "huber": huber, "poisson": poisson}
