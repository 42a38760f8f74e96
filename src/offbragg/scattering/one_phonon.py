r"""One-phonon scattering: the diffuse intensity to first order in the covariance.

.. math:: I_1(\mathbf q) = \sum_{ij} a_i^* a_j\, \mathbf q^T V_{ij} \mathbf q
          = \sum_k \Big|\sum_i a_i\, \mathbf q \cdot \mathbf p_{ik}\Big|^2,
          \quad a_i = f_i e^{i \mathbf q \cdot \mathbf r_i - \frac12 \mathbf q^T V_{ii} \mathbf q}

for ``V = P Pᵀ`` with columns ``p_k``: modes of vibration, rigid-body motions, principal components.
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
from offbragg.scattering.displacements import LowRank, check_covariance

# An eigenvalue decomposition costs as much as a matrix product of this many n³ operations.
_EIGH_COST = 25.0
# Components xx, yy, zz, xy, xz, yz of a symmetric matrix.
_FIRST, _SECOND = np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 2, 1, 2, 2])


def one_phonon_intensity(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray | LowRank,
    rtol: float = 1e-6,
    max_memory: float = 2e9,
) -> FloatArray:
    r"""Diffuse intensity at scattered q to first order in V, by matrix products.

    .. math:: I_1(\mathbf q) = \sum_k \Big|\sum_i a_i\, \mathbf q \cdot \mathbf p_{ik}\Big|^2

    An approximation, whatever ``rtol``. What it leaves out begins with
    ``½ Σ_ij a_i* a_j (qᵀV_ij q)²``: of the intensity about ½ qᵀV_ii q, or a tenth at
    q²V_ii = 0.2. It is never above the exact intensity.

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons].
    covariance : LowRank or ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3)
        V [Å²] by its factor P, (n_atoms, rank) or (n_atoms, 3, rank) [Å], or dense; isotropic ones
        (of two axes) are per Cartesian axis.
    rtol : float
        Part of the trace of a dense V that may be left out with its smallest eigenvalues.
    max_memory : float
        Bytes that the blocks of q may take.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²], of this one copy.

    Raises
    ------
    InputError
        If a shape does not match, a dense V is not symmetric, ``rtol`` is not between 0 and 1 or
        ``max_memory`` too small.

    Notes
    -----
    4 n_atoms rank operations a q for an isotropic factor, three times that for another. A dense V
    is factored where that is the cheaper way.

    Examples
    --------
    One atom, U = 0.1 Å²: f² q² U exp(−q² U).

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> one_phonon_intensity(q, np.zeros((1, 3)), np.array([[6.0]]), one).round(4)
    array([3.2574])
    """
    if not 0 < rtol < 1:
        raise InputError(f"rtol must be between 0 and 1, got {rtol}")
    modes = _OnePhonon(q, positions, form_factors, covariance, max_memory)
    modes.factor_if_cheaper(rtol)
    intensity = np.empty(len(modes.q))
    for chunk, q_block, amplitudes in modes.blocks():
        if modes.factor is None:
            squares = np.einsum("ri,ri->r", amplitudes, modes.turned(amplitudes, q_block))
        else:
            projected = modes.projected(amplitudes, q_block)
            squares = np.einsum("rk,rk->r", projected, projected)
            if modes.is_isotropic:
                squares *= np.tile(np.einsum("qx,qx->q", q_block, q_block), 2)
        intensity[chunk] = squares.reshape(2, -1).sum(axis=0)
    return intensity


def one_phonon_product(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray | LowRank,
    direction: FloatArray,
    max_memory: float = 2e9,
) -> FloatArray:
    """Change of `one_phonon_intensity` along a direction of V, the damping's change included.

    Parameters
    ----------
    q, positions, form_factors, covariance, max_memory
        As for `one_phonon_intensity`.
    direction : ndarray, shape (n_atoms, n_atoms), or (n_atoms, n_atoms, 3, 3) with such a V
        dV [Å²], symmetric as V is.

    Returns
    -------
    ndarray, shape (n_q,), float64
        ``Σ_ij Re(a_i* a_j) [qᵀdV_ij q − ½ (qᵀdV_ii q + qᵀdV_jj q) qᵀV_ij q]`` [e²].

    Raises
    ------
    InputError
        If a shape does not match, or V or the direction is not symmetric.

    Examples
    --------
    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> one_phonon_product(q, np.zeros((1, 3)), np.array([[6.0]]), one, np.ones((1, 1))).round(4)
    array([29.3167])
    """
    modes = _OnePhonon(q, positions, form_factors, covariance, max_memory)
    if np.shape(direction) != modes.shape:
        raise InputError(f"direction must be {modes.shape}, got {np.shape(direction)}")
    moved = _components(check_covariance(direction, len(modes.u)))
    own = np.einsum("cii->ci", moved)
    change = np.empty(len(modes.q))
    for chunk, q_block, amplitudes in modes.blocks():
        qq = modes.factors(q_block)
        squares = np.einsum("ri,ri->r", amplitudes, _apply(moved, amplitudes, qq))
        damped = amplitudes * modes.turned(amplitudes, q_block)
        squares -= np.einsum("ri,ri->r", damped, np.tile(qq.T @ own, (2, 1)))
        change[chunk] = squares.reshape(2, -1).sum(axis=0)
    return change


def one_phonon_gradient(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray | LowRank,
    residual: FloatArray,
    max_memory: float = 2e9,
) -> FloatArray:
    """Gradient of ``Σ_q residual_q I_1(q)`` with respect to V: transpose of `one_phonon_product`.

    Parameters
    ----------
    q, positions, form_factors, covariance, max_memory
        As for `one_phonon_intensity`.
    residual : ndarray, shape (n_q,), float64
        Weight of each intensity.

    Returns
    -------
    ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3), float64
        Symmetric as V is, every element as if free [e²/Å² times the residual's unit]; dense for
        a `LowRank` covariance too.

    Raises
    ------
    InputError
        If a shape does not match, or a dense V is not symmetric.

    Examples
    --------
    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> one_phonon_gradient(q, np.zeros((1, 3)), np.array([[6.0]]), one, np.ones(1)).round(4)
    array([[29.3167]])
    """
    modes = _OnePhonon(q, positions, form_factors, covariance, max_memory)
    residual = np.asarray(residual, dtype=np.float64)
    if residual.shape != (len(modes.q),):
        raise InputError(f"residual must be {(len(modes.q),)}, got {residual.shape}")
    n_atoms = len(modes.u)
    every = np.arange(n_atoms)
    gradient = np.zeros((1 if modes.is_isotropic else 6, n_atoms, n_atoms))
    for chunk, q_block, amplitudes in modes.blocks():
        weights = residual[chunk] * modes.factors(q_block)
        damped = amplitudes * modes.turned(amplitudes, q_block)
        for component, weight in enumerate(np.tile(weights, 2)):
            gradient[component] += amplitudes.T @ (weight[:, None] * amplitudes)
            gradient[component, every, every] -= weight @ damped
    if modes.is_isotropic:
        isotropic: FloatArray = gradient[0]
        return isotropic
    blocks = np.empty((n_atoms, n_atoms, 3, 3))
    for component, (a, b) in enumerate(zip(_FIRST, _SECOND, strict=True)):
        # Off-diagonal components were taken with a factor of two, for both places.
        blocks[:, :, a, b] = blocks[:, :, b, a] = gradient[component] / (1 if a == b else 2)
    return blocks


class _OnePhonon:
    """Checked arguments; amplitudes block by block, and V applied to them."""

    def __init__(
        self,
        q: FloatArray,
        positions: FloatArray,
        form_factors: NDArray[np.inexact],
        covariance: FloatArray | LowRank,
        max_memory: float,
    ) -> None:
        self.q, positions, self.form_factors = as_scattered_atoms(q, positions, form_factors)
        n_atoms = len(positions)
        self.positions = np.ascontiguousarray(positions.T)
        # Either the factor P or the components of V is there.
        self.factor: FloatArray | None = None
        self.components: FloatArray | None = None
        every = np.arange(n_atoms)
        if isinstance(covariance, LowRank):
            if len(covariance.factor) != n_atoms:
                raise InputError(
                    f"factor must be of {n_atoms} atoms, got shape {covariance.factor.shape}"
                )
            self.factor, self.shape = covariance.factor, covariance.shape
            self.u = covariance.diagonal()
        else:
            v = check_covariance(covariance, n_atoms)
            self.dense, self.components, self.shape = v, _components(v), v.shape
            self.u = v[every, every]
        self.is_isotropic = len(self.shape) == 2
        rank = 0 if self.factor is None else self.factor.shape[-1]
        # Amplitudes, three arrays like them, and products with modes, of one q.
        row_bytes = 16.0 * (4 * n_atoms + (1 if self.is_isotropic else 4) * rank)
        self.n_rows = min(int(max_memory / max(row_bytes, 1.0)), 4096)
        if self.n_rows < 1:
            raise InputError(
                f"max_memory must be at least {row_bytes:.3g} bytes, got {max_memory:.3g}"
            )

    def factor_if_cheaper(self, rtol: float) -> None:
        """Replace a dense V by its factor where that costs less than using it as it is."""
        if self.components is None:
            return
        n_c, n_atoms = self.components.shape[:2]
        size = n_atoms if self.is_isotropic else 3 * n_atoms
        direct = 4.0 * n_c * len(self.q) * n_atoms**2
        if _EIGH_COST * float(size) ** 3 >= direct:
            return
        v = self.dense
        flat = v if v.ndim == 2 else v.transpose(0, 2, 1, 3).reshape(size, size)
        values, vectors = np.linalg.eigh(flat)
        order = np.argsort(np.abs(values))
        left_out = np.cumsum(np.abs(values[order]))
        kept = order[left_out > rtol * left_out[-1]]
        if np.any(values[kept] < 0) or 4.0 * len(self.q) * size * len(kept) >= direct:
            return
        factor = vectors[:, kept] * np.sqrt(values[kept])
        self.factor = factor if self.is_isotropic else factor.reshape(n_atoms, 3, -1)
        self.components = None

    def blocks(self) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
        """Blocks of q: where, q itself (m, 3), damped amplitudes (2m, n), real parts first."""
        n_atoms = len(self.u)
        for chunk in iter_chunks(len(self.q), self.n_rows):
            q = self.q[chunk]
            amplitudes = np.empty((2 * len(q), n_atoms))
            rows = np.arange(chunk.start, chunk.stop)
            if self.is_isotropic:
                shift, rates = 0.5 * np.einsum("qx,qx->q", q, q), self.u
            else:
                shift, rates = np.zeros(len(q)), np.zeros(n_atoms)
            kernels.phased(
                self.q, self.positions, self.form_factors, rows, shift, rates, amplitudes
            )
            if not self.is_isotropic:
                damping = np.exp(-0.5 * self.factors(q).T @ self.u[:, _FIRST, _SECOND].T)
                amplitudes[: len(q)] *= damping
                amplitudes[len(q) :] *= damping
            yield chunk, q, amplitudes

    def factors(self, q: FloatArray) -> FloatArray:
        """What the components of V are multiplied with in qᵀV_ij q, (n_c, m)."""
        if self.is_isotropic:
            squares: FloatArray = np.einsum("qx,qx->q", q, q)[None]
            return squares
        factors: FloatArray = (q[:, _FIRST] * q[:, _SECOND]).T * np.repeat([1.0, 2.0], 3)[:, None]
        return factors

    def projected(self, amplitudes: FloatArray, q: FloatArray) -> FloatArray:
        """Sums Σ_i a_i q·p_ik (2m, rank); for an isotropic factor Σ_i a_i p_ik, without q."""
        factor = np.empty((0, 0)) if self.factor is None else self.factor
        if factor.ndim == 2:
            plain: FloatArray = amplitudes @ factor
            return plain
        by_axis = (amplitudes @ factor.reshape(len(factor), -1)).reshape(len(amplitudes), 3, -1)
        along_q: FloatArray = np.einsum("rx,rxk->rk", np.tile(q, (2, 1)), by_axis)
        return along_q

    def turned(self, amplitudes: FloatArray, q: FloatArray) -> FloatArray:
        """Sums Σ_j (qᵀV_ij q) a_j, (2m, n)."""
        if self.components is not None:
            return _apply(self.components, amplitudes, self.factors(q))
        projected = self.projected(amplitudes, q)
        factor = np.empty((0, 0)) if self.factor is None else self.factor
        both = np.tile(q, (2, 1))
        if factor.ndim == 2:
            turned: FloatArray = projected @ factor.T
            turned *= np.einsum("rx,rx->r", both, both)[:, None]
            return turned
        by_axis = (projected @ factor.reshape(-1, factor.shape[2]).T).reshape(len(both), -1, 3)
        along_q: FloatArray = np.einsum("rx,rix->ri", both, by_axis)
        return along_q


def _components(v: FloatArray) -> FloatArray:
    """Components (1, n, n) of isotropic blocks, or (6, n, n) of the symmetric part of blocks."""
    if v.ndim == 2:
        return v[None]
    mean = 0.5 * (v[:, :, _FIRST, _SECOND] + v[:, :, _SECOND, _FIRST])
    return np.ascontiguousarray(mean.transpose(2, 0, 1))


def _apply(components: FloatArray, amplitudes: FloatArray, factors: FloatArray) -> FloatArray:
    """Sum Σ_c factors_cq (components_c @ amplitudes_q), (2m, n)."""
    total = np.zeros_like(amplitudes)
    for matrix, factor in zip(components, factors, strict=True):
        total += np.tile(factor, 2)[:, None] * (amplitudes @ matrix)
    return total
