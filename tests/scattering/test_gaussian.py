"""Diffuse intensity for any covariance: scattered q and lattices.

Oracles: `tests.oracles.diffuse_sum` (through relative displacements), the package's own slow
`reference` once that has been checked, and averages over drawn displacements.
"""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.lattice_oracles import nodes_within
from tests.oracles import (
    blocks,
    diffuse_sum,
    draw_displacements,
    form_factors,
    structure_factor_sum,
)
from tests.strategies import (
    CRYSTALS,
    cells,
    covariances,
    random_covariance,
    random_structure,
    random_u,
    vectors,
)

from offbragg import AtomicStructure
from offbragg.errors import InputError
from offbragg.scattering import (
    Displacements,
    HalfLattice,
    diffuse_intensity,
    diffuse_on_lattice,
    reference,
)
from offbragg.scattering.engine import Engine
from offbragg.scattering.on_lattice import uncorrelated_on_lattice

RTOL_ROUNDING = 1e-10  # of (Σf)²: sums of n² terms in another order
# What a map may be out, as a fraction of its mean (the project's own figure). With the default
# rtol = 1e-4 the worst of a thousand random cells, structures and covariances was 6e-4.
MAP_ERROR = 1e-3
RIGID_RTOL = 1e-6  # the project's own figure for the closed form of a rigid body

TRICLINIC = CRYSTALS["triclinic"][0]
HEXAGONAL = CRYSTALS["trigonal"][0]


def some_q(rng, n_q=12, scale=1.5):
    return rng.normal(scale=scale, size=(n_q, 3))


def lattice_of(cell, d_min, sampling=(1, 1, 1)):
    """The whole half lattice to d_min."""
    extent = tuple(
        int(np.floor(x / d_min * n + 1e-9)) for x, n in zip(cell, sampling, strict=False)
    )
    return HalfLattice(cell, sampling, extent, 2 * np.pi / d_min)


def map_error(lattice, structure, displacements, rng, n_random=150, rtol=1e-4):
    """Largest error of a map, as a fraction of its mean: random voxels, and all with d > 10 Å."""
    atoms = structure.positions, structure.elements, structure.occupancies
    found = diffuse_on_lattice(lattice, *atoms, displacements, Engine(rtol=rtol)).ravel()
    q, index = nodes_within(lattice)
    low = np.flatnonzero(np.linalg.norm(q, axis=1) < 2 * np.pi / 10)
    pick = np.union1d(rng.choice(len(q), n_random), low)
    f = form_factors(structure.elements, q[pick], structure.occupancies)
    v = blocks(displacements.correlated).copy()
    if displacements.independent is not None:
        v[range(len(v)), range(len(v))] += displacements.independent
    expected = diffuse_sum(q[pick], structure.positions, f, v)
    origin = np.ravel_multi_index((*lattice.extent[:2], 0), lattice.shape)
    assert found[origin] == 0.0
    assert found.min() >= 0.0
    assert np.all(np.isfinite(found))
    return np.abs(found[index][pick] - expected).max() / found[index].mean()


# --- 1 reference numbers -------------------------------------------------


def test_two_atoms_that_move_as_one_by_hand():
    # (1 − e^{−q²u}) |6 + 8 e^{iq}|², q = π/2 along x, u = 0.1: |…|² = 36 + 64.
    q = np.array([[np.pi / 2, 0.0, 0.0]])
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found = diffuse_intensity(q, positions, np.array([[6.0, 8.0]]), np.full((2, 2), 0.1))
    assert found[0] == pytest.approx(100 * (1 - np.exp(-0.1 * np.pi**2 / 4)), rel=1e-12)


