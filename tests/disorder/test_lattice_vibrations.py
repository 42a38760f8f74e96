"""LatticeVibrations: covariances and intensities against an explicit supercell of springs.

The oracle writes a periodic supercell out atom by atom, ties it with springs in plain loops, and
inverts one large matrix: it knows neither wave vectors nor lattice sums.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import cell_vectors, copies, form_factors, q_of
from tests.strategies import random_structure

from offbragg import HklGrid, simulate
from offbragg.crystal.cell import Cell
from offbragg.disorder.lattice_dynamics import copy_length
from offbragg.disorder.lattice_vibrations import LatticeVibrations
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, PairBlock, Pairs
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice

RTOL_ROUNDING = 1e-9  # of the largest element: two ways to invert matrices of condition 1e4
RTOL_DIFFERENCE = 1e-6  # central differences of step 1e-5
RTOL_ADJOINT = 1e-11  # the same sum in another order
RTOL_INTENSITY = 1e-5  # transforms of the rigid level are good to 1e-8 of F(0)
MAP_ERROR = 1e-3  # of the mean, the project's own figure

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


def test_a_ring_of_four_atoms_by_hand():
    # k(φ) = 2 − 2 cos φ = 2, 4, 2 for φ = π/2, π, 3π/2:
    # V(0) = (1/2 + 1/4 + 1/2)/4 = 5/16; V(1) = (0 − 1/4 + 0)/4 = −1/16; V(2) = −3/16.
    structure, model = chain(4)
    for lattice_vector, expected in ((0, 5 / 16), (1, -1 / 16), (2, -3 / 16), (3, -1 / 16)):
        v = model.covariance_between(structure, (lattice_vector, 0, 0))
        assert_allclose(v[0, 0], expected * np.eye(3), atol=1e-14)


def test_one_phonon_of_a_chain_by_hand():
    # I = f² e^{−q²V_0} q²/(2 − 2 cos 2πh) at whatever h.
    structure, model = chain(4, order=1)
    structure = replace(structure, occupancies=np.array([2.0]))
    lattice = HalfLattice(structure.cell, (7, 1, 1), (20, 0, 0), 10.0)
    found = model.diffuse_on_lattice(lattice, structure)[:, 0, 0]
    h = np.arange(-20, 21) / 7
    q = 2 * np.pi * h / 3.0
    f = form_factors(structure.elements, np.stack([q, 0 * q, 0 * q], axis=1), [2.0])[:, 0]
    wave = 2 - 2 * np.cos(2 * np.pi * h)
    off_nodes = np.arange(-20, 21) % 7 != 0
    expected = (f**2 * q**2 * np.exp(-5 / 16 * q**2))[off_nodes] / wave[off_nodes]
    assert_allclose(found[off_nodes], expected, rtol=1e-9)
    # At Bragg nodes only the crystal's translation is left of this cell of one atom.
    assert_allclose(found[~off_nodes], 0.0, atol=1e-12)


# --- 2 independent oracle ------------------------------------------------


@by_group
@by_level
@pytest.mark.parametrize("kind", ["anm", "gnm"])
def test_covariances_match_the_supercell(group, level, kind):
    structure = structure_of(group)
    model, n_cells = model_of(group, level, kind=kind), SETTINGS[group][1]
    oracle = (
        common_supercell(group, level) if kind == "anm" else supercell_of(group, level, kind=kind)
    )
    unit = model.coherent_unit(structure)
    size = np.abs(oracle.v).max()
    for cell in [*np.ndindex(*n_cells), (-1, 0, 5)]:
        found = model.covariance_between(unit, cell)
        assert_allclose(found, oracle.between(cell, n_cells), rtol=0, atol=RTOL_ROUNDING * size)
    # The sign of the phase: these cells tell L from −L.
    if n_cells[0] > 2 or n_cells[2] > 2:
        cell = (1, 0, 0) if n_cells[0] > 2 else (0, 0, 1)
        opposite = oracle.between([-x for x in cell], n_cells)
        assert np.abs(oracle.between(cell, n_cells) - opposite).max() > 1e-3 * size


@by_group
@by_level
def test_pairs_are_those_of_the_supercell_each_once(group, level):
    structure, n_cells = structure_of(group), SETTINGS[group][1]
    model, oracle = model_of(group, level), common_supercell(group, level)
    unit = model.coherent_unit(structure)
    displacements = model.displacements(unit)
    n, size = unit.n_atoms, np.abs(oracle.v).max()
    own = oracle.v[range(n), range(n)]
    assert_allclose(displacements.independent, own, rtol=0, atol=RTOL_ROUNDING * size)
    vectors = cell_vectors(structure.cell)
    seen = set()
    for block in displacements.pairs.blocks():
        assert not block.operation.any()
        for i, j, separation, v in zip(
            block.first, block.second, block.separation, block.covariance, strict=True
        ):
            cell = np.linalg.solve(vectors.T, unit.positions[i] - unit.positions[j] - separation)
            assert_allclose(cell, np.rint(cell), atol=1e-9)
            cell = np.rint(cell).astype(int)
            expected = oracle.between(cell, n_cells)[i, j]
            assert_allclose(v, expected, rtol=0, atol=RTOL_ROUNDING * size)
            seen.add((int(i), int(j), *(cell % n_cells).tolist()))
    assert len(seen) == sum(len(block.first) for block in displacements.pairs.blocks())
    assert len(seen) == n * (n * np.prod(n_cells) - 1)


@pytest.mark.parametrize("group", ["P 1", "P 1 21 1"])
@by_level
def test_the_sum_over_pairs_is_the_intensity_of_the_supercell(group, level):
    structure, n_cells = structure_of(group), SETTINGS[group][1]
    model = model_of(group, level, spring_constants=[20.0, 7.0])
    unit = model.coherent_unit(structure)
    oracle = Supercell(structure, n_cells, [6.0, CUTOFF], [20.0, 7.0], level)
    rng = np.random.default_rng(2)
    q = q_of(rng.integers(-6, 7, (8, 3)) / n_cells, structure.cell)
    f = form_factors(unit.elements, q, unit.occupancies)
    moves = model.displacements(unit)
    x = np.einsum("qx,ixy,qy->qi", q, moves.independent, q)
    found = (f**2 * -np.expm1(-x)).sum(axis=1)
    for block in moves.pairs.blocks():
        a = f * np.exp(-0.5 * x)
        cosines = np.cos(q @ block.separation.T)
        kernel = np.expm1(np.einsum("qx,pxy,qy->qp", q, block.covariance, q))
        found += (a[:, block.first] * a[:, block.second] * cosines * kernel).sum(axis=1)
    assert_allclose(found, oracle.intensity(unit, q), rtol=1e-9)


@pytest.mark.parametrize("group", ["P 1", "P 1 21 1"])
@by_level
def test_one_phonon_is_the_first_order_of_the_supercell(group, level):
    structure, n_cells = structure_of(group), SETTINGS[group][1]
    model = model_of(group, level, order=1, spring_constants=[20.0, 7.0])
    unit = model.coherent_unit(structure)
    oracle = Supercell(structure, n_cells, [6.0, CUTOFF], [20.0, 7.0], level)
    lattice = HalfLattice(structure.cell, n_cells, (5, 4, 3), 2.6)
    found = model.diffuse_on_lattice(lattice, unit)
    m = np.stack(np.meshgrid(*[x.ravel() for x in lattice.indices()], indexing="ij"), axis=-1)
    q = q_of(m / n_cells, structure.cell)
    inside = np.linalg.norm(q, axis=-1) <= lattice.q_max
    assert 0 < inside.sum() < inside.size
    expected = oracle.intensity(unit, q[inside], first_order=True)
    assert_allclose(found[inside], expected, rtol=0, atol=RTOL_INTENSITY * expected.mean())
    assert not found[~inside].any()
    if group == "P 1" and n_cells[0] > 2:
        # With D(−k) for D(k), the mistake that is easily made, it would be another.
        mirrored = HalfLattice(structure.cell, n_cells, (5, 4, 3), 2.6)
        assert mirrored.shape == found.shape
        off = np.abs(found - found[::-1]).max()
        assert off > 0.01 * expected.mean()


def test_springs_within_copies_and_a_power_of_the_length():
    group = "P 1 21 1"
    structure, n_cells = structure_of(group), SETTINGS[group][1]
    model = model_of(group, "atomic", internal_spring_constants=[30.0, 11.0], power=1.5)
    oracle = supercell_of(group, "atomic", internal=[30.0, 11.0], power=1.5)
    unit = model.coherent_unit(structure)
    for cell in ((0, 0, 0), (1, 0, 0)):
        expected = oracle.between(cell, n_cells)
        found = model.covariance_between(unit, cell)
        assert_allclose(found, expected, rtol=0, atol=RTOL_ROUNDING * np.abs(oracle.v).max())
    same = model_of(group, "atomic", internal_spring_constants=[2.0, 0.7])
    assert_allclose(
        same.covariance_between(unit, (1, 1, 0)),
        model_of(group, "atomic").covariance_between(unit, (1, 1, 0)),
        rtol=1e-12,
        atol=1e-15,
    )


@by_level
def test_altlocs_move_alike_and_springs_go_to_one(level):
    structure = structure_of("P 1", 5)
    structure = replace(structure, occupancies=np.ones(5))
    unit = structure.take(np.array([0, 1, 2, 3, 4, 2]))
    unit = replace(
        unit,
        altlocs=np.array(["", "", "B", "", "", "A"]),
        occupancies=np.array([1, 1, 0.7, 1, 1, 0.3]),
        positions=unit.positions + np.array([0, 0, 0, 0, 0, 0.4])[:, None],
    )
    model = model_of("P 1", level)
    v = model.covariance_between(unit, (1, 0, 0))
    assert v.shape == (6, 6, 3, 3)
    if level == "atomic":
        expected = model.covariance_between(structure, (1, 0, 0))
        which = np.array([0, 1, 2, 3, 4, 2])
        assert_allclose(v, expected[np.ix_(which, which)], rtol=1e-10, atol=1e-14)


def test_the_engine_sums_the_pairs():
    group = "P 1 21 1"
    structure = structure_of(group, 4)
    model = LatticeVibrations((2, 2, 2), cutoff=CUTOFF)
    grid = HklGrid.from_resolution(structure.cell, 2.0, 2)
    found = simulate(structure, model, grid).intensity[grid.within()]
    unit = model.coherent_unit(structure)
    oracle = Supercell(structure, (2, 2, 2), [CUTOFF], [1.0], "rigid")
    own = oracle.v[range(unit.n_atoms), range(unit.n_atoms)]
    scale = np.einsum("ixx->", unit.u_aniso) / np.einsum("ixx->", own)
    pick = np.random.default_rng(3).choice(len(found), 40, replace=False)
    expected = oracle.intensity(unit, grid.q()[grid.within()][pick], scale)
    assert np.abs(found[pick] - expected).max() < MAP_ERROR * found.mean()


# --- 3 exact limits ------------------------------------------------------


@by_level
def test_overall_scale_gives_the_sum_of_adps(level):
    structure = structure_of("P 31")
    model = model_of("P 31", level, scale="overall")
    unit = model.coherent_unit(structure)
    moves = model.displacements(unit)
    total, wanted = (np.einsum("ixx->", u) for u in (moves.independent, unit.u_aniso))
    assert_allclose(total, wanted, rtol=1e-12)
    unscaled = model_of("P 31", level).displacements(unit)
    factor = moves.independent[0, 0, 0] / unscaled.independent[0, 0, 0]
    assert_allclose(moves.independent, factor * unscaled.independent, rtol=1e-10, atol=1e-14)
    one, other = (next(x.pairs.blocks()).covariance for x in (moves, unscaled))
    assert_allclose(one, factor * other, rtol=1e-9, atol=1e-12)
    still = replace(unit, u_aniso=np.zeros_like(unit.u_aniso))
    assert not model.displacements(still).independent.any()


@pytest.mark.parametrize("off", [0.0, 0.2])
def test_an_atom_on_a_special_position_is_tied_to_others_only(off):
    structure = structure_of("P -1", 5)
    positions = structure.positions.copy()
    positions[4] = off
    structure = replace(structure, positions=positions)
    oracle = supercell_of("P -1", "rigid", structure)
    model = model_of("P -1", "rigid")
    found = model.covariance_between(model.coherent_unit(structure), (0, 0, 1))
    expected = oracle.between((0, 0, 1), SETTINGS["P -1"][1])
    assert_allclose(found, expected, rtol=0, atol=RTOL_ROUNDING * np.abs(oracle.v).max())


@by_level
def test_the_crystal_as_a_whole_stays_in_place(level):
    # Σ_{jL} V_{i0,jL} = 0: without the acoustic modes at k = 0 the mean of all atoms is fixed.
    group = "P 1 21 1"
    model, n_cells = model_of(group, level), SETTINGS[group][1]
    unit = model.coherent_unit(structure_of(group))
    total = sum(model.covariance_between(unit, cell) for cell in np.ndindex(*n_cells))
    size = np.abs(model.covariance_between(unit, (0, 0, 0))).max()
    assert_allclose(total.sum(axis=1), 0.0, atol=1e-10 * size)


def test_one_cell_is_a_period_too():
    structure = structure_of("P 1")
    oracle = Supercell(structure, (1, 1, 1), [CUTOFF], [1.0], "atomic")
    model = LatticeVibrations((1, 1, 1), "atomic", cutoff=CUTOFF, scale="absolute")
    found = model.covariance_between(structure, (0, 0, 0))
    assert_allclose(found, oracle.v, rtol=0, atol=RTOL_ROUNDING * np.abs(oracle.v).max())


def test_coordinates_give_the_atoms():
    group = "P 1 21 1"
    model, n_cells = model_of(group, "rigid"), SETTINGS[group][1]
    unit = model.coherent_unit(structure_of(group))
    c = model.dof_covariances(unit)
    assert c.shape == (*n_cells, 2, 2, 6, 6)
    at_l = c[1, 0, 0]
    arms = []
    for copy in unit.positions.reshape(2, 4, 3):
        for offset in copy - copy.mean(axis=0):
            turns = np.stack([np.cross(e, offset) for e in np.eye(3)], axis=1)
            arms.append(np.hstack([np.eye(3), turns]))
    v = model.covariance_between(unit, (1, 0, 0))
    for i, j in ((0, 1), (2, 7), (6, 0)):
        assert_allclose(v[i, j], arms[i] @ at_l[i // 4, j // 4] @ arms[j].T, rtol=1e-9, atol=1e-12)
    atomic = model_of(group, "atomic").dof_covariances(unit)
    assert atomic.shape == (*n_cells, 8, 8, 3, 3)


def test_acoustic_halos_fall_off_as_one_over_k_squared():
    # Along rays to a strong Bragg node, I |k|² tends to a constant, with terms in k².
    structure = structure_of("P 1", 6)
    model = LatticeVibrations((3, 3, 3), cutoff=CUTOFF, order=1)
    sampling = 96
    lattice = HalfLattice(structure.cell, (sampling, 1, 1), (3 * sampling, 1, 1), 6.0)
    intensity = model.diffuse_on_lattice(lattice, structure)
    row = intensity[:, 1, 0]
    centre = 3 * sampling + 2 * sampling  # the node 2 0 0
    assert_allclose(row[centre + 1] / (4 * row[centre + 2]), 1.0, rtol=0.05)
    both = [row[centre + n] + row[centre - n] for n in (1, 2, 4)]
    # The sum of both sides has no odd terms: c/k² + b, so what is missing grows fourfold.
    assert_allclose(both[0] / both[1], 4.0, rtol=0.02)
    assert_allclose((4 - both[1] / both[2]) / (4 - both[0] / both[1]), 4.0, rtol=0.1)
    assert both[0] > 100 * row[centre + sampling // 2]


def test_reach_leaves_out_what_is_further():
    group = "P 1 21 1"
    model = model_of(group, "rigid")
    unit = model.coherent_unit(structure_of(group))
    every = listed(model, unit)
    for reach in (3.0, 8.0):
        kept = listed(replace(model, reach=reach), unit)
        expected = {
            (i, j, *np.round(r, 6))
            for block in every
            for i, j, r in zip(block.first, block.second, block.separation, strict=True)
            if np.linalg.norm(r) <= reach
        }
        found = {
            (i, j, *np.round(r, 6))
            for block in kept
            for i, j, r in zip(block.first, block.second, block.separation, strict=True)
        }
        assert found == expected
        assert 0 < len(found) < sum(len(block.first) for block in every)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=8)
@given(
    seed=st.integers(0, 999),
    group=st.sampled_from(["P 1", "P -1", "P 1 21 1"]),
    level=st.sampled_from(["rigid", "atomic"]),
)
def test_covariances_mirror_and_are_those_of_a_motion(seed, group, level):
    structure, n_cells = structure_of(group, 4, seed), SETTINGS[group][1]
    model = model_of(group, level, distance_edges=None, spring_constants=1.0, cutoff=11.0)
    unit = model.coherent_unit(structure)
    cells = [np.array(x) for x in np.ndindex(*n_cells)]
    v = {tuple(x): model.covariance_between(unit, tuple(x)) for x in cells}
    size = np.abs(v[0, 0, 0]).max()
    for x in cells:
        mirrored = v[tuple(-x % n_cells)].transpose(1, 0, 3, 2)
        assert_allclose(v[tuple(x)], mirrored, rtol=0, atol=1e-10 * size)
    n = unit.n_atoms
    whole = np.zeros((len(cells), 3 * n, len(cells), 3 * n))
    for a, x in enumerate(cells):
        for b, y in enumerate(cells):
            part = v[tuple((y - x) % n_cells)]
            whole[a, :, b, :] = part.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    values = np.linalg.eigvalsh(whole.reshape(len(cells) * 3 * n, -1))
    assert values[0] > -1e-10 * values[-1]


@by_level
def test_waves_mirror_and_have_three_acoustic_modes(level):
    unit = model_of("P 1 21 1", level).coherent_unit(structure_of("P 1 21 1"))
    network = model_of("P 1 21 1", level)._network(unit)
    k = np.array([0.21, -0.37, 0.11])
    wave = network.dynamical(k)
    assert_allclose(wave, wave.conj().T, atol=1e-12)
    assert_allclose(network.dynamical(-k), wave.conj(), atol=1e-12)
    assert_allclose(network.dynamical(k + np.array([1, -2, 3])), wave, atol=1e-9)
    values = np.linalg.eigvalsh(network.dynamical(np.zeros(3)))
    assert np.sum(np.abs(values) < 1e-10 * values[-1]) == 3
    assert values[0] > -1e-10 * values[-1]
    # Acoustic: ω² falls as k².
    soft = [np.linalg.eigvalsh(network.dynamical(x * k))[:3] for x in (0.02, 0.01)]
    assert_allclose(soft[0] / soft[1], 4.0, rtol=0.01)


def test_partners_are_nearest_images_and_ties_are_shared():
    # Cells L = ±N/2 along a are equally near in a right-angled cell: one order of a pair has one,
    # the other order the other, so that in the even part each has half of the weight.
    cell = Cell(7.0, 8.0, 7.5, 90.0, 90.0, 90.0)
    structure = random_structure(np.random.default_rng(11), 3, cell, spread=1.6)
    model = LatticeVibrations((4, 3, 1), cutoff=8.5)
    vectors, found = cell_vectors(cell), {}
    for block in model.displacements(structure).pairs.blocks():
        for i, j, r in zip(block.first, block.second, block.separation, strict=True):
            shift = structure.positions[i] - structure.positions[j] - r
            found.setdefault((int(i), int(j)), set()).add(
                tuple(np.rint(np.linalg.solve(vectors.T, shift)).astype(int).tolist())
            )
    every = {(x, y, 0) for x in (-1, 0, 1, 2) for y in (-1, 0, 1)}
    assert found == {
        (i, j): every - ({(0, 0, 0)} if i == j else set()) for i in range(3) for j in range(3)
    }


@pytest.mark.parametrize("group", ["P 1", "P -1"])
def test_both_orders_of_a_pair_are_mirrors_where_there_are_no_ties(group):
    model = LatticeVibrations((3, 3, 3), cutoff=CUTOFF)
    unit = model.coherent_unit(structure_of(group))
    pairs = {
        (i, j, *np.round(r, 6))
        for block in listed(model, unit)
        for i, j, r in zip(block.first, block.second, block.separation, strict=True)
    }
    assert {(j, i, *(-np.array(r))) for i, j, *r in pairs} == pairs


def test_one_phonon_does_not_depend_on_how_it_is_cut_up():
    group = "P 31"
    structure = structure_of(group)
    model = LatticeVibrations((2, 2, 2), cutoff=11.0, order=1)
    unit = model.coherent_unit(structure)
    lattice = HalfLattice(structure.cell, (2, 1, 2), (4, 2, 3), 2.0)
    whole = model.diffuse_on_lattice(lattice, unit)
    little = Engine(max_memory=1e3)
    assert_allclose(model.diffuse_on_lattice(lattice, unit, engine=little), whole, rtol=1e-10)
    atomic = replace(model, level="atomic", cutoff=8.0)
    one, other = (atomic.diffuse_on_lattice(lattice, unit, engine=e) for e in (Engine(), little))
    assert_allclose(one, other, rtol=1e-10)


@pytest.mark.parametrize("group", ["P 1 21 1", "P 31"])
@by_level
def test_one_phonon_has_the_laue_symmetry(group, level):
    structure = structure_of(group)
    model = LatticeVibrations((2, 2, 2), level, cutoff=11.0, order=1)
    grid = HklGrid.from_resolution(structure.cell, 2.5, 2)
    found = simulate(structure, model, grid).intensity
    assert np.nanmin(found) >= 0
    turn = {"P 1 21 1": np.diag([-1, 1, -1]), "P 31": np.array([[0, -1, 0], [1, -1, 0], [0, 0, 1]])}
    hkl = grid.hkl()[grid.within()]
    for rotation in (turn[group], -np.eye(3)):
        index, held = grid.index_of(hkl @ rotation)
        assert held.all()
        assert_allclose(
            found[tuple(index.T)], found[grid.within()], rtol=0, atol=1e-6 * np.nanmean(found)
        )


def test_a_copy_placed_elsewhere_is_the_same_crystal():
    # The unit with its second molecule two cells on: V and one phonon are what they were.
    group = "P 1 21 1"
    model = model_of(group, "rigid", order=1)
    unit = model.coherent_unit(structure_of(group))
    shift = np.array([2.0, -1.0, 1.0]) @ cell_vectors(unit.cell)
    positions = unit.positions.copy()
    positions[4:] += shift
    moved = replace(unit, positions=positions)
    v = model.covariance_between(unit, (1, 0, 0))
    elsewhere = model.covariance_between(moved, (1, 0, 0))
    assert_allclose(elsewhere[:4, :4], v[:4, :4], rtol=1e-9, atol=1e-12)
    # L = 1 of the moved pair is L = (3, −1, 1) ≡ (1, 1, 0) of the other.
    other = model.covariance_between(unit, (3, -1, 1))
    assert_allclose(elsewhere[:4, 4:], other[:4, 4:], rtol=1e-9, atol=1e-12)
    lattice = HalfLattice(unit.cell, (2, 3, 1), (4, 6, 3), 2.5)
    one, two = (model.diffuse_on_lattice(lattice, x) for x in (unit, moved))
    assert_allclose(two, one, rtol=0, atol=RTOL_INTENSITY * one.mean())


CASES = [
    ("rigid", "overall", None),
    ("rigid", "absolute", None),
    ("atomic", "overall", [5.0, 2.0]),
    ("atomic", "absolute", None),
]
# k of thirds are complex, k of halves are not.
THIRDS = (3, 2, 1)
by_case = pytest.mark.parametrize(("level", "scale", "internal"), CASES)


class Weights(Pairs):
    """Numbers drawn for every pair of a model's list."""

    def __init__(self, pairs, seed):
        self.list = []
        rng = np.random.default_rng(seed)
        for b in pairs.blocks():
            drawn = rng.normal(size=b.covariance.shape)
            self.list.append(PairBlock(b.first, b.second, b.operation, b.separation, drawn))

    @property
    def is_isotropic(self):
        return False

    def blocks(self):
        return iter(self.list)


