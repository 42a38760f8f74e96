"""Arguments that every sum over atoms at scattered q takes, as arrays that fit each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import FloatArray
from offbragg.errors import InputError


def as_scattered_atoms(
    q: ArrayLike, positions: ArrayLike, form_factors: ArrayLike
) -> tuple[FloatArray, FloatArray, NDArray[np.inexact]]:
    """Return scattering vectors, positions and form factors as arrays, each contiguous.

    Parameters
    ----------
    q : array, shape (n_q, 3)
    positions : array, shape (n_atoms, 3)
    form_factors : array, shape (n_q, n_atoms), real or complex

    Returns
    -------
    q, positions : ndarray, float64
    form_factors : ndarray, float64 or complex128

    Raises
    ------
    InputError
        If a shape does not match.

    Examples
    --------
    >>> as_scattered_atoms([[1, 0, 0]], [[0, 0, 0], [1, 2, 3]], [[6, 7]])[2]
    array([[6., 7.]])
    """
    q = np.ascontiguousarray(q, dtype=np.float64)
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    n_q, n_atoms = len(q), len(positions)
    if q.shape != (n_q, 3) or positions.shape != (n_atoms, 3):
        raise InputError(f"q and positions must be (n, 3), got {q.shape} and {positions.shape}")
    wide = np.complex128 if np.iscomplexobj(form_factors) else np.float64
    f: NDArray[np.inexact] = np.ascontiguousarray(form_factors, dtype=wide)
    if f.shape != (n_q, n_atoms):
        raise InputError(f"form_factors must be {(n_q, n_atoms)}, got {f.shape}")
    return q, positions, f
