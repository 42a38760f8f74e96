"""Covariance: any matrix as given, if it can be one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import blocks, diffuse_of_cell, flat, form_factors
from tests.strategies import CRYSTALS, covariances, random_covariance, random_structure

from offbragg import Covariance, HklGrid, simulate
from offbragg.disorder.covariance import check_positive_semidefinite
from offbragg.errors import InputError
from offbragg.scattering import Displacements, LowRank

MAP_ERROR = 1e-3  # of the mean, the project's own figure
RTOL_ROUNDING = 1e-12  # same sums, other order
RTOL_DIFFERENCES = 1e-8  # V is at most of second order in what moves: rounding over the step


def p1_structure(n=6, seed=3):
    return random_structure(np.random.default_rng(seed), n, CRYSTALS["triclinic"][0])


# --- 2 independent oracle ------------------------------------------------


def test_atoms_of_different_copies_may_be_correlated_in_p1():
    # The note's own case: all atoms of a P 2₁ cell, any pair correlated.
    cell, groups = CRYSTALS["monoclinic"]
    every = random_structure(np.random.default_rng(5), 4, cell, groups[0]).to_p1()
    v = random_covariance(np.random.default_rng(6), every.n_atoms, 0.2)
    grid = HklGrid.from_resolution(cell, 2.2, (1, 2, 1))
    found = simulate(every, Covariance(v), grid).intensity[grid.within()]
    q = grid.q()[grid.within()]
    f = form_factors(every.elements, q, every.occupancies)
    expected = diffuse_of_cell(q, every.positions, f, v, cell, "P 1")
    assert np.abs(found - expected).max() < MAP_ERROR * expected.mean()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(seed=st.integers(0, 9999), n=st.integers(1, 5), anisotropic=st.booleans())
def test_a_matrix_is_taken_if_its_eigenvalues_allow(seed, n, anisotropic):
    # Oracle: eigenvalues. Shifted so that the lowest is well to either side of zero.
    rng = np.random.default_rng(seed)
    matrix = flat(random_covariance(rng, n, 1.0)) if anisotropic else random_covariance(
        rng, n, 1.0, anisotropic=False
    )  # fmt: skip
    lowest = np.linalg.eigvalsh(matrix)[0]
    scale = np.abs(matrix).max()
    for shift, possible in ((0.01 * scale, True), (0.0, True), (-0.01 * scale, False)):
        moved = matrix + (shift - lowest) * np.eye(len(matrix))
        if anisotropic:
            moved = moved.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
        if possible or np.abs(moved).max() == 0:
            Covariance(moved)
        else:
            with pytest.raises(InputError, match="positive semi-definite, got an eigenvalue of -"):
                Covariance(moved)


@pytest.mark.parametrize("anisotropic", [True, False])
def test_a_factor_is_the_covariance_of_its_columns(anisotropic):
    # Σ_k p_k p_kᵀ, column by column.
    factor = np.random.default_rng(7).normal(size=(6, 3, 4) if anisotropic else (6, 4))
    moves = Covariance.from_factor(factor).displacements(p1_structure())
    assert isinstance(moves.correlated, LowRank)
    expected = sum(
        np.multiply.outer(column, column).swapaxes(1, 2) if anisotropic
        else np.outer(column, column)
        for column in np.moveaxis(factor, -1, 0)
    )  # fmt: skip
    assert_allclose(moves.dense(6), expected, rtol=RTOL_ROUNDING, atol=1e-14)
    by_object = Covariance.from_factor(LowRank(factor))
    assert np.array_equal(by_object.factor, factor)


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_matrices_of_low_rank_are_taken(rank):
    for anisotropic in (True, False):
        v = random_covariance(np.random.default_rng(rank), 8, 0.3, rank, anisotropic=anisotropic)
        assert_allclose(Covariance(v).matrix, v, rtol=0)


def test_nested_lists_and_no_motion_are_taken():
    assert Covariance([[0.2, 0.1], [0.1, 0.2]]).matrix.dtype == np.float64
    assert not Covariance(np.zeros((3, 3, 3, 3))).matrix.any()


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(v=covariances(6))
def test_the_displacements_are_the_matrix(v):
    moves = Covariance(v).displacements(p1_structure())
    assert_allclose(flat(moves.correlated), flat(v), rtol=0)
    assert moves.independent is None


def model_of(held, anisotropic, seed=8):
    rng = np.random.default_rng(seed)
    if held == "matrix":
        return Covariance(random_covariance(rng, 6, 0.3, anisotropic=anisotropic))
    return Covariance.from_factor(rng.normal(size=(6, 3, 4) if anisotropic else (6, 4)))


every_form = pytest.mark.parametrize(
    ("held", "anisotropic"), [(h, a) for h in ("matrix", "factor") for a in (True, False)]
)


@every_form
def test_the_tangent_is_the_difference_of_covariances(held, anisotropic):
    structure, model = p1_structure(), model_of(held, anisotropic)
    start = getattr(model, held)
    change = np.random.default_rng(9).normal(size=start.shape)
    if held == "matrix":
        change = change + (change.transpose(1, 0, 3, 2) if anisotropic else change.T)
    step = 1e-5
    ahead, behind = (
        model.with_parameters({held: start + x * change}).displacements(structure).dense(6)
        for x in (step, -step)
    )
    found = model.tangent(structure, {held: change}).correlated
    expected = (ahead - behind) / (2 * step)
    assert_allclose(found, expected, rtol=0, atol=RTOL_DIFFERENCES * np.abs(expected).max())


@every_form
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_pullback_is_adjoint_to_the_tangent(held, anisotropic, symmetric):
    structure, model = p1_structure(), model_of(held, anisotropic)
    rng = np.random.default_rng(10)
    g, change = rng.normal(size=(6, 6, 3, 3)), rng.normal(size=getattr(model, held).shape)
    if symmetric:
        g = g + g.transpose(1, 0, 3, 2)
    pulled = model.pullback(structure, Displacements(g))[held]
    moved = blocks(model.tangent(structure, {held: change}).correlated)
    assert pulled.shape == change.shape
    scale = np.abs(g * moved).sum()
    assert_allclose((pulled * change).sum(), (g * moved).sum(), rtol=0, atol=RTOL_ROUNDING * scale)


@every_form
def test_no_gradient_and_no_direction_are_zero(held, anisotropic):
    structure, model = p1_structure(), model_of(held, anisotropic)
    assert not model.pullback(structure, Displacements())[held].any()
    assert not model.tangent(structure, {}).correlated.any()


@every_form
def test_the_parameter_is_what_the_covariance_is_held_by(held, anisotropic):
    model = model_of(held, anisotropic)
    assert {k: p.shape for k, p in model.refinable.items()} == {held: getattr(model, held).shape}


def test_the_given_matrix_is_not_changed():
    v = random_covariance(np.random.default_rng(2), 6)
    before = v.copy()
    model = Covariance(v)
    simulate(p1_structure(), model, HklGrid.from_resolution(p1_structure().cell, 4.0))
    assert np.array_equal(v, before)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([0.1, 0.2], r"covariance must be \(n, n\) or \(n, n, 3, 3\), got \(2,\)"),
        (np.zeros((2, 2, 2)), r"covariance must be \(n, n\) or \(n, n, 3, 3\), got \(2, 2, 2\)"),
        (np.zeros((2, 3)), r"covariance must be \(2, 2\) or .*, got \(2, 3\)"),
        (np.zeros((2, 2, 2, 3)), r"covariance must be .* got \(2, 2, 2, 3\)"),
        ([[1.0, np.inf], [np.inf, 1.0]], "covariance must be finite"),
        ([[1.0, 0.5], [0.4, 1.0]], "covariance must be symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "positive semi-definite, got an eigenvalue of -1 Å²"),
        ([[-0.1]], r"positive semi-definite, got an eigenvalue of -0\.1 Å²"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(matrix, message):
    with pytest.raises(InputError, match=message):
        Covariance(matrix)


def test_the_number_of_atoms_must_be_the_structures():
    with pytest.raises(InputError, match=r"for the structure.s 6 atoms, got 5"):
        Covariance(np.eye(5)).displacements(p1_structure())


def test_the_name_of_the_matrix_is_in_the_message():
    with pytest.raises(InputError, match=r"^compliance must be positive"):
        check_positive_semidefinite(-np.eye(2), "compliance")


@pytest.mark.parametrize("arguments", [{}, {"matrix": np.eye(2), "factor": np.eye(2)}])
def test_either_a_matrix_or_a_factor_is_given(arguments):
    with pytest.raises(InputError, match="a covariance matrix or its factor, one of the two"):
        Covariance(**arguments)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (np.ones(3), r"factor must be \(n, rank\) or \(n, 3, rank\), got \(3,\)"),
        (np.ones((3, 2, 4)), r"factor must be .* got \(3, 2, 4\)"),
        (np.full((3, 2), np.nan), "factor must be finite"),
    ],
)
def test_a_factor_that_is_none_is_refused(factor, message):
    with pytest.raises(InputError, match=message):
        Covariance.from_factor(factor)


def test_derivatives_are_for_the_structures_atoms_and_the_models_parameters():
    model = model_of("matrix", True)
    with pytest.raises(InputError, match="Covariance has parameters matrix, got 'factor'"):
        model.tangent(p1_structure(), {"factor": 1.0})
    with pytest.raises(InputError, match=r"for the structure.s 5 atoms, got 6"):
        model.pullback(p1_structure(5), Displacements())
    with pytest.raises(InputError, match=r"gradient must be \(6, 6, 3, 3\), got \(6, 6\)"):
        model.pullback(p1_structure(), Displacements(np.eye(6)))
