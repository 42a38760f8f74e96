"""Smooth displacement fields: what neighbours in space do alike, without knowing what it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from offbragg.conventions import FloatArray
from offbragg.errors import InputError

# Fields that carry less than this share of the largest one's variance are left out.
_LEAST_SHARE = 0.01


def smooth_fields(points: ArrayLike, smoothing: float, n_most: int | None = None) -> FloatArray:
    r"""Return a basis of fields over points that vary smoothly in space.

    The leading eigenvectors of ``k(r, s) = exp(−|x_r − x_s|² / 2ℓ²)``, times the roots of their
    eigenvalues: with independent coefficients of variance 1 the field at each point has a variance
    of nearly 1, and that of two points the correlation k.

    Parameters
    ----------
    points : array, shape (n, 3)
        [Å].
    smoothing : float
        ℓ [Å].
    n_most : int, optional
        Fields at most.

    Returns
    -------
    ndarray, shape (n, n_fields)
        Those above 1 % of the largest eigenvalue.

    Raises
    ------
    InputError
        If points are not (n, 3), or the smoothing is not positive.

    Notes
    -----
    O(n³) time.

    Examples
    --------
    Two points far apart, and two that are one.

    >>> smooth_fields([[0, 0, 0], [90, 0, 0], [90, 0, 0]], 9.0).shape
    (3, 2)
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(f"points must be (n, 3), got {points.shape}")
    if not smoothing > 0:
        raise InputError(f"smoothing must be > 0 Å, got {smoothing}")
    kernel = np.exp(-0.5 * (cdist(points, points) / smoothing) ** 2)
    values, vectors = np.linalg.eigh(kernel)
    values, vectors = values[::-1], vectors[:, ::-1]
    n_kept = int(np.count_nonzero(values > _LEAST_SHARE * values[0]))
    if n_most is not None:
        n_kept = min(n_kept, n_most)
    fields: FloatArray = vectors[:, :n_kept] * np.sqrt(values[:n_kept])
    return fields