def test_two_atoms_that_move_against_each_other_by_hand():
    # v = u [[1, −1], [−1, 1]]: T = 2f² [1 + cos(q) e^{−2q²u}], |F|² = 2f² e^{−q²u} (1 + cos q).
    q_x, u, f = 0.8, 0.3, 7.0
    q, positions = np.array([[q_x, 0, 0]]), np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    v = u * np.array([[1.0, -1.0], [-1.0, 1.0]])
    total = 2 * f**2 * (1 + np.cos(q_x) * np.exp(-2 * q_x**2 * u))
    bragg = 2 * f**2 * np.exp(-(q_x**2) * u) * (1 + np.cos(q_x))
    found = diffuse_intensity(q, positions, np.full((1, 2), f), v)
    assert found[0] == pytest.approx(total - bragg, rel=1e-12)


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=40)
@given(v=covariances(5), seed=st.integers(0, 999), complex_f=st.booleans())
def test_direct_sum_matches_both_oracles(v, seed, complex_f):
    rng = np.random.default_rng(seed)
    q, positions = some_q(rng), rng.normal(scale=4, size=(5, 3))
    f = rng.uniform(1, 10, (12, 5)) + (1j * rng.uniform(-2, 2, (12, 5)) if complex_f else 0)
    expected = diffuse_sum(q, positions, f, v)
    scale = (np.abs(f).sum(axis=1) ** 2).max()
    assert_allclose(diffuse_intensity(q, positions, f, v), expected, atol=RTOL_ROUNDING * scale)
    assert_allclose(
        reference.diffuse_intensity(q, positions, f, blocks(v)),
        expected,
        atol=RTOL_ROUNDING * scale,
    )


@pytest.mark.parametrize("anisotropic", [True, False])
def test_matches_the_average_over_drawn_displacements(anisotropic):
    # Guinier: ⟨|F|²⟩ − |⟨F⟩|², ⟨F⟩ known; 4 standard errors of the mean of |F|².
    rng = np.random.default_rng(12)
    n = 6
    v = random_covariance(rng, n, 0.25, rank=4, anisotropic=anisotropic)
    positions, q = rng.normal(scale=3, size=(n, 3)), some_q(rng, 15, 1.0)
    f = form_factors(["C", "N", "O", "S", "C", "O"], q)
    moved = positions + draw_displacements(rng, v, 20_000)
    amplitude = np.einsum("qi,dqi->dq", f, np.exp(1j * np.einsum("qx,dix->dqi", q, moved)))
    square = np.abs(amplitude) ** 2
    diagonal = blocks(v)[range(n), range(n)]
    mean = structure_factor_sum(q, positions, f, diagonal)
    expected = square.mean(axis=0) - np.abs(mean) ** 2
    sigma = square.std(axis=0) / np.sqrt(len(square))
    found = diffuse_intensity(q, positions, f, v)
    assert np.abs((found - expected) / sigma).max() < 4.0
    assert (found / sigma).min() > 20  # the test can tell: nowhere is the signal in the noise


@settings(deadline=None, derandomize=True, max_examples=15)
@given(
    cell=cells(7.0, 15.0),
    sampling=st.tuples(*[st.integers(1, 3)] * 3),
    v=covariances(6),
    seed=st.integers(0, 999),
)
def test_splat_matches_the_direct_sum_in_any_cell(cell, sampling, v, seed):
    # Cells of 7 to 15 Å, atoms 20 Å across: most boxes are smaller than the molecule.
    rng = np.random.default_rng(seed)
    structure = random_structure(rng, 6, cell, spread=rng.uniform(3.0, 8.0))
    lattice = lattice_of(cell, rng.uniform(2.0, 4.0), sampling)
    assert map_error(lattice, structure, Displacements(v), rng) < MAP_ERROR


def test_splat_matches_in_a_box_smaller_than_the_molecule():
    # A cell of 8 Å, 30 atoms spread over some five cells each way.
    rng = np.random.default_rng(30)
    cell = TRICLINIC._replace(a=8.0, b=7.0, c=9.0)
    structure = random_structure(rng, 30, cell, spread=10.0)
    extent = np.ptp(structure.positions @ cell.frac_matrix.T, axis=0)
    assert extent.min() > 3
    v = random_covariance(rng, 30, 0.32)
    assert map_error(lattice_of(cell, 1.5), structure, Displacements(v), rng) < MAP_ERROR


