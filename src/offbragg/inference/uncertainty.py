r"""How sure a fit is: errors and correlations of parameters, and how many the data determine.

With J the weighted residuals' derivatives by the solver's vector and c the variance of a residual,
the vector's covariance is ``c (JᵀJ)⁻¹``. Combinations that no residual depends on have no finite
error, and neither has any parameter that they move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import BoolArray, FloatArray

# Singular values of J below this fraction of the largest are none: they stem from the tolerance of
# the maps.
_LEAST_SINGULAR = 1e-5
# A parameter has no error where combinations without one move it more than its error, or by more
# than this share of all that moves it; what is below the other share is rounding. Near the edge of
# possible motions a root is nearly singular: the trace of S, which no voxel shows, then has a small
# share of all slopes, yet a change by all of itself is as free as ever.
_LEAST_SHARE, _ROUNDING = 1e-3, 1e-8


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Errors of a fit's parameters.

    Attributes
    ----------
    errors : mapping of str to ndarray
        Standard errors, of each parameter's shape; infinite where nothing determines it.
    correlations : ndarray, shape (n, n)
        Of the errors of all parameters' numbers, in order; 0 with what is not determined.
    spectrum : ndarray, shape (n_vector,)
        Standard errors of the independent combinations of the vector's numbers, smallest first;
        of logarithms, of roots in units of their start, of other numbers in units of their size at
        the start, so 1 is "by all of itself".
    n_determined : float
        Effective number: ``Σ 1/(1 + error²)``.
    covariance : ndarray, shape (n_vector, n_vector)
        Of the vector's numbers, over the combinations that are determined.
    unknown : ndarray, shape (n_unknown, n_vector)
        Combinations that nothing determines.
    """

    errors: Mapping[str, FloatArray]
    correlations: FloatArray
    spectrum: FloatArray
    n_determined: float
    covariance: FloatArray
    unknown: FloatArray

    def errors_of(self, slopes: FloatArray) -> FloatArray:
        """Errors (m,) of quantities whose derivatives by the vector are ``slopes`` (m, n_vector).

        Infinite where a combination that nothing determines moves the quantity.
        """
        variances = np.einsum("mi,ij,mj->m", slopes, self.covariance, slopes, optimize=True)
        errors: FloatArray = np.sqrt(np.maximum(variances, 0.0))
        errors[_are_open(slopes, variances, self.unknown)] = np.inf
        return errors


def _are_open(slopes: FloatArray, variances: FloatArray, unknown: FloatArray) -> BoolArray:
    """Which quantities the unknown combinations move by more than rounding."""
    moved = np.sum((slopes @ unknown.T) ** 2, axis=1) if len(unknown) else np.zeros(len(slopes))
    size = np.sum(slopes**2, axis=1)
    size = np.where(size > 0, size, 1.0)
    least = np.minimum(_LEAST_SHARE * size, np.maximum(variances, _ROUNDING * size))
    are_open: BoolArray = moved > least
    return are_open


def estimate_uncertainty(
    jacobian: FloatArray,
    inflation: float,
    by_vector: Mapping[str, FloatArray],
    sizes: FloatArray | None = None,
) -> Uncertainty:
    """Errors from the Gauss–Newton matrix.

    Parameters
    ----------
    jacobian : ndarray, shape (n_residuals, n_vector)
    inflation : float
        c: the variance of a weighted residual.
    by_vector : mapping of str to ndarray, shape (size, n_vector)
        Derivative of each parameter's numbers by the vector.
    sizes : ndarray, shape (n_vector,), optional
        What a change of each number by all of itself is; 1 where not given.

    Returns
    -------
    Uncertainty
    """
    own = np.ones(jacobian.shape[1]) if sizes is None else sizes
    jacobian = jacobian * own
    values, vectors = np.linalg.eigh(jacobian.T @ jacobian)
    singular, rows = np.sqrt(np.maximum(values[::-1], 0.0)), vectors.T[::-1]
    is_known = singular > _LEAST_SINGULAR * float(np.max(singular, initial=0.0))
    known, unknown = rows[is_known], rows[~is_known]
    errors_of = np.sqrt(inflation) / singular[is_known]
    covariance = (known.T * errors_of**2) @ known
    slopes = np.concatenate(list(by_vector.values())) * own
    whole = slopes @ covariance @ slopes.T
    variances = np.maximum(np.diag(whole), 0.0)
    is_open = _are_open(slopes, variances, unknown)
    errors = np.sqrt(variances)
    safe = np.where(errors > 0, errors, 1.0)
    correlations = whole / safe[:, None] / safe
    correlations[is_open] = 0.0
    correlations[:, is_open] = 0.0
    np.fill_diagonal(correlations, 1.0)
    errors[is_open] = np.inf
    ends = np.cumsum([len(x) for x in by_vector.values()])
    parts = np.split(errors, ends[:-1])
    spectrum = np.concatenate([errors_of, np.full(len(unknown), np.inf)])
    return Uncertainty(
        errors=dict(zip(by_vector, parts, strict=True)),
        correlations=correlations,
        spectrum=spectrum,
        n_determined=float(np.sum(1.0 / (1.0 + spectrum**2))),
        covariance=own[:, None] * covariance * own,
        unknown=unknown / own,
    )
