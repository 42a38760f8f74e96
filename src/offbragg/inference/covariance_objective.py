r"""`CovarianceObjective`: a misfit at scattered q, as a function of the covariance.

.. math:: O(V) = \min_{s, c} \sum_q \ell(\mu_q), \qquad
          \mu_q = s\, I_\mathrm{diffuse}(q; V) + \textstyle\sum_k c_k B_k(q)

with a loss ℓ, by default the weighted square :math:`\omega (I_\mathrm{obs} - \mu)^2`; the scale s
given, or at its best; a background or none. And the exact first and second derivatives of O by the
free parameters of V: the upper triangle of the symmetric matrix, (n, n), or 3n × 3n for blocks
(n, n, 3, 3). An off-diagonal element stands twice in the matrix, so its derivative is twice what it
is with the two counted apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.inference.losses import LOSSES
from offbragg.inference.profiled import BestLinear, LinearPart
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
        Observed [e² of this copy, times ``scale``]; for the loss "poisson" counts, at least 0.
    weights : array, shape (n_q,), optional
        ω, at least 0; 1 where not given. 1/σ² for "squares" and "huber"; for "poisson" what each
        deviance is multiplied with, 1 for counts as they fell.
    scale : float or None
        s; None takes the best one at every V.
    background : array, shape (n_q, k), optional
        Columns B_k, isotropic or any others: their best coefficients are taken at every V. Columns
        may depend on each other.
    loss : {"squares", "huber", "poisson"}
        ω(I − μ)²; the same up to 1.345 standard deviations and a straight line beyond them; the
        deviance 2ω[μ − n + n log(n/μ)] of counts n. See `offbragg.inference.losses`.

    Raises
    ------
    InputError
        If a shape does not match, a value is not finite, a weight or a count is below 0, or the
        loss is another.

    Notes
    -----
    Every call takes O(n_q n_atoms²) time, a product twice that; large isotropic problems go by
    matrix products. Scattering vectors that were not measured: weight 0, or left out.

    The best scale and background of "squares" are a linear problem; of the other losses a convex
    one of k + 1 numbers, solved to rounding in steps of O(n_q k²) time: some ten, or a hundred for
    counts that are mostly 0 (`OffbraggError` if 300 are not enough). In all derivatives scale and
    background follow V. Second derivatives jump where Huber's loss changes from square to line and
    where an empty voxel's best μ comes to 0. Where the diffuse intensity is all background the best
    scale is not defined, nor are derivatives.

    Expected counts cannot be negative. With "poisson", V that puts one below 0, or at 0 where there
    are counts, has the value inf and derivatives NaN; the best scale and background keep every
    μ ≥ 0 wherever one can.

    References
    ----------
    .. [1] Formulas of the theory's section 2, checked by central differences in the tests.

    Examples
    --------
    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> objective = CovarianceObjective(q, np.zeros((1, 3)), [[6.0]], [4.0])
    >>> round(objective.value(one), 4), objective.gradient(one).round(3).tolist()
    (0.3296, [[-37.405]])

    Counts, the scale and a constant background at their best:

    >>> q = np.array([[0.5, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    >>> counts, f, flat = [9, 15, 40], np.full((3, 1), 6.0), np.ones((3, 1))
    >>> objective = CovarianceObjective(
    ...     q, np.zeros((1, 3)), f, counts, scale=None, background=flat, loss="poisson"
    ... )
    >>> scale, coefficients = objective.scale_and_background(one)
    >>> round(scale, 3), coefficients.round(3).tolist(), round(objective.value(one), 4)
    (2.812, [6.164], 0.0592)
    """

    def __init__(
        self,
        q: ArrayLike,
        positions: ArrayLike,
        form_factors: ArrayLike,
        intensity: ArrayLike,
        weights: ArrayLike | None = None,
        scale: float | None = 1.0,
        *,
        background: ArrayLike | None = None,
        loss: str = "squares",
    ) -> None:
        self.q = np.asarray(q, dtype=np.float64)
        self.positions = np.asarray(positions, dtype=np.float64)
        self.form_factors: NDArray[np.inexact] = np.asarray(form_factors)
        if not np.issubdtype(self.form_factors.dtype, np.inexact):
            self.form_factors = self.form_factors.astype(np.float64)
        self.intensity = np.asarray(intensity, dtype=np.float64)
        n_q, n_atoms = len(self.q), len(self.positions)
        self.weights = np.ones(n_q) if weights is None else np.asarray(weights, dtype=np.float64)
        self.scale = None if scale is None else float(scale)
        self.background = _columns(background, n_q)
        self.loss = loss
        for name, array, shape in (
            ("q", self.q, (n_q, 3)),
            ("positions", self.positions, (n_atoms, 3)),
            ("form_factors", self.form_factors, (n_q, n_atoms)),
            ("intensity", self.intensity, (n_q,)),
            ("weights", self.weights, (n_q,)),
            ("background", self.background, self.background.shape),
        ):
            if array.shape != shape:
                raise InputError(f"{name} must be {shape}, got {array.shape}")
            if not np.all(np.isfinite(array)):
                raise InputError(f"{name} must be finite, got NaN or infinity")
        if np.any(self.weights < 0):
            raise InputError(f"weights must be at least 0, got {self.weights.min():.3g}")
        if self.scale is not None and not np.isfinite(self.scale):
            raise InputError(f"scale must be finite, got {scale}")
        if loss not in LOSSES:
            raise InputError(f"loss must be one of {' '.join(LOSSES)}, got {loss!r}")
        if loss == "poisson" and np.any(self.intensity < 0):
            least = self.intensity.min()
            raise InputError(f"intensity must be counts, at least 0, for poisson, got {least:.3g}")
        self._linear = LinearPart.of(
            loss, self.intensity, self.weights, self.scale, self.background
        )

    def value(self, v: ArrayLike) -> float:
        """Return O(V) for a covariance (n, n), isotropic, or (n, n, 3, 3) [Å²]."""
        return self._best(self._checked(v)).value

    def scale_and_background(self, v: ArrayLike) -> tuple[float, FloatArray]:
        """Return the scale s and the background's coefficients (k,) that O(V) is taken at.

        Where columns depend on each other, the smallest coefficients. They mean nothing where O(V)
        is infinite.
        """
        best = self._best(self._checked(v))
        return best.scale, best.coefficients

    def gradient(self, v: ArrayLike) -> FloatArray:
        """Return dO/dV, symmetric, each free parameter's derivative in both its places."""
        v = self._checked(v)
        return _by_free_parameters(self._pulled(v, self._best(v).slopes))

    def hessian_product(self, v: ArrayLike, d: ArrayLike) -> FloatArray:
        """Return ∇²O·d, exact, not Gauss–Newton; scale and background follow V.

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
        best = self._best(v)
        if self._by_products(v):
            change = gemm_product(*atoms, d, rtol=_GEMM_RTOL)
            curved = gemm_hessian_product(*atoms, best.slopes, d, rtol=_GEMM_RTOL)
        else:
            change = direct_product(*atoms, d)
            curved = direct_hessian_product(*atoms, best.slopes, d)
        straight = self._pulled(v, best.change_of_slopes(change))
        return _by_free_parameters(straight + curved)

    def _checked(self, v: ArrayLike, name: str = "v") -> FloatArray:
        array = np.asarray(v, dtype=np.float64)
        n = len(self.positions)
        if array.shape not in ((n, n), (n, n, 3, 3)):
            raise InputError(f"{name} must be {(n, n)} or {(n, n, 3, 3)}, got {array.shape}")
        return check_covariance(array, n)

    def _by_products(self, v: FloatArray) -> bool:
        return v.ndim == 2 and float(len(self.q)) * len(v) ** 2 > _GEMM_TERMS

    def _best(self, v: FloatArray) -> BestLinear:
        """Misfit at the best scale and background."""
        atoms = (self.q, self.positions, self.form_factors, v)
        found = (
            diffuse_gemm(*atoms, _GEMM_RTOL) if self._by_products(v) else direct_intensity(*atoms)
        )
        return self._linear.at(found)

    def _pulled(self, v: FloatArray, slopes: FloatArray) -> FloatArray:
        """Σ_q slopes ∂I/∂V, by every element as if it were free."""
        atoms = (self.q, self.positions, self.form_factors, v)
        if self._by_products(v):
            return gemm_gradient(*atoms, slopes, _GEMM_RTOL)
        return direct_gradient(*atoms, slopes)


def _columns(background: ArrayLike | None, n_q: int) -> FloatArray:
    """Background (n_q, k), of no columns where there is none."""
    columns = np.empty((n_q, 0)) if background is None else np.asarray(background, dtype=np.float64)
    if columns.ndim != 2 or len(columns) != n_q:
        raise InputError(f"background must be ({n_q}, k), got {columns.shape}")
    return columns


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
