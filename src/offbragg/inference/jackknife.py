r"""How sure a correlation of maps is: the jackknife over blocks of hkl.

Voxels of a block are not independent; blocks nearly are. With θ₍₋b₎ what comes out without block b
and g blocks,

.. math:: \mathrm{se}^2 = \frac{g-1}{g} \sum_b (\theta_{(-b)} - \bar\theta_{(-\cdot)})^2
"""

from __future__ import annotations

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.maps.shells import divide, shell_mean

# Weight that rounding leaves of a shell when all of its blocks are taken out.
_NO_WEIGHT = 1e-9


def jackknife_error(without: FloatArray) -> float:
    """Standard error of a figure from its values (n_blocks,) with each block left out.

    >>> jackknife_error(np.array([1.0, 2.0, 3.0]))  # √(2/3 · 2)
    1.1547005383792515
    """
    n = len(without)
    return float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))


def jackknife_difference(
    one: tuple[float, FloatArray], other: tuple[float, FloatArray]
) -> tuple[float, float]:
    """Difference of two figures of the same blocks, and its standard error.

    Parameters
    ----------
    one, other : (float, ndarray of shape (n_blocks,))
        As `correlation_without_blocks` gives them.
    """
    return one[0] - other[0], jackknife_error(one[1] - other[1])


def correlation_without_blocks(
    data: FloatArray,
    predicted: FloatArray,
    shell: IntArray,
    block: IntArray,
    weights: FloatArray,
) -> tuple[float, FloatArray]:
    """Correlation of anisotropic parts over all voxels, and with each block left out.

    The means of shells are those of the voxels that are left, each time.

    Parameters
    ----------
    data, predicted, weights : ndarray, shape (n,), float64
    shell, block : ndarray, shape (n,), int64
        Shell of 0.01 Å⁻¹, and block of hkl, 0 … n_blocks − 1, of each voxel.

    Returns
    -------
    cc : float
    without : ndarray, shape (n_blocks,)
        0 where a part does not vary.

    Notes
    -----
    Time is O(n log n), whatever the number of blocks: sums of a block within a shell are taken off
    those of the shell.

    Examples
    --------
    >>> x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 0.0])
    >>> cc, without = correlation_without_blocks(
    ...     x, y, np.zeros(4, int), np.array([0, 0, 0, 1]), np.ones(4)
    ... )
    >>> round(cc, 3), without.round(3).tolist()
    (-0.2, [0.0, 1.0])
    """
    n_shells, n_blocks = int(shell.max()) + 1, int(block.max()) + 1
    # Moments about means are small differences of sums: of values with a mean near 0 they are not.
    x, y = (
        values - shell_mean(values, shell, n_shells, weights)[shell] for values in (data, predicted)
    )
    pairs, of_pair = np.unique(block * n_shells + shell, return_inverse=True)
    terms = np.stack([weights * v for v in (np.ones(len(x)), x, y, x * x, y * y, x * y)])
    whole: FloatArray = np.array([np.bincount(shell, term, n_shells) for term in terms])
    part: FloatArray = np.array([np.bincount(of_pair, term, len(pairs)) for term in terms])
    shell_of_pair, block_of_pair = pairs % n_shells, pairs // n_shells
    moments = _moments(whole)
    change = _moments(whole[:, shell_of_pair] - part) - moments[:, shell_of_pair]
    total = moments.sum(axis=1)
    left = total[:, None] + np.stack([np.bincount(block_of_pair, row, n_blocks) for row in change])
    return float(_correlation(total[:, None], total)[0]), _correlation(left, total)


def _moments(sums: FloatArray) -> FloatArray:
    """Σ w (x − x̄)², Σ w (y − ȳ)², Σ w (x − x̄)(y − ȳ), (3, n), from sums (6, n)."""
    weight, x, y, xx, yy, xy = sums
    safe = np.where(weight > _NO_WEIGHT, weight, np.inf)
    moments = np.stack([xx - x * x / safe, yy - y * y / safe, xy - x * y / safe])
    kept: FloatArray = np.where(weight > _NO_WEIGHT, moments, 0.0)
    return kept


def _correlation(moments: FloatArray, total: FloatArray) -> FloatArray:
    """Correlations (n,) from moments (3, n); 0 where a variance is rounding against the total."""
    xx, yy, xy = moments
    varies = (xx > 1e-12 * total[0]) & (yy > 1e-12 * total[1])
    safe = np.where(varies, np.sqrt(np.where(varies, xx * yy, 1.0)), 0.0)
    quotient: FloatArray = np.nan_to_num(divide(xy, safe))
    return quotient
