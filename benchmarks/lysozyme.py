"""About a thousand atoms in the tetragonal lysozyme cell, with a random covariance."""

from __future__ import annotations

import numpy as np

from benchmarks.results import SHARED_DATA
from offbragg import AtomicStructure, read_structure

CELL = (78.86, 78.86, 36.80, 90.0, 90.0, 90.0)


def lysozyme() -> tuple[AtomicStructure, str]:
    """6RT3 without waters, hydrogens and second altlocs; a ball of atoms where it is not there."""
    path = SHARED_DATA / "structures" / "6rt3.pdb"
    if path.is_file():
        kept = "not water and not hydrogen and not altloc B C D"
        return read_structure(path).select(kept), "6RT3"
    rng = np.random.default_rng(1)
    n = 1001
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    structure = AtomicStructure(
        cell=CELL,
        space_group="P 43 21 2",
        positions=16.0 * directions * rng.uniform(size=(n, 1)) ** (1 / 3),
        elements=rng.choice(["C", "N", "O", "S"], n, p=[0.63, 0.17, 0.19, 0.01]),
        occupancies=np.ones(n),
        u_aniso=np.tile(0.3 * np.eye(3), (n, 1, 1)),
    )
    return structure, "made ball of atoms"


def random_covariance(n_atoms: int, u_mean: float, rank: int = 60, seed: int = 0) -> np.ndarray:
    """A random positive semi-definite covariance (n, n, 3, 3) of mean diagonal u_mean [Å²]."""
    factors = np.random.default_rng(seed).normal(size=(3 * n_atoms, rank))
    v = factors @ factors.T
    v *= u_mean * 3 * n_atoms / np.trace(v)
    return np.ascontiguousarray(v.reshape(n_atoms, 3, n_atoms, 3).transpose(0, 2, 1, 3))