def test_splat_matches_at_all_low_resolution_voxels():
    # Finely sampled: some hundred voxels with d > 10 Å, where T and |F|² nearly cancel.
    rng = np.random.default_rng(31)
    structure = random_structure(rng, 40, TRICLINIC, spread=6.0)
    v = random_covariance(rng, 40, 0.32, rank=20)
    lattice = lattice_of(TRICLINIC, 3.5, (5, 4, 4))
    q, _ = nodes_within(lattice)
    assert (np.linalg.norm(q, axis=1) < 2 * np.pi / 10).sum() > 200
    assert map_error(lattice, structure, Displacements(v), rng) < MAP_ERROR


def test_independent_motion_adds_to_the_diagonal():
    rng = np.random.default_rng(32)
    structure = random_structure(rng, 8, TRICLINIC)
    moves = Displacements(random_covariance(rng, 8, 0.1), random_u(rng, 8, 0.2))
    assert map_error(lattice_of(TRICLINIC, 2.0, (2, 1, 1)), structure, moves, rng) < MAP_ERROR
    moves = Displacements(random_covariance(rng, 8, 0.1, anisotropic=False), random_u(rng, 8, 0.2))
    assert map_error(lattice_of(TRICLINIC, 2.0, (2, 1, 1)), structure, moves, rng) < MAP_ERROR


@pytest.mark.parametrize("rtol", [1e-2, 1e-3, 1e-6])
def test_the_error_of_a_map_follows_rtol(rtol):
    rng = np.random.default_rng(34)
    structure = random_structure(rng, 12, TRICLINIC)
    moves = Displacements(random_covariance(rng, 12, 0.3))
    lattice = lattice_of(TRICLINIC, 2.0, (1, 2, 1))
    assert map_error(lattice, structure, moves, rng, rtol=rtol) < 3 * rtol


# --- 3 exact limits ------------------------------------------------------


def test_a_rigid_body_scatters_as_its_closed_form():
    # V_ij = T for all pairs: [1 − exp(−qᵀTq)] |F_0|².
    rng = np.random.default_rng(40)
    q, positions = some_q(rng, 40), rng.normal(scale=5, size=(20, 3))
    f = form_factors(["C", "N", "O", "S"] * 5, q)
    t = random_u(rng, 1, 0.3)[0]
    found = diffuse_intensity(q, positions, f, np.broadcast_to(t, (20, 20, 3, 3)))
    f_zero = np.abs((f * np.exp(1j * q @ positions.T)).sum(axis=1)) ** 2
    expected = f_zero * -np.expm1(-np.einsum("qx,xy,qy->q", q, t, q))
    assert_allclose(found, expected, rtol=RIGID_RTOL, atol=1e-12 * (f.sum(axis=1) ** 2).max())


def test_several_rigid_bodies_scatter_pairwise():
    # Σ_AB F_A* F_B e^{−½q(C_AA+C_BB)q} [e^{qC_ABq} − 1], of theory 1.2.
    rng = np.random.default_rng(41)
    q, positions = some_q(rng), rng.normal(scale=5, size=(9, 3))
    f, body = rng.uniform(3, 9, (12, 9)), np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    c = random_covariance(rng, 3, 0.3)
    found = diffuse_intensity(q, positions, f, c[np.ix_(body, body)])
    waves = f * np.exp(1j * q @ positions.T)
    amplitudes = np.stack([waves[:, body == b].sum(axis=1) for b in range(3)])
    expected = np.zeros(12)
    for a in range(3):
        for b in range(3):
            x = np.einsum("qx,xy,qy->q", q, c[a, b], q)
            own = np.einsum("qx,xy,qy->q", q, c[a, a] + c[b, b], q)
            term = amplitudes[a].conj() * amplitudes[b] * np.exp(-0.5 * own) * np.expm1(x)
            expected += term.real
    assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_uncorrelated_atoms_scatter_as_einsteins():
    rng = np.random.default_rng(42)
    q, positions, u = some_q(rng), rng.normal(scale=5, size=(8, 3)), random_u(rng, 8)
    f = rng.uniform(1, 9, (12, 8))
    v = np.zeros((8, 8, 3, 3))
    v[range(8), range(8)] = u
    expected = (f**2 * -np.expm1(-np.einsum("qx,ixy,qy->qi", q, u, q))).sum(axis=1)
    assert_allclose(diffuse_intensity(q, positions, f, v), expected, rtol=1e-11)


