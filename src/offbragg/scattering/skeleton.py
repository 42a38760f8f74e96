"""A family of functions of one variable from its values at a few points."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from offbragg.conventions import FloatArray


def skeleton_of(
    family: FloatArray, grid: FloatArray, rtol: float
) -> tuple[FloatArray, FloatArray, float]:
    """Choose points x_m such that every function of a family is Σ_m c_m(x) g(x_m), nearly.

    Parameters
    ----------
    family : ndarray, shape (n_grid, n_functions)
        Samples g of the family at the points of ``grid``.
    grid : ndarray, shape (n_grid,)
    rtol : float
        Ten times the error wanted: rms over the family, relative to its rms, at the worst point.

    Returns
    -------
    nodes : ndarray, shape (m,)
    functions : ndarray, shape (n_grid, m)
        c_m at the points of ``grid``.
    error : float

    Notes
    -----
    An interpolative decomposition: QR with pivoting, O(n_functions n_grid²).
    """
    scale = np.sqrt(np.mean(family**2, axis=1)) if family.size else np.zeros(len(grid))
    if not np.any(scale):
        return np.empty(0), np.empty((len(grid), 0)), 0.0
    is_seen = scale > 1e-12 * np.max(scale)
    scaled = np.where(is_seen, 1.0 / np.where(is_seen, scale, 1.0), 0.0)[:, None] * family
    _, r, order = scipy.linalg.qr(scaled.T, mode="economic", pivoting=True)
    # What is left of each row of the family when the first n rows are taken.
    left = np.sqrt(np.cumsum((r**2)[::-1], axis=0)[::-1] / family.shape[1])
    worst = np.append(np.max(left, axis=1), 0.0)
    n = int(np.argmax(worst <= max(0.1 * rtol, 1e-13)))
    solved = np.zeros((len(grid), n))
    solved[order[:n]] = np.eye(n)
    solved[order[n:]] = scipy.linalg.solve_triangular(r[:n, :n], r[:n, n:]).T
    return grid[order[:n]], solved * scale[:, None] / scale[order[:n]], float(worst[n])
