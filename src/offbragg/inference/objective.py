r"""Weighted least squares between a map and a model, scale and background profiled out.

.. math:: O(\theta) = \min_{s, c} \sum_q \omega(q)
          \left[I_{obs} - s\, I_{diffuse}(q; \theta) - \textstyle\sum_k c_k B_k(|q|)\right]^2

For given θ the best s and c_k are a linear problem: the background's part of data and model is
projected out once by an orthonormal basis, the scale is one division.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray


@dataclass(frozen=True)
class ProjectedProblem:
    """Data, weights and background of a fit, with the background projected out.

    Attributes
    ----------
    data : ndarray, shape (n,)
        √ω I_obs, less its part in the background.
    root_weights : ndarray, shape (n,)
        √ω.
    orthonormal : ndarray, shape (n, n_functions)
        Of the range of √ω B.
    """

    data: FloatArray
    root_weights: FloatArray
    orthonormal: FloatArray

    @classmethod
    def build(
        cls, intensity: FloatArray, sigma: FloatArray | None, basis: FloatArray
    ) -> ProjectedProblem:
        """Weight by 1/σ² (by 1 without σ) and take the background out of the data."""
        root_weights = np.ones(len(intensity)) if sigma is None else 1.0 / sigma
        orthonormal = orthonormal_range(basis * root_weights[:, None])
        problem = cls(np.empty(0), root_weights, orthonormal)
        return cls(problem.project(root_weights * intensity), root_weights, orthonormal)

    def project(self, weighted: FloatArray) -> FloatArray:
        """Take the background's part out of weighted values (n,) or (n, m)."""
        projected: FloatArray = weighted - self.orthonormal @ (self.orthonormal.T @ weighted)
        return projected

    def model_part(self, model: FloatArray) -> FloatArray:
        """Weighted model intensities with the background's part taken out, (n,)."""
        return self.project(self.root_weights * model)

    def scale(self, part: FloatArray) -> float:
        """Best scale for a model part; 0 where it is all background."""
        square = float(part @ part)
        return float(part @ self.data) / square if square > 0 else 0.0

    def residuals(self, model: FloatArray) -> FloatArray:
        """Weighted residuals (n,) at the best scale and background."""
        part = self.model_part(model)
        return self.data - self.scale(part) * part

    def jacobian(self, model: FloatArray, derivatives: FloatArray) -> FloatArray:
        """Derivatives (n, n_parameters) of the residuals, scale and background following.

        ``derivatives`` (n, n_parameters) are those of the model; the small term that is
        orthogonal to the model's own range is left out (Kaufman, 1975).
        """
        part = self.model_part(model)
        moved = self.project(self.root_weights[:, None] * derivatives)
        square = float(part @ part)
        if square > 0:
            moved = moved - part[:, None] * ((part @ moved) / square)
        jacobian: FloatArray = -self.scale(part) * moved
        return jacobian

    def slopes(self, model: FloatArray, values: FloatArray) -> FloatArray:
        """Derivative (n,) of ``values · residuals`` by the model: the transpose of `jacobian`."""
        part = self.model_part(model)
        square = float(part @ part)
        moved = self.project(values)
        if square > 0:
            moved = moved - part * (float(part @ moved) / square)
        slopes: FloatArray = -self.scale(part) * self.root_weights * moved
        return slopes

    def scale_slopes(self, model: FloatArray, derivatives: FloatArray) -> FloatArray:
        """Derivatives (n_parameters,) of the best scale, from the model's (n, n_parameters)."""
        part = self.model_part(model)
        square = float(part @ part)
        if square == 0:
            return np.zeros(derivatives.shape[1])
        moved = self.project(self.root_weights[:, None] * derivatives)
        slopes: FloatArray = -self.scale(part) * (part @ moved) / square
        return slopes


def background_coefficients(
    intensity: FloatArray, sigma: FloatArray | None, basis: FloatArray
) -> FloatArray:
    """Weighted least-squares coefficients (n_functions,) of a basis for values (n,)."""
    if basis.shape[1] == 0:
        return np.zeros(0)
    root_weights = np.ones(len(intensity)) if sigma is None else 1.0 / sigma
    solution, *_ = np.linalg.lstsq(basis * root_weights[:, None], root_weights * intensity)
    return np.asarray(solution, dtype=np.float64)


def orthonormal_range(matrix: FloatArray) -> FloatArray:
    """Orthonormal basis (n, rank) of the range of a matrix (n, m), whatever its rank."""
    if matrix.shape[1] == 0:
        return matrix
    norms = np.linalg.norm(matrix, axis=0)
    q, r = np.linalg.qr(matrix[:, norms > 0] / norms[norms > 0])
    # What a dependent column leaves in r hides in later ones: the range is by singular values.
    left, values, _ = np.linalg.svd(r)
    orthonormal: FloatArray = q @ left[:, : len(values)][:, values > 1e-10]
    return orthonormal
