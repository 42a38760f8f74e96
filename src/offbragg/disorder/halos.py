r"""The convolution form of crystal-wide liquid-like motions: halos around Bragg positions.

With the crystal's Patterson function written as its Bragg comb, the n-th order becomes

.. math:: \Phi_n(\mathbf q) = \frac{1}{V} \sum_{\mathbf H} |F(\mathbf H)|^2\,
          \tilde\Gamma_n(\mathbf q - \mathbf H), \quad
          I = e^{-q^2\sigma^2} \sum_n \frac{(q^2\sigma^2)^n}{n!} \Phi_n .
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from offbragg.conventions import TWO_PI, FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.structure_factors import structure_factors_on_lattice

# Bragg positions count up to so far beyond the map, in units of 1/γ: their halos are then below
# 1e-3 of their peaks (1e-8 for the Gaussian kernel).
_MARGIN = 6.0
_TOLERANCE = 1e-7


def halo_series(
    lattice: HalfLattice,
    structure: AtomicStructure,
    u_iso: float,
    correlation_length: float,
    kernel: str,
    order: int,
) -> FloatArray:
    """Diffuse intensity of a cell on a lattice, in the convolution form, up to an order.

    Parameters
    ----------
    lattice : HalfLattice
    structure : AtomicStructure
        All atoms of the cell, in P 1.
    u_iso : float
        σ² [Å²].
    correlation_length : float
        γ [Å].
    kernel : {"exponential", "gaussian"}
    order : int

    Returns
    -------
    ndarray, ``lattice.shape``, float64
        [e²] per cell; 0 beyond q_max.

    Notes
    -----
    Form factors are those at the Bragg positions, undamped. Voxels of one fractional part of hkl
    see the comb through the same samples of the kernel: one FFT convolution over whole hkl for
    each of them and each order. Form of Caspar et al., Nature 332, 659 (1988), with the prefactor
    1/(8π³) of the continuous convolution, which makes 1/V for a comb.
    """
    # Slow to import, and few use it.
    from scipy.signal import fftconvolve

    n = np.array(lattice.sampling)
    extent = np.array(lattice.extent)
    margin = _MARGIN * order / correlation_length
    widened = np.ceil(extent / n + margin * np.array(lattice.cell[:3]) / TWO_PI).astype(np.int64)
    comb = _bragg_comb(lattice, structure, widened, lattice.q_max + margin)
    volume = float(np.linalg.det(lattice.cell.orth_matrix))
    x = lattice.q_squared() * u_iso
    total = np.zeros(lattice.shape)
    for part in itertools.product(*(range(step) for step in n)):
        # Nodes m = n p + part: whole parts p, and where they lie in the lattice.
        low = -((extent + part) // n)
        low[2] = 0
        high = (extent - part) // n
        if np.any(high < low):
            continue
        where = tuple(
            slice(first * step + offset + start, last * step + offset + start + 1, step)
            for first, last, step, offset, start in zip(
                low, high, n, part, (extent[0], extent[1], 0), strict=True
            )
        )
        steps = [
            np.arange(first - wide, last + wide + 1) + offset / step
            for first, last, wide, offset, step in zip(low, high, widened, part, n, strict=True)
        ]
        q_squared = _squared_lengths(steps, lattice)
        for k in range(1, order + 1):
            halo = _kernel_transform(q_squared, correlation_length, kernel, k)
            # Only where all of the comb lies within the kernel's array: the map's own nodes.
            phi = fftconvolve(halo, comb, mode="valid") / volume
            own = x[where]
            total[where] += np.exp(-own) * own**k / math.factorial(k) * phi
    within = lattice.q_squared() <= lattice.q_max**2 * (1 + 1e-9)
    intensity: FloatArray = np.where(within, np.maximum(total, 0.0), 0.0)
    return intensity


def _bragg_comb(
    lattice: HalfLattice, structure: AtomicStructure, extent: IntArray, q_max: float
) -> FloatArray:
    """|F|² of the cell without damping at whole hkl from −extent to extent; 0 beyond q_max."""
    nodes = HalfLattice(lattice.cell, (1, 1, 1), _as_extent(extent), q_max)
    f_cell = structure_factors_on_lattice(
        nodes, structure.positions, structure.elements, structure.occupancies,
        np.zeros((structure.n_atoms, 3, 3)), _TOLERANCE,
    )  # fmt: skip
    half = f_cell.real**2 + f_cell.imag**2
    return np.concatenate([half[::-1, ::-1, :0:-1], half], axis=2)


def _squared_lengths(steps: list[FloatArray], lattice: HalfLattice) -> FloatArray:
    """|q|² [Å⁻²] for fractional hkl along each axis."""
    vectors = TWO_PI * lattice.cell.frac_matrix
    x, y, z = (s[:, None] * v for s, v in zip(steps, vectors, strict=True))
    total = np.zeros(tuple(len(s) for s in steps))
    for axis in range(3):
        line = x[:, None, None, axis] + y[None, :, None, axis] + z[None, None, :, axis]
        total += line**2
    return total


def _as_extent(values: IntArray) -> tuple[int, int, int]:
    x, y, z = (int(value) for value in values)
    return x, y, z


def _kernel_transform(q_squared: FloatArray, length: float, kernel: str, power: int) -> FloatArray:
    """Fourier transform [Å³] of Γⁿ: of the same kernel with a shorter length."""
    if kernel == "exponential":
        short = length / power
        transform: FloatArray = 8 * np.pi * short**3 / (1 + q_squared * short**2) ** 2
        return transform
    short = length / math.sqrt(power)
    gaussian: FloatArray = (2 * np.pi) ** 1.5 * short**3 * np.exp(-0.5 * q_squared * short**2)
    return gaussian
