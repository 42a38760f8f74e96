"""How sure a fit is of the covariance itself: standard errors of V_ij, whatever parametrises it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.inference.result import FitResult
from offbragg.scattering.displacements import Displacements, PairCovariance


def pair_errors(result: FitResult, first: ArrayLike, second: ArrayLike) -> tuple[
    FloatArray, FloatArray
]:  # fmt: skip
    """Covariances of pairs of atoms in a fitted model, and their standard errors.

    Errors of parameters say little where parameters are not unique, as a factor P of ``V = P Pᵀ``
    that may be turned within its columns; V is. By the errors of the vector and the derivative of
    V: ``J_V C J_Vᵀ``.

    Parameters
    ----------
    result : FitResult
    first, second : array of int, shape (m,)
        Atoms of the model's coherent unit.

    Returns
    -------
    values, errors : ndarray, shape (m, 3, 3)
        V_ij and its errors [Å²], the model's own part: no remainder of ``adps="file"``. Infinite
        where the map does not determine it.

    Raises
    ------
    InputError
        If the fit worked no errors out, or the model reaches across copies of the structure.

    Notes
    -----
    One tangent of the model a number: O(n_numbers n_atoms²).
    """
    optimum = result.optimum
    if optimum.uncertainty is None:
        raise InputError("pair_errors: the fit has no errors: fit with errors='gauss-newton'")
    vector, x = optimum.evaluate.vector, optimum.solution.x
    model = vector.model_at(x)
    unit = model.coherent_unit(optimum.evaluate.structure)
    i, j = (np.asarray(atoms, dtype=np.int64) for atoms in (first, second))
    values = _of_pairs(model.displacements(unit), i, j)
    slopes = np.stack(
        [
            _of_pairs(model.tangent(unit, vector.push(x, direction)), i, j).reshape(-1)
            for direction in np.eye(len(x))
        ],
        axis=1,
    )
    return values, optimum.uncertainty.errors_of(slopes).reshape(values.shape)


def _of_pairs(v: Displacements, i: np.ndarray, j: np.ndarray) -> FloatArray:
    """V_ij (m, 3, 3), the independent part where i = j."""
    if v.pairs is not None:
        raise InputError("pair_errors needs a model of one copy or one cell")
    blocks = np.zeros((len(i), 3, 3))
    if v.correlated is not None:
        if isinstance(v.correlated, PairCovariance):
            pairs = v.correlated.pairs(i, j)
        else:
            pairs = v.correlated[i, j]
        blocks += pairs[:, None, None] * np.eye(3) if pairs.ndim == 1 else pairs
    if v.independent is not None:
        blocks[i == j] += v.independent[i[i == j]]
    return blocks
