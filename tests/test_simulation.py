"""simulate: copies by symmetry, grids of every kind, Bragg and diffuse part, whose ADPs."""

import itertools
from dataclasses import replace

import gemmi
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from offbragg import (
    AtomicStructure,
    Covariance,
    DiffuseMap,
    HklGrid,
    LiquidLike,
    RigidBody,
    Uncorrelated,
    simulate,
)
from offbragg.crystal.cell import Cell
from offbragg.crystal.solvent import solvent_structure_factors
from offbragg.crystal.symmetry import lattice_matrices, space_group_operations
from offbragg.errors import InputError
from offbragg.simulation import gather, lattice_for
from tests.oracles import (
    copies,
    diffuse_of_cell,
    diffuse_sum,
    form_factors,
    q_of,
    structure_factor_sum,
)
from tests.strategies import CRYSTALS, random_covariance, random_structure, structures

MAP_ERROR = 1e-3  # of the mean, the project's own figure
# Structure factors on a map are good to 1e-7 of F(0): |F|² to 2e-7 |F| F(0).
BRAGG_ERROR = 1e-6  # of the largest |F|²

TRICLINIC = CRYSTALS["triclinic"][0]


def made(n, system, group=None, seed=1):
    """A structure, its covariance, and the model that moves it so."""
    cell, groups = CRYSTALS[system]
    structure = random_structure(np.random.default_rng(seed), n, cell, group or groups[0])
    v = random_covariance(np.random.default_rng(seed + 100), n, 0.25, rank=2 * n)
    return structure, v, Covariance(v)


def expected_at(structure, v, hkl):
    """Direct sum over explicit copies at Miller indices (n, 3)."""
    q = q_of(hkl, structure.cell)
    f = form_factors(structure.elements, q, structure.occupancies)
    return diffuse_of_cell(q, structure.positions, f, v, structure.cell, structure.space_group)


def error_of(found, structure, v, n_voxels=200, seed=0):
    """Largest error of a map at random voxels, as a fraction of the mean there."""
    values = found.intensity.ravel()
    pick = np.flatnonzero(np.isfinite(values))
    if len(pick) > n_voxels:
        pick = np.random.default_rng(seed).choice(pick, n_voxels, replace=False)
    expected = expected_at(structure, v, found.grid.hkl().reshape(-1, 3)[pick])
    return np.abs(values[pick] - expected).max() / expected.mean()


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(
    ("system", "group"),
    [("trigonal", "P 31"), ("tetragonal", "P 41"), ("monoclinic", "C 1 2 1"),
     ("monoclinic", "P 1 21 1"), ("tetragonal", "P 43 21 2")],
)  # fmt: skip
@pytest.mark.parametrize("sampling", [(1, 1, 1), (2, 2, 3)])
def test_copies_match_the_direct_sum(system, group, sampling):
    structure, v, model = made(6, system, group)
    grid = HklGrid.from_resolution(structure.cell, 2.5, sampling)
    found = simulate(structure, model, grid)
    assert error_of(found, structure, v) < MAP_ERROR
    assert found.space_group == group
    assert found.intensity.shape == grid.shape


def test_four_copies_of_a_centred_group_count():
    # C 2 has four; leaving the centring out gives half.
    structure, v, model = made(5, "monoclinic", "C 1 2 1")
    assert len(copies(structure.positions, v, structure.cell, "C 1 2 1")) == 4
    grid = HklGrid(structure.cell, [1.5], [0.5], [2.0])
    found = simulate(structure, model, grid, rtol=1e-6).intensity[0, 0, 0]
    assert found == pytest.approx(expected_at(structure, v, [(1.5, 0.5, 2.0)])[0], rel=1e-4)
    primitive = replace(structure, space_group="P 1 2 1")
    half = simulate(primitive, model, grid, rtol=1e-6).intensity[0, 0, 0]
    assert found == pytest.approx(2 * half, rel=1e-9)


