r"""Diffuse intensity by sampling: displacements drawn from N(0, V), and averages over them.

.. math:: I(\mathbf q) = \langle |F|^2 \rangle - |\langle F \rangle|^2, \quad
          F = \sum_i f_i e^{i \mathbf q \cdot (\mathbf r_i + \boldsymbol\delta_i)}, \quad
          \langle F \rangle = \sum_i f_i e^{i \mathbf q \cdot \mathbf r_i
          - \frac12 \mathbf q^T V_{ii} \mathbf q}

The mean ⟨F⟩ is known, so only ⟨\|F\|²⟩ is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import ComplexArray, FloatArray
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering import _gemm_kernels as kernels
from offbragg.scattering.arguments import as_scattered_atoms
from offbragg.scattering.displacements import LowRank, check_covariance

# q at once: short enough for the caches.
_BLOCK = 256
# Components of a symmetric matrix (3, 3).
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
# Eigenvalues below zero by less than this part of the largest are rounding.
_NEGATIVE = 1e-8
# The residuals of a line need a point more than its two numbers.
_LEAST_SAMPLES = 3


def draw_displacements(
    covariance: FloatArray | LowRank, n_samples: int, rng: np.random.Generator
) -> FloatArray:
    """Draw displacements of all atoms from the Gaussian distribution of a covariance.

    Parameters
    ----------
    covariance : LowRank or ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3)
        V [Å²], positive semi-definite, dense or by its factor (the cheaper form); isotropic ones
        (of two axes) are per Cartesian axis.
    n_samples : int
        How many.
    rng : numpy.random.Generator
        Drawn from sample by sample: two calls give what one gives for both.

    Returns
    -------
    ndarray, shape (n_samples, n_atoms, 3), float64
        δ [Å], of mean 0 and ``⟨δ_i δ_jᵀ⟩ = V_ij``.

    Raises
    ------
    InputError
        If a dense covariance is not square, symmetric and positive semi-definite, or ``n_samples``
        is negative.

    Examples
    --------
    >>> rigid = LowRank(np.full((2, 1), 0.3))
    >>> move = draw_displacements(rigid, 4, np.random.default_rng(0))
    >>> move.shape, bool(np.all(move[:, 0] == move[:, 1]))
    ((4, 2, 3), True)
    """
    if n_samples < 0:
        raise InputError(f"n_samples must be >= 0, got {n_samples}")
    factor = _factor(covariance)
    n_atoms, rank = len(factor), factor.shape[-1]
    if factor.ndim == 2:
        drawn = rng.normal(size=(3 * n_samples, rank)) @ factor.T
        return np.ascontiguousarray(drawn.reshape(n_samples, 3, n_atoms).transpose(0, 2, 1))
    drawn = rng.normal(size=(n_samples, rank)) @ factor.reshape(3 * n_atoms, rank).T
    return drawn.reshape(n_samples, n_atoms, 3)


def sampled_intensity(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray | LowRank,
    n_samples: int,
    rng: np.random.Generator,
    max_memory: float = 2e9,
) -> tuple[FloatArray, FloatArray]:
    r"""Estimate the diffuse intensity at scattered q from drawn displacements.

    .. math:: I \approx \overline{|F|^2 - b\, c} - |\langle F \rangle|^2, \quad
              c = 2\, \mathrm{Re}\, \langle F \rangle^* (F - \langle F \rangle)

    The fluctuation c that the Bragg part makes has the known mean 0; b is its least-squares
    coefficient in \|F\|², which leaves the least variance (b = 0 is the plain mean, b = 1 the mean
    of \|F − ⟨F⟩\|²). Near Bragg positions that saves a factor of some ⟨F⟩²/I of the samples.

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons].
    covariance : LowRank or ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3)
        As for `draw_displacements`.
    n_samples : int
        At least 3; some hundred for standard errors to be trusted.
    rng : numpy.random.Generator
        The same samples serve all q: errors at neighbouring q are correlated.
    max_memory : float
        Bytes that the blocks of samples may take.

    Returns
    -------
    intensity : ndarray, shape (n_q,), float64
        [e²], of this one copy; may be negative where the error is larger than the intensity.
    standard_error : ndarray, shape (n_q,), float64
        Of the intensity [e²], from the scatter of the samples; falls as 1/√n_samples.

    Raises
    ------
    InputError
        If a shape does not match, the covariance is not positive semi-definite, there are too few
        samples or too little memory.

    Notes
    -----
    Some 3 ns an atom, q and sample and core. The coefficient b makes a bias of the order of the
    intensity over n_samples, well below the standard error. Samples are not drawn in pairs
    (δ, −δ): these take out what is odd in δ, most of which is c, and double what is even.

    References
    ----------
    .. [1] A. B. Owen, Monte Carlo theory, methods and examples, section 8.9 (control variates).

    Examples
    --------
    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> intensity, error = sampled_intensity(
    ...     q, np.zeros((1, 3)), np.array([[6.0]]), one, 1000, np.random.default_rng(0)
    ... )
    >>> bool(abs(intensity[0] - 36 * (1 - np.exp(-0.1))) <= 3 * error[0] + 1e-9)
    True
    """
    if n_samples < _LEAST_SAMPLES:
        raise InputError(f"n_samples must be >= {_LEAST_SAMPLES}, got {n_samples}")
    problem = _Sampling(q, positions, form_factors, covariance, max_memory)
    mean = problem.mean_structure_factors()
    totals = _Moments.none(len(mean))
    for moved in problem.sets(n_samples, rng):
        parts = [
            _Moments.of(f_calc, mean[chunk]) for chunk, f_calc in problem.structure_factors(moved)
        ]
        totals = totals.merged(_Moments.joined(parts))
    return totals.estimate()


def sampled_gradient(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray | LowRank,
    residual: FloatArray,
    n_samples: int,
    rng: np.random.Generator,
    max_memory: float = 2e9,
) -> FloatArray:
    r"""Estimate the gradient of ``Σ_q residual_q I(q)`` with respect to V from drawn displacements.

    .. math:: \frac{\partial \langle |F|^2 \rangle}{\partial V_{ij}} = \tfrac12 \left\langle
              \frac{\partial^2 |F|^2}{\partial \delta_i \partial \delta_j} \right\rangle

    Unbiased: derivatives of Gaussian averages are averages of derivatives.

    Parameters
    ----------
    q, positions, form_factors, covariance, n_samples, rng, max_memory
        As for `sampled_intensity`; at least one sample.
    residual : ndarray, shape (n_q,), float64
        Weight of each intensity.

    Returns
    -------
    ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3), float64
        Symmetric as V is, every element as if free [e²/Å² times the residual's unit].

    Raises
    ------
    InputError
        As `sampled_intensity`, and if ``residual`` has another shape.

    Notes
    -----
    2 n_atoms² operations a q and sample for an isotropic V, six times that for another: worth it
    for estimates from few samples, as in stochastic descent.

    References
    ----------
    .. [1] R. Price, IRE Trans. Inf. Theory 4 (1958) 69.

    Examples
    --------
    One atom: f² q² exp(−q² U).

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> rng = np.random.default_rng(0)
    >>> f = np.array([[6.0]])
    >>> sampled_gradient(q, np.zeros((1, 3)), f, one, np.ones(1), 5, rng).round(4)
    array([[32.5741]])
    """
    if n_samples < 1:
        raise InputError(f"n_samples must be >= 1, got {n_samples}")
    problem = _Sampling(q, positions, form_factors, covariance, max_memory)
    residual = np.asarray(residual, dtype=np.float64)
    if residual.shape != (len(problem.q),):
        raise InputError(f"residual must be {(len(problem.q),)}, got {residual.shape}")
    return problem.gradient(residual, n_samples, rng)


@dataclass(frozen=True)
class _Moments:
    """Means over samples of y = |F|² − |⟨F⟩|² and c, and sums of products of their deviations."""

    n: int
    y: FloatArray
    c: FloatArray
    yy: FloatArray
    yc: FloatArray
    cc: FloatArray

    @classmethod
    def none(cls, n_q: int) -> _Moments:
        """Moments of no samples."""
        return cls(0, *np.zeros((5, n_q)))

    @classmethod
    def of(cls, f_calc: FloatArray, mean: ComplexArray) -> _Moments:
        """Moments of structure factors (n_samples, 2, m), real and imaginary parts."""
        y = f_calc[:, 0] ** 2 + f_calc[:, 1] ** 2 - np.abs(mean) ** 2
        c = 2 * ((f_calc[:, 0] - mean.real) * mean.real + (f_calc[:, 1] - mean.imag) * mean.imag)
        y_mean, c_mean = y.mean(axis=0), c.mean(axis=0)
        y -= y_mean
        c -= c_mean
        yy, yc, cc = (np.einsum("sq,sq->q", a, b) for a, b in ((y, y), (y, c), (c, c)))
        return cls(len(y), y_mean, c_mean, yy, yc, cc)

    @classmethod
    def joined(cls, parts: list[_Moments]) -> _Moments:
        """Moments of the same samples at more q."""
        y, c, yy, yc, cc = (
            np.concatenate([np.empty(0), *(getattr(part, name) for part in parts)])
            for name in ("y", "c", "yy", "yc", "cc")
        )
        return cls(parts[0].n if parts else 0, y, c, yy, yc, cc)

    def merged(self, other: _Moments) -> _Moments:
        """Moments of the samples of both, at the same q (Chan, Golub and LeVeque, 1979)."""
        n = self.n + other.n
        part, weight = other.n / n, self.n * other.n / n
        dy, dc = other.y - self.y, other.c - self.c
        return _Moments(
            n,
            self.y + part * dy,
            self.c + part * dc,
            self.yy + other.yy + weight * dy * dy,
            self.yc + other.yc + weight * dy * dc,
            self.cc + other.cc + weight * dc * dc,
        )

    def estimate(self) -> tuple[FloatArray, FloatArray]:
        """Value at c = 0 of the least-squares line y(c), and its standard error."""
        varies = self.cc > 1e-200
        cc = np.where(varies, self.cc, 1.0)
        slope = np.where(varies, self.yc / cc, 0.0)
        variance = np.maximum(self.yy - slope * self.yc, 0.0) / (self.n - 2)
        leverage = 1.0 / self.n + np.where(varies, self.c**2 / cc, 0.0)
        return self.y - slope * self.c, np.sqrt(variance * leverage)


class _Sampling:
    """Checked arguments, and structure factors of displaced atoms block by block."""

    def __init__(
        self,
        q: FloatArray,
        positions: FloatArray,
        form_factors: NDArray[np.inexact],
        covariance: FloatArray | LowRank,
        max_memory: float,
    ) -> None:
        self.q, self.positions, self.form_factors = as_scattered_atoms(q, positions, form_factors)
        n_atoms = len(self.positions)
        if covariance.shape not in ((n_atoms, n_atoms), (n_atoms, n_atoms, 3, 3)):
            raise InputError(
                f"covariance must be {(n_atoms, n_atoms)} or {(n_atoms, n_atoms, 3, 3)}, "
                f"got {covariance.shape}"
            )
        self.factor = LowRank(_factor(covariance))
        rank = self.factor.factor.shape[-1]
        # Numbers drawn, displacements and positions, structure factors and three like them.
        sample_bytes = 8.0 * (3 * rank + 9 * n_atoms + 5 * _BLOCK)
        self.n_at_once = min(int(max_memory / sample_bytes), 4096)
        if self.n_at_once < 1:
            raise InputError(
                f"max_memory must be at least {sample_bytes:.3g} bytes, got {max_memory:.3g}"
            )

    def mean_amplitudes(self, chunk: slice) -> ComplexArray:
        """Damped amplitudes a_i of a block of q, (m, n)."""
        q, u = self.q[chunk], self.factor.diagonal()
        if self.factor.is_isotropic:
            exponent = np.outer(np.einsum("qx,qx->q", q, q), u)
        else:
            exponent = np.einsum("qx,ixy,qy->qi", q, u, q, optimize=True)
        phased = np.exp(1j * (q @ self.positions.T) - 0.5 * exponent)
        amplitudes: ComplexArray = self.form_factors[chunk] * phased
        return amplitudes

    def mean_structure_factors(self) -> ComplexArray:
        """⟨F⟩ (n_q,) of the Gaussian distribution."""
        mean = np.empty(len(self.q), dtype=np.complex128)
        for chunk in iter_chunks(len(self.q), _BLOCK):
            mean[chunk] = self.mean_amplitudes(chunk).sum(axis=1)
        return mean

    def sets(self, n_samples: int, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Positions of displaced atoms, (n_sets, n_atoms, 3), in blocks."""
        for chunk in iter_chunks(n_samples, self.n_at_once):
            yield self.positions + draw_displacements(self.factor, chunk.stop - chunk.start, rng)

    def structure_factors(self, moved: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        """F of displaced atoms, (n_sets, 2, m), real and imaginary parts, for each block of q."""
        for chunk in iter_chunks(len(self.q), _BLOCK):
            f = self.form_factors[chunk].T
            re, im = (np.require(x, requirements=["C", "W"]) for x in (f.real, f.imag))
            f_calc = np.empty((len(moved), 2, f.shape[1]))
            q = np.ascontiguousarray(self.q[chunk].T)
            kernels.sampled_structure_factors(q, moved, re, im, f_calc)
            yield chunk, f_calc

    def gradient(
        self, residual: FloatArray, n_samples: int, rng: np.random.Generator
    ) -> FloatArray:
        """Mean over samples of the gradient, (n, n) or (n, n, 3, 3)."""
        n_atoms = len(self.positions)
        every, still = np.arange(n_atoms), np.zeros(n_atoms)
        pairs = _PAIRS[:1] if self.factor.is_isotropic else _PAIRS
        sums = np.zeros((len(pairs), n_atoms, n_atoms))
        for moved in self.sets(n_samples, rng):
            for chunk in iter_chunks(len(self.q), _BLOCK):
                q = self.q[chunk]
                rows, shift = np.arange(chunk.start, chunk.stop), np.zeros(len(q))
                qq = np.stack([q[:, a] * q[:, b] for a, b in pairs])
                if self.factor.is_isotropic:
                    qq = np.einsum("qx,qx->q", q, q)[None]
                weights = np.tile(residual[chunk] * qq, 2)
                mean = self.mean_amplitudes(chunk)
                known = (mean.conj() * mean.sum(axis=1, keepdims=True)).real
                sums[:, every, every] += len(moved) * (weights[:, : len(q)] @ known)
                amplitudes = np.empty((2 * len(q), n_atoms))
                for positions in moved:
                    kernels.phased(
                        self.q, np.ascontiguousarray(positions.T), self.form_factors, rows, shift,
                        still, amplitudes,
                    )  # fmt: skip
                    # Re(e_i* F) is the sum of what real and imaginary parts give.
                    own = amplitudes * amplitudes.sum(axis=1, keepdims=True)
                    for component, weight in enumerate(weights):
                        sums[component] += amplitudes.T @ (weight[:, None] * amplitudes)
                        sums[component, every, every] -= weight @ own
        sums /= n_samples
        if self.factor.is_isotropic:
            isotropic: FloatArray = sums[0]
            return isotropic
        blocks = np.empty((n_atoms, n_atoms, 3, 3))
        for component, (a, b) in enumerate(pairs):
            blocks[:, :, a, b] = blocks[:, :, b, a] = sums[component]
        return blocks


def _factor(covariance: FloatArray | LowRank) -> FloatArray:
    """Factor P of a covariance, V = P Pᵀ, (n, rank) or (n, 3, rank); of a dense V by eigenvectors.

    Raises
    ------
    InputError
        If V is not symmetric or has a negative eigenvalue.
    """
    if isinstance(covariance, LowRank):
        return covariance.factor
    v = check_covariance(covariance, len(covariance))
    n = len(v)
    flat = v if v.ndim == 2 else v.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    values, vectors = np.linalg.eigh(flat)
    if len(values) and values[0] < -_NEGATIVE * values[-1]:
        raise InputError(
            f"covariance must be positive semi-definite, got an eigenvalue of {values[0]:.3g} Å²"
        )
    factor: FloatArray = vectors * np.sqrt(np.maximum(values, 0.0))
    return factor if v.ndim == 2 else factor.reshape(n, 3, 3 * n)
