r"""The linear part of a misfit, scale and background, at its best for any diffuse intensity.

.. math:: O(I) = \min_{s, c} \sum_q \ell(\mu_q), \qquad \mu = s\, I + \textstyle\sum_k c_k B_k

With ρ = ∂ℓ/∂μ and h = ∂²ℓ/∂μ² at the best s and c, the derivative of O by I is sρ: s and c may be
taken as fixed. They do follow I in the second derivative, x = (s, c) by ``H_xx dx = −H_xI dI``:

.. math:: d(s\rho) = ds\,\rho + s h\, d\mu, \qquad
          d\mu = s\, dI + ds\, I + \textstyle\sum_k dc_k B_k

which is the Schur complement of the linear part in the Hessian of everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.inference.convex import minimise_linear
from offbragg.inference.curvature import Curvature
from offbragg.inference.losses import LOSSES, VoxelLoss
from offbragg.inference.objective import orthonormal_range

# Columns that depend on others to this fraction of their length say nothing of their own.
_DEPENDENT = 1e-10


@dataclass(frozen=True, eq=False)
class LinearPart:
    """Data and loss, and the scale and background that are to follow the diffuse intensity.

    Attributes
    ----------
    loss : {"squares", "huber", "poisson"}
        See `offbragg.inference.losses`.
    observed, weights : ndarray, shape (n_q,)
        Data n and weights ω of the loss.
    scale : float or None
        s; None to profile it out.
    basis : ndarray, shape (n_q, rank)
        The range of the background, orthonormal under the weights.
    mixing : ndarray, shape (k, rank)
        What makes the basis of the background's columns.

    Examples
    --------
    >>> observed, one = np.array([5.0, 7.0, 9.0]), np.ones(3)
    >>> part = LinearPart.of("squares", observed, one, None, one[:, None])
    >>> best = part.at(np.array([1.0, 2.0, 3.0]))
    >>> round(best.scale, 6), best.coefficients.round(6).tolist()
    (2.0, [3.0])
    """

    loss: str
    observed: FloatArray
    weights: FloatArray
    scale: float | None
    basis: FloatArray
    mixing: FloatArray

    @classmethod
    def of(
        cls,
        loss: str,
        observed: FloatArray,
        weights: FloatArray,
        scale: float | None,
        background: FloatArray,
    ) -> LinearPart:
        """Take the independent part of a background (n_q, k), of any rank and k ≥ 0."""
        weighted = np.sqrt(weights)[:, None] * background
        norms = np.linalg.norm(weighted, axis=0)
        norms[norms == 0] = 1.0
        orthonormal = orthonormal_range(weighted)
        mixing, *_ = np.linalg.lstsq(weighted / norms, orthonormal, rcond=_DEPENDENT)
        mixing /= norms[:, None]
        return cls(loss, observed, weights, scale, background @ mixing, mixing)

    def at(self, diffuse: FloatArray) -> BestLinear:
        """Find the best scale and background for a diffuse intensity (n_q,)."""
        length = 1.0
        if self.scale is None:
            length = float(np.linalg.norm(np.sqrt(self.weights) * diffuse)) or 1.0
            columns = np.column_stack([diffuse / length, self.basis])
            offset = np.zeros(len(diffuse))
        else:
            columns, offset = self.basis, self.scale * diffuse
        loss = LOSSES[self.loss]
        x, refined = minimise_linear(
            loss, self.observed, self.weights, offset, columns, positive=self.loss == "poisson"
        )
        scale, y = (x[0] / length, x[1:]) if self.scale is None else (self.scale, x)
        # Floors under the counts help to the minimum; its value is without.
        value = loss(offset + columns @ x, self.observed, self.weights).value
        total = float(np.sum(value)) if np.all(np.isfinite(x)) else np.inf
        return BestLinear(
            total, float(scale), self.mixing @ y, refined, columns, length, self.scale is None
        )


@dataclass(frozen=True, eq=False)
class BestLinear:
    """A misfit at its best scale and background, and its derivatives by the diffuse intensity.

    Attributes
    ----------
    value : float
        Misfit.
    scale : float
    coefficients : ndarray, shape (k,)
        Of the background's columns; of those that depend on each other, the smallest.
    voxels : VoxelLoss
        Each voxel's loss and its derivatives.
    columns : ndarray, shape (n_q, n_free)
        What the profiled numbers multiply; with a free scale the diffuse intensity, over
        ``length``, comes first.
    length : float
    scale_is_free : bool
    """

    value: float
    scale: float
    coefficients: FloatArray
    voxels: VoxelLoss
    columns: FloatArray
    length: float
    scale_is_free: bool

    @property
    def slopes(self) -> FloatArray:
        """Derivatives (n_q,) of the misfit by the diffuse intensity, sρ."""
        slopes: FloatArray = self.scale * self.voxels.slope
        return slopes

    def change_of_slopes(self, change: FloatArray) -> FloatArray:
        """Return the change (n_q,) of `slopes` with one of the diffuse intensity (n_q,)."""
        _, slope, curvature = self.voxels
        moved = self.scale * change
        pull = self.columns.T @ (curvature * moved)
        if self.scale_is_free:
            pull[0] += (slope @ change) / self.length
        follow = -Curvature.of(self.columns, curvature).solve(pull)
        moved = moved + self.columns @ follow
        slopes: FloatArray = self.scale * curvature * moved
        if self.scale_is_free:
            slopes += (follow[0] / self.length) * slope
        return slopes
