"""Second derivatives of a sum over voxels by the numbers that its expected values are linear in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray

# Directions of less curvature than this fraction of the largest, in roots, have none.
_FLAT = 1e-12


@dataclass(frozen=True, eq=False)
class Curvature:
    """The matrix AᵀhA by the singular values of √h A, which keeps twice the digits.

    Attributes
    ----------
    roots : ndarray, shape (rank,)
        Singular values that are not 0 to rounding.
    axes : ndarray, shape (rank, n_free)
        Right singular vectors.

    Examples
    --------
    >>> Curvature.of(np.array([[1.0], [2.0]]), np.array([1.0, 0.5])).solve(np.array([6.0]))
    array([2.])
    """

    roots: FloatArray
    axes: FloatArray

    @classmethod
    def of(cls, columns: FloatArray, curvature: FloatArray) -> Curvature:
        """Take columns A (n_q, n_free) and h ≥ 0 (n_q,)."""
        if columns.shape[1] == 0 or not np.all(np.isfinite(curvature)):
            return cls(np.empty(0), np.empty((0, columns.shape[1])))
        triangle = np.linalg.qr(np.sqrt(curvature)[:, None] * columns, mode="r")
        _, roots, axes = np.linalg.svd(triangle, full_matrices=False)
        curved = roots > _FLAT * np.max(roots)
        return cls(roots[curved], axes[curved])

    def solve(self, right: FloatArray) -> FloatArray:
        """Solve AᵀhA x = right (n_free,); x is 0 in directions without curvature."""
        solution: FloatArray = self.axes.T @ ((self.axes @ right) / self.roots**2)
        return solution

    def flat_part(self, vector: FloatArray) -> float:
        """Length of a vector's (n_free,) part in directions without curvature."""
        return float(np.linalg.norm(vector - self.axes.T @ (self.axes @ vector)))
