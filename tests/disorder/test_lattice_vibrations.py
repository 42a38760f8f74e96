"""LatticeVibrations: covariances and intensities against an explicit supercell of springs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import cell_vectors, form_factors, q_of
from tests.strategies import random_structure
from tests.supercell import (
    CUTOFF,
    SETTINGS,
    Supercell,
    by_group,
    by_level,
    chain,
    common_supercell,
    model_of,
    structure_of,
    supercell_of,
)

from offbragg import HklGrid, simulate
from offbragg.crystal.cell import Cell
from offbragg.disorder.lattice_vibrations import LatticeVibrations
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pairs import PairBlock, Pairs

RTOL_ROUNDING = 1e-9  # of the largest element: two ways to invert matrices of condition 1e4
RTOL_DIFFERENCE = 1e-6  # central differences of step 1e-5
RTOL_ADJOINT = 1e-11  # the same sum in another order
RTOL_INTENSITY = 1e-5  # transforms of the rigid level are good to 1e-8 of F(0)
MAP_ERROR = 1e-3  # of the mean, the project's own figure


# --- 1 reference numbers -------------------------------------------------


def test_a_ring_of_four_atoms_by_hand():
    # k(φ) = 2 − 2 cos φ = 2, 4, 2 for φ = π/2, π, 3π/2:
    # V(0) = (1/2 + 1/4 + 1/2)/4 = 5/16; V(1) = (0 − 1/4 + 0)/4 = −1/16; V(2) = −3/16.
    structure, model = chain(4)
    for lattice_vector, expected in ((0, 5 / 16), (1, -1 / 16), (2, -3 / 16), (3, -1 / 16)):
        v = model.covariance_between(structure, (lattice_vector, 0, 0))
        assert_allclose(v[0, 0], expected * np.eye(3), atol=1e-14)


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


@by_level
def test_copies_are_told_apart_by_their_number(level):
    # Names do not matter: the same cell without them, and twice written out.
    model, structure = model_of("P 1 21 1", level), structure_of("P 1 21 1")
    unit = structure.to_p1()
    v = model.covariance_between(unit, (1, 0, 0))
    for other in (replace(unit, names=np.full(8, "")), unit.to_p1()):
        assert_allclose(model.covariance_between(other, (1, 0, 0)), v, rtol=RTOL_ROUNDING)
    # All in one copy, the same atoms are one molecule: a rigid one moves otherwise.
    whole = replace(unit, copies=np.zeros(8, dtype=np.int64))
    if level == "rigid":
        assert model.dof_covariances(whole).shape[3:] == (1, 1, 6, 6)
        assert model.dof_covariances(unit).shape[3:] == (2, 2, 6, 6)


@pytest.mark.parametrize(
    "order", [[0, 4, 1, 5, 2, 6, 3, 7], [0, 1, 2, 3, 4, 5, 6], [1, 0, *range(2, 8)]]
)
def test_copies_of_other_atoms_or_mixed_are_refused(order):
    model, structure = model_of("P 1 21 1", "rigid"), structure_of("P 1 21 1")
    with pytest.raises(InputError, match="copies in a cell must follow each other, all of the sa"):
        model.displacements(structure.to_p1().take(np.array(order)))


def test_the_maps_sampling_must_divide_the_period():
    structure = structure_of("P 1", 4)
    lattice = HalfLattice(structure.cell, (2, 2, 2), (4, 4, 4), 2.0)
    model = LatticeVibrations((3, 2, 2), cutoff=CUTOFF)
    message = r"n_cells must be multiples of the map's sampling \(2, 2, 2\), got \(3, 2, 2\)"
    with pytest.raises(InputError, match=message):
        model.diffuse_on_lattice(lattice, structure)


def test_a_gradient_for_other_pairs_is_refused():
    model = model_of("P 1", "rigid")
    unit = structure_of("P 1")
    few = Weights(replace(model, reach=5.0).displacements(unit).pairs, 1)
    with pytest.raises(InputError, match=r"gradient must be for the model's \d+ pairs, got \d+"):
        model.pullback(unit, Displacements(pairs=few))
