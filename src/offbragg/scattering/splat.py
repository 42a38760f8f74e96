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
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.special

from offbragg.conventions import TWO_PI, ComplexArray, FloatArray
from offbragg.errors import InputError
from offbragg.runtime import count_workers
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

    def add(
        self, grid: FloatArray, centres: FloatArray, covariances: FloatArray, weights: FloatArray
    ) -> None:
        """Splat Gaussians onto a grid, in place.

        Parameters
        ----------
        grid : ndarray, shape ``shape``
            Changed in place.
        centres : ndarray, shape (n, 3)
            In grid steps (Å times ``to_index``).
        covariances : ndarray, shape (n, 6)
            xx xy xz yy yz zz in grid steps squared, without the blur; positive semi-definite.
        weights : ndarray, shape (n,)
        """
        if len(centres) == 0:
            return
        # Neighbours in y follow each other: the rows that they touch stay in the cache.
        order = np.argsort(np.floor(centres[:, 1] % self.shape[1] / 8), kind="stable")
        step_blur = self.blur * self.to_index @ self.to_index.T
        blurred = covariances[order] + step_blur[np.triu_indices(3)]
        placed = centres[order]
        kept = _kept_fraction(self.radius)
        n_slabs = max(1, self.shape[0] // SLAB_ROWS)
        edges = np.linspace(0, self.shape[0], n_slabs + 1).astype(np.int64)
        starts, members = _kernels.slab_members(placed, blurred, self.radius, self.shape[0], edges)
        _kernels.splat(
            grid, placed, blurred, weights[order] / kept, self.radius, edges, starts, members
        )

    def transform(self, grid: FloatArray, n_workers: int | None = None) -> ComplexArray:
        """Transform a grid of splatted Gaussians to the lattice, blur divided out.

        Returns
        -------
        ndarray, shape ``lattice.shape``, complex128
            ``Σ w exp(+i q·r − ½ qᵀC q)``.
        """
        spectrum = scipy.fft.rfftn(grid, workers=count_workers(n_workers))
        m_x, m_y, m_z = self.lattice.extent
        out = np.empty(self.lattice.shape, dtype=np.complex128)
        # Frequencies from −m to m: the end of each axis, then its beginning.
        for to_x, from_x in _halves(m_x, self.shape[0]):
            for to_y, from_y in _halves(m_y, self.shape[1]):
                np.conj(spectrum[from_x, from_y, : m_z + 1], out=out[to_x, to_y])
        return out

    def unblur(self, q_squared: FloatArray) -> FloatArray:
        """Factor exp(½ s² q²) that undoes the blur; 0 beyond q_max, where nothing is wanted."""
        wanted = q_squared <= self.lattice.q_max**2 * (1 + 1e-9)
        factor: FloatArray = np.exp(0.5 * self.blur * np.where(wanted, q_squared, 0.0)) * wanted
        return factor


def _kept_fraction(radius: float) -> float:
    """Weight of a Gaussian within the samples that are taken: in u = L⁻¹ d, a square at each u₁."""
    u, weights = np.polynomial.legendre.leggauss(64)
    u1 = radius * u
    inside = scipy.special.erf(np.sqrt(np.maximum(radius**2 - u1**2, 0.0) / 2.0)) ** 2
    density = np.exp(-0.5 * u1**2) / np.sqrt(2.0 * np.pi)
    return float(radius * np.sum(weights * density * inside))


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