def test_uncorrelated_atoms_scatter_as_einsteins_on_a_lattice():
    rng = np.random.default_rng(43)
    structure = random_structure(rng, 9, TRICLINIC)
    lattice = lattice_of(TRICLINIC, 1.8)
    atoms = structure.elements, structure.occupancies
    found = uncorrelated_on_lattice(lattice, *atoms, structure.u_aniso).ravel()
    moves = Displacements(independent=structure.u_aniso)
    assert np.array_equal(
        diffuse_on_lattice(lattice, structure.positions, *atoms, moves).ravel(), found
    )
    q, index = nodes_within(lattice)
    f = form_factors(structure.elements, q, structure.occupancies)
    x = np.einsum("qx,ixy,qy->qi", q, structure.u_aniso, q)
    expected = (f**2 * -np.expm1(-x)).sum(axis=1)
    assert np.abs(found[index] - expected).max() < 1e-4 * expected.mean()


def test_atoms_that_stand_still_scatter_nothing():
    rng = np.random.default_rng(44)
    q, positions = some_q(rng), rng.normal(size=(5, 3))
    lattice, atoms = lattice_of(TRICLINIC, 3.0), (positions, ["C"] * 5, np.ones(5))
    for shape in ((5, 5), (5, 5, 3, 3)):
        assert not diffuse_intensity(q, positions, np.ones((12, 5)), np.zeros(shape)).any()
        assert not diffuse_on_lattice(lattice, *atoms, Displacements(np.zeros(shape))).any()
    still = Displacements(independent=np.zeros((5, 3, 3)))
    assert not diffuse_on_lattice(lattice, *atoms, still).any()
    assert not diffuse_on_lattice(lattice, *atoms, Displacements()).any()


@pytest.mark.parametrize("u", [1e-4, 1e-6])
def test_small_displacements_scatter_in_proportion(u):
    # First order: Σ_ij f_i f_j cos(q·r_ij) qᵀV_ij q.
    rng = np.random.default_rng(45)
    structure = random_structure(rng, 8, TRICLINIC)
    shape = random_covariance(rng, 8, 1.0, rank=6)
    lattice = lattice_of(TRICLINIC, 2.5)
    q, index = nodes_within(lattice)
    f = form_factors(structure.elements, q, structure.occupancies)
    waves = f * np.exp(1j * q @ structure.positions.T)
    x = np.einsum("qx,ijxy,qy->qij", q, shape, q, optimize=True)
    first_order = np.einsum("qi,qij,qj->q", waves.conj(), x, waves, optimize=True).real
    direct = diffuse_intensity(q, structure.positions, f, u * shape)
    # The next order is of relative size q²u: up to 6.3 × u × the largest of V.
    assert np.abs(direct / u - first_order).max() < 60 * u * first_order.max()
    found = diffuse_on_lattice(
        lattice, structure.positions, structure.elements, structure.occupancies,
        Displacements(u * shape),
    ).ravel()[index]  # fmt: skip
    assert np.abs(found - direct).max() < MAP_ERROR * direct.mean()


def test_large_displacements_leave_the_sum_of_squares():
    # q²V of some hundred: no overflow, atoms scatter one by one.
    rng = np.random.default_rng(46)
    q = rng.normal(size=(10, 3))
    q *= 5.0 / np.linalg.norm(q, axis=1)[:, None]
    f = rng.uniform(1, 9, (10, 6))
    v = np.diag(np.full(6, 100.0))
    found = diffuse_intensity(q, rng.normal(size=(6, 3)), f, v)
    assert_allclose(found, (f**2).sum(axis=1), rtol=1e-12)
    # All as one, q²v = 2500: |F_0|², with every exp(x) far beyond float64.
    positions = rng.normal(size=(6, 3))
    found = diffuse_intensity(q, positions, f, np.full((6, 6), 100.0))
    f_zero = np.abs((f * np.exp(1j * q @ positions.T)).sum(axis=1)) ** 2
    assert_allclose(found, f_zero, rtol=1e-10, atol=1e-9)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=60)