@by_case
def test_tangent_is_the_derivative_of_displacements(level, scale, internal):
    group = "P 1 21 1"
    model = model_of(group, level, scale=scale, internal_spring_constants=internal)
    model = replace(model, n_cells=THIRDS)
    unit = model.coherent_unit(structure_of(group))
    rng = np.random.default_rng(5)
    direction = {name: rng.normal(size=2) for name in model.refinable}
    found = model.tangent(unit, direction)
    step, ends = 1e-5, []
    for sign in (1, -1):
        values = {x: getattr(model, x) + sign * step * d for x, d in direction.items()}
        ends.append(model.with_parameters(values).displacements(unit))
    expected = (ends[0].independent - ends[1].independent) / (2 * step)
    size = np.abs(expected).max()
    assert_allclose(found.independent, expected, rtol=0, atol=RTOL_DIFFERENCE * size)
    for block, ahead, behind in zip(
        found.pairs.blocks(), *(x.pairs.blocks() for x in ends), strict=True
    ):
        expected = (ahead.covariance - behind.covariance) / (2 * step)
        assert_allclose(block.covariance, expected, rtol=0, atol=RTOL_DIFFERENCE * size)


@by_case
@pytest.mark.parametrize("reach", [None, 7.0])
def test_pullback_is_the_adjoint_of_tangent(level, scale, internal, reach):
    group = "P 1 21 1"
    model = model_of(group, level, scale=scale, internal_spring_constants=internal, reach=reach)
    model = replace(model, n_cells=THIRDS)
    unit = model.coherent_unit(structure_of(group))
    rng = np.random.default_rng(6)
    own = rng.normal(size=(unit.n_atoms, 3, 3))
    weights = Weights(model.displacements(unit).pairs, 7)
    pulled = model.pullback(unit, Displacements(independent=own, pairs=weights))
    assert list(pulled) == list(model.refinable)
    for name in model.refinable:
        for direction, found in zip(np.eye(2), pulled[name], strict=True):
            moved = model.tangent(unit, {name: direction})
            terms = [own * moved.independent]
            for one, other in zip(weights.blocks(), moved.pairs.blocks(), strict=True):
                terms.append(one.covariance * other.covariance)
            size = sum(np.abs(x).sum() for x in terms)
            assert abs(sum(x.sum() for x in terms) - found) <= RTOL_ADJOINT * size
    only_own = model.pullback(unit, Displacements(independent=own))
    only_pairs = model.pullback(unit, Displacements(pairs=weights))
    for name in pulled:
        assert_allclose(only_own[name] + only_pairs[name], pulled[name], rtol=1e-8, atol=1e-10)


