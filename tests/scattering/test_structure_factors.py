"""Structure factors, summed directly and on a lattice: gemmi, plain sums, limits, errors."""

import gemmi
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import form_factors, q_of, structure_factor_sum
from tests.strategies import CRYSTALS, cells, random_structure, random_u, structures, vectors

from offbragg import HklGrid
from offbragg.errors import InputError
from offbragg.scattering import (
    HalfLattice,
    compute_structure_factors,
    reference,
    structure_factors_on_lattice,
)

RTOL_ROUNDING = 1e-10  # the same sum in another order, at phases of some hundred radians
# gemmi holds U, B and occupancy in float32: 1e-7 of the sum of f.
RTOL_GEMMI = 1e-5
# Of Σ f, for tolerance=1e-8: what was asked, times a few for atoms whose errors add.
LATTICE_TOLERANCE, LATTICE_ERROR = 1e-8, 5e-8

TRICLINIC = CRYSTALS["triclinic"][0]


def lattice_of(cell, d_min, sampling):
    """The whole half lattice to d_min."""
    extent = tuple(
        int(np.floor(x / d_min * n + 1e-9)) for x, n in zip(cell, sampling, strict=False)
    )
    return HalfLattice(cell, sampling, extent, 2 * np.pi / d_min)


def q_of_nodes(lattice):
    """q (n, 3) of all nodes and which of them are within q_max."""
    m_x, m_y, m_z = lattice.extent
    axes = np.arange(-m_x, m_x + 1), np.arange(-m_y, m_y + 1), np.arange(m_z + 1)
    m = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    q = q_of(m / np.array(lattice.sampling), lattice.cell)
    return q, np.linalg.norm(q, axis=1) <= lattice.q_max * (1 + 1e-9)


def gemmi_structure_factors(structure, hkl):
    """F(hkl) by gemmi.StructureFactorCalculatorX, in P 1."""
    model, chain, residue = gemmi.Model(1), gemmi.Chain("A"), gemmi.Residue()
    residue.name = "UNL"
    for i in range(structure.n_atoms):
        atom = gemmi.Atom()
        atom.element = gemmi.Element(str(structure.elements[i]))
        atom.pos = gemmi.Position(*structure.positions[i].tolist())
        atom.occ = float(structure.occupancies[i])
        u = structure.u_aniso[i]
        atom.aniso = gemmi.SMat33f(u[0, 0], u[1, 1], u[2, 2], u[0, 1], u[0, 2], u[1, 2])
        residue.add_atom(atom)
    chain.add_residue(residue)
    model.add_chain(chain)
    oracle = gemmi.StructureFactorCalculatorX(gemmi.UnitCell(*structure.cell))
    return np.array([oracle.calculate_sf_from_model(model, list(h)) for h in hkl])


# --- 1 reference numbers -------------------------------------------------


def test_two_atoms_half_a_wavelength_apart_by_hand():
    # 6 e^{−½·π²·0.1} + 8 e^{iπ}.
    q = np.array([[np.pi, 0.0, 0.0]])
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    u = np.array([0.1 * np.eye(3), np.zeros((3, 3))])
    found = compute_structure_factors(q, positions, np.array([[6.0, 8.0]]), u)
    assert_allclose(found, 6 * np.exp(-0.05 * np.pi**2) - 8, atol=1e-13)


def test_the_phase_is_positive():
    q, positions = np.array([[0.5, 0.0, 0.0]]), np.array([[1.0, 0.0, 0.0]])
    assert_allclose(compute_structure_factors(q, positions, np.ones((1, 1))), np.exp(0.5j))


# --- 2 independent oracle ------------------------------------------------


@pytest.fixture(scope="module")
def anisotropic():
    """Twelve atoms with ANISOU in a triclinic cell."""
    return random_structure(np.random.default_rng(20), 12, TRICLINIC)


def test_matches_gemmi_in_a_triclinic_cell_with_anisou(anisotropic):
    rng = np.random.default_rng(3)
    hkl = rng.integers(-6, 7, (60, 3))
    expected = gemmi_structure_factors(anisotropic, hkl.tolist())
    q = q_of(hkl, TRICLINIC)
    f = form_factors(anisotropic.elements, q, anisotropic.occupancies)
    found = compute_structure_factors(q, anisotropic.positions, f, anisotropic.u_aniso)
    assert_allclose(found, expected, rtol=RTOL_GEMMI, atol=1e-5 * np.abs(expected).mean())


