r"""Isotropic covariance at scattered q: intensity, gradient and products by matrix products.

With undamped ``e_i = f_i e^{i q·r_i}`` and the matrix G of `offbragg.scattering.gemm_plan`, which
depends on \|q\| alone and is real and symmetric,

.. math:: I(\mathbf q) = \mathbf e^H G(q^2)\, \mathbf e
          \approx \sum_k L_k(q^2) \frac{q^2}{x_k}\, \tilde{\mathbf e}^H \tilde G(x_k)\,
          \tilde{\mathbf e}

for all q of a panel with the same few matrices: two real matrix products a node. Each thread has
strips of columns of its own, and matrix products of one thread. ``ẽ`` holds
``exp(−q²v_ii/4)`` and ``G̃`` its inverse, both relative to the middle of the panel, so that what is
interpolated in q² varies slowly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.runtime import count_workers, map_in_order, one_blas_thread
from offbragg.scattering import _gemm_kernels as kernels
from offbragg.scattering.arguments import as_scattered_atoms
from offbragg.scattering.displacements import check_covariance
from offbragg.scattering.gemm_plan import GemmPlan, Panel

# Nodes x_k (n_nodes,), and (n_nodes, n): ½x_k v_ii, exp(−½x_k v_ii), factors of rows and columns.
_Factors = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


def diffuse_gemm(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    rtol: float = 1e-6,
    max_memory: float = 2e9,
) -> FloatArray:
    r"""Diffuse intensity at scattered q for an isotropic covariance, by matrix products.

    .. math:: I(\mathbf q) = \sum_{ij} a_i^* a_j [e^{q^2 v_{ij}} - 1]

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons]; complex with anomalous scattering.
    covariance : ndarray, shape (n_atoms, n_atoms), float64
        V, the covariance per Cartesian axis [Å²], not B.
    rtol : float
        Bound of the error as a fraction of ``Σ_ij |a_i a_j (e^{q²v_ij} − 1)|``, where d > 8 Å of
        ``Σ_i`` alone; of the intensity itself it is, as a rule, the same fraction or less.
    max_memory : float
        Bytes that the work may take, besides the arguments.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²], of this one copy.

    Raises
    ------
    InputError
        If a shape does not match, a value is not finite, the covariance is not symmetric, ``rtol``
        is not between 0 and 1 or ``max_memory`` too small.

    Notes
    -----
    About 2 n_atoms² floating-point operations a q and node, at the rate of matrix products;
    2 or 3 nodes for 1e-4, 3 for 1e-6, 1 for q on few shells.

    Examples
    --------
    One atom, U = 0.1 Å²: f² (1 − exp(−q² U)).

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> diffuse_gemm(q, np.zeros((1, 3)), np.array([[6.0]]), one).round(4)
    array([3.4259])
    """
    sums = _Sums(q, positions, form_factors, covariance, rtol, max_memory)
    return sums.forward(np.empty((0, 0)))


def gemm_product(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    direction: FloatArray,
    rtol: float = 1e-6,
    max_memory: float = 2e9,
) -> FloatArray:
    r"""Change of `diffuse_gemm` along a direction of V, ``Σ_ij ∂I/∂V_ij d_ij``.

    Parameters
    ----------
    q, positions, form_factors, covariance, rtol, max_memory
        As for `diffuse_gemm`.
    direction : ndarray, shape (n_atoms, n_atoms), float64
        Symmetric dV [Å²].

    Returns
    -------
    ndarray, shape (n_q,), float64
        dI [e²].

    Raises
    ------
    InputError
        As `diffuse_gemm`, and if the direction has another shape or is not symmetric.

    Examples
    --------
    One atom: dI = f² q² exp(−q² U) dU.

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> gemm_product(q, np.zeros((1, 3)), np.array([[6.0]]), one, np.ones((1, 1))).round(4)
    array([32.5741])
    """
    sums = _Sums(q, positions, form_factors, covariance, rtol, max_memory)
    return sums.forward(_checked_direction(direction, len(sums.v)))


def gemm_gradient(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    residual: FloatArray,
    rtol: float = 1e-6,
    max_memory: float = 2e9,
) -> FloatArray:
    r"""Gradient of ``Σ_q residual_q I(q)`` with respect to V: the transpose of `gemm_product`.

    Parameters
    ----------
    q, positions, form_factors, covariance, rtol, max_memory
        As for `diffuse_gemm`.
    residual : ndarray, shape (n_q,), float64
        Weight of each intensity.

    Returns
    -------
    ndarray, shape (n_atoms, n_atoms), float64
        Symmetric G, every element as if free: ``Σ_ij G_ij dV_ij`` is the change for symmetric dV
        [e²/Å² times the residual's unit].

    Raises
    ------
    InputError
        As `diffuse_gemm`, and if ``residual`` has another shape.

    Notes
    -----
    Per node ``C diag(r) Cᵀ + S diag(r) Sᵀ``: as many operations as the intensity.

    Examples
    --------
    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> gemm_gradient(q, np.zeros((1, 3)), np.array([[6.0]]), one, np.ones(1)).round(4)
    array([[32.5741]])
    """
    sums = _Sums(q, positions, form_factors, covariance, rtol, max_memory)
    return sums.backward(_checked_residual(residual, len(sums.q)), np.empty((0, 0)))


def gemm_hessian_product(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    residual: FloatArray,
    direction: FloatArray,
    rtol: float = 1e-6,
    max_memory: float = 2e9,
) -> FloatArray:
    """Second derivative of ``Σ_q residual_q I(q)`` with respect to V, times a direction.

    Parameters
    ----------
    q, positions, form_factors, covariance, residual, rtol, max_memory
        As for `gemm_gradient`.
    direction : ndarray, shape (n_atoms, n_atoms), float64
        Symmetric dV [Å²].

    Returns
    -------
    ndarray, shape (n_atoms, n_atoms), float64
        Symmetric: the change of `gemm_gradient` along the direction.

    Raises
    ------
    InputError
        As `gemm_gradient` and `gemm_product`.

    Examples
    --------
    One atom: −f² q⁴ exp(−q² U) dU.

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> r, d = np.ones(1), np.ones((1, 1))
    >>> gemm_hessian_product(q, np.zeros((1, 3)), np.array([[6.0]]), one, r, d).round(4)
    array([[-32.5741]])
    """
    sums = _Sums(q, positions, form_factors, covariance, rtol, max_memory)
    direction = _checked_direction(direction, len(sums.v))
    return sums.backward(_checked_residual(residual, len(sums.q)), direction)


class _Sums:
    """Checked arguments and their plan; the sums over pairs, forwards and backwards."""

    def __init__(
        self,
        q: FloatArray,
        positions: FloatArray,
        form_factors: NDArray[np.inexact],
        covariance: FloatArray,
        rtol: float,
        max_memory: float,
    ) -> None:
        self.q, positions, self.form_factors = as_scattered_atoms(q, positions, form_factors)
        n_atoms = len(positions)
        for name, values in (("q", self.q), ("form_factors", self.form_factors)):
            # The sum of all is finite only if each is.
            if not np.isfinite(values.sum()):
                raise InputError(f"{name} must be finite, got NaN or infinity")
        if np.shape(covariance) != (n_atoms, n_atoms):
            raise InputError(
                f"an isotropic covariance must be {(n_atoms, n_atoms)}, got {np.shape(covariance)}"
            )
        self.v = check_covariance(covariance, n_atoms)
        self.positions = np.ascontiguousarray(positions.T)
        self.plan = GemmPlan.build(self.q, self.form_factors, self.v, rtol, max_memory)
        self.n_workers = min(count_workers(), self.plan.n_workers)
        self.workspaces: SimpleQueue[tuple[FloatArray, FloatArray]] = SimpleQueue()

    def forward(self, direction: FloatArray) -> FloatArray:
        """Intensities, or with a direction of V their derivatives along it, (n_q,)."""
        intensity = np.zeros(len(self.q))

        def strip_sums(strip: _Strip) -> tuple[IntArray, FloatArray]:
            factors, (first, last), amplitudes = strip.factors, strip.columns, strip.amplitudes
            sums = np.empty(len(strip.panel.rows))
            n_columns = len(strip.panel.nodes) * (last - first)
            with self._workspace() as (tile_memory, product_memory):
                tile = _shaped(tile_memory, n_columns, len(amplitudes))
                if len(direction):
                    kernels.tangent_tile(self.v, direction, *factors, first, last, tile)
                else:
                    kernels.kernel_tile(self.v, *factors, first, last, tile)
                products = _shaped(product_memory, n_columns, amplitudes.shape[1])
                np.matmul(tile, amplitudes, out=products)
                kernels.add_forms(products, amplitudes, strip.panel.weights, sums)
            return strip.panel.rows, sums

        with one_blas_thread():
            for rows, sums in map_in_order(strip_sums, self._strips(), self.n_workers):
                intensity[rows] += sums
        return intensity

    def backward(self, residual: FloatArray, direction: FloatArray) -> FloatArray:
        """Gradient (n, n) of Σ residual I, or with a direction its derivative along it."""
        n_atoms = len(self.v)

        def strip_sums(strip: _Strip) -> tuple[int, int, FloatArray, FloatArray]:
            factors, (first, last), amplitudes = strip.factors, strip.columns, strip.amplitudes
            width = last - first
            n_columns = len(strip.panel.nodes) * width
            own = np.empty((width, n_atoms - first))
            with self._workspace() as (tile_memory, weighed_memory):
                weighed = _shaped(weighed_memory, n_columns, amplitudes.shape[1])
                weights = strip.panel.weights * residual[strip.panel.rows]
                kernels.weigh(amplitudes, weights, weighed)
                tile = _shaped(tile_memory, n_columns, len(amplitudes))
                np.matmul(weighed, amplitudes.T, out=tile)
                if len(direction):
                    kernels.curvature_tile(self.v, direction, *factors, first, last, tile, own)
                else:
                    kernels.gradient_tile(self.v, *factors, first, last, tile, own)
                through = tile.sum(axis=0)
                through[:width] += tile[:, width:].sum(axis=1).reshape(-1, width).sum(axis=0)
            return first, last, own, through

        # Lower triangle, a strip a time; what the diagonal gets through G_ij, all j.
        lower, all_through = np.zeros((n_atoms, n_atoms)), np.zeros(n_atoms)
        with one_blas_thread():
            for first, last, own, through in map_in_order(
                strip_sums, self._strips(), self.n_workers
            ):
                lower[first:, first:last] += own.T
                all_through[first:] += through
        gradient = np.tril(lower) + np.tril(lower, -1).T
        gradient[np.diag_indices(n_atoms)] -= all_through
        return gradient

    def _strips(self) -> Iterator[_Strip]:
        """Strips of columns of every panel, each to be done by one thread."""
        quarter = 0.25 * np.diag(self.v)
        panels, n_atoms = self.plan.panels, len(self.v)
        most = 2 * n_atoms * max((len(panel.rows) for panel in panels), default=0)
        # Used in turn: fresh memory is slow the first time.
        rooms = [np.empty(most) for _ in range(self.plan.n_panels_at_once)]
        for number, panel in enumerate(panels):
            amplitudes = _shaped(rooms[number % len(rooms)], n_atoms, 2 * len(panel.rows))
            kernels.phased_columns(
                self.q, self.positions, self.form_factors, panel.rows, panel.shift, quarter,
                amplitudes,
            )  # fmt: skip
            half = 2.0 * panel.nodes[:, None] * quarter
            scale = np.exp((panel.nodes - panel.centre)[:, None] * quarter)
            factors = panel.nodes, half, np.exp(-half), scale
            # The longest last: threads are busy with them while the next amplitudes are made.
            for first, last in reversed(self.plan.columns()):
                yield _Strip(panel, amplitudes[first:], factors, (first, last))

    @contextmanager
    def _workspace(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Room for the largest tile, and for the largest products with amplitudes."""
        try:
            room = self.workspaces.get_nowait()
        except Empty:
            panels = self.plan.panels
            n_columns = self.plan.width * max(len(p.nodes) for p in panels)
            n_rows = 2 * max(len(p.rows) for p in panels)
            room = np.empty(len(self.v) * n_columns), np.empty(n_rows * n_columns)
        yield room
        self.workspaces.put(room)


@dataclass(frozen=True, eq=False)
class _Strip:
    """Columns of a panel's matrices, with the amplitudes (n − first, 2m) from the first one on."""

    panel: Panel
    amplitudes: FloatArray
    factors: _Factors
    columns: tuple[int, int]


def _shaped(memory: FloatArray, n_rows: int, n_columns: int) -> FloatArray:
    """Return the beginning of an array as a matrix, without copying."""
    return memory[: n_rows * n_columns].reshape(n_rows, n_columns)


def _checked_direction(direction: FloatArray, n_atoms: int) -> FloatArray:
    """Return a direction (n, n) of V as an array after checking that it is symmetric."""
    d = np.ascontiguousarray(direction, dtype=np.float64)
    if d.shape != (n_atoms, n_atoms):
        raise InputError(f"direction must be {(n_atoms, n_atoms)}, got {d.shape}")
    if not np.all(np.abs(d - d.T) <= 1e-8 * np.max(np.abs(d), initial=0.0)):
        raise InputError("direction must be finite and symmetric")
    return d


def _checked_residual(residual: FloatArray, n_q: int) -> FloatArray:
    """Return weights (n_q,) as an array after checking their shape."""
    r = np.asarray(residual, dtype=np.float64)
    if r.shape != (n_q,):
        raise InputError(f"residual must be {(n_q,)}, got {r.shape}")
    return r
