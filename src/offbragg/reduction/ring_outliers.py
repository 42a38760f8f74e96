r"""Rings on some images: what powder of ice adds to all directions at one resolution.

An observation that ice adds a few per cent to is no outlier by itself. All of one wedge in one
narrow ring of resolution are, together: with I_o, and what equivalents make expected, E_o,

.. math:: e = \frac{\sum_o w_o (I_o - E_o)}{\sum_o w_o E_o}

is compared with the median of the rings next to it in the same wedge, and of the same ring in the
wedges next to it, over about as far as knots of an offset are apart: what varies less is for that
to describe. What is far from either, by counts and by what most rings are off, is out, with the
rings on both sides, where its wings are.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, median_filter

from offbragg.conventions import BoolArray, FloatArray, IntArray

# Rings are as wide as this [Å⁻¹], and have so many observations at least.
RING, _FEWEST = 0.005, 4
# Of how many wedges and rings the medians are.
_WINDOWS = ((11, 1), (1, 21))
# Standard deviations of a ring that is out: of some ten thousand rings none is so by chance.
_FAR = 6.0
# From median absolute to standard deviation.
_MAD = 1.4826


def find_rings(
    wedge: IntArray,
    inv_d: FloatArray,
    intensity: FloatArray,
    expected: FloatArray,
    variance: FloatArray,
    weight: FloatArray,
) -> BoolArray:
    """Which observations (n,) are in a ring of their wedge that is out, too bright or too dark.

    Parameters
    ----------
    wedge : ndarray, shape (n,), int64
        0, 1, …
    inv_d : ndarray, shape (n,), float64
        [Å⁻¹].
    intensity, expected, variance, weight : ndarray, shape (n,), float64
        Scaled observations, what their equivalents make expected (NaN: not known), the variance of
        the difference, and weights; 0: not to be used.

    Examples
    --------
    >>> wedge, ring = (x.ravel() for x in np.indices((40, 200)))
    >>> seen = np.where((wedge == 3) & (ring // 10 == 8), 1.2, 1.0)
    >>> one = np.ones(8000)
    >>> found = find_rings(wedge, 0.1 + 5e-4 * ring, seen, one, 0.01 * one, one)
    >>> int(np.count_nonzero(found))  # ten, and those of a ring on either side
    30
    """
    ring = (inv_d / RING).astype(np.int64)
    n_wedges, n_rings = int(wedge.max()) + 1, int(ring.max()) + 1
    group = wedge * n_rings + ring
    w = np.where(np.isfinite(expected), weight, 0.0)

    def summed(values: FloatArray) -> FloatArray:
        some = np.where(w > 0, values, 0.0)
        total = np.bincount(group, some, n_wedges * n_rings)
        return np.asarray(total, dtype=np.float64).reshape(n_wedges, n_rings)

    level = summed(w * expected)
    members = summed(np.ones(len(w)))
    known = (members >= _FEWEST) & (level > 0)
    size = np.where(known, level, 1.0)
    excess = np.where(known, summed(w * (intensity - expected)) / size, 0.0)
    error = np.where(known, np.sqrt(summed(w**2 * variance)) / size, 1.0)
    out = np.zeros(excess.shape, dtype=bool)
    for window in _WINDOWS:
        beyond = excess - median_filter(excess, size=window, mode="reflect")
        z = np.where(known, beyond / np.maximum(error, np.finfo(float).tiny), 0.0)
        usual = max(1.0, _MAD * float(np.median(np.abs(z[known])))) if known.any() else 1.0
        out |= np.abs(z) > _FAR * usual
    out = binary_dilation(out, np.ones((1, 3), dtype=bool))
    found: BoolArray = out.ravel()[group]
    return found