@pytest.mark.parametrize(("system", "group"), [("trigonal", "P 31"), ("tetragonal", "P 41")])
def test_each_copy_scatters_at_h_times_its_rotation(system, group):
    # I_g(h) = I_1(h R_g), row vectors. R_gᵀ (the inverse in P 4₁) is another copy, or none.
    structure, v, model = made(6, system, group)
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    operations = space_group_operations(group).rotations
    rotations = lattice_matrices(operations, grid.sampling)
    lattice = lattice_for(grid, rotations, 2 * np.pi / 3.0)
    one_copy = model.diffuse_on_lattice(lattice, structure)
    inside = grid.within()
    q = grid.q()[inside]
    f = form_factors(structure.elements, q, structure.occupancies)
    explicit = copies(structure.positions, v, structure.cell, group)
    assert np.array_equal(rotations, operations)
    for g, (positions, turned) in enumerate(explicit):
        expected = diffuse_sum(q, positions, f, turned)
        found = gather(one_copy, lattice, grid, rotations[g : g + 1])[inside]
        assert np.abs(found - expected).max() < MAP_ERROR * expected.mean()
        if not np.array_equal(rotations[g], rotations[g].T):
            transposed = np.ascontiguousarray(rotations[g : g + 1].transpose(0, 2, 1))
            wrong = gather(one_copy, lattice, grid, transposed)[inside]
            assert np.abs(wrong - expected).max() > 0.3 * expected.mean()


def test_a_transposed_rotation_shows_in_the_sum_of_p31():
    # In hexagonal axes R h is no equivalent of h R: even the sum over the group is wrong.
    structure, v, model = made(6, "trigonal", "P 31")
    hkl = np.array([(1.0, 2.0, 1.0), (3.0, -1.0, 2.0), (2.0, 2.0, -3.0), (0.0, 3.0, 2.0)])
    q = q_of(hkl, structure.cell)
    f = form_factors(structure.elements, q, structure.occupancies)
    p1 = replace(structure, space_group="P 1")
    right, wrong = np.zeros(4), np.zeros(4)
    for rotation in space_group_operations("P 31").rotations:
        right += expected_at(p1, v, hkl @ rotation)
        wrong += expected_at(p1, v, hkl @ rotation.T)
    expected = diffuse_of_cell(q, structure.positions, f, v, structure.cell, "P 31")
    assert_allclose(right, expected, rtol=1e-9)
    assert np.abs(wrong - expected).max() > 0.1 * expected.mean()
    grid = HklGrid.from_resolution(structure.cell, 2.5)
    found = simulate(structure, model, grid, rtol=1e-6).intensity
    index, inside = grid.index_of(hkl)
    assert inside.all()
    assert_allclose(found[tuple(index.T)], expected, rtol=1e-4)


@settings(deadline=None, derandomize=True, max_examples=12)
@given(structure=structures(4), seed=st.integers(0, 999))
def test_any_structure_matches_the_direct_sum(structure, seed):
    v = random_covariance(np.random.default_rng(seed), 4, 0.3)
    found = simulate(structure, Covariance(v), HklGrid.from_resolution(structure.cell, 4.0))
    assert error_of(found, structure, v, 40) < MAP_ERROR


# Grids: whatever voxels are asked for, each has the intensity at its hkl.


def axis(first, last, n):
    return np.arange(first, last + 1) / n


