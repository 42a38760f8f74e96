r"""The minimum of a convex loss over the few numbers that expected values are linear in.

.. math:: \min_x \sum_q \ell(\mu_q), \qquad \mu = \mu^0 + A x

by Newton steps that are shortened where need be. Expected counts may not be negative: where nothing
was counted the minimum often lies at μ = 0, which is approached from above by a floor under the
counts that goes down to 1e-8.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linprog

from offbragg.conventions import FloatArray
from offbragg.errors import OffbraggError
from offbragg.inference.curvature import Curvature
from offbragg.inference.losses import Loss, VoxelLoss

# Floors under counts, one after the other, as fractions of the mean where that is above 1. The last
# moves a minimum's value by some 1e-8; less would be lost in the rounding of μ.
_FLOORS = np.array([1.0, 1e-2, 1e-4, 1e-6, 1e-8])
_MOST_STEPS = 300
# A step that promises a gain below this is the last [fraction of the misfit of twice the data].
# Gains of Newton's steps are squared from one to the next: what it leaves is rounding.
_SETTLED = 1e-22
# Sums over voxels are known to this fraction.
_ROUNDING = 1e-12
# A step is taken where it gains this fraction of what it promises; it goes so far to μ = 0 at most.
_LEAST_GAIN, _INSIDE = 0.1, 0.99
_MOST_HALVINGS = 40


def minimise_linear(
    loss: Loss,
    observed: FloatArray,
    weights: FloatArray,
    offset: FloatArray,
    columns: FloatArray,
    *,
    positive: bool,
) -> tuple[FloatArray, VoxelLoss]:
    """Minimise a loss over the numbers x that multiply columns.

    Parameters
    ----------
    loss : callable
        One of `offbragg.inference.losses`.
    observed, weights, offset : ndarray, shape (n_q,)
        n, ω and μ⁰.
    columns : ndarray, shape (n_q, n_free)
        A, each of weighted length 1 or 0.
    positive : bool
        Whether μ may not be negative.

    Returns
    -------
    x : ndarray, shape (n_free,)
        NaN where no x makes every μ possible.
    voxels : VoxelLoss
        At the minimum, of the counts with the last floor.

    Raises
    ------
    OffbraggError
        If steps do not settle.

    Examples
    --------
    >>> from offbragg.inference.losses import poisson
    >>> one, n = np.ones(3), np.array([0.0, 1.0, 5.0])
    >>> x, _ = minimise_linear(poisson, n, one, 0 * n, one[:, None] / 3**0.5, positive=True)
    >>> (x / 3**0.5).round(6).tolist()
    [2.0]
    """
    free = (weights > 0) & np.any(columns != 0, axis=1)
    if not np.any(free):
        return np.zeros(columns.shape[1]), loss(offset, observed, weights)
    counts, part = observed, (weights[free], offset[free], columns[free])
    x = _least_squares(observed[free], *part)
    if positive:
        x = _inside(observed[free], *part, x)
        floors = _FLOORS * max(1.0, float(np.mean(observed[free])))
        for floor in floors if np.any(observed[free] < floors[-1]) else floors[-1:]:
            counts = np.where(free, np.maximum(observed, floor), observed)
            x = _newton(loss, counts[free], *part, x, positive=True)
    else:
        x = _newton(loss, counts[free], *part, x, positive=False)
    return x, loss(offset + columns @ x, counts, weights)


def _least_squares(
    observed: FloatArray, weights: FloatArray, offset: FloatArray, columns: FloatArray
) -> FloatArray:
    """Minimum of the weighted squares, (n_free,)."""
    return Curvature.of(columns, weights).solve(columns.T @ (weights * (observed - offset)))


def _inside(
    observed: FloatArray,
    weights: FloatArray,
    offset: FloatArray,
    columns: FloatArray,
    guess: FloatArray,
) -> FloatArray:
    """Return a guess (n_free,) if it makes every μ positive, else another that does, else NaN."""
    usual = float(np.mean(observed)) or 1.0
    level = _least_squares(np.full_like(observed, usual), weights, np.zeros_like(offset), columns)
    for x in (guess, level):
        if np.all(offset + columns @ x > 0):
            return x
    # The largest least μ, up to the usual one.
    found = linprog(
        np.append(np.zeros(len(guess)), -1.0),
        A_ub=np.column_stack([-columns / usual, np.ones(len(columns))]),
        b_ub=offset / usual,
        bounds=[(None, None)] * len(guess) + [(None, 1.0)],
    )
    if found.x is not None and np.all(offset + columns @ found.x[:-1] > 0):
        return np.asarray(found.x[:-1], dtype=np.float64)
    return np.full_like(guess, np.nan)


def _newton(
    loss: Loss,
    observed: FloatArray,
    weights: FloatArray,
    offset: FloatArray,
    columns: FloatArray,
    x: FloatArray,
    *,
    positive: bool,
) -> FloatArray:
    """Step from x, where every value is finite, to the minimum."""
    if not np.all(np.isfinite(x)):
        return x
    settled = _SETTLED * float(np.sum(loss(2.0 * observed, observed, weights).value))
    expected = offset + columns @ x
    now = loss(expected, observed, weights)
    for _ in range(_MOST_STEPS):
        total = float(np.sum(now.value))
        for step, gain in _steps(expected, observed, columns, now):
            moved, fraction = columns @ step, 1.0
            if positive:
                fraction = min(1.0, _INSIDE / max(float(np.max(-moved / expected)), _INSIDE))
            tried = loss(expected + fraction * moved, observed, weights)
            better = total - _LEAST_GAIN * fraction * gain + _ROUNDING * abs(total)
            if float(np.sum(tried.value)) <= better:
                break
        else:
            return x
        x, expected, now = x + fraction * step, expected + fraction * moved, tried
        if gain <= settled:
            return x
    raise OffbraggError(f"scale and background do not settle in {_MOST_STEPS} Newton steps")


def _steps(
    expected: FloatArray, observed: FloatArray, columns: FloatArray, now: VoxelLoss
) -> Iterator[tuple[FloatArray, float]]:
    """Steps to try, each with what it promises to gain: Newton's, by secants, and shorter ones."""
    slope = columns.T @ now.slope
    noise = _ROUNDING * np.linalg.norm(np.abs(columns).T @ np.abs(now.slope))
    curved = Curvature.of(columns, now.curvature)
    steps = []
    if curved.flat_part(slope) <= noise:
        steps.append(-curved.solve(slope))
        yield steps[0], -float(slope @ steps[0])
    # The parabola through the loss's minimum at μ = n with its slope here: Huber's loss lies below.
    away = expected - observed
    secant = np.divide(now.slope, away, out=now.curvature.copy(), where=away != 0)
    steps.append(-Curvature.of(columns, secant).solve(slope))
    yield steps[-1], -float(slope @ steps[-1])
    for halvings in range(1, _MOST_HALVINGS):
        for step in steps:
            shorter = 0.5**halvings * step
            yield shorter, -float(slope @ shorter)
