"""BasisCovariance: sums over modes, principal components of frames, derivatives, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import blocks, diffuse_sum, draw_displacements, flat, form_factors
from tests.strategies import CRYSTALS, random_covariance, random_structure

from offbragg.disorder.basis import (
    BasisCovariance,
    check_motion,
    principal_components,
    root_of,
)
from offbragg.errors import InputError
from offbragg.scattering import Displacements, LowRank, diffuse_intensity

RTOL_ROUNDING = 1e-12  # products of small matrices, other order
RTOL_ROOT = 1e-9  # a square root by eigenvectors, then squared; eigenvalues of any size
RTOL_DIFFERENCES = 1e-7  # V is linear in C: what is left is rounding over the step, 1e-4
STANDARD_ERRORS = 5.0

N, K = 6, 4
STRUCTURE = random_structure(np.random.default_rng(1), N, CRYSTALS["monoclinic"][0])


def random_model(seed=0, isotropic=False, rank=None):
    """A model of K modes with correlated coefficients."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(N, K) if isotropic else (N, 3, K))
    root = rng.normal(size=(K, rank or 3 * K))
    return BasisCovariance(basis, 0.02 * root @ root.T)


def dense(model, structure=STRUCTURE):
    return model.displacements(structure).dense(structure.n_atoms)


# --- 1 reference numbers -------------------------------------------------


def test_two_modes_of_one_atom_by_hand():
    # δ = c_1 (2, 0, 0) + c_2 (0, 1, 0), ⟨c_1²⟩ = 1, ⟨c_2²⟩ = 4, ⟨c_1 c_2⟩ = 0.5.
    structure = random_structure(np.random.default_rng(0), 1, CRYSTALS["monoclinic"][0])
    basis = np.array([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    v = dense(BasisCovariance(basis, [[1.0, 0.5], [0.5, 4.0]]), structure)
    assert_allclose(v[0, 0], [[4.0, 1.0, 0.0], [1.0, 4.0, 0.0], [0.0, 0.0, 0.0]], atol=1e-14)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("isotropic", [False, True])
def test_the_covariance_is_the_double_sum_over_modes(isotropic):
    model = random_model(2, isotropic)
    expected = np.zeros((N, N, 3, 3))
    for i in range(N):
        for j in range(N):
            for k in range(K):
                for m in range(K):
                    c = model.coefficients[k, m]
                    if isotropic:
                        expected[i, j] += c * model.basis[i, k] * model.basis[j, m] * np.eye(3)
                    else:
                        expected[i, j] += c * np.outer(model.basis[i, :, k], model.basis[j, :, m])
    assert_allclose(blocks(dense(model)), expected, rtol=RTOL_ROOT, atol=1e-12)


def test_principal_components_give_back_the_covariance_of_the_frames():
    # Oracle: NumPy's covariance of the flattened frames.
    v = random_covariance(np.random.default_rng(3), N, 0.2)
    moves = draw_displacements(np.random.default_rng(4), v, 40)
    frames = STRUCTURE.positions + moves
    found = flat(dense(BasisCovariance.from_frames(frames)))
    assert_allclose(found, np.cov(frames.reshape(40, -1).T), rtol=RTOL_ROOT, atol=1e-12)


def test_leading_components_are_the_best_of_their_number():
    # Eckart–Young: what is left out are the smallest eigenvalues.
    frames = np.random.default_rng(5).normal(size=(30, N, 3)) * np.arange(1, 4)
    whole = np.cov(frames.reshape(30, -1).T)
    modes, variances = principal_components(frames, 3)
    assert_allclose(variances, np.linalg.eigvalsh(whole)[:-4:-1], rtol=1e-10)
    flat_modes = modes.reshape(3 * N, 3)
    assert_allclose(flat_modes.T @ flat_modes, np.eye(3), atol=1e-13)
    left = whole - flat_modes @ np.diag(variances) @ flat_modes.T
    assert_allclose(np.linalg.eigvalsh(left)[-1], np.linalg.eigvalsh(whole)[-4], rtol=1e-9)


def test_the_intensity_is_that_of_drawn_coefficients():
    # Coefficients drawn from C by its Cholesky factor; I = ⟨|F|²⟩ − |⟨F⟩|², ⟨F⟩ known: the
    # covariance's Debye–Waller factor.
    model = random_model(6)
    rng, n_draws = np.random.default_rng(7), 20_000
    c = rng.normal(size=(n_draws, K)) @ np.linalg.cholesky(model.coefficients).T
    positions = STRUCTURE.positions + np.einsum("iak,dk->dia", model.basis, c)
    q = rng.normal(size=(12, 3)) * 0.6
    f = form_factors(STRUCTURE.elements, q, STRUCTURE.occupancies)
    amplitudes = np.array([(f_q * np.exp(1j * positions @ x)).sum(axis=1)
                           for x, f_q in zip(q, f, strict=True)])  # fmt: skip
    v = dense(model)
    own = v[np.arange(N), np.arange(N)]
    damped = f * np.exp(1j * q @ STRUCTURE.positions.T
                        - 0.5 * np.einsum("qx,ixy,qy->qi", q, own, q))  # fmt: skip
    drawn = np.abs(amplitudes) ** 2
    expected = drawn.mean(axis=1) - np.abs(damped.sum(axis=1)) ** 2
    error = drawn.std(axis=1) / np.sqrt(n_draws)
    found = diffuse_intensity(q, STRUCTURE.positions, f, v)
    assert np.all(np.abs(found - expected) < STANDARD_ERRORS * error)
    assert error.max() < 0.1 * found.mean()
    assert_allclose(found, diffuse_sum(q, STRUCTURE.positions, f, v), rtol=1e-9)


# --- 3 exact limits ------------------------------------------------------


def test_a_diagonal_may_be_given_as_numbers():
    basis = np.random.default_rng(8).normal(size=(N, 3, 2))
    one, other = BasisCovariance(basis, [0.1, 0.4]), BasisCovariance(basis, np.diag([0.1, 0.4]))
    assert np.array_equal(one.coefficients, other.coefficients)


def test_a_full_basis_holds_any_covariance():
    v = random_covariance(np.random.default_rng(9), N, 0.2)
    model = BasisCovariance(np.eye(3 * N).reshape(N, 3, 3 * N), flat(v))
    assert_allclose(dense(model), v, rtol=RTOL_ROOT, atol=1e-12)


def test_coefficients_may_be_singular_or_zero():
    assert_allclose(dense(random_model(10, rank=1)), dense(random_model(10, rank=1)))
    still = BasisCovariance(np.ones((N, 3, 2)), np.zeros((2, 2)))
    assert not dense(still).any()
    assert not dense(BasisCovariance(np.ones((N, 3, 0)), np.zeros((0, 0)))).any()


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 999), isotropic=st.booleans())
def test_units_of_the_basis_do_not_matter(seed, isotropic):
    model = random_model(seed, isotropic)
    scale = 10.0 ** np.random.default_rng(seed).uniform(-3, 3, K)
    scaled = BasisCovariance(model.basis * scale, model.coefficients / np.outer(scale, scale))
    assert_allclose(dense(scaled), dense(model), rtol=1e-6, atol=1e-9)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999), isotropic=st.booleans())