@given(v=covariances(6, 3.0), seed=st.integers(0, 999))
def test_intensity_is_never_negative_and_equal_at_minus_q(v, seed):
    rng = np.random.default_rng(seed)
    q, positions = some_q(rng, 20, 2.0), rng.normal(scale=4, size=(6, 3))
    f = rng.uniform(0, 10, (20, 6))
    found = diffuse_intensity(q, positions, f, v)
    scale = (f.sum(axis=1) ** 2).max()
    assert found.min() > -RTOL_ROUNDING * scale
    assert_allclose(
        diffuse_intensity(-q, positions, f, v), found, rtol=1e-12, atol=RTOL_ROUNDING * scale
    )


def test_isotropic_is_anisotropic_with_equal_components():
    rng = np.random.default_rng(50)
    structure = random_structure(rng, 8, TRICLINIC)
    v = random_covariance(rng, 8, 0.3, anisotropic=False)
    q = some_q(rng)
    f = form_factors(structure.elements, q)
    assert_allclose(
        diffuse_intensity(q, structure.positions, f, v),
        diffuse_intensity(q, structure.positions, f, blocks(v)),
        rtol=1e-9,
    )
    atoms = structure.positions, structure.elements, structure.occupancies
    lattice = lattice_of(TRICLINIC, 2.5)
    splat = Engine(method="splat")
    one, other = (
        diffuse_on_lattice(lattice, *atoms, Displacements(x), splat) for x in (v, blocks(v))
    )
    by_nufft = diffuse_on_lattice(lattice, *atoms, Displacements(v))
    assert np.abs(by_nufft - one).max() < MAP_ERROR * one.mean()
    assert_allclose(one, other, atol=1e-9 * one.max())


@settings(deadline=None, derandomize=True, max_examples=20)
@given(shift=vectors(40.0), v=covariances(4))
def test_a_shift_of_all_atoms_changes_nothing(shift, v):
    rng = np.random.default_rng(51)
    q, positions, f = some_q(rng), rng.normal(size=(4, 3)), rng.uniform(1, 9, (12, 4))
    here = diffuse_intensity(q, positions, f, v)
    there = diffuse_intensity(q, positions + shift, f, v)
    assert_allclose(there, here, rtol=1e-8, atol=1e-9 * (f.sum(axis=1) ** 2).max())


def test_turning_everything_changes_nothing():
    rng = np.random.default_rng(52)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    q, positions, f = some_q(rng), rng.normal(size=(5, 3)), rng.uniform(1, 9, (12, 5))
    v = random_covariance(rng, 5)
    here = diffuse_intensity(q, positions, f, v)
    there = diffuse_intensity(q @ turn.T, positions @ turn.T, f, turn @ v @ turn.T)
    assert_allclose(there, here, rtol=1e-10)


def test_the_order_of_atoms_changes_nothing():
    rng = np.random.default_rng(53)
    structure = random_structure(rng, 9, TRICLINIC)
    order = rng.permutation(9)
    v = random_covariance(rng, 9)
    lattice = lattice_of(TRICLINIC, 2.5)
    here = diffuse_on_lattice(
        lattice, structure.positions, structure.elements, structure.occupancies, Displacements(v)
    )
    other = structure.take(order)
    there = diffuse_on_lattice(
        lattice, other.positions, other.elements, other.occupancies,
        Displacements(v[np.ix_(order, order)]),
    )  # fmt: skip
    assert_allclose(there, here, atol=1e-5 * here.mean())


