"""Interference function of a finite crystal."""

from __future__ import annotations

import numpy as np

from offbragg.conventions import FloatArray


def interference(hkl_frac: FloatArray, n_cells: int) -> FloatArray:
    r"""Evaluate ``sin²(πNh) / (N sin²(πh))`` along one axis, |S|²/N of N cells in a row.

    Parameters
    ----------
    hkl_frac : ndarray, any shape
        Miller index along the axis, fractional between nodes. Taken from the nearest node, so
        that nodes give N exactly.
    n_cells : int
        Number of cells N along the axis.

    Returns
    -------
    ndarray, the same shape

    Examples
    --------
    >>> interference(np.array([3.0, 3.5, 3.25]), 4).round(6) + 0.0
    array([4., 0., 0.])
    """
    offset = hkl_frac - np.rint(hkl_frac)
    sine = np.sin(np.pi * offset)
    at_node = np.abs(offset) < 1e-9
    ratio = np.sin(np.pi * n_cells * offset) / np.where(at_node, 1.0, sine)
    result: FloatArray = np.where(at_node, float(n_cells), ratio**2 / n_cells)
    return result