def test_the_covariance_is_a_covariance(seed, isotropic):
    matrix = flat(dense(random_model(seed, isotropic)))
    assert_allclose(matrix, matrix.T, atol=1e-13)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-10


@pytest.mark.parametrize("isotropic", [False, True])
def test_the_tangent_is_the_difference_of_covariances(isotropic):
    model = random_model(11, isotropic)
    change = np.random.default_rng(12).normal(size=(K, K))
    change = change + change.T
    step = 1e-4
    ahead, behind = (
        dense(model.with_parameters({"coefficients": model.coefficients + x * change}))
        for x in (step, -step)
    )
    found = model.tangent(STRUCTURE, {"coefficients": change}).correlated
    assert_allclose(found, (ahead - behind) / (2 * step), rtol=RTOL_DIFFERENCES, atol=1e-9)


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_pullback_is_adjoint_to_the_tangent(isotropic, symmetric):
    model, rng = random_model(13, isotropic), np.random.default_rng(14)
    g = rng.normal(size=(N, N, 3, 3))
    change = rng.normal(size=(K, K))
    if symmetric:
        g, change = g + g.transpose(1, 0, 3, 2), change + change.T
    pulled = model.pullback(STRUCTURE, Displacements(g))["coefficients"]
    moved = blocks(model.tangent(STRUCTURE, {"coefficients": change}).correlated)
    assert_allclose((pulled * change).sum(), (g * moved).sum(), rtol=RTOL_ROUNDING)
    assert_allclose(pulled, pulled.T, rtol=RTOL_ROUNDING)


def test_an_isotropic_gradient_is_the_trace_of_blocks():
    model, g = random_model(15, True), np.random.default_rng(16).normal(size=(N, N, 3, 3))
    by_blocks = model.pullback(STRUCTURE, Displacements(g))
    by_traces = model.pullback(STRUCTURE, Displacements(np.trace(g, axis1=2, axis2=3)))
    assert_allclose(by_blocks["coefficients"], by_traces["coefficients"], rtol=RTOL_ROUNDING)