@pytest.mark.parametrize("cell", [TRICLINIC, HEXAGONAL], ids=["triclinic", "hexagonal"])
def test_a_lattice_translation_of_the_molecule_changes_nothing(cell):
    rng = np.random.default_rng(54)
    structure = random_structure(rng, 8, cell)
    moves = Displacements(random_covariance(rng, 8))
    lattice = lattice_of(cell, 2.5, (2, 2, 1))
    atoms = structure.elements, structure.occupancies, moves
    here = diffuse_on_lattice(lattice, structure.positions, *atoms)
    shift = cell.orth_matrix @ np.array([3.0, -2.0, 5.0])
    there = diffuse_on_lattice(lattice, structure.positions + shift, *atoms)
    assert_allclose(there, here, atol=1e-4 * here.mean())


def test_results_do_not_depend_on_threads():
    rng = np.random.default_rng(55)
    structure = random_structure(rng, 12, TRICLINIC)
    v = random_covariance(rng, 12)
    lattice = lattice_of(TRICLINIC, 2.5, (2, 1, 1))
    q = some_q(rng, 50)
    f = form_factors(structure.elements, q)
    atoms = structure.positions, structure.elements, structure.occupancies

    def both():
        return (
            diffuse_on_lattice(lattice, *atoms, Displacements(v)),
            diffuse_intensity(q, structure.positions, f, v),
        )

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = both()
    finally:
        numba.set_num_threads(before)
    for one, many in zip(alone, both(), strict=True):
        assert np.array_equal(one, many)


def test_inputs_are_not_changed():
    rng = np.random.default_rng(56)
    structure = random_structure(rng, 5, TRICLINIC)
    v, extra = random_covariance(rng, 5), random_u(rng, 5)
    q = some_q(rng)
    f = form_factors(structure.elements, q)
    arrays = [v, extra, q, f, structure.positions, structure.occupancies]
    before = [x.copy() for x in arrays]
    diffuse_intensity(q, structure.positions, f, v)
    atoms = structure.positions, structure.elements, structure.occupancies
    diffuse_on_lattice(lattice_of(TRICLINIC, 3.0), *atoms, Displacements(v, extra))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def test_displacements_add_as_independent_motions():
    rng = np.random.default_rng(57)
    isotropic = random_covariance(rng, 4, anisotropic=False)
    anisotropic, u, w = random_covariance(rng, 4), random_u(rng, 4), random_u(rng, 4)
    both = Displacements(isotropic, u) + Displacements(anisotropic, w)
    assert_allclose(both.correlated, blocks(isotropic) + anisotropic, rtol=1e-13)
    assert_allclose(both.independent, u + w, rtol=1e-13)
    both = Displacements(anisotropic) + Displacements(isotropic)
    assert_allclose(both.correlated, blocks(isotropic) + anisotropic, rtol=1e-13)
    flat = Displacements(isotropic) + Displacements(2 * isotropic)
    assert_allclose(flat.correlated, 3 * isotropic, rtol=1e-13)
    assert (Displacements() + Displacements()).correlated is None
    total = (Displacements(isotropic) + Displacements(independent=u)).u_aniso(4)
    assert_allclose(total, np.diag(isotropic)[:, None, None] * np.eye(3) + u, rtol=1e-13)


# Extremes: each on a whole map against the direct sum.


def extreme_case(name):
    """A structure and its displacements at the end of what is asked of the engine."""
    rng = np.random.default_rng(60)
    structure = random_structure(rng, 6, TRICLINIC)
    if name == "condition 1e4":
        # Each pair's relative motion: variances 1, 1e-2, 1e-4 along turned axes.
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        shape = turn @ np.diag([1.0, 1e-2, 1e-4]) @ turn.T
        return structure, Displacements(np.eye(6)[:, :, None, None] * shape)
    if name == "U of 5 Å²":
        return structure, Displacements(random_covariance(rng, 6, 5.0))
    if name == "atoms on top of each other":
        positions = np.repeat(structure.positions[:2], 3, axis=0)
        stacked = AtomicStructure(
            TRICLINIC, "P 1", positions, structure.elements, structure.occupancies,
            structure.u_aniso,
        )  # fmt: skip
        return stacked, Displacements(random_covariance(rng, 6))
    if name == "one atom":
        return structure.take(np.array([3])), Displacements(random_covariance(rng, 1))
    if name == "one of two moves":
        v = np.zeros((6, 6))
        v[2, 2] = 0.4
        return structure, Displacements(v)
    # Rigid: every relative displacement is 0.
    return structure, Displacements(np.full((6, 6), 0.3))


