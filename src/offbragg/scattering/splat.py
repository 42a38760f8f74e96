r"""Fourier transforms of sums of Gaussians on a reciprocal lattice, by splatting and one FFT.

A Gaussian of centre r, covariance C and weight w transforms to ``w exp(i q·r − ½ qᵀC q)``. Each is
added to a periodic grid over ``sampling × cell``; the FFT of a periodised function is exact at the
box's own nodes, so the box needs no padding however coarse the sampling. Two errors remain, both
steered by one tolerance:

- **aliasing**: the grid is finite, so q and q + G mix. An isotropic blur s² is added to every
  covariance and divided out after the FFT, which leaves ``exp(−½ s² (|q + G|² − |q|²))``;
- **truncation** of the Gaussians at a Mahalanobis radius ρ. The unblurring multiplies what was
  cut by up to ``exp(½ s² q_max²)``. Truncated Gaussians keep their exact weight.

Atoms give structure factors this way (C = U_i), pairs of atoms the Patterson function
(C = D_ij, see `offbragg.scattering.gaussian`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.special
from numpy.typing import NDArray

from offbragg.conventions import TWO_PI, BoolArray, ComplexArray, FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.runtime import count_workers, iter_chunks
from offbragg.scattering import _kernels
from offbragg.scattering.lattice import HalfLattice

OVERSAMPLING = 1.5
# What truncation may cost, as a fraction of the tolerance. Its error is the same for all pairs, so
# near q = 0 it adds up where aliasing does not; a tenth makes Gaussians a tenth larger.
TRUNCATION_SHARE = 0.1
# The grid is cut into slabs of this many rows, whatever the number of threads: each slab is filled
# by one thread, in the order of the Gaussians, so sums do not depend on the threads. Thinner slabs
# would make most Gaussians, some 15 rows wide, be set up in many of them.
SLAB_ROWS = 12
# Rows that are transformed along y and z at a time: few enough to stay in the cache.
FFT_ROWS = 8


@dataclass(frozen=True, eq=False)
class PlacedGaussians:
    """Centres (n, 3) and covariances (n, 6: xx xy xz yy yz zz), blur included, in grid steps."""

    centres: FloatArray
    covariances: FloatArray

    def take(self, which: BoolArray | IntArray) -> PlacedGaussians:
        """Some of them."""
        return PlacedGaussians(self.centres[which], self.covariances[which])


@dataclass(frozen=True)
class SplatPlan:
    """Grid, blur and cut-off for transforms onto a `HalfLattice` to a given tolerance.

    Attributes
    ----------
    lattice : HalfLattice
    shape : tuple of 3 int
        Real-space grid over the box.
    blur : float
        Isotropic variance s² [Å²] added to every Gaussian and divided out afterwards.
    radius : float
        Cut-off in standard deviations.
    to_index : ndarray, shape (3, 3)
        Turns Cartesian Å into grid steps.
    """

    lattice: HalfLattice
    shape: tuple[int, int, int]
    blur: float
    radius: float
    to_index: FloatArray

    @classmethod
    def for_tolerance(
        cls,
        lattice: HalfLattice,
        tolerance: float,
        least_variance: float = 0.0,
        oversampling: float = OVERSAMPLING,
    ) -> SplatPlan:
        """Choose the grid, blur and cut-off so that a Gaussian's transform is good to tolerance.

        Parameters
        ----------
        lattice : HalfLattice
        tolerance : float
            Error of one transform as a fraction of its weight, 0 < tolerance < 1.
        least_variance : float
            Least eigenvalue [Å²] that the covariances will have: wide Gaussians need less blur.
        oversampling : float
            Grid steps per half of the shortest wave, > 1.
        """
        if not 0 < tolerance < 1:
            raise InputError(f"tolerance must be between 0 and 1, got {tolerance}")
        n = np.array(lattice.sampling)
        # On each axis the nearest alias N − m of the outermost wanted node m must be as far out as
        # for a full sphere of radius M: (N − m)² − m² ≥ ((2R − 1)² − 1) M².
        sphere = lattice.q_max * n * np.array(lattice.cell[:3]) / TWO_PI
        outermost = np.minimum(np.array(lattice.extent), sphere)
        reach = (2 * oversampling - 1) ** 2 - 1
        needed = np.maximum(
            outermost + np.sqrt(outermost**2 + reach * sphere**2),
            2 * np.array(lattice.extent) + 2,
        )
        # In oblique cells that is not yet enough where a lattice is thin: go on towards the grid
        # of a full sphere, which is.
        full = 2 * oversampling * sphere + 2
        while True:
            n_x, n_y, n_z = (
                scipy.fft.next_fast_len(max(4, int(np.ceil(x))), real=True) for x in needed
            )
            shape = (n_x, n_y, n_z)
            gap = _alias_gap(lattice, shape)
            if gap >= 0.9 * reach * lattice.q_max**2 or np.all(needed >= full):
                break
            needed = np.maximum(needed, np.minimum(1.15 * needed, full))
        blur = max(2 * np.log(1 / tolerance) / gap - least_variance, 0.0)
        cut = TRUNCATION_SHARE * tolerance * np.exp(-0.5 * blur * lattice.q_max**2)
        # Volume-weighted: the tail beyond ρ of a three-dimensional Gaussian holds `cut`.
        radius = float(np.sqrt(scipy.special.chdtri(3, cut)))
        to_index = (np.array(shape) / n)[:, None] * lattice.cell.frac_matrix
        return cls(lattice, shape, float(blur), radius, to_index)

    def size_of(self, variance: FloatArray) -> FloatArray:
        """Grid points that Gaussians of a mean variance [Å²] touch, about: what they cost."""
        steps = (
            self.radius * np.sqrt(variance + self.blur) * np.linalg.det(self.to_index) ** (1 / 3)
        )
        size: FloatArray = 4.0 / 3.0 * np.pi * steps**3
        return size

    def real_space_grid(self) -> FloatArray:
        """Return an empty (zero) periodic grid of this plan."""
        return np.zeros(self.shape)

    @property
    def kept(self) -> tuple[float, FloatArray]:
        """Weight of a Gaussian within the cut-off, and second moments of u = L⁻¹ d there."""
        return _kept_moments(self.radius)

    def place(self, separations: FloatArray, covariances: FloatArray) -> PlacedGaussians:
        """Turn centres [Å] and packed covariances [Å²] into grid steps, blur added.

        Covariances are a little wider, so that what is left of a Gaussian within the cut-off has
        its second moments: near q = 0, where errors of pairs add up, transforms are then exact to
        order q².
        """
        step_blur = self.blur * self.to_index @ self.to_index.T
        packed = covariances @ _packed_turn(self.to_index).T + step_blur[np.triu_indices(3)]
        along, across, _ = self.kept[1]
        # C = Σ l_k l_kᵀ over the columns of its Cholesky factor; l_1 = (first column) / √C_xx.
        first = packed[:, :3]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(packed[:, :1] > 0, (1 / along - 1 / across) / packed[:, :1], 0.0)
        rows, columns = np.triu_indices(3)
        widened = packed / across + share * first[:, rows] * first[:, columns]
        return PlacedGaussians(separations @ self.to_index.T, widened)

    def add(
        self,
        grid: FloatArray,
        placed: PlacedGaussians,
        weights: FloatArray,
        first_row: int = 0,
    ) -> None:
        """Splat Gaussians onto a grid, in place.

        Parameters
        ----------
        grid : ndarray, shape (n_rows, n_y, n_z)
            Rows ``first_row`` … of the periodic grid; changed in place.
        placed : PlacedGaussians
        weights : ndarray, shape (n,)
        """
        self._splat(_kernels.splat, grid, placed, weights / self.kept[0], first_row)

    def add_changes(
        self,
        grid: FloatArray,
        placed: PlacedGaussians,
        changes: FloatArray,
        weights: FloatArray,
        first_row: int = 0,
    ) -> None:
        """Splat what Gaussians change by when their covariances change.

        Parameters as for `add`; changes: ndarray, shape (n, 6), xx xy xz yy yz zz [Å²].
        """
        kept, second = self.kept
        forms = _kernels.derivative_forms(
            placed.covariances, changes @ _packed_turn(self.to_index).T, weights / kept, second
        )
        self._splat(_kernels.splat_polynomials, grid, placed, forms, first_row)

    def _splat(
        self,
        kernel: Callable[..., None],
        grid: FloatArray,
        placed: PlacedGaussians,
        weights: FloatArray,
        first_row: int,
    ) -> None:
        if len(placed.centres) == 0:
            return
        # Neighbours in y follow each other: the rows that they touch stay in the cache.
        order = np.argsort(np.floor(placed.centres[:, 1] % self.shape[1] / 8), kind="stable")
        centres, covariances = placed.centres[order], placed.covariances[order]
        n_slabs = max(1, len(grid) // SLAB_ROWS)
        edges = np.linspace(first_row, first_row + len(grid), n_slabs + 1).astype(np.int64)
        starts, members = _kernels.slab_members(
            centres, covariances, self.radius, self.shape[0], edges
        )
        kernel(
            grid, self.shape[0], centres, covariances, weights[order], self.radius, edges, starts,
            members,
        )  # fmt: skip

    def gather_gradients(
        self, field: FloatArray, placed: PlacedGaussians, weights: FloatArray
    ) -> FloatArray:
        """Gradients of ``Σ field · splat`` by the covariances: the transpose of `add_changes`.

        Parameters
        ----------
        field : ndarray, shape ``shape``
        placed : PlacedGaussians
        weights : ndarray, shape (n,)

        Returns
        -------
        ndarray, shape (n, 3, 3), float64
            Symmetric S [1/Å²] such that a change dC gives ``Σ_ab S_ab dC_ab``.
        """
        if len(placed.centres) == 0:
            return np.empty((0, 3, 3))
        kept, second = self.kept
        moments = _kernels.gather_moments(field, placed.centres, placed.covariances, self.radius)
        in_steps = _kernels.covariance_gradients(
            moments, placed.covariances, weights / kept, second
        )
        gradients: FloatArray = self.to_index.T @ in_steps @ self.to_index
        return gradients

    def gather_values(
        self, field: FloatArray, placed: PlacedGaussians, weights: FloatArray
    ) -> FloatArray:
        """Sums of field times each Gaussian, shape (n,): the transpose of `add`."""
        if len(placed.centres) == 0:
            return np.empty(0)
        moments = _kernels.gather_moments(field, placed.centres, placed.covariances, self.radius)
        values: FloatArray = moments[:, 0] * weights / self.kept[0]
        return values

    def row_spectrum(self) -> ComplexArray:
        """Return an empty array for rows transformed along y and z, the wanted frequencies only."""
        _, m_y, m_z = self.lattice.extent
        return np.empty((self.shape[0], 2 * m_y + 1, m_z + 1), dtype=np.complex128)

    def transform_rows(self, grid: FloatArray, spectrum: ComplexArray, first_row: int = 0) -> None:
        """Transform rows of a grid along y and z, into their place in a `row_spectrum`."""
        _, m_y, m_z = self.lattice.extent
        n_y = self.shape[1]
        workers = count_workers(None)
        for chunk in iter_chunks(len(grid), FFT_ROWS):
            along_z = scipy.fft.rfft(grid[chunk], axis=2, workers=workers)[:, :, : m_z + 1]
            plane = scipy.fft.fft(along_z, axis=1, workers=workers)
            to = slice(first_row + chunk.start, first_row + chunk.stop)
            for place, source in _halves(m_y, n_y):
                spectrum[to, place] = plane[:, source]

    def along_x(self, spectrum: ComplexArray) -> ComplexArray:
        """Transform a filled `row_spectrum` along x; frequencies along x in the FFT's order."""
        transformed: ComplexArray = scipy.fft.fft(
            spectrum, axis=0, workers=count_workers(None), overwrite_x=True
        )
        return transformed

    def transform(self, grid: FloatArray) -> ComplexArray:
        """Transform a grid of splatted Gaussians to the lattice.

        Returns
        -------
        ndarray, shape ``lattice.shape``, complex128
            ``Σ w exp(+i q·r − ½ qᵀ(C + s²) q)``: multiply by `unblur`.
        """
        spectrum = self.row_spectrum()
        self.transform_rows(grid, spectrum)
        along_x = self.along_x(spectrum)
        out = np.empty(self.lattice.shape, dtype=np.complex128)
        for place, source in _halves(self.lattice.extent[0], self.shape[0]):
            np.conj(along_x[source], out=out[place])
        return out

    def adjoint_transform(self, values: NDArray[np.inexact]) -> FloatArray:
        """Real-space field whose sum with a grid is ``Re Σ values · transform(grid)``.

        Parameters
        ----------
        values : ndarray, ``lattice.shape``, float64 or complex128
            The sum is over the nodes of the half lattice, each once.
        """
        (m_x, m_y, m_z), (n_x, n_y, n_z) = self.lattice.extent, self.shape
        workers = count_workers(None)
        # Re Σ_m A e^{im·x} over half a lattice is a full Hermitian sum of A/2 and its mirror.
        half = 0.5 * values.astype(np.complex128)
        half[:, :, 0] += np.conj(half[::-1, ::-1, 0])
        spectrum = np.zeros((n_x, 2 * m_y + 1, m_z + 1), dtype=np.complex128)
        for place, source in _halves(m_x, n_x):
            spectrum[source] = half[place]
        spectrum = scipy.fft.ifft(
            spectrum, axis=0, norm="forward", workers=workers, overwrite_x=True
        )
        field = np.empty(self.shape)
        for chunk in iter_chunks(n_x, FFT_ROWS):
            plane = np.zeros((chunk.stop - chunk.start, n_y, m_z + 1), dtype=np.complex128)
            for place, source in _halves(m_y, n_y):
                plane[:, source] = spectrum[chunk, place]
            plane = scipy.fft.ifft(plane, axis=1, norm="forward", workers=workers, overwrite_x=True)
            field[chunk] = scipy.fft.irfft(plane, n=n_z, axis=2, norm="forward", workers=workers)
        return field

    def unblur(self, q_squared: FloatArray) -> FloatArray:
        """Factor exp(½ s² q²) that undoes the blur; 0 beyond q_max, where nothing is wanted."""
        wanted = q_squared <= self.lattice.q_max**2 * (1 + 1e-9)
        factor: FloatArray = np.exp(0.5 * self.blur * np.where(wanted, q_squared, 0.0)) * wanted
        return factor


