"""Structures and grids of the accuracy table, and the voxels that are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.lysozyme import lysozyme
from benchmarks.results import SHARED_DATA
from offbragg import AtomicStructure, HklGrid, read_structure

SHELL = 0.01  # Å⁻¹ in 1/d
LOW = 1 / 10.0  # Å⁻¹: every voxel below is compared, or many
EVERY = 10**9
ALL_MAPS = ("splat", "pair-nufft", "gemm", "direct")


@dataclass(frozen=True)
class Target:
    """A structure as one copy in P 1 with its own group beside it, a grid, and what is asked.

    ``maps`` are the methods that fill the whole map, others are asked for the compared voxels
    alone; ``ladder`` the beginnings of the names of the models that are done at several rtol,
    ``models`` of those that are done at all.
    """

    name: str
    alone: AtomicStructure
    space_group: str
    grid: HklGrid
    u: float
    length: float
    cutoff: float
    n_random: int
    n_low: int
    n_crystal: int
    maps: tuple[str, ...] = ALL_MAPS
    ladder: tuple[str, ...] = ("",)
    models: tuple[str, ...] = ("",)

    @property
    def text(self) -> str:
        """What is computed, in words."""
        n = "×".join(str(x) for x in self.grid.sampling)
        return f"{self.name}, {self.alone.n_atoms} atoms, {self.grid.d_min:g} Å, sampling {n}"


class Voxels:
    """Voxels to compare: of low resolution all or n_low, the rest by chance; and their shells."""

    def __init__(self, grid: HklGrid, n_random: int, n_low: int) -> None:
        q = grid.q().reshape(-1, 3)
        inv_d = np.linalg.norm(q, axis=1) / (2 * np.pi)
        self.inside = grid.within().reshape(-1) & (inv_d > 1e-9)  # all but the node q = 0
        self.shell = (inv_d / SHELL).astype(np.int64)
        # q and −q are alike: the later of the two in the array.
        half = np.flatnonzero(self.inside & (np.arange(len(inv_d)) > len(inv_d) // 2))
        rng = np.random.default_rng(0)
        low = half[inv_d[half] < LOW]
        if len(low) > n_low:
            low, n_nearest = low[np.argsort(inv_d[low], kind="stable")], n_low // 3
            rest = rng.choice(low[n_nearest:], n_low - n_nearest, replace=False)
            low = np.concatenate([low[:n_nearest], rest])
        few = half if len(half) <= n_random else rng.choice(half, n_random, replace=False)
        self.chosen = np.unique(np.concatenate([low, few]))
        self.q, self.inv_d = q[self.chosen], inv_d[self.chosen]

    def shell_means(self, intensity: np.ndarray) -> tuple[np.ndarray, float]:
        """Mean of each chosen voxel's shell and of the map, the node q = 0 left out of both."""
        own, shell = intensity.reshape(-1)[self.inside], self.shell[self.inside]
        means = np.bincount(shell, own) / np.maximum(np.bincount(shell), 1)
        return means[self.shell[self.chosen]], float(own.mean())


def targets(*, small: bool) -> list[Target]:
    """2OL9, 5ZCK, 1EJG and lysozyme; balls of atoms in their place where there are no files."""
    peptide = _structure("2ol9", 56, (14.0, 4.88, 15.1, 75.2, 75.9, 78.9), "P 1")
    protein, _ = lysozyme()
    by_pairs = ("splat", "pair-nufft")
    if small:
        motion, both = (0.05, 5.0, 8.0), ("general", "isotropic")
        return [
            _target("2OL9", peptide, 2.0, (1, 2, 1), motion, (EVERY, EVERY, 20), ladder=both),
            _target("lysozyme", protein, 5.0, (1, 1, 1), (0.3, 7.0, 6.0), (5, 15, 2), by_pairs,
                    (), both),
        ]  # fmt: skip
    prion = _structure("5zck", 28, (4.81, 17.15, 29.56, 90.0, 90.0, 90.0), "P 21 21 21")
    crambin = _structure("1ejg", 831, (40.82, 18.5, 22.37, 90.0, 90.47, 90.0), "P 1 21 1")
    small_motion = (0.05, 5.0, 12.0)
    return [
        _target("2OL9", peptide, 1.0, (2, 4, 2), small_motion, (EVERY, EVERY, 300)),
        _target("5ZCK", prion, 1.0, (4, 2, 1), small_motion, (EVERY, EVERY, 300)),
        _target("1EJG", crambin, 1.5, (2, 2, 2), (0.08, 5.0, 8.0), (200, 300, 60), by_pairs,
                ("general", "isotropic")),
        _target("lysozyme", protein, 2.0, (3, 3, 3), (0.3, 7.0, 8.0), (200, 300, 20), by_pairs,
                ("general", "isotropic")),
    ]  # fmt: skip


def _target(
    name: str,
    structure: AtomicStructure,
    d_min: float,
    sampling: tuple[int, int, int],
    motion: tuple[float, float, float],
    counts: tuple[int, int, int],
    maps: tuple[str, ...] = ALL_MAPS,
    ladder: tuple[str, ...] = ("",),
    models: tuple[str, ...] = ("",),
) -> Target:
    grid = HklGrid.from_resolution(structure.require_cell(), d_min, sampling)
    alone = replace(structure, space_group="P 1")
    return Target(name, alone, structure.space_group, grid, *motion, *counts, maps, ladder, models)


def _structure(code: str, n: int, cell: tuple[float, ...], space_group: str) -> AtomicStructure:
    """A file's atoms, or as many in a ball about as dense."""
    path = SHARED_DATA / "structures" / f"{code}.pdb"
    if path.is_file():
        return read_structure(path)
    rng = np.random.default_rng(n)
    return AtomicStructure(
        cell=cell,
        space_group=space_group,
        positions=0.7 * n ** (1 / 3) * rng.normal(size=(n, 3)),
        elements=rng.choice(["C", "N", "O"], n, p=[0.64, 0.17, 0.19]),
        occupancies=np.ones(n),
        u_aniso=np.tile(0.05 * np.eye(3), (n, 1, 1)),
    )