def test_lattice_matches_gemmi_in_a_triclinic_cell_with_anisou(anisotropic):
    lattice = lattice_of(TRICLINIC, 1.8, (1, 1, 1))
    found = structure_factors_on_lattice(
        lattice, anisotropic.positions, anisotropic.elements, anisotropic.occupancies,
        anisotropic.u_aniso,
    )  # fmt: skip
    m = HklGrid(TRICLINIC, *(np.arange(-e, e + 1) for e in lattice.extent)).hkl()
    m = m[:, :, lattice.extent[2] :].reshape(-1, 3).astype(int)
    _, within = q_of_nodes(lattice)
    pick = np.flatnonzero(within)[:: max(1, within.sum() // 300)]
    expected = gemmi_structure_factors(anisotropic, m[pick].tolist())
    assert_allclose(
        found.ravel()[pick], expected, rtol=RTOL_GEMMI, atol=1e-5 * np.abs(expected).mean()
    )


@settings(deadline=None, derandomize=True, max_examples=25)
@given(structure=structures(5), seed=st.integers(0, 99))
def test_direct_sum_matches_both_oracles(structure, seed):
    q = np.random.default_rng(seed).normal(scale=2.0, size=(7, 3))
    f = form_factors(structure.elements, q, structure.occupancies)
    arguments = q, structure.positions, f, structure.u_aniso
    expected = structure_factor_sum(*arguments)
    scale = np.abs(f).sum(axis=1).max()
    assert_allclose(compute_structure_factors(*arguments), expected, atol=RTOL_ROUNDING * scale)
    assert_allclose(reference.structure_factors(*arguments), expected, atol=RTOL_ROUNDING * scale)


@settings(deadline=None, derandomize=True, max_examples=12)
@given(
    cell=cells(6.0, 14.0),
    sampling=st.tuples(*[st.integers(1, 3)] * 3),
    d_min=st.floats(1.6, 4.0),
    seed=st.integers(0, 999),
)
def test_lattice_matches_the_direct_sum_between_nodes(cell, sampling, d_min, seed):
    rng = np.random.default_rng(seed)
    structure = random_structure(rng, 5, cell, u=rng.uniform(0.01, 1.0))
    lattice = lattice_of(cell, d_min, sampling)
    found = structure_factors_on_lattice(
        lattice, structure.positions, structure.elements, structure.occupancies,
        structure.u_aniso, LATTICE_TOLERANCE,
    ).ravel()  # fmt: skip
    q, within = q_of_nodes(lattice)
    pick = rng.choice(np.flatnonzero(within), 150)
    f = form_factors(structure.elements, q[pick], structure.occupancies)
    expected = structure_factor_sum(q[pick], structure.positions, f, structure.u_aniso)
    assert np.abs(found[pick] - expected).max() < LATTICE_ERROR * np.abs(f).sum(axis=1).max()
    assert not found[~within].any()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-10])
def test_the_error_on_a_lattice_follows_the_tolerance(anisotropic, tolerance):
    lattice = lattice_of(TRICLINIC, 2.0, (1, 2, 1))
    found = structure_factors_on_lattice(
        lattice, anisotropic.positions, anisotropic.elements, anisotropic.occupancies,
        anisotropic.u_aniso, tolerance,
    ).ravel()  # fmt: skip
    q, within = q_of_nodes(lattice)
    f = form_factors(anisotropic.elements, q, anisotropic.occupancies)
    expected = structure_factor_sum(q, anisotropic.positions, f, anisotropic.u_aniso)
    error = np.abs(found - expected)[within].max() / f.sum(axis=1).max()
    assert error < tolerance
    assert tolerance < 1e-9 or error > 1e-4 * tolerance  # the tolerance does steer it


# --- 3 exact limits ------------------------------------------------------


def test_forward_scattering_is_the_sum_of_form_factors(anisotropic):
    f = form_factors(anisotropic.elements, np.zeros((1, 3)), anisotropic.occupancies)
    found = compute_structure_factors(
        np.zeros((1, 3)), anisotropic.positions, f, anisotropic.u_aniso
    )
    assert_allclose(found, f.sum(), rtol=1e-13)