def _packed_turn(matrix: FloatArray) -> FloatArray:
    """Matrix (6, 6) that takes packed symmetric C to packed ``M C Mᵀ``."""
    rows, columns = np.triu_indices(3)
    turn = np.empty((6, 6))
    for entry in range(6):
        unit = np.zeros((3, 3))
        unit[rows[entry], columns[entry]] = unit[columns[entry], rows[entry]] = 1.0
        turn[:, entry] = (matrix @ unit @ matrix.T)[rows, columns]
    return turn


@lru_cache(maxsize=256)
def _kept_moments(radius: float) -> tuple[float, FloatArray]:
    """Weight of a Gaussian within the samples that are taken, and second moments of u there.

    In u = L⁻¹ d these are |u₁| ≤ ρ and, at each u₁, a square of half side √(ρ² − u₁²).
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    u1 = radius * nodes
    side = np.sqrt(np.maximum(radius**2 - u1**2, 0.0))
    inside = scipy.special.erf(side / np.sqrt(2.0))
    spread = inside - side * np.exp(-0.5 * side**2) * np.sqrt(2.0 / np.pi)
    density = radius * weights * np.exp(-0.5 * u1**2) / np.sqrt(2.0 * np.pi)
    kept = float(np.sum(density * inside**2))
    along = float(np.sum(density * inside**2 * u1**2)) / kept
    across = float(np.sum(density * inside * spread)) / kept
    return kept, np.array([along, across, across])


def _alias_gap(lattice: HalfLattice, shape: tuple[int, ...]) -> float:
    """Smallest |q + G|² − |q|² over wanted q and the grid's reciprocal vectors G."""
    vectors = lattice.reciprocal_vectors
    corners = np.array(list(itertools.product((-1, 1), repeat=3))) * np.array(lattice.extent)
    corner_q = corners @ vectors
    steps = np.array([m for m in itertools.product(range(-3, 4), repeat=3) if any(m)])
    aliases = (steps * np.array(shape)) @ vectors
    # q·G is least at a corner of the box of nodes, and no less than on the sphere.
    on_sphere = -lattice.q_max * np.linalg.norm(aliases, axis=1)
    least = np.maximum(np.min(corner_q @ aliases.T, axis=0), on_sphere)
    return float(np.min(np.sum(aliases**2, axis=1) + 2 * least))


def _halves(extent: int, n: int) -> tuple[tuple[slice, slice], ...]:
    """Where frequencies −extent … −1 and 0 … extent go, and where an FFT of length n has them."""
    return (
        (slice(0, extent), slice(n - extent, n)),
        (slice(extent, 2 * extent + 1), slice(0, extent + 1)),
    )
