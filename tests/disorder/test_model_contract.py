"""What every disorder model must do, whatever it is: limits, symmetry, sums, oracles.

A new model is added to MODELS and inherits these tests.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.oracles import blocks, copies, diffuse_of_cell, flat, form_factors
from tests.strategies import ALL_GROUPS, CRYSTALS, random_covariance, random_structure, random_u

from offbragg import Covariance, FreeAdps, HklGrid, LiquidLike, RigidBody, Uncorrelated, simulate
from offbragg.crystal.symmetry import laue_rotations
from offbragg.disorder import DisorderModel, SumOfModels
from offbragg.errors import InputError
from offbragg.scattering import reference

N_ATOMS = 6
MAP_ERROR = 1e-3  # of the mean, the project's own figure
RTOL_SMALL = 0.02  # first order in q²U: the next is q²U/2 ≈ 1 % at the U of these tests

COVARIANCE = random_covariance(np.random.default_rng(1), N_ATOMS, 0.2)
ISOTROPIC = random_covariance(np.random.default_rng(2), N_ATOMS, 0.2, anisotropic=False)
TRANSLATION = random_u(np.random.default_rng(3), 1, 0.2)[0]
LIBRATION = random_u(np.random.default_rng(4), 1, 0.004)[0]
SCREW = 0.004 * np.random.default_rng(5).normal(size=(3, 3))

# Each model of amplitude 1; a function of the factor on all mean squares.
MODELS = {
    "liquid-like": lambda x: LiquidLike(0.45 * np.sqrt(x), 4.0),
    "liquid-like, gaussian": lambda x: LiquidLike(0.45 * np.sqrt(x), 4.0, "gaussian"),
    "liquid-like, cell": lambda x: LiquidLike(0.45 * np.sqrt(x), 4.0, coherence="cell"),
    "translation": lambda x: RigidBody(x * TRANSLATION),
    "TLS": lambda x: RigidBody(x * TRANSLATION, x * LIBRATION, x * SCREW),
    "two bodies": lambda x: RigidBody(x * TRANSLATION, x * LIBRATION, bodies=[[0, 1], [2, 3, 4]]),
    "covariance": lambda x: Covariance(x * COVARIANCE),
    "isotropic covariance": lambda x: Covariance(x * ISOTROPIC),
    "free ADPs": lambda x: FreeAdps(x * np.linspace(0.1, 0.3, N_ATOMS)),
    "sum": lambda x: LiquidLike(0.3 * np.sqrt(x), 4.0) + RigidBody(x * TRANSLATION, x * LIBRATION),
}  # fmt: skip
# The atoms' own ADPs are this model's amplitude: scaled in the structure.
WITH_UNCORRELATED = [*MODELS, "uncorrelated", "uncorrelated and liquid-like"]

by_model = pytest.mark.parametrize("name", WITH_UNCORRELATED)


def structure_and_model(name, factor=1.0, crystal=None, seed=7):
    cell, group = crystal or (CRYSTALS["monoclinic"][0], "P 1 21 1")
    structure = random_structure(np.random.default_rng(seed), N_ATOMS, cell, group)
    structure = replace(structure, u_aniso=factor * structure.u_aniso)
    if name == "uncorrelated":
        return structure, Uncorrelated()
    if name == "uncorrelated and liquid-like":
        return structure, Uncorrelated() + LiquidLike(0.3 * np.sqrt(factor), 4.0)
    return structure, MODELS[name](factor)


def whole_covariance(structure, model):
    """V (n, n, 3, 3) of the atoms that move together, and those atoms."""
    unit = model.coherent_unit(structure)
    moves = model.displacements(unit)
    n = unit.n_atoms
    v = np.zeros((n, n, 3, 3)) if moves.correlated is None else blocks(moves.correlated).copy()
    if moves.independent is not None:
        v[range(n), range(n)] += moves.independent
    return unit, v


def direct(structure, model, q):
    """Diffuse intensity of the cell by direct sums over explicit copies."""
    unit, v = whole_covariance(structure, model)
    f = form_factors(unit.elements, q, unit.occupancies)
    return diffuse_of_cell(q, unit.positions, f, v, unit.cell, unit.space_group)


# --- 2 independent oracle ------------------------------------------------


@by_model
def test_the_map_matches_direct_sums_over_explicit_copies(name):
    structure, model = structure_and_model(name)
    grid = HklGrid.from_resolution(structure.cell, 2.2, (1, 2, 1))
    found = simulate(structure, model, grid).intensity[grid.within()]
    pick = np.random.default_rng(8).choice(len(found), 250, replace=False)
    expected = direct(structure, model, grid.q()[grid.within()][pick])
    assert np.abs(found[pick] - expected).max() < MAP_ERROR * found.mean()


@by_model
def test_the_map_matches_the_slow_reference(name):
    structure, model = structure_and_model(name)
    grid = HklGrid(structure.cell, [0.5, 1.0, 1.5], [-1.0, 0.0], [2.0, 3.0])
    found = simulate(structure, model, grid, rtol=1e-6).intensity.ravel()
    unit, v = whole_covariance(structure, model)
    q = grid.q().reshape(-1, 3)
    f = form_factors(unit.elements, q, unit.occupancies)
    expected = sum(
        reference.diffuse_intensity(q, positions, f, turned)
        for positions, turned in copies(unit.positions, v, unit.cell, unit.space_group)
    )
    assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.mean())


@pytest.mark.parametrize(("cell", "group"), ALL_GROUPS, ids=[g for _, g in ALL_GROUPS])
def test_every_space_group_matches_direct_sums(cell, group):
    structure, model = structure_and_model("covariance", crystal=(cell, group))
    grid = HklGrid.from_resolution(cell, 3.5)
    found = simulate(structure, model, grid).intensity[grid.within()]
    pick = np.random.default_rng(9).choice(len(found), min(60, len(found)), replace=False)
    expected = direct(structure, model, grid.q()[grid.within()][pick])
    assert np.abs(found[pick] - expected).max() < MAP_ERROR * found.mean()


# --- 3 exact limits ------------------------------------------------------


@by_model
def test_no_displacement_scatters_nothing(name):
    structure, model = structure_and_model(name, 0.0)
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    assert np.nanmax(simulate(structure, model, grid).intensity) == 0.0


@by_model
def test_small_displacements_scatter_in_proportion_to_q_squared_u(name):
    # First order: Σ_ij f_i f_j cos(q·r_ij) qᵀV_ij q, summed over explicit copies.
    factor = 5e-3
    structure, model = structure_and_model(name, factor)
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    found = simulate(structure, model, grid).intensity[grid.within()]
    q = grid.q()[grid.within()]
    unit, v = whole_covariance(structure, model)
    f = form_factors(unit.elements, q, unit.occupancies)
    first_order = np.zeros(len(q))
    for positions, turned in copies(unit.positions, v, unit.cell, unit.space_group):
        waves = f * np.exp(1j * q @ positions.T)
        x = np.einsum("qx,ijxy,qy->qij", q, turned, q, optimize=True)
        first_order += np.einsum("qi,qij,qj->q", waves.conj(), x, waves, optimize=True).real
    assert np.abs(found - first_order).max() < RTOL_SMALL * first_order.max()
    half, half_model = structure_and_model(name, factor / 2)
    halved = simulate(half, half_model, grid).intensity[grid.within()]
    assert_allclose(2 * halved.sum(), found.sum(), rtol=RTOL_SMALL)


@by_model
@pytest.mark.parametrize("size", [None, (2, 3, 2)])
def test_bragg_and_diffuse_are_the_total(name, size):
    structure, model = structure_and_model(name)
    grid = HklGrid.from_resolution(structure.cell, 4.0, 2)
    parts = {
        part: simulate(structure, model, grid, part, crystal_size=size).intensity
        for part in ("diffuse", "bragg", "total")
    }
    assert_allclose(parts["diffuse"] + parts["bragg"], parts["total"], rtol=1e-12)
    assert np.nanmax(parts["bragg"]) > np.nanmax(parts["diffuse"])


# --- 4 invariances -------------------------------------------------------


@by_model
@pytest.mark.parametrize(
    ("cell", "group"),
    [(CRYSTALS["monoclinic"][0], "C 1 2 1"), (CRYSTALS["trigonal"][0], "P 31")],
    ids=["C 2", "P 31"],
)
def test_intensity_is_positive_and_has_the_laue_symmetry(name, cell, group):
    structure, model = structure_and_model(name, crystal=(cell, group))
    grid = HklGrid.from_resolution(cell, 3.0, (2, 2, 1))
    found = simulate(structure, model, grid).intensity
    assert np.nanmin(found) >= 0.0
    inside = grid.within()
    hkl = grid.hkl()[inside]
    rotations = laue_rotations(group)
    if name == "liquid-like, cell":
        # Copies as placed by to_p1 are no whole orbit of pairs: only Friedel's law is left.
        rotations = np.array([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    for rotation in rotations:
        index, held = grid.index_of(hkl @ rotation)
        assert held.all()
        assert_allclose(
            found[tuple(index.T)], found[inside], rtol=1e-9, atol=1e-9 * np.nanmean(found)
        )


@by_model
@pytest.mark.parametrize("system", ["triclinic", "trigonal"])
def test_a_lattice_translation_of_the_molecule_changes_nothing(name, system):
    cell, groups = CRYSTALS[system]
    structure, model = structure_and_model(name, crystal=(cell, groups[0]))
    shift = cell.orth_matrix @ np.array([2.0, -3.0, 1.0])
    moved = replace(structure, positions=structure.positions + shift)
    grid = HklGrid.from_resolution(cell, 4.0, (2, 2, 1))
    for part in ("diffuse", "bragg"):
        here = simulate(structure, model, grid, part).intensity
        there = simulate(moved, model, grid, part).intensity
        assert np.nanmax(np.abs(there - here)) < 1e-4 * np.nanmean(here)


@by_model
def test_the_covariance_is_symmetric_and_positive_semidefinite(name):
    structure, model = structure_and_model(name)
    _, v = whole_covariance(structure, model)
    matrix = flat(v)
    assert_allclose(matrix, matrix.T, atol=1e-14)
    values = np.linalg.eigvalsh(matrix)
    assert values[0] > -1e-9 * values[-1]
    assert values[-1] > 0


@by_model
def test_the_structure_is_not_changed(name):
    structure, model = structure_and_model(name)
    arrays = ("positions", "u_aniso", "occupancies", "elements")
    before = {x: getattr(structure, x).copy() for x in arrays}
    grid = HklGrid.from_resolution(structure.cell, 4.0)
    simulate(structure, model, grid, "total")
    for x in arrays:
        assert np.array_equal(getattr(structure, x), before[x])


@pytest.mark.parametrize("name", MODELS)
def test_what_a_file_holds_is_filled_up_to(name):
    # adps="file": the total is the structure's U, the correlations stay the model's.
    structure, model = structure_and_model(name)
    unit, v = whole_covariance(structure, model)
    n = unit.n_atoms
    own = v[range(n), range(n)]
    roomy = replace(unit, u_aniso=own + random_u(np.random.default_rng(10), n))
    filled = model.with_adps(roomy, "file")
    assert_allclose(filled.u_aniso(n), roomy.u_aniso, atol=1e-12)
    if name == "free ADPs":
        assert filled.correlated is None
    else:
        same = blocks(model.displacements(roomy).correlated)
        assert np.array_equal(blocks(filled.correlated), same)
    assert_allclose(model.with_adps(roomy, "model").u_aniso(n), own, atol=1e-14)


# Sums of models.


def test_a_sum_of_models_is_the_sum_of_covariances():
    structure, _ = structure_and_model("covariance")
    one, other = LiquidLike(0.3, 4.0), RigidBody(0.3 * TRANSLATION, LIBRATION)
    summed = one + other
    assert isinstance(summed, SumOfModels)
    v = blocks(one.displacements(structure).correlated)
    v = v + blocks(other.displacements(structure).correlated)
    assert_allclose(blocks(summed.displacements(structure).correlated), v, rtol=1e-12, atol=1e-13)
    grid = HklGrid.from_resolution(structure.cell, 2.5)
    maps = {m: simulate(structure, m, grid).intensity for m in (summed, one, other)}
    of_sum = simulate(structure, Covariance(v), grid).intensity
    assert np.nanmax(np.abs(maps[summed] - of_sum)) < 1e-6 * np.nanmean(of_sum)
    # Intensities do not add: the difference is of second order, and plain here.
    apart = maps[one] + maps[other]
    assert np.nanmax(np.abs(maps[summed] - apart)) > 0.05 * np.nanmean(of_sum)


def test_sums_are_flat_and_their_order_does_not_matter():
    structure, _ = structure_and_model("covariance")
    a, b, c = LiquidLike(0.3, 4.0), RigidBody(TRANSLATION), Uncorrelated()
    left, right = (a + b) + c, a + (b + c)
    assert left.models == right.models == (a, b, c)
    one, two = (m.displacements(structure) for m in (left, c + b + a))
    assert_allclose(one.u_aniso(N_ATOMS), two.u_aniso(N_ATOMS), rtol=1e-13)
    assert_allclose(blocks(one.correlated), blocks(two.correlated), rtol=1e-12, atol=1e-13)


# --- 5 errors ------------------------------------------------------------


@by_model
def test_adps_must_be_model_or_file(name):
    structure, model = structure_and_model(name)
    with pytest.raises(InputError, match="adps must be 'model' or 'file', got 'both'"):
        model.with_adps(structure, "both")


def test_the_models_of_a_sum_must_move_the_same_atoms():
    structure, _ = structure_and_model("covariance")
    grid = HklGrid.from_resolution(structure.cell, 4.0)
    model = LiquidLike(0.3, 4.0, coherence="cell") + LiquidLike(0.3, 4.0)
    with pytest.raises(InputError, match="must move the same atoms: all asu or all cell"):
        simulate(structure, model, grid)


def test_a_model_without_displacements_cannot_be_made():
    class Nothing(DisorderModel):
        pass

    with pytest.raises(TypeError, match="displacements"):
        Nothing()