def test_no_gradient_and_no_direction_are_zero():
    model = random_model(17)
    assert not model.pullback(STRUCTURE, Displacements())["coefficients"].any()
    assert not model.tangent(STRUCTURE, {}).correlated.any()
    factor = LowRank(np.random.default_rng(18).normal(size=(N, 3, 2)))
    by_factor, by_blocks = (
        model.pullback(STRUCTURE, Displacements(x))["coefficients"]
        for x in (factor, factor.dense())
    )
    assert_allclose(by_factor, by_blocks, rtol=RTOL_ROUNDING)


def test_the_parameters_are_named_with_their_shape():
    model = random_model(19)
    assert {k: p.shape for k, p in model.refinable.items()} == {"coefficients": (K, K)}
    assert np.array_equal(model.parameters(STRUCTURE)["coefficients"], model.coefficients)


def test_the_root_squared_is_the_matrix():
    m = flat(random_covariance(np.random.default_rng(20), 3, 0.2, 2))
    assert_allclose(root_of(m) @ root_of(m).T, m, atol=1e-14)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("basis", "coefficients", "message"),
    [
        (np.ones(3), [1.0], r"basis must be \(n, n_modes\) or \(n, 3, n_modes\), got \(3,\)"),
        (np.ones((3, 2, 1)), [1.0], r"basis must be .* got \(3, 2, 1\)"),
        (np.full((3, 3, 1), np.nan), [1.0], "basis must be finite"),
        (np.ones((3, 3, 2)), [1.0], r"coefficients must be \(2, 2\), got \(1, 1\)"),
        (np.ones((3, 3, 2)), np.ones((2, 3)), r"coefficients must be \(2, 2\), got \(2, 3\)"),
        (np.ones((3, 3, 2)), [[1.0, 0.1], [0.2, 1.0]], "coefficients must be symmetric"),
        (np.ones((3, 3, 2)), [[1.0, 2.0], [2.0, 1.0]], "coefficients must be positive .* -1 "),
        (np.ones((3, 3, 2)), [1.0, -0.1], "coefficients must be positive semi-definite"),
        (np.ones((3, 3, 2)), [1.0, np.inf], "coefficients must be finite"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(basis, coefficients, message):
    with pytest.raises(InputError, match=message):
        BasisCovariance(basis, coefficients)


def test_small_units_hide_no_impossible_motion():
    # ⟨c_1 c_2⟩² > ⟨c_1²⟩⟨c_2²⟩ with a variance of 1e-6 beside one of 1.
    impossible = np.array([[1.0, 2e-3], [2e-3, 1e-6]])
    with pytest.raises(InputError, match="motion must be positive semi-definite"):
        check_motion("motion", impossible, 2)
    assert np.array_equal(check_motion("motion", np.zeros((2, 2)), 2), np.zeros((2, 2)))
    with pytest.raises(InputError, match="motion must be positive semi-definite"):
        check_motion("motion", [[0.0, 0.1], [0.1, 1.0]], 2)


def test_the_number_of_atoms_must_be_the_structures():
    model = BasisCovariance(np.ones((4, 3, 1)), [1.0])
    for call in (
        lambda: model.displacements(STRUCTURE),
        lambda: model.tangent(STRUCTURE, {}),
        lambda: model.pullback(STRUCTURE, Displacements()),
    ):
        with pytest.raises(InputError, match=r"basis must be for the structure.s 6 atoms, got 4"):
            call()


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ({"basis": 1.0}, "BasisCovariance has parameters coefficients, got 'basis'"),
        ({"coefficients": np.ones(4)}, r"direction of coefficients must be \(4, 4\), got \(4,\)"),
    ],
)
def test_a_wrong_direction_is_named(direction, message):
    with pytest.raises(InputError, match=message):
        random_model().tangent(STRUCTURE, direction)


@pytest.mark.parametrize(("isotropic", "shape"), [(False, (6, 6)), (True, (5, 5))])
def test_a_gradient_of_another_shape_is_refused(isotropic, shape):
    with pytest.raises(InputError, match=r"gradient must be .*, got "):
        random_model(isotropic=isotropic).pullback(STRUCTURE, Displacements(np.zeros(shape)))


@pytest.mark.parametrize(
    ("frames", "n", "message"),
    [
        (np.zeros((1, 4, 3)), None, r"frames must be \(n_frames >= 2, .*, got \(1, 4, 3\)"),
        (np.zeros((4, 3)), None, r"frames must be .* got \(4, 3\)"),
        (np.full((3, 4, 3), np.nan), None, "frames must be finite"),
        (np.zeros((5, 4, 3)), 5, r"n_components must be 1\.\.4, got 5"),
        (np.zeros((5, 4, 3)), 0, r"n_components must be 1\.\.4, got 0"),
    ],
)  # fmt: skip
def test_frames_that_have_no_components_are_refused(frames, n, message):
    with pytest.raises(InputError, match=message):
        principal_components(frames, n)
