r"""How smooth each correction of a scaling is, learned from the observations themselves.

Coefficients p are normal a priori, with the inverse covariance ``S = Σ_k λ_k R_kᵀ R_k``: R_k takes
the second differences along one axis of one correction, or its coefficients as they are (how far it
departs from no correction). The strengths λ_k are those under which what equivalents differ by is
most probable, by fixed-point steps (Wood & Fasiolo, Biometrics 73 (2017) 1071)

.. math:: \lambda_k \leftarrow \lambda_k\,
    \frac{\mathrm{tr}(S^{-1} R_k^T R_k) - \mathrm{tr}((H + S)^{-1} R_k^T R_k)}{|R_k\,p|^2}

with H the matrix of the normal equations. So a correction of direction and angle that does not vary
with the angle becomes one of direction alone, and where there is nothing to correct, all fade out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy import sparse

from offbragg.conventions import FloatArray

# Fixed-point steps at a time, and how much a strength changes in one at most: the normal equations
# that they go by hold near by only.
_ROUNDS, _MOST_CHANGE = 2, 4.0
# A strength grows to this many times the first one at most: by then a correction is none.
_STRONGEST = 1e6


@dataclass(frozen=True)
class Penalty:
    """Rows whose products with some coefficients are expected to be small.

    Attributes
    ----------
    part : slice
        Which of all coefficients they are.
    rows : sparse array, shape (n_rows, n_part)
    size : float
        What is expected of a product, at first.
    """

    part: slice
    rows: sparse.csr_array
    size: float


class Smoothness:
    """Penalties and their strengths.

    Parameters
    ----------
    penalties : sequence of Penalty
        Those of a part cover all of its coefficients, so that its S has an inverse.
    rougher : float
        How many times what is expected products may turn out to be.
    """

    def __init__(self, penalties: Sequence[Penalty], rougher: float) -> None:
        self.parts = [penalty.part for penalty in penalties]
        self.squares = [sparse.csr_array(x.rows.T @ x.rows) for x in penalties]
        first = np.array([1.0 / penalty.size**2 for penalty in penalties])
        self.least, self.most = first / rougher**2, first * _STRONGEST
        self.strengths = first
        self.n_coefficients = max(part.stop for part in self.parts)

    def matrix(self) -> FloatArray:
        """S, (n_coefficients, n_coefficients)."""
        out = np.zeros((self.n_coefficients, self.n_coefficients))
        for part, square, strength in zip(self.parts, self.squares, self.strengths, strict=True):
            out[part, part] += strength * square.toarray()
        return out

    def learn(self, normal: FloatArray, right: FloatArray) -> None:
        """Change the strengths towards those of the largest marginal likelihood.

        Parameters
        ----------
        normal : ndarray, shape (n_coefficients, n_coefficients)
            H, without S.
        right : ndarray, shape (n_coefficients,)
            Of the equations ``H p = right``, likewise.

        Notes
        -----
        Two inverses of n_coefficients² numbers a step.
        """
        for _ in range(_ROUNDS):
            prior = self.matrix()
            covariance = _inverse(normal + prior)
            p = covariance @ right
            # Several penalties share a part.
            parts = {part.start: part for part in self.parts}
            before = {start: _inverse(prior[part, part]) for start, part in parts.items()}
            ratios = [
                (_trace(square, before[part.start]) - _trace(square, covariance[part, part]))
                / max(float(p[part] @ (square @ p[part])), np.finfo(float).tiny)
                for part, square in zip(self.parts, self.squares, strict=True)
            ]
            change = np.clip(ratios, 1 / _MOST_CHANGE, _MOST_CHANGE)
            self.strengths = np.clip(self.strengths * change, self.least, self.most)


def _inverse(matrix: FloatArray) -> FloatArray:
    """Of a symmetric positive definite matrix, by its Cholesky factor."""
    lower = scipy.linalg.cholesky(matrix, lower=True)
    inverse, _ = scipy.linalg.lapack.dpotri(lower, lower=1)
    out: FloatArray = np.tril(inverse) + np.tril(inverse, -1).T
    return out


def _trace(square: sparse.csr_array, other: FloatArray) -> float:
    """Trace of a product of two symmetric matrices."""
    return float(square.multiply(other).sum())
