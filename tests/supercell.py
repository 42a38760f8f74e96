"""A periodic supercell of springs, written out atom by atom, and small crystals to try it on.

It is tied in plain loops and inverted as one large matrix: it knows neither wave vectors nor
lattice sums.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from offbragg.crystal.cell import Cell
from offbragg.disorder.lattice_vibrations import LatticeVibrations
from tests.oracles import cell_vectors, copies, form_factors
from tests.strategies import random_structure

# Small cells with springs of up to CUTOFF Å, so that few atoms are tied in all directions.
CUTOFF = 8.9
SETTINGS = {
    "P 1": (Cell(7.0, 8.0, 7.5, 82.0, 95.0, 104.0), (3, 2, 2)),
    "P -1": (Cell(8.0, 9.0, 10.0, 82.0, 95.0, 104.0), (2, 1, 3)),
    "P 1 21 1": (Cell(8.0, 9.0, 10.0, 90.0, 112.0, 90.0), (2, 2, 1)),
    "P 31": (Cell(9.0, 9.0, 11.0, 90.0, 90.0, 120.0), (2, 2, 1)),
}
by_group = pytest.mark.parametrize("group", SETTINGS)
by_level = pytest.mark.parametrize("level", ["rigid", "atomic"])


def structure_of(group, n=4, seed=1):
    cell, _ = SETTINGS[group]
    return random_structure(np.random.default_rng(seed), n, cell, group, spread=1.6)


def model_of(group, level, **arguments):
    fields = {"scale": "absolute", "distance_edges": [6.0, CUTOFF], "spring_constants": [2.0, 0.7]}
    return LatticeVibrations(SETTINGS[group][1], level, **{**fields, **arguments})


class Supercell:
    """A crystal of n_cells, periodic as a whole, and its covariance V (n, 3, n, 3)."""

    def __init__(
        self, structure, n_cells, edges, constants, level, kind="anm", internal=None, power=0.0
    ):
        vectors = cell_vectors(structure.cell)
        placed = []
        n = self.n_atoms = structure.n_atoms
        for positions, _ in copies(
            structure.positions, np.zeros((n, n)), structure.cell, structure.space_group
        ):
            centre = np.linalg.solve(vectors.T, positions.mean(axis=0))
            placed.append(positions - np.floor(centre) @ vectors)
        self.cells = [np.array(x) for x in np.ndindex(*n_cells)]
        self.positions = np.concatenate([p + x @ vectors for x in self.cells for p in placed])
        self.molecule = np.repeat(np.arange(len(self.cells) * len(placed)), n)
        self.n_in_cell = n * len(placed)
        period = np.array(n_cells)[:, None] * vectors
        stiffness = self._stiffness(period, edges, constants, internal, kind, level, power)
        size = len(self.positions)
        if level == "rigid":
            arms = np.zeros((size, 3, self.molecule.max() + 1, 6))
            for i, x in enumerate(self.positions):
                offset = x - self.positions[self.molecule == self.molecule[i]].mean(axis=0)
                arms[i, :, self.molecule[i], :3] = np.eye(3)
                for axis in range(3):
                    arms[i, :, self.molecule[i], 3 + axis] = np.cross(np.eye(3)[axis], offset)
            arms = arms.reshape(3 * size, -1)
            stiffness = arms.T @ stiffness @ arms
        values, modes = np.linalg.eigh(stiffness)
        # The crystal's three translations, and nothing else, cost no energy.
        assert values[2] < 1e-9 * values[-1] < 1e3 * values[3]
        v = (modes[:, 3:] / values[3:]) @ modes[:, 3:].T
        if level == "rigid":
            v = arms @ v @ arms.T
        self.v = v.reshape(size, 3, size, 3).transpose(0, 2, 1, 3)

    def _stiffness(self, period, edges, constants, internal, kind, level, power):
        size = len(self.positions)
        matrix = np.zeros((size, 3, size, 3))
        # Each spring is met twice, from either end.
        for shift in np.ndindex(5, 5, 5):
            shift = np.array(shift) - 2
            offsets = self.positions[:, None] - self.positions[None] - shift @ period
            distances = np.linalg.norm(offsets, axis=2)
            for i, j in np.argwhere((distances <= edges[-1]) & (distances > 0)):
                together = self.molecule[i] == self.molecule[j] and not shift.any()
                if together and level == "rigid":
                    continue
                if i % self.n_atoms == j % self.n_atoms and distances[i, j] < 1.0:
                    continue  # an atom on a special position is its own mate
                number = int(np.searchsorted(edges, distances[i, j]))
                k = (internal if together and internal is not None else constants)[number]
                k = k * distances[i, j] ** -power
                along = offsets[i, j] / distances[i, j]
                part = k * (np.outer(along, along) if kind == "anm" else np.eye(3)) / 2
                matrix[i, :, i, :] += part
                matrix[j, :, j, :] += part
                matrix[i, :, j, :] -= part
                matrix[j, :, i, :] -= part
        return matrix.reshape(3 * size, 3 * size)

    def between(self, cell, n_cells):
        """V_{i0,jL}."""
        wanted = np.array(cell) % np.array(n_cells)
        number = next(m for m, x in enumerate(self.cells) if np.array_equal(x, wanted))
        start = number * self.n_in_cell
        return self.v[: self.n_in_cell, start : start + self.n_in_cell]

    def intensity(self, unit, q, scale=1.0, *, first_order=False):
        """Σ_ab a_a* a_b [exp(qᵀV_ab q) − 1] over all atoms of the supercell, a cell's share."""
        repeats = len(self.cells)
        f = np.tile(form_factors(unit.elements, q, unit.occupancies), (1, repeats))
        total = []
        for vector, f_q in zip(q, f, strict=True):
            x = scale * np.einsum("x,ijxy,y->ij", vector, self.v, vector)
            a = f_q * np.exp(1j * self.positions @ vector - 0.5 * np.diagonal(x))
            total.append((a.conj() @ (x if first_order else np.expm1(x)) @ a).real / repeats)
        return np.array(total)


@cache
def common_supercell(group, level):
    """The supercell that several tests share."""
    return supercell_of(group, level)


def supercell_of(group, level, structure=None, **arguments):
    structure = structure_of(group) if structure is None else structure
    return Supercell(structure, SETTINGS[group][1], [6.0, CUTOFF], [2.0, 0.7], level, **arguments)


def listed(model, unit):
    return list(model.displacements(unit).pairs.blocks())


# --- 1 reference numbers -------------------------------------------------


def chain(n, **arguments):
    """An atom in a long thin cell whose springs along a alone are in reach: isotropic, k = 1."""
    cell = Cell(3.0, 50.0, 50.0, 90.0, 90.0, 90.0)
    structure = replace(
        random_structure(np.random.default_rng(1), 1, cell), positions=np.zeros((1, 3))
    )
    model = LatticeVibrations((n, 1, 1), "atomic", "gnm", 3.5, scale="absolute", **arguments)
    return structure, model