def test_a_common_factor_of_springs_changes_nothing_where_scaled():
    model = model_of("P 1", "rigid", scale="overall")
    unit = structure_of("P 1")
    moved = model.tangent(unit, {"spring_constants": model.spring_constants})
    own = model.displacements(unit).independent
    assert_allclose(moved.independent, 0.0, atol=1e-11 * np.abs(own).max())


def test_the_structure_is_not_changed():
    model = model_of("P 1 21 1", "rigid", order=1)
    unit = model.coherent_unit(structure_of("P 1 21 1"))
    before = unit.positions.copy(), unit.u_aniso.copy(), unit.occupancies.copy()
    model.displacements(unit)
    model.diffuse_on_lattice(HalfLattice(unit.cell, (1, 1, 1), (2, 2, 2), 2.0), unit)
    after = unit.positions, unit.u_aniso, unit.occupancies
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": (2, 2)}, r"n_cells must be three whole numbers >= 1, got \(2, 2\)"),
        ({"n_cells": (2, 0, 2)}, "n_cells must be three whole numbers"),
        ({"n_cells": (2, 1.5, 2)}, "n_cells must be three whole numbers"),
        ({"level": "molecule"}, "level must be one of rigid atomic, got 'molecule'"),
        ({"kind": "enm"}, "kind must be one of gnm anm, got 'enm'"),
        ({"scale": "per-atom"}, "scale must be one of overall absolute, got 'per-atom'"),
        ({"order": 2}, "order must be 'exact' or 1, got 2"),
        ({"order": True}, "order must be 'exact' or 1, got True"),
        ({"reach": 0.0}, "reach must be a positive number of Å, got 0.0"),
        ({"cutoff": 0.0}, "cutoff must be a positive number of Å, got 0.0"),
        ({"spring_constants": [1.0, 2.0]}, "spring_constants must be one number for each of 1"),
        ({"internal_spring_constants": 1.0}, "internal_spring_constants needs level='atomic'"),
        (
            {"internal_spring_constants": -1.0, "level": "atomic"},
            "internal_spring_constants must be positive",
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        LatticeVibrations(**{"n_cells": (2, 2, 2), **arguments})


@by_level
def test_molecules_out_of_reach_of_each_other_are_said(level):
    cell = Cell(40.0, 40.0, 40.0, 90.0, 90.0, 90.0)
    structure = random_structure(np.random.default_rng(8), 5, cell, "P 1 21 1", spread=1.5)
    model = LatticeVibrations((2, 2, 2), level, cutoff=9.0)
    with pytest.raises(InputError, match=r"the network is in 2 pieces, of .* is not tied to"):
        model.displacements(model.coherent_unit(structure))


def test_a_crystal_that_falls_apart_in_layers_is_said():
    # Springs along a and b only: at every k along c alone layers slide past each other.
    cell = Cell(7.0, 8.0, 60.0, 90.0, 90.0, 90.0)
    structure = random_structure(np.random.default_rng(9), 6, cell, spread=1.6)
    model = LatticeVibrations((1, 1, 2), cutoff=8.5)
    message = r"under-constrained: at k = \(0, 0, 0.5\) a wave costs no energy; raise the cutoff"
    with pytest.raises(InputError, match=message):
        model.displacements(structure)
    with pytest.raises(InputError, match=r"at k = \(0, 0, 0\) a wave other than the 3 tr"):
        LatticeVibrations((1, 1, 1), cutoff=1.0).displacements(structure)


def test_a_copy_of_one_atom_cannot_be_rigid():
    structure = structure_of("P 1", 1)
    with pytest.raises(InputError, match="a wave other than the 3 translations costs no energy"):
        LatticeVibrations((1, 1, 1), cutoff=12.0).displacements(structure)
    LatticeVibrations((2, 2, 2), "atomic", cutoff=12.0).displacements(structure)


def test_coincident_atoms_of_different_copies_are_named():
    structure = structure_of("P -1")
    positions = structure.positions.copy()
    positions[2] = -positions[1]
    model = model_of("P -1", "rigid")
    unit = model.coherent_unit(replace(structure, positions=positions))
    with pytest.raises(InputError, match=r"atoms A UNL 1 [NO]\d .* and A UNL 1 [NO]\d .* lie on"):
        model.displacements(unit)


def test_the_unit_must_be_the_cell():
    model, structure = model_of("P 1 21 1", "rigid"), structure_of("P 1 21 1")
    with pytest.raises(InputError, match="of all atoms of the cell, in P 1: give coherent_unit"):
        model.displacements(structure)
    nameless = replace(structure.to_p1(), names=np.full(8, ""))
    with pytest.raises(InputError, match="told apart by the names of atoms: give some"):
        model.displacements(nameless)
    assert copy_length(structure.to_p1()) == 4
    assert copy_length(structure) == 4


def test_the_maps_sampling_must_divide_the_period():
    structure = structure_of("P 1", 4)
    lattice = HalfLattice(structure.cell, (2, 2, 2), (4, 4, 4), 2.0)
    model = LatticeVibrations((3, 2, 2), cutoff=CUTOFF)
    message = r"n_cells must be multiples of the map's sampling \(2, 2, 2\), got \(3, 2, 2\)"
    with pytest.raises(InputError, match=message):
        model.diffuse_on_lattice(lattice, structure)


@pytest.mark.parametrize(
    ("change", "adps", "engine", "message"),
    [
        ({}, "file", Engine(), "adps='file' needs order='exact', got order=1"),
        ({"voxel": np.eye(3)}, "model", Engine(), "means over voxels needs order='exact'"),
        ({}, "model", Engine(wavelength=1.0), "a wavelength needs order='exact'"),
        ({}, "model", Engine(altlocs="exclusive"), "exclusive altlocs needs order='exact'"),
    ],
)
def test_what_one_phonon_cannot_do(change, adps, engine, message):
    structure = structure_of("P 1")
    lattice = replace(HalfLattice(structure.cell, (1, 1, 1), (2, 2, 2), 2.0), **change)
    model = LatticeVibrations((2, 2, 2), cutoff=CUTOFF, order=1)
    assert model.is_truncated
    with pytest.raises(InputError, match=message):
        model.diffuse_on_lattice(lattice, structure, adps, engine)


def test_a_gradient_for_other_pairs_is_refused():
    model = model_of("P 1", "rigid")
    unit = structure_of("P 1")
    few = Weights(replace(model, reach=5.0).displacements(unit).pairs, 1)
    with pytest.raises(InputError, match=r"gradient must be for the model's \d+ pairs, got \d+"):
        model.pullback(unit, Displacements(pairs=few))