@pytest.mark.parametrize(
    "name",
    ["condition 1e4", "U of 5 Å²", "atoms on top of each other", "one atom", "one of two moves",
     "rigid"],
)  # fmt: skip
@pytest.mark.parametrize("sampling", [(1, 1, 1), (2, 1, 3)])
def test_extremes_match_the_direct_sum(name, sampling):
    structure, moves = extreme_case(name)
    lattice = lattice_of(TRICLINIC, 2.0, sampling)
    assert map_error(lattice, structure, moves, np.random.default_rng(1)) < MAP_ERROR


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("q", np.zeros(3), r"q and positions must be \(n, 3\), got \(3,\)"),
        ("q", np.zeros((4, 2)), r"q and positions must be \(n, 3\), got \(4, 2\)"),
        ("positions", np.zeros((3, 2)), r"q and positions must be \(n, 3\)"),
        ("form_factors", np.ones((3, 4)), r"form_factors must be \(4, 3\), got \(3, 4\)"),
        ("covariance", np.eye(4), r"covariance must be \(3, 3\) or \(3, 3, 3, 3\), got \(4, 4\)"),
        ("covariance", np.eye(9), r"covariance must be \(3, 3\) or .* got \(9, 9\)"),
        ("covariance", np.full((3, 3), np.nan), "covariance must be finite"),
        ("covariance", np.triu(np.ones((3, 3))), "covariance must be symmetric"),
        ("method", "fast", r"method must be one of auto splat .* direct, got 'fast'"),
        ("rtol", 0.0, "rtol must be between 0 and 1, got 0.0"),
    ],
)
def test_a_wrong_argument_is_named(name, value, message):
    arguments = {
        "q": np.zeros((4, 3)),
        "positions": np.zeros((3, 3)),
        "form_factors": np.ones((4, 3)),
        "covariance": np.eye(3),
    }
    with pytest.raises(InputError, match=message):
        diffuse_intensity(**{**arguments, name: value})


def test_blocks_that_are_not_each_others_transpose_are_refused():
    v = np.zeros((2, 2, 3, 3))
    v[0, 0] = v[1, 1] = np.eye(3)
    v[0, 1, 0, 1] = v[1, 0, 0, 1] = 0.2  # V_10 must be V_01 transposed
    with pytest.raises(InputError, match="covariance must be symmetric"):
        diffuse_intensity(np.zeros((1, 3)), np.zeros((2, 3)), np.ones((1, 2)), v)
    v[1, 0] = v[0, 1].T
    diffuse_intensity(np.zeros((1, 3)), np.zeros((2, 3)), np.ones((1, 2)), v)


@pytest.mark.parametrize(
    "moves",
    [
        Displacements(np.eye(5)),
        Displacements(np.eye(7)),
        Displacements(np.zeros((7, 7, 3, 3)) + np.eye(3)),
        Displacements(np.zeros((6, 6, 3))),
        Displacements(independent=np.zeros((7, 3, 3)) + np.eye(3)),
    ],
    ids=["fewer atoms", "more atoms", "more atoms, blocks", "wrong dimensions", "more U"],
)
def test_displacements_of_another_number_of_atoms_are_refused(moves):
    structure = random_structure(np.random.default_rng(71), 6, TRICLINIC)
    atoms = structure.positions, structure.elements, structure.occupancies
    with pytest.raises(InputError, match="6"):
        diffuse_on_lattice(lattice_of(TRICLINIC, 4.0), *atoms, moves)


def test_auto_is_the_direct_sum_for_scattered_q():
    rng = np.random.default_rng(70)
    arguments = some_q(rng), rng.normal(size=(4, 3)), np.ones((12, 4)), random_covariance(rng, 4)
    assert np.array_equal(
        diffuse_intensity(*arguments), diffuse_intensity(*arguments, method="direct")
    )
