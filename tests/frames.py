"""Frames drawn round a random structure, and plain sums over them."""

import numpy as np

from offbragg.scattering import HalfLattice
from tests.oracles import (
    draw_displacements,
    q_of,
)
from tests.strategies import CRYSTALS, random_covariance, random_structure

N_ATOMS = 6


def made(n_frames=12, u=0.3, seed=3, crystal="triclinic", *, weighted=True):
    """A structure, frames around it, weights, and the covariance that they were drawn from."""
    rng = np.random.default_rng(seed)
    cell, groups = CRYSTALS[crystal]
    structure = random_structure(rng, N_ATOMS, cell, groups[0])
    v = random_covariance(rng, N_ATOMS, u)
    frames = structure.positions + draw_displacements(rng, v, n_frames)
    return structure, frames, rng.uniform(0.2, 1.0, n_frames) if weighted else None, v


def some_q(n=40, longest=3.0, seed=4):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(n, 3))
    return q * (longest * np.cbrt(rng.uniform(0.05, 1.0, n)) / np.linalg.norm(q, axis=1))[:, None]


def small_lattice(cell, d_min=3.0, sampling=(1, 2, 1), voxel=None):
    extent = tuple(int(x / d_min * n) for x, n in zip(cell[:3], sampling, strict=True))
    return HalfLattice(cell, sampling, extent, 2 * np.pi / d_min, voxel)


def nodes_within(lattice):
    """q (n, 3) of the nodes within q_max, and where they are."""
    m_x, m_y, m_z = lattice.extent
    axes = np.arange(-m_x, m_x + 1), np.arange(-m_y, m_y + 1), np.arange(m_z + 1)
    m = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    q = q_of(m / np.array(lattice.sampling), lattice.cell)
    inside = np.linalg.norm(q, axis=-1) <= lattice.q_max
    return q[inside], inside


def amplitudes_of(q, frames, f):
    return np.stack([(f * np.exp(1j * q @ frame.T)).sum(axis=1) for frame in frames])


def guinier_of(amplitudes, weights=None):
    """(Σ w|F|² − |Σ wF|²) / (1 − Σw²) as it is written."""
    w = np.ones(len(amplitudes)) if weights is None else np.asarray(weights, dtype=float)
    w = w / w.sum()
    mean_square = np.tensordot(w, np.abs(amplitudes) ** 2, axes=1)
    return (mean_square - np.abs(np.tensordot(w, amplitudes, axes=1)) ** 2) / (1 - np.sum(w**2))


def guinier_sum(q, frames, f, weights=None):
    return guinier_of(amplitudes_of(q, frames, f), weights)


def sample_covariance(frames, weights=None):
    """Mean and unbiased covariance (n, n, 3, 3) by numpy."""
    n = frames.shape[1]
    v = np.cov(frames.reshape(len(frames), -1).T, aweights=weights)
    v = v.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
    return np.average(frames, axis=0, weights=weights), v