# Axes h, k, l and their sampling: equal in h and k, which P 3₁ mixes.
GRIDS = {
    "not centred": (axis(-3, 9, 2), axis(2, 11, 2), axis(-8, -2, 2), (2, 2, 2)),
    "even length": (axis(-4, 3, 1), axis(-2, 3, 1), axis(0, 5, 1), (1, 1, 1)),
    "l = 0 section": (axis(-8, 8, 2), axis(-8, 8, 2), [0.0], (2, 2, 1)),
    "h = 1 section": ([1.0], axis(-6, 6, 2), axis(-6, 6, 2), (2, 2, 2)),
    "l = 1/3 section": (axis(-4, 4, 2), axis(-4, 4, 2), [1 / 3], (2, 2, 3)),
    "row": (axis(-9, 9, 3), [0.0], [0.0], (3, 3, 1)),
    "one voxel": ([3.0], [-2.0], [4.0], (1, 1, 1)),
    "block far out": (axis(14, 16, 2), axis(-13, -11, 2), axis(30, 33, 3), (2, 2, 3)),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("system", ["triclinic", "trigonal"])
def test_grids_of_every_kind(name, system):
    structure, v, model = made(6, system)
    grid = HklGrid(structure.cell, *GRIDS[name])
    found = simulate(structure, model, grid)
    assert found.measured.all()
    assert error_of(found, structure, v) < MAP_ERROR


@pytest.mark.parametrize("thin", ["h", "k", "l"])
def test_sections_of_an_obtuse_cell(thin):
    # All angles far beyond 90°: neighbours of the sphere of q come near a thin lattice.
    cell = Cell(20.0, 20.0, 20.0, 100.0, 110.0, 118.0)
    structure = random_structure(np.random.default_rng(2), 6, cell)
    v = random_covariance(np.random.default_rng(3), 6, 0.25)
    whole = HklGrid.from_resolution(cell, 2.5)
    axes = {"h": whole.h, "k": whole.k, "l": whole.l, thin: [0.0]}
    grid = HklGrid(cell, **axes, d_min=2.5)
    assert error_of(simulate(structure, Covariance(v), grid), structure, v) < MAP_ERROR


@pytest.mark.parametrize("sampling", [(1, 2, 3), (4, 1, 1), (2, 2, 5)])
def test_unequal_sampling(sampling):
    structure, v, model = made(5, "monoclinic")
    grid = HklGrid.from_resolution(structure.cell, 3.0, sampling)
    assert error_of(simulate(structure, model, grid), structure, v) < MAP_ERROR


def test_voxels_of_two_grids_agree_where_they_meet():
    structure, _, model = made(6, "tetragonal")
    fine = simulate(structure, model, HklGrid.from_resolution(structure.cell, 2.5, (2, 2, 3)))
    coarse = simulate(structure, model, HklGrid.from_resolution(structure.cell, 3.5, (1, 1, 1)))
    index, inside = fine.grid.index_of(coarse.grid.hkl())
    assert inside.all()
    shared = fine.intensity[tuple(np.moveaxis(index, -1, 0))]
    kept = coarse.measured
    assert np.abs(shared - coarse.intensity)[kept].max() < 3e-4 * coarse.intensity[kept].mean()


def test_voxels_beyond_d_min_are_not_a_number_and_those_within_are():
    structure, _, model = made(4, "triclinic")
    grid = HklGrid.from_resolution(structure.cell, 3.0, 2)
    for part in ("diffuse", "bragg", "total"):
        found = simulate(structure, model, grid, part)
        assert np.array_equal(found.measured, grid.within())


# Bragg.


def bragg_amplitude(structure, u, hkl):
    """F_cell from explicit copies with U (n, 3, 3), each copy's centroid in [0, 1)."""
    n = structure.n_atoms
    v = np.zeros((n, n, 3, 3))
    v[range(n), range(n)] = u
    q = q_of(hkl, structure.cell)
    f = form_factors(structure.elements, q, structure.occupancies)
    frac = np.linalg.inv(np.asarray(structure.cell.orth_matrix))
    total = np.zeros(len(q), dtype=complex)
    for positions, turned in copies(structure.positions, v, structure.cell, structure.space_group):
        shift = np.floor((positions @ frac.T).mean(axis=0))
        moved = positions - structure.cell.orth_matrix @ shift
        total += structure_factor_sum(q, moved, f, turned[range(n), range(n)])
    return total


@pytest.mark.parametrize("system", ["triclinic", "monoclinic", "trigonal"])
def test_bragg_of_the_infinite_crystal(system):
    # n_a n_b n_c |F|² at integer hkl, 0 elsewhere; F by gemmi with the whole cell written out.
    structure, _, _ = made(5, system)
    grid = HklGrid.from_resolution(structure.cell, 2.5, (2, 2, 3))
    found = simulate(structure, Uncorrelated(), grid, "bragg").intensity
    node = np.isclose(grid.hkl(), np.rint(grid.hkl())).all(axis=-1)
    assert not found[~node & grid.within()].any()
    hkl = np.rint(grid.hkl()[node & grid.within()])
    expected = 12 * np.abs(bragg_amplitude(structure, structure.u_aniso, hkl)) ** 2
    assert np.abs(found[node & grid.within()] - expected).max() < BRAGG_ERROR * expected.max()


def test_bragg_matches_gemmi_with_its_own_symmetry():
    structure, _, _ = made(6, "monoclinic", "P 1 21 1")
    model, chain, residue = gemmi.Model(1), gemmi.Chain("A"), gemmi.Residue()
    for i in range(6):
        atom, u = gemmi.Atom(), structure.u_aniso[i]
        atom.element = gemmi.Element(str(structure.elements[i]))
        atom.pos = gemmi.Position(*structure.positions[i])
        atom.occ = float(structure.occupancies[i])
        atom.aniso = gemmi.SMat33f(u[0, 0], u[1, 1], u[2, 2], u[0, 1], u[0, 2], u[1, 2])
        residue.add_atom(atom)
    chain.add_residue(residue)
    model.add_chain(chain)
    gemmi_structure = gemmi.Structure()
    gemmi_structure.add_model(model)
    gemmi_structure.cell = gemmi.UnitCell(*structure.cell)
    gemmi_structure.spacegroup_hm = "P 1 21 1"
    gemmi_structure.setup_cell_images()
    oracle = gemmi.StructureFactorCalculatorX(gemmi_structure.cell)
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    found = simulate(structure, Uncorrelated(), grid, "bragg").intensity
    for hkl in [(1, 0, 0), (0, 2, 0), (0, 1, 0), (2, 1, -3), (-1, 2, 2), (3, 0, -4)]:
        expected = abs(oracle.calculate_sf_from_model(gemmi_structure[0], hkl)) ** 2
        index = tuple(grid.index_of(hkl)[0])
        assert found[index] == pytest.approx(expected, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("system", ["triclinic", "monoclinic"])
def test_bragg_of_a_finite_crystal_is_the_sum_over_its_cells(system):
    # |Σ over all atoms of all cells|²/N, on and between nodes.
    structure, _, _ = made(4, system)
    size = (3, 2, 2)
    grid = HklGrid(structure.cell, axis(-4, 5, 4), axis(0, 6, 3), axis(-1, 3, 2))
    found = simulate(structure, Uncorrelated(), grid, "bragg", crystal_size=size).intensity
    hkl = grid.hkl().reshape(-1, 3)
    cells = np.array(list(itertools.product(*map(range, size))))
    lattice_sum = np.exp(2j * np.pi * hkl @ cells.T).sum(axis=1)
    amplitude = bragg_amplitude(structure, structure.u_aniso, hkl) * lattice_sum
    expected = np.abs(amplitude) ** 2 / 12
    assert np.abs(found.ravel() - expected).max() < BRAGG_ERROR * expected.max()


def test_a_finite_crystal_is_the_infinite_one_on_average():
    # The mean of |S|²/N over a reciprocal cell is 1: sums over finely sampled voxels of one node.
    structure, _, _ = made(1, "triclinic")
    still = replace(structure, u_aniso=np.zeros((1, 3, 3)))
    fine = HklGrid(structure.cell, axis(0, 7, 8), [0.0], [0.0], sampling=(8, 1, 1))
    finite = simulate(still, Uncorrelated(), fine, "bragg", crystal_size=(4, 1, 1)).intensity
    f = form_factors(still.elements, fine.q().reshape(-1, 3), still.occupancies)[:, 0]
    assert (finite.ravel() / f**2).mean() == pytest.approx(1.0, rel=1e-5)
    infinite = simulate(still, Uncorrelated(), fine, "bragg").intensity
    assert infinite.ravel()[0] / f[0] ** 2 / 8 == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("part", ["bragg", "total"])
def test_flat_solvent_adds_to_the_bragg_part_alone(part):
    structure, _, _ = made(21, "monoclinic")
    grid = HklGrid.from_resolution(structure.cell, 2.5, (1, 2, 1))
    found = simulate(structure, Uncorrelated(), grid, part, bulk_solvent=(0.35, 46.0)).intensity
    plain = simulate(structure, Uncorrelated(), grid, part).intensity
    is_node = grid.is_node() & grid.within()
    assert_allclose(found[~is_node], plain[~is_node], rtol=1e-12)
    hkl = np.rint(grid.hkl()[is_node]).astype(int)
    solvent = solvent_structure_factors(structure, hkl, 0.35, 46.0)
    atoms = bragg_amplitude(structure, structure.u_aniso, hkl)
    expected = 2 * (np.abs(atoms + solvent) ** 2 - np.abs(atoms) ** 2)
    assert_allclose((found - plain)[is_node], expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 0.01 * np.nanmax(plain)


def test_bragg_is_damped_by_the_models_own_displacements():
    # LiquidLike: e^{−q²σ²} whatever the file says; adps="file": by the file.
    structure, _, _ = made(4, "triclinic")
    structure = replace(structure, u_aniso=structure.u_aniso + 0.02 * np.eye(3))
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    q = grid.q()[grid.within()]
    f = form_factors(structure.elements, q, structure.occupancies)
    for adps, u in (
        ("model", np.broadcast_to(0.01 * np.eye(3), (4, 3, 3))),
        ("file", structure.u_aniso),
    ):
        found = simulate(structure, LiquidLike(0.1, 4.0), grid, "bragg", adps=adps).intensity
        expected = np.abs(structure_factor_sum(q, structure.positions, f, u)) ** 2
        assert np.abs(found[grid.within()] - expected).max() < BRAGG_ERROR * expected.max()


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("voxel_average", [False, True])
@pytest.mark.parametrize(
    ("system", "group"),
    [("monoclinic", "C 1 2 1"), ("tetragonal", "P 41"), ("trigonal", "P 31")],
)
def test_a_structure_written_out_in_p1_with_uncorrelated_copies_is_the_same(
    system, group, voxel_average
):
    structure, v, model = made(5, system, group)
    explicit = copies(structure.positions, v, structure.cell, group)
    whole = np.zeros((5 * len(explicit), 5 * len(explicit), 3, 3))
    for g, (_, turned) in enumerate(explicit):
        whole[5 * g : 5 * g + 5, 5 * g : 5 * g + 5] = turned
    grid = HklGrid.from_resolution(structure.cell, 3.0, (1, 1, 2))
    by_symmetry = simulate(structure, model, grid, voxel_average=voxel_average).intensity
    written_out = simulate(
        structure.to_p1(), Covariance(whole), grid, voxel_average=voxel_average
    ).intensity
    assert np.nanmax(np.abs(by_symmetry - written_out)) < MAP_ERROR * np.nanmean(by_symmetry)


@pytest.mark.parametrize("system", ["triclinic", "tetragonal"])
def test_means_over_voxels_come_near_the_mean_of_direct_sums(system):
    # Gauss–Legendre over each voxel. Widths and form factors are those at the centre: in these
    # small cells, whose voxels are large, 0.3 % of the mean (rms); values at centres are 1 % off.
    structure, v, model = made(8, system)
    grid = HklGrid.from_resolution(structure.cell, 3.0, 2)
    found = simulate(structure, model, grid, voxel_average=True).intensity.ravel()
    away = np.flatnonzero(np.isfinite(found) & (grid.inv_d().ravel() > 0.12))
    pick = np.random.default_rng(1).choice(away, 60, replace=False)
    hkl = grid.hkl().reshape(-1, 3)[pick]
    nodes, weights = np.polynomial.legendre.leggauss(3)
    expected = np.zeros(len(pick))
    for i, j, k in itertools.product(range(3), repeat=3):
        within = hkl + nodes[[i, j, k]] / 2 / 2
        expected += weights[[i, j, k]].prod() / 8 * expected_at(structure, v, within)
    error = np.sqrt(((found[pick] - expected) ** 2).mean()) / expected.mean()
    centre = np.sqrt(((expected_at(structure, v, hkl) - expected) ** 2).mean()) / expected.mean()
    assert error < 0.005
    assert error < 0.6 * centre


def test_the_intensity_at_the_origin_is_zero():
    for system in ("triclinic", "trigonal", "cubic"):
        structure, _, model = made(4, system)
        grid = HklGrid.from_resolution(structure.cell, 5.0)
        found = simulate(structure, model, grid).intensity
        assert found[tuple(n // 2 for n in grid.shape)] == 0.0


def test_every_low_resolution_voxel_is_right():
    structure, v, model = made(12, "tetragonal", "P 43 21 2")
    grid = HklGrid.from_resolution(structure.cell, 4.0, 3)
    found = simulate(structure, model, grid).intensity
    low = grid.within(d_max=None) & (grid.d() > 10.0)
    assert low.sum() > 50
    expected = expected_at(structure, v, grid.hkl()[low])
    assert np.abs(found[low] - expected).max() < MAP_ERROR * np.nanmean(found)


# --- 4 invariances -------------------------------------------------------


def test_the_map_says_what_it_is():
    structure, _, model = made(4, "tetragonal")
    grid = HklGrid.from_resolution(structure.cell, 4.0)
    found = simulate(structure, model, grid, "total", rtol=1e-3)
    assert isinstance(found, DiffuseMap)
    assert found.sigma is found.count is found.half_1 is found.half_2 is None
    (step,) = found.provenance
    assert step["command"] == "simulate"
    assert step["options"]["part"] == "total"
    assert step["options"]["rtol"] == 1e-3
    assert step["n_atoms"] == 4


def test_hkl_decides_where_cells_differ(caplog):
    # The grid's cell is 1 % off: q comes from the structure's cell, and a warning says so.
    structure, v, model = made(5, "triclinic")
    other = structure.cell._replace(a=structure.cell.a * 1.01)
    grid = HklGrid(other, axis(-3, 3, 1), axis(-2, 2, 1), axis(0, 4, 1))
    found = simulate(structure, model, grid)
    assert found.cell == structure.cell
    assert error_of(found, structure, v) < MAP_ERROR
    assert "structure and grid: cell a differs by 0.99 %" in caplog.text


def test_the_tolerance_is_the_callers():
    structure, v, model = made(8, "triclinic")
    grid = HklGrid.from_resolution(structure.cell, 2.5)
    errors = [
        error_of(simulate(structure, model, grid, rtol=rtol, method="splat"), structure, v)
        for rtol in (1e-2, 1e-6)
    ]
    assert errors[0] < 2e-2
    assert errors[1] < 2e-6
    assert errors[1] < 0.1 * errors[0]


def test_maps_do_not_depend_on_threads():
    structure, _, model = made(8, "trigonal")
    grid = HklGrid.from_resolution(structure.cell, 3.0, (2, 2, 1))
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = simulate(structure, model, grid, "total").intensity
    finally:
        numba.set_num_threads(before)
    many = simulate(structure, model, grid, "total").intensity
    assert np.array_equal(alone, many, equal_nan=True)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "both"}, "part must be one of diffuse bragg total compton, got 'both'"),
        ({"adps": "neither"}, "adps must be 'model' or 'file', got 'neither'"),
        ({"crystal_size": (0, 1, 1)}, r"crystal_size must be three whole numbers >= 1, got \(0"),
        ({"crystal_size": (2, 2)}, "crystal_size must be three whole numbers >= 1"),
        ({"crystal_size": (1.5, 1, 1)}, "crystal_size must be three whole numbers >= 1"),
        ({"crystal_size": 3}, "crystal_size must be three whole numbers >= 1, got 3"),
        ({"bulk_solvent": (0.35,), "part": "bragg"}, r"bulk_solvent must be k_sol \[e/Å³\] and b_"),
        (
            {"bulk_solvent": (0.35, 46.0)},
            "bulk_solvent is for part 'bragg' or 'total' of the infin",
        ),
        (
            {"bulk_solvent": (0.35, 46.0), "part": "bragg", "crystal_size": (2, 2, 2)},
            "bulk_solvent is for part 'bragg' or 'total' of the infinite crystal",
        ),
        ({"bulk_solvent": (-1.0, 46.0), "part": "bragg"}, "k_sol and b_sol must be >= 0"),
        ({"rtol": 0.0}, r"rtol must be between 0 and 1, got 0\.0"),
        ({"rtol": np.nan}, "rtol must be between 0 and 1, got nan"),
    ],
)
def test_a_wrong_option_is_named(arguments, message):
    structure, _, model = made(3, "triclinic")
    grid = HklGrid.from_resolution(structure.cell, 5.0)
    with pytest.raises(InputError, match=message):
        simulate(structure, model, grid, **arguments)


@pytest.mark.parametrize(
    ("system", "group", "sampling"),
    [("tetragonal", "P 41", (2, 3, 1)), ("trigonal", "P 31", (1, 2, 1)),
     ("rhombohedral", "R 3:R", (2, 2, 1)), ("cubic", "P 2 3", (1, 1, 2))],
)  # fmt: skip
@pytest.mark.parametrize("part", ["diffuse", "total"])
def test_sampling_must_be_equal_where_the_group_mixes_axes(system, group, sampling, part):
    structure, _, model = made(3, system, group)
    grid = HklGrid.from_resolution(structure.cell, 5.0, sampling)
    with pytest.raises(InputError, match="sampling must be equal on axes that the symmetry mixes"):
        simulate(structure, model, grid, part)


def test_a_structure_without_a_cell_is_refused():
    structure, _, model = made(3, "triclinic")
    grid = HklGrid.from_resolution(structure.cell, 5.0)
    with pytest.raises(InputError, match="the structure has no unit cell: give one"):
        simulate(replace(structure, cell=None), model, grid)


def test_a_cell_of_another_crystal_is_refused():
    structure, _, model = made(3, "triclinic")
    grid = HklGrid.from_resolution((11.5, 13, 17, 82, 95, 104), 5.0)
    with pytest.raises(InputError, match="structure and grid: cell a differs by 4"):
        simulate(structure, model, grid)


def test_a_grid_of_nothing_but_the_origin_is_refused():
    structure, _, model = made(3, "triclinic")
    for grid in (
        HklGrid(structure.cell, [0], [0], [0]),
        HklGrid(structure.cell, [5], [5], [5], d_min=3.0),
    ):
        with pytest.raises(InputError, match="grid must hold a voxel other than hkl = 0"):
            simulate(structure, model, grid)


def test_a_cell_that_its_space_group_does_not_allow_is_refused():
    # P 4₁ with a ≠ b: the operations would not be rotations, and voxels near d_min would lose
    # some of their copies.
    structure, _, model = made(3, "tetragonal")
    cell = (12.0, 15.0, 17.0, 90.0, 90.0, 90.0)
    grid = HklGrid.from_resolution(cell, 4.0)
    with pytest.raises(InputError, match="P 41"):
        simulate(replace(structure, cell=cell), model, grid)


def test_an_element_without_form_factors_is_named():
    structure = AtomicStructure(
        TRICLINIC, "P 1", np.zeros((1, 3)), np.array(["Es"]), np.ones(1), 0.1 * np.eye(3)[None]
    )
    grid = HklGrid.from_resolution(TRICLINIC, 5.0)
    with pytest.raises(InputError, match="element 'Es' has no form factor"):
        simulate(structure, RigidBody(0.1), grid)
