"""Scales that bring a covariance to the size of a structure's ADPs, and their derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.scattering.displacements import LowRank

SCALES = ("overall", "per-atom", "absolute")


@dataclass(frozen=True, eq=False)
class AdpScaling:
    r"""``V_ij = c_i W_ij c_j``, c from the traces of U_i and W_ii.

    Attributes
    ----------
    scale : {"overall", "per-atom", "absolute"}
        "overall": one c, from ``Σ tr V_ii = Σ tr U_i``. "per-atom": ``tr V_ii = tr U_i``.
        "absolute": c = 1.
    wanted, own : ndarray, shape (n_atoms,), float64
        tr U_i, and tr W_ii, which is three times the number of an isotropic W [Å²].
    covariance : LowRank
        W, isotropic or not.
    """

    scale: str
    wanted: FloatArray
    own: FloatArray
    covariance: LowRank

    @property
    def factors(self) -> FloatArray:
        """c_i, shape (n_atoms,)."""
        if self.scale == "absolute":
            return np.ones(len(self.own))
        if self.scale == "overall":
            s = max(float(np.sum(self.wanted)), 0.0) / float(np.sum(self.own))
            return np.full(len(self.own), np.sqrt(s))
        factors: FloatArray = np.sqrt(np.maximum(self.wanted, 0.0) / self.own)
        return factors

    def tangent(self, change: FloatArray) -> FloatArray:
        """Derivative of V along a change dW, over atoms; c changes with the traces of dW_ii."""
        moved = _times(change, self.factors)
        if self.scale == "absolute":
            return moved
        n, v = len(self.own), _times(self.covariance.dense(), self.factors)
        own = change[np.arange(n), np.arange(n)]
        traces = 3 * own if change.ndim == 2 else np.trace(own, axis1=1, axis2=2)
        if self.scale == "overall":
            return moved - float(np.sum(traces) / np.sum(self.own)) * v
        logs = -0.5 * traces / self.own
        return moved + _along(v, logs[:, None] + logs)

    def pullback(self, gradient: FloatArray) -> FloatArray:
        """Return dO/dW from dO/dV over atoms, the adjoint of `tangent`."""
        moved = _times(gradient, self.factors)
        if self.scale == "absolute":
            return moved
        n, v = len(self.own), _times(self.covariance.dense(), self.factors)
        work = gradient * v if v.ndim == 2 else np.einsum("ijxy,ijxy->ij", gradient, v)
        if self.scale == "overall":
            by_trace = np.full(n, -np.sum(work) / np.sum(self.own))
        else:
            by_trace = -0.5 * (work.sum(axis=0) + work.sum(axis=1)) / self.own
        every = np.arange(n)
        moved[every, every] += 3 * by_trace if v.ndim == 2 else by_trace[:, None, None] * np.eye(3)
        return moved


def _times(blocks: FloatArray, factors: FloatArray) -> FloatArray:
    return _along(blocks, np.outer(factors, factors))


def _along(blocks: FloatArray, pairs: FloatArray) -> FloatArray:
    return blocks * (pairs if blocks.ndim == 2 else pairs[:, :, None, None])
