r"""Diffuse intensity and its derivatives with respect to the covariance, by sums over pairs.

With undamped ``e_i = f_i e^{i q·r_i}``, ``A_ij = Re(e_i* e_j)``, ``x_ij = qᵀV_ij q``,
``E_ij = exp(x_ij − ½x_ii − ½x_jj)`` and ``G_ij = E_ij − exp(−½x_ii − ½x_jj)``:

.. math:: I &= \sum_{ij} A_{ij} G_{ij}, \qquad
          dI = \sum_{ij} A_{ij}
               \left[E_{ij}\, dx_{ij} - \tfrac12 G_{ij} (dx_{ii} + dx_{jj})\right] \\
          \frac{\partial I}{\partial V_{ij}} &= A_{ij} E_{ij}\, \mathbf q \mathbf q^T
          \;(i \neq j), \qquad
          \frac{\partial I}{\partial V_{ii}} =
          \Big(A_{ii} - \sum_j A_{ij} G_{ij}\Big) \mathbf q \mathbf q^T

Every element counts as free here: a change of the objective is the sum over *all* elements of
gradient times change, for changes that keep V symmetric.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering import _gemm_kernels as kernels
from offbragg.scattering.arguments import as_scattered_atoms
from offbragg.scattering.displacements import check_covariance

# q at once: short enough for the caches, long enough for vector instructions.
_BLOCK = 128
# Components xx, yy, zz, xy, xz, yz of a symmetric matrix.
_FIRST, _SECOND = np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 2, 1, 2, 2])


def direct_intensity(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
) -> FloatArray:
    """Diffuse intensity at scattered q, by the loops that its derivatives below take.

    Parameters
    ----------
    q, positions, form_factors, covariance
        As for `direct_product`.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²], of this one copy.

    Raises
    ------
    InputError
        If a shape does not match, or the covariance is not symmetric.

    Examples
    --------
    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> direct_intensity(q, np.zeros((1, 3)), np.array([[6.0]]), one).round(4)
    array([3.4259])
    """
    return _DirectSums(q, positions, form_factors, covariance).forward()


def direct_product(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    direction: FloatArray,
) -> FloatArray:
    """Change of the diffuse intensity along a direction of V.

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons].
    covariance : ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3), float64
        ``V_ij`` [Å²]; the first form is isotropic, the covariance per Cartesian axis.
    direction : ndarray, shape of ``covariance``, float64
        dV [Å²], symmetric as V is (``dV_ji = dV_ijᵀ``).

    Returns
    -------
    ndarray, shape (n_q,), float64
        dI [e²].

    Raises
    ------
    InputError
        If a shape does not match, or covariance or direction is not symmetric.

    Notes
    -----
    Time O(n_q n_atoms²), some 5 ns a pair and q; exact to rounding.

    Examples
    --------
    One atom: dI = f² q² exp(−q² U) dU.

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> direct_product(q, np.zeros((1, 3)), np.array([[6.0]]), one, np.ones((1, 1))).round(4)
    array([32.5741])
    """
    sums = _DirectSums(q, positions, form_factors, covariance)
    sums.set_direction(direction)
    return sums.forward()


def direct_gradient(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    residual: FloatArray,
) -> FloatArray:
    """Gradient of ``Σ_q residual_q I(q)`` with respect to V: the transpose of `direct_product`.

    Parameters
    ----------
    q, positions, form_factors, covariance
        As for `direct_product`.
    residual : ndarray, shape (n_q,), float64
        Weight of each intensity.

    Returns
    -------
    ndarray, shape of ``covariance``, float64
        Gradient, symmetric as V is, every element as if free [e²/Å² times the residual's unit].

    Raises
    ------
    InputError
        If a shape does not match, or the covariance is not symmetric.

    Examples
    --------
    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> direct_gradient(q, np.zeros((1, 3)), np.array([[6.0]]), one, np.ones(1)).round(4)
    array([[32.5741]])
    """
    return _DirectSums(q, positions, form_factors, covariance).backward(residual)


def direct_hessian_product(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    residual_weights: FloatArray,
    direction: FloatArray,
) -> FloatArray:
    """Second derivative of ``Σ_q ρ_q I(q)`` with respect to V, times a direction; exact.

    Parameters
    ----------
    q, positions, form_factors, covariance, direction
        As for `direct_product`.
    residual_weights : ndarray, shape (n_q,), float64
        ρ, held fixed.

    Returns
    -------
    ndarray, shape of ``covariance``, float64
        The change of `direct_gradient` along the direction, every element as if free.

    Raises
    ------
    InputError
        As `direct_product` and `direct_gradient`.

    Examples
    --------
    One atom: −f² q⁴ exp(−q² U) dU.

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> r, d = np.ones(1), np.ones((1, 1))
    >>> direct_hessian_product(q, np.zeros((1, 3)), np.array([[6.0]]), one, r, d).round(4)
    array([[-32.5741]])
    """
    sums = _DirectSums(q, positions, form_factors, covariance)
    sums.set_direction(direction)
    return sums.backward(residual_weights)


class _DirectSums:
    """Checked arguments in the form that the compiled loops take, and the sums over pairs."""

    def __init__(
        self,
        q: FloatArray,
        positions: FloatArray,
        form_factors: NDArray[np.inexact],
        covariance: FloatArray,
    ) -> None:
        self.q, self.positions, self.form_factors = as_scattered_atoms(q, positions, form_factors)
        v = check_covariance(covariance, len(self.positions))
        self.shape = v.shape
        self.packed = _packed(v)
        self.moved: FloatArray | None = None

    def set_direction(self, direction: FloatArray) -> None:
        """Take derivatives along a direction of V from here on."""
        d = np.asarray(direction, dtype=np.float64)
        if d.shape != self.shape:
            raise InputError(f"direction must be {self.shape}, got {d.shape}")
        mirrored = d.T if d.ndim == 2 else d.transpose(1, 0, 3, 2)
        if not np.all(np.abs(d - mirrored) <= 1e-8 * np.max(np.abs(d), initial=0.0)):
            raise InputError("direction must be finite and symmetric (dV_ji = transpose of dV_ij)")
        self.moved = _packed(d)

    def blocks(
        self, weights: FloatArray, pairs: FloatArray
    ) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
        """Blocks of q: where, the factors of V's components (n_c, m), and sums over j (n, m).

        Adds the sums over q to ``pairs`` (n, n, n_c), i ≥ j.
        """
        n_atoms = len(self.positions)
        every = np.arange(n_atoms)
        own = self.packed[every, every]
        for chunk in iter_chunks(len(self.q), _BLOCK):
            q, f = self.q[chunk], self.form_factors[chunk]
            qq = (q[:, _FIRST] * q[:, _SECOND]).T * np.repeat([1.0, 2.0], 3)[:, None]
            if len(self.shape) == 2:
                qq = qq[:3].sum(axis=0, keepdims=True)
            qq = np.ascontiguousarray(qq)
            amplitudes = (f * np.exp(1j * (q @ self.positions.T))).T
            half = 0.5 * own @ qq
            terms = (
                qq,
                np.ascontiguousarray(amplitudes.real),
                np.ascontiguousarray(amplitudes.imag),
                half,
                np.exp(-half),
            )
            sums = np.empty((kernels.N_PARTS, n_atoms, len(q)))
            if self.moved is None:
                kernels.pair_rows(self.packed, *terms, weights[chunk], pairs, sums)
            else:
                turned = 0.5 * self.moved[every, every] @ qq
                kernels.moved_rows(
                    self.packed, self.moved, *terms, turned, weights[chunk], pairs, sums
                )
            yield chunk, qq, sums.sum(axis=0)

    def forward(self) -> FloatArray:
        """Intensities, or with a direction their derivatives along it, (n_q,)."""
        result = np.empty(len(self.q))
        for chunk, _, sums in self.blocks(np.zeros(len(self.q)), np.empty((0, 0, 0))):
            result[chunk] = sums.sum(axis=0)
        return result

    def backward(self, residual: FloatArray) -> FloatArray:
        """Gradient of Σ residual I, or along a direction its derivative, in the shape of V."""
        weights = np.ascontiguousarray(residual, dtype=np.float64)
        if weights.shape != (len(self.q),):
            raise InputError(f"residual must be {(len(self.q),)}, got {weights.shape}")
        pairs = np.zeros_like(self.packed)
        every = np.arange(len(pairs))
        through = np.zeros((len(pairs), pairs.shape[2]))
        for chunk, qq, sums in self.blocks(weights, pairs):
            through += sums @ (weights[chunk] * qq).T
        pairs[every, every] -= through
        lower = np.tril_indices(len(pairs), -1)
        pairs[lower[1], lower[0]] = pairs[lower]
        return pairs[:, :, 0] if len(self.shape) == 2 else _unpacked(pairs)


def _packed(v: FloatArray) -> FloatArray:
    """Components (n, n, 1) of isotropic blocks, or (n, n, 6) of the symmetric part of blocks."""
    if v.ndim == 2:
        return np.ascontiguousarray(v[:, :, None])
    return np.ascontiguousarray(0.5 * (v[:, :, _FIRST, _SECOND] + v[:, :, _SECOND, _FIRST]))


def _unpacked(pairs: FloatArray) -> FloatArray:
    """Blocks (n, n, 3, 3) from sums (n, n, 6) that took the off-diagonal components twice."""
    blocks = np.empty((*pairs.shape[:2], 3, 3))
    halved = pairs * np.repeat([1.0, 0.5], 3)
    blocks[:, :, _FIRST, _SECOND] = halved
    blocks[:, :, _SECOND, _FIRST] = halved
    return blocks
