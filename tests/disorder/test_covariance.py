"""Covariance: any matrix as given, if it can be one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import diffuse_of_cell, flat, form_factors
from tests.strategies import CRYSTALS, covariances, random_covariance, random_structure

from offbragg import Covariance, HklGrid, simulate
from offbragg.disorder.covariance import check_positive_semidefinite
from offbragg.errors import InputError

MAP_ERROR = 1e-3  # of the mean, the project's own figure


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