def test_no_displacement_means_no_damping(anisotropic):
    q = np.random.default_rng(2).normal(size=(9, 3))
    f = form_factors(anisotropic.elements, q)
    still = np.zeros((12, 3, 3))
    assert_allclose(
        compute_structure_factors(q, anisotropic.positions, f),
        compute_structure_factors(q, anisotropic.positions, f, still),
        rtol=1e-13,
    )


def test_atoms_that_stand_still_are_right_on_a_lattice():
    # Nothing but the blur makes them wide enough for the grid.
    lattice = lattice_of(TRICLINIC, 2.0, (1, 1, 1))
    structure = random_structure(np.random.default_rng(4), 4, TRICLINIC)
    still = np.zeros((4, 3, 3))
    found = structure_factors_on_lattice(
        lattice, structure.positions, structure.elements, structure.occupancies, still
    ).ravel()
    q, within = q_of_nodes(lattice)
    f = form_factors(structure.elements, q, structure.occupancies)
    expected = structure_factor_sum(q, structure.positions, f, still)
    assert np.abs(found - expected)[within].max() < LATTICE_ERROR * f.sum(axis=1).max()


def test_a_strongly_anisotropic_atom_is_right_on_a_lattice():
    # Variances 5, 5e-2 and 5e-4 Å², turned away from the axes.
    turn = np.linalg.qr(np.random.default_rng(8).normal(size=(3, 3)))[0]
    u = (turn @ np.diag([5.0, 5e-2, 5e-4]) @ turn.T)[None]
    lattice = lattice_of(TRICLINIC, 2.0, (2, 1, 1))
    positions = np.array([[1.0, 2.0, 3.0]])
    found = structure_factors_on_lattice(lattice, positions, ["S"], np.ones(1), u).ravel()
    q, within = q_of_nodes(lattice)
    expected = structure_factor_sum(q, positions, form_factors(["S"], q), u)
    assert np.abs(found - expected)[within].max() < LATTICE_ERROR * 16


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(shift=vectors(50.0))
def test_a_shift_of_origin_changes_phases_only(shift):
    rng = np.random.default_rng(7)
    q, positions = rng.normal(size=(5, 3)), rng.uniform(-5, 5, (4, 3))
    f, u = rng.uniform(1, 10, (5, 4)), random_u(rng, 4)
    here = compute_structure_factors(q, positions, f, u)
    there = compute_structure_factors(q, positions + shift, f, u)
    assert_allclose(there, here * np.exp(1j * q @ shift), rtol=0, atol=1e-10)


def test_friedel_mates_are_conjugate_unless_form_factors_are_complex(anisotropic):
    q = np.random.default_rng(2).normal(size=(9, 3))
    f = form_factors(anisotropic.elements, q)
    arguments = anisotropic.positions, f, anisotropic.u_aniso
    plus, minus = (compute_structure_factors(x, *arguments) for x in (q, -q))
    assert_allclose(minus, plus.conj(), rtol=1e-10)
    complex_f = f + 0.7j
    arguments = anisotropic.positions, complex_f, anisotropic.u_aniso
    plus, minus = (compute_structure_factors(x, *arguments) for x in (q, -q))
    assert_allclose(plus, structure_factor_sum(q, *arguments), rtol=1e-10)
    assert np.abs(np.abs(plus) - np.abs(minus)).max() > 0.1


def test_a_lattice_translation_changes_nothing_at_the_nodes(anisotropic):
    lattice = lattice_of(TRICLINIC, 2.0, (2, 1, 3))
    a, b, c = TRICLINIC.orth_matrix.T
    arguments = anisotropic.elements, anisotropic.occupancies, anisotropic.u_aniso
    here = structure_factors_on_lattice(lattice, anisotropic.positions, *arguments)
    # Whole boxes: sampling times the cell.
    moved = anisotropic.positions + 2 * a - 3 * b + 6 * c
    there = structure_factors_on_lattice(lattice, moved, *arguments)
    assert np.abs(here - there).max() < LATTICE_ERROR * np.abs(here).max()


