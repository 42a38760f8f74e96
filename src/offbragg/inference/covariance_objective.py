r"""`CovarianceObjective`: weighted least squares at scattered q, as a function of the covariance.

.. math:: O(V) = \sum_q \omega(q) \left[I_\mathrm{obs}(q) - s\, I_\mathrm{diffuse}(q; V)\right]^2

and its exact first and second derivatives by the free parameters of V: the upper triangle of the
symmetric matrix, (n, n), or 3n × 3n for blocks (n, n, 3, 3). An off-diagonal element stands twice
in the matrix, so its derivative is twice what it is with the two counted apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.scattering.direct_adjoint import (
    direct_gradient,
    direct_hessian_product,
    direct_intensity,
    direct_product,
)
from offbragg.scattering.displacements import check_covariance
from offbragg.scattering.gemm import (
    diffuse_gemm,
    gemm_gradient,
    gemm_hessian_product,
    gemm_product,
)

# Isotropic sums of more terms than this go by matrix products, so finely that differences of values
# still agree with the gradient.
_GEMM_TERMS, _GEMM_RTOL = 3e8, 1e-10


class CovarianceObjective:
    """Misfit of one copy's diffuse intensity, and its derivatives by the covariance.

    Parameters
    ----------
    q : array, shape (n_q, 3)
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : array, shape (n_atoms, 3)
        Cartesian [Å].
    form_factors : array, shape (n_q, n_atoms)
        At ``q``, occupancies included [electrons]; complex with anomalous scattering.
    intensity : array, shape (n_q,)
        Observed [e² of this copy, times ``scale``].
    weights : array, shape (n_q,), optional
        ω, at least 0; 1 where not given.
    scale : float
        s.

    Raises
    ------
    InputError
        If a shape does not match, or a value is not finite or a weight below 0.

    Notes
    -----
    Every call takes O(n_q n_atoms²) time, a product twice that; large isotropic problems go by
    matrix products. Scattering vectors that were not measured: weight 0, or left out.

    References
    ----------
    .. [1] Formulas of the theory's section 2, checked by central differences in the tests.

    Examples
    --------
    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> objective = CovarianceObjective(q, np.zeros((1, 3)), [[6.0]], [4.0])
    >>> round(objective.value(one), 4), objective.gradient(one).round(3).tolist()
    (0.3296, [[-37.405]])
    """

    def __init__(
        self,
        q: ArrayLike,
        positions: ArrayLike,
        form_factors: ArrayLike,
        intensity: ArrayLike,
        weights: ArrayLike | None = None,
        scale: float = 1.0,
    ) -> None:
        self.q = np.asarray(q, dtype=np.float64)
        self.positions = np.asarray(positions, dtype=np.float64)
        self.form_factors: NDArray[np.inexact] = np.asarray(form_factors)
        if not np.issubdtype(self.form_factors.dtype, np.inexact):
            self.form_factors = self.form_factors.astype(np.float64)
        self.intensity = np.asarray(intensity, dtype=np.float64)
        n_q, n_atoms = len(self.q), len(self.positions)
        self.weights = np.ones(n_q) if weights is None else np.asarray(weights, dtype=np.float64)
        self.scale = float(scale)
        for name, array, shape in (
            ("q", self.q, (n_q, 3)),
            ("positions", self.positions, (n_atoms, 3)),
            ("form_factors", self.form_factors, (n_q, n_atoms)),
            ("intensity", self.intensity, (n_q,)),
            ("weights", self.weights, (n_q,)),
        ):
            if array.shape != shape:
                raise InputError(f"{name} must be {shape}, got {array.shape}")
            if not np.all(np.isfinite(array)):
                raise InputError(f"{name} must be finite, got NaN or infinity")
        if np.any(self.weights < 0):
            raise InputError(f"weights must be at least 0, got {self.weights.min():.3g}")
        if not np.isfinite(self.scale):
            raise InputError(f"scale must be finite, got {scale}")

    def value(self, v: ArrayLike) -> float:
        """Return O(V) for a covariance (n, n), isotropic, or (n, n, 3, 3) [Å²]."""
        residual = self._residual(self._checked(v))
        return float(np.sum(self.weights * residual**2))

    def gradient(self, v: ArrayLike) -> FloatArray:
        """Return dO/dV, symmetric, each free parameter's derivative in both its places."""
        v = self._checked(v)
        slopes = -2.0 * self.scale * self.weights * self._residual(v)
        return _by_free_parameters(self._pulled(v, slopes))

    def hessian_product(self, v: ArrayLike, d: ArrayLike) -> FloatArray:
        """Return ∇²O·d, exact, not Gauss–Newton.

        Parameters
        ----------
        v : array, shape (n, n) or (n, n, 3, 3)
            Covariance [Å²].
        d : array, of the shape of ``v``
            Change of each free parameter, symmetric.

        Returns
        -------
        ndarray, of the shape of ``v``
            As `gradient`.
        """
        v, d = self._checked(v), self._checked(d, "d")
        if d.shape != v.shape:
            raise InputError(f"d must be {v.shape}, got {d.shape}")
        atoms = (self.q, self.positions, self.form_factors, v)
        slopes = -2.0 * self.scale * self.weights * self._residual(v)
        if self._by_products(v):
            change = gemm_product(*atoms, d, rtol=_GEMM_RTOL)
            curved = gemm_hessian_product(*atoms, slopes, d, rtol=_GEMM_RTOL)
        else:
            change = direct_product(*atoms, d)
            curved = direct_hessian_product(*atoms, slopes, d)
        straight = self._pulled(v, 2.0 * self.scale**2 * self.weights * change)
        return _by_free_parameters(straight + curved)

    def _checked(self, v: ArrayLike, name: str = "v") -> FloatArray:
        array = np.asarray(v, dtype=np.float64)
        n = len(self.positions)
        if array.shape not in ((n, n), (n, n, 3, 3)):
            raise InputError(f"{name} must be {(n, n)} or {(n, n, 3, 3)}, got {array.shape}")
        return check_covariance(array, n)

    def _by_products(self, v: FloatArray) -> bool:
        return v.ndim == 2 and float(len(self.q)) * len(v) ** 2 > _GEMM_TERMS

    def _residual(self, v: FloatArray) -> FloatArray:
        """I_obs − s I_diffuse (n_q,)."""
        atoms = (self.q, self.positions, self.form_factors, v)
        found = (
            diffuse_gemm(*atoms, _GEMM_RTOL) if self._by_products(v) else direct_intensity(*atoms)
        )
        return self.intensity - self.scale * found

    def _pulled(self, v: FloatArray, slopes: FloatArray) -> FloatArray:
        """Σ_q slopes ∂I/∂V, by every element as if it were free."""
        atoms = (self.q, self.positions, self.form_factors, v)
        if self._by_products(v):
            return gemm_gradient(*atoms, slopes, _GEMM_RTOL)
        return direct_gradient(*atoms, slopes)


def _by_free_parameters(gradient: FloatArray) -> FloatArray:
    """Derivatives by the upper triangle from those by every element: twice, off the diagonal."""
    doubled = 2.0 * gradient
    every = np.arange(len(gradient))
    if gradient.ndim == 2:
        doubled[every, every] = gradient[every, every]
        return doubled
    axes = np.arange(3)
    doubled[every[:, None], every[:, None], axes, axes] = np.einsum("iiaa->ia", gradient)
    return doubled
