r"""The convolution form of crystal-wide liquid-like motions: halos around Bragg positions.

With the crystal's Patterson function written as its Bragg comb, the n-th order becomes

.. math:: \Phi_n(\mathbf q) = \frac{1}{V} \sum_{\mathbf H} |F(\mathbf H)|^2\,
          \tilde\Gamma_n(\mathbf q - \mathbf H), \quad
          I = e^{-q^2\sigma^2} \sum_n \frac{(q^2\sigma^2)^n}{n!} \Phi_n .
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import scipy.signal

from offbragg.conventions import FloatArray, IntArray
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
    Form factors are those at the Bragg positions, undamped. One FFT convolution an order over the
    lattice and a margin. Form of Caspar et al., Nature 332, 659 (1988), with the prefactor
    1/(8π³) of the continuous convolution, which makes 1/V for a comb.
    """
    margin = _MARGIN * order / correlation_length
    n = np.array(lattice.sampling)
    edges = np.array(lattice.cell[:3]) * n / (2 * np.pi)
    widened = np.array(lattice.extent) + np.ceil(margin * edges).astype(int)
    wide = replace(
        lattice,
        extent=_as_extent(widened),
        q_max=lattice.q_max + margin,
    )
    still = np.zeros((structure.n_atoms, 3, 3))
    comb_lattice = replace(
        wide,
        sampling=(1, 1, 1),
        extent=_as_extent(widened // n),
    )
    f_cell = structure_factors_on_lattice(
        comb_lattice, structure.positions, structure.elements, structure.occupancies, still,
        _TOLERANCE,
    )  # fmt: skip
    comb = np.zeros(2 * widened + 1)
    nodes = [
        np.arange(-m, m + 1) * step + w
        for m, step, w in zip(comb_lattice.extent, n, widened, strict=True)
    ]
    squares = f_cell.real**2 + f_cell.imag**2
    comb[np.ix_(nodes[0], nodes[1], nodes[2][comb_lattice.extent[2] :])] = squares
    comb[np.ix_(nodes[0], nodes[1], nodes[2][: comb_lattice.extent[2]])] = squares[
        ::-1, ::-1, :0:-1
    ]
    # Differences of nodes reach as far as the map and the comb together.
    reach = widened + np.array(lattice.extent)
    full = HalfLattice(lattice.cell, lattice.sampling, _as_extent(reach), np.inf)
    half_q2 = full.q_squared()
    q2 = np.concatenate([half_q2[::-1, ::-1, :0:-1], half_q2], axis=2)
    x = lattice.q_squared() * u_iso
    total = np.zeros(lattice.shape)
    m_z = lattice.extent[2]
    volume = float(np.linalg.det(lattice.cell.orth_matrix))
    for k in range(1, order + 1):
        halo = _kernel_transform(q2, correlation_length, kernel, k)
        # Only where all of the comb lies within the kernel's array: the map's own nodes.
        phi = scipy.signal.fftconvolve(halo, comb, mode="valid") / volume
        total += np.exp(-x) * x**k / math.factorial(k) * phi[:, :, m_z:]
    within = lattice.q_squared() <= lattice.q_max**2 * (1 + 1e-9)
    intensity: FloatArray = np.where(within, np.maximum(total, 0.0), 0.0)
    return intensity


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