def test_results_do_not_depend_on_threads(anisotropic):
    lattice = lattice_of(TRICLINIC, 2.0, (2, 2, 1))
    arguments = (
        lattice, anisotropic.positions, anisotropic.elements, anisotropic.occupancies,
        anisotropic.u_aniso,
    )  # fmt: skip
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = structure_factors_on_lattice(*arguments)
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(structure_factors_on_lattice(*arguments), one)


def test_inputs_are_not_changed(anisotropic):
    before = anisotropic.positions.copy(), anisotropic.u_aniso.copy()
    lattice = lattice_of(TRICLINIC, 3.0, (1, 1, 1))
    structure_factors_on_lattice(
        lattice, anisotropic.positions, anisotropic.elements, anisotropic.occupancies,
        anisotropic.u_aniso,
    )  # fmt: skip
    assert np.array_equal(anisotropic.positions, before[0])
    assert np.array_equal(anisotropic.u_aniso, before[1])


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("q", np.zeros((4, 2)), r"q and positions must be \(n, 3\), got \(4, 2\)"),
        ("positions", np.zeros((3, 2)), r"q and positions must be \(n, 3\)"),
        ("form_factors", np.zeros((3, 4)), r"form_factors must be \(4, 3\), got \(3, 4\)"),
        ("u_aniso", np.zeros((3, 3)), r"u_aniso must be \(3, 3, 3\), got \(3, 3\)"),
    ],
)
def test_a_wrong_shape_is_named(name, value, message):
    arguments = {
        "q": np.zeros((4, 3)),
        "positions": np.zeros((3, 3)),
        "form_factors": np.ones((4, 3)),
        "u_aniso": np.zeros((3, 3, 3)),
    }
    with pytest.raises(InputError, match=message):
        compute_structure_factors(**{**arguments, name: value})


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-6, np.nan])
def test_a_tolerance_must_be_a_fraction(tolerance):
    lattice = lattice_of(TRICLINIC, 3.0, (1, 1, 1))
    with pytest.raises(InputError, match="tolerance must be between 0 and 1, got"):
        structure_factors_on_lattice(
            lattice, np.zeros((1, 3)), ["C"], np.ones(1), np.zeros((1, 3, 3)), tolerance
        )


# Structure factors by NUFFT.


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-9])
@pytest.mark.parametrize("widest", [0.0, 0.5])
def test_nufft_matches_the_direct_sum_on_a_lattice(tolerance, widest):
    rng = np.random.default_rng(71)
    cell = CRYSTALS["triclinic"][0]
    # Atoms spread over several boxes: separations wrap.
    positions, elements = rng.uniform(-40, 60, (12, 3)), rng.choice(["C", "N", "O", "H"], 12)
    occupancies = rng.uniform(0.2, 1.0, 12)
    u_aniso = rng.uniform(0.0, widest, 12)[:, None, None] * np.eye(3)
    lattice = HalfLattice(cell, (2, 1, 1), (8, 5, 6), 2.2)
    found = structure_factors_on_lattice(
        lattice, positions, elements, occupancies, u_aniso, tolerance, method="nufft"
    )
    m = np.stack(np.meshgrid(*(x.ravel() for x in lattice.indices()), indexing="ij"), axis=-1)
    q = m.reshape(-1, 3) @ lattice.reciprocal_vectors
    f = form_factors(elements, q, occupancies)
    expected = structure_factor_sum(q, positions, f, u_aniso).reshape(lattice.shape)
    inside = lattice.q_squared() <= lattice.q_max**2 * (1 + 1e-9)
    assert np.abs(found - expected)[inside].max() < tolerance * f.sum(axis=1).max()
    assert not found[~inside].any()


def test_nufft_refuses_anisotropic_u_and_unknown_methods_are_named():
    lattice = HalfLattice(CRYSTALS["triclinic"][0], (1, 1, 1), (2, 2, 2), 1.0)
    atoms = np.zeros((1, 3)), ["C"], np.ones(1), np.diag([0.1, 0.2, 0.3])[None]
    with pytest.raises(InputError, match="method 'nufft' needs isotropic U: use 'splat'"):
        structure_factors_on_lattice(lattice, *atoms, method="nufft")
    with pytest.raises(InputError, match="method must be one of auto splat nufft, got 'fft'"):
        structure_factors_on_lattice(lattice, *atoms, method="fft")
