"""Direct sums over pairs and their derivatives with respect to any covariance.

Oracles: `tests.oracles.diffuse_sum`, central differences of it, and the printed formulas for first
and second derivatives, with the free parameters turned into single elements.
"""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import blocks, diffuse_sum
from tests.strategies import covariances, random_covariance

from offbragg.errors import InputError
from offbragg.scattering.direct_adjoint import (
    direct_gradient,
    direct_hessian_product,
    direct_intensity,
    direct_product,
)

RTOL_ROUNDING = 1e-11  # of (Σf)²: sums of n² terms in another order
RTOL_ADJOINT = 1e-10  # the same sums in another order, cancelling between q
# Fourth-order central differences with a step of 1e-4 Å²: rounding / h, and h⁴ d⁵I/dV⁵.
RTOL_DIFFERENCES = 1e-9
STEP = 1e-4


def problem(seed=0, n_atoms=5, n_q=30, complex_f=True, scale=1.2):
    """Arguments (q, positions, form factors)."""
    rng = np.random.default_rng(seed)
    f = rng.uniform(1, 10, (n_q, n_atoms))
    if complex_f:
        f = f + 1j * rng.uniform(-3, 3, (n_q, n_atoms))
    return rng.normal(scale=scale, size=(n_q, 3)), rng.normal(scale=4, size=(n_atoms, 3)), f


def direction_like(v, seed=0):
    """A direction with the symmetry of V, blocks not symmetric by themselves."""
    d = np.random.default_rng(seed).normal(size=v.shape)
    return d + (d.T if d.ndim == 2 else d.transpose(1, 0, 3, 2))


def printed_gradient(q, positions, f, v, residual):
    """The formulas ∂I/∂V_ij, i ≠ j, and ∂I/∂V_ii, each element by itself, (n, n, 3, 3)."""
    v, n = blocks(v), len(positions)
    gradient = np.zeros((n, n, 3, 3))
    for weight, vector, f_q in zip(residual, q, f, strict=True):
        x = np.einsum("a,ijab,b->ij", vector, v, vector)
        a = f_q * np.exp(1j * positions @ vector - 0.5 * np.diag(x))
        pairs, e = np.outer(a.conj(), a).real, np.exp(x)
        elements = pairs * e
        for i in range(n):
            others = [j for j in range(n) if j != i]
            elements[i, i] = pairs[i, i] - sum(pairs[i, j] * (e[i, j] - 1) for j in others)
        gradient += weight * elements[:, :, None, None] * np.outer(vector, vector)
    return gradient


def slope(function, v, d):
    """Derivative of a function along d, by central differences of fourth order."""
    one, two = (function(v + n * STEP * d) - function(v - n * STEP * d) for n in (1, 2))
    return (8 * one - two) / (12 * STEP)


# --- 1 reference numbers -------------------------------------------------


def test_derivatives_of_one_atom_by_hand():
    # I = f² (1 − e^{−qᵀUq}), q = (1, 2, 0), U = 0.1·1: dI/dU_xy of one element = f² q_x q_y e^{−½}.
    q, positions, f = np.array([[1.0, 2.0, 0.0]]), np.zeros((1, 3)), np.array([[3.0]])
    v = 0.1 * np.eye(3)[None, None]
    gradient = direct_gradient(q, positions, f, v, np.ones(1))[0, 0]
    expected = 9 * np.exp(-0.5) * np.array([[1, 2, 0], [2, 4, 0], [0, 0, 0]])
    assert_allclose(gradient, expected, rtol=1e-12)
    d = np.zeros((1, 1, 3, 3))
    d[0, 0, 0, 1] = d[0, 0, 1, 0] = 1.0
    # The direction changes qᵀUq by 4.
    assert_allclose(direct_product(q, positions, f, v, d), 36 * np.exp(-0.5), rtol=1e-12)
    second = direct_hessian_product(q, positions, f, v, np.ones(1), d)[0, 0]
    assert_allclose(second, -4 * expected, rtol=1e-12)


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(v=covariances(5), seed=st.integers(0, 999), complex_f=st.booleans())
def test_intensity_matches_the_plain_sum(v, seed, complex_f):
    q, positions, f = problem(seed, complex_f=complex_f)
    expected = diffuse_sum(q, positions, f, v)
    scale = np.abs(f).sum(axis=1).max() ** 2
    assert_allclose(direct_intensity(q, positions, f, v), expected, atol=RTOL_ROUNDING * scale)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(v=covariances(5), seed=st.integers(0, 999), complex_f=st.booleans())
def test_product_is_a_central_difference(v, seed, complex_f):
    q, positions, f = problem(seed, complex_f=complex_f, scale=0.8)
    d = direction_like(v, seed)
    expected = slope(lambda w: diffuse_sum(q, positions, f, w), v, d)
    found = direct_product(q, positions, f, v, d)
    scale = np.abs(f).sum(axis=1).max() ** 2 * np.abs(d).max()
    assert_allclose(found, expected, atol=RTOL_DIFFERENCES * scale)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(v=covariances(4), seed=st.integers(0, 999))
def test_gradient_is_the_printed_formula(v, seed):
    q, positions, f = problem(seed, 4)
    residual = np.random.default_rng(seed).normal(size=len(q))
    expected = printed_gradient(q, positions, f, v, residual)
    if v.ndim == 2:
        expected = np.einsum("ijaa->ij", expected)
    found = direct_gradient(q, positions, f, v, residual)
    scale = (np.abs(residual) * (np.abs(f).sum(axis=1) * np.linalg.norm(q, axis=1)) ** 2).sum()
    assert_allclose(found, expected, atol=1e-12 * scale)


@pytest.mark.parametrize("anisotropic", [True, False])
def test_hessian_product_is_the_change_of_the_printed_gradient(anisotropic):
    q, positions, f = problem(7, 5, 20, scale=0.8)
    rng = np.random.default_rng(7)
    v = random_covariance(rng, 5, 0.3, anisotropic=anisotropic)
    residual, d = rng.normal(size=20), direction_like(v, 1)
    expected = slope(lambda w: printed_gradient(q, positions, f, w, residual), v, d)
    if not anisotropic:
        expected = np.einsum("ijaa->ij", expected)
    found = direct_hessian_product(q, positions, f, v, residual, d)
    assert_allclose(found, expected, atol=RTOL_DIFFERENCES * np.abs(expected).max())


def test_hessian_product_is_made_of_the_printed_second_derivatives():
    # ∂²I/∂v_ij², ∂²I/∂v_ij∂v_ii, ∂²I/∂v_ii², ∂²I/∂v_ii∂v_jj of the free parameters v_ij, i ≤ j.
    q, positions, f = problem(8, 2, 10)
    rng = np.random.default_rng(8)
    v = random_covariance(rng, 2, 0.3, anisotropic=False)
    residual = rng.normal(size=10)
    hessian = np.zeros((3, 3))  # of v_00, v_01, v_11
    for weight, vector, f_q in zip(residual, q, f, strict=True):
        x = vector @ vector
        a = f_q * np.exp(1j * positions @ vector - 0.5 * x * np.diag(v))
        pair, e = (a[0].conj() * a[1]).real, np.exp(x * v[0, 1])
        around, own = pair * (e - 1), np.abs(a) ** 2
        crossed = -pair * e
        hessian += weight * x**2 * np.array(
            [
                [0.5 * around - own[0], crossed, 0.5 * around],
                [crossed, 2 * pair * e, crossed],
                [0.5 * around, crossed, 0.5 * around - own[1]],
            ]
        )  # fmt: skip
    for column, d in enumerate(([[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]])):
        found = direct_hessian_product(q, positions, f, v, residual, np.array(d, dtype=float))
        free = [found[0, 0], 2 * found[0, 1], found[1, 1]]
        assert_allclose(free, hessian[:, column], atol=1e-11 * np.abs(hessian).max())


# --- 3 exact limits ------------------------------------------------------


def test_an_isotropic_covariance_is_one_of_equal_components():
    q, positions, f = problem(20, 6)
    rng = np.random.default_rng(20)
    v = random_covariance(rng, 6, 0.3, anisotropic=False)
    residual, d = rng.normal(size=30), direction_like(v)
    wide, turned = blocks(v), blocks(d)
    assert_allclose(
        direct_intensity(q, positions, f, wide), direct_intensity(q, positions, f, v), rtol=1e-11
    )
    full = direct_gradient(q, positions, f, wide, residual)
    expected = direct_gradient(q, positions, f, v, residual)
    close = {"atol": 1e-11 * np.abs(expected).max()}
    assert_allclose(np.einsum("ijaa->ij", full), expected, **close)
    full = direct_hessian_product(q, positions, f, wide, residual, turned)
    expected = direct_hessian_product(q, positions, f, v, residual, d)
    close = {"atol": 1e-11 * np.abs(expected).max()}
    assert_allclose(np.einsum("ijaa->ij", full), expected, **close)


def test_huge_displacements_do_not_overflow():
    q, positions, f = problem(21, 2, scale=3.0)
    v = np.full((2, 2), 500.0)
    f_zero = np.abs((f * np.exp(1j * q @ positions.T)).sum(axis=1)) ** 2
    expected = -f_zero * np.expm1(-500.0 * np.einsum("qx,qx->q", q, q))
    assert_allclose(direct_intensity(q, positions, f, v), expected, rtol=1e-10)


def test_nothing_in_nothing_out():
    q, positions, f = problem(22)
    v = random_covariance(np.random.default_rng(0), 5)
    assert direct_intensity(q[:0], positions, f[:0], v).shape == (0,)
    assert np.all(direct_gradient(q[:0], positions, f[:0], v, np.empty(0)) == 0)
    assert np.all(direct_intensity(q, positions[:0], f[:, :0], v[:0, :0]) == 0)
    assert np.all(direct_gradient(np.zeros_like(q), positions, f, v, np.ones(30)) == 0)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(v=covariances(6), seed=st.integers(0, 999), n_q=st.integers(1, 200))
def test_gradient_is_the_transpose_of_the_product(v, seed, n_q):
    q, positions, f = problem(seed, 6, n_q)
    d, residual = direction_like(v, seed), np.random.default_rng(seed).normal(size=n_q)
    product = direct_product(q, positions, f, v, d)
    gradient = direct_gradient(q, positions, f, v, residual)
    mirrored = gradient.T if v.ndim == 2 else gradient.transpose(1, 0, 3, 2)
    assert_allclose(gradient, mirrored, rtol=0)
    size = np.abs(residual) @ np.abs(product)
    assert abs(np.sum(gradient * d) - residual @ product) <= RTOL_ADJOINT * size


def test_hessian_is_symmetric():
    q, positions, f = problem(30, 6)
    v = random_covariance(np.random.default_rng(30), 6, 0.2)
    a, b, residual = direction_like(v, 1), direction_like(v, 2), np.linspace(-1, 1, 30)
    left = np.sum(a * direct_hessian_product(q, positions, f, v, residual, b))
    right = np.sum(b * direct_hessian_product(q, positions, f, v, residual, a))
    assert left == pytest.approx(right, rel=RTOL_ADJOINT)


def test_results_do_not_depend_on_the_number_of_threads():
    q, positions, f = problem(31, 40, 300)
    v = random_covariance(np.random.default_rng(31), 40, 0.2)
    d, residual = direction_like(v), np.linspace(-1, 1, 300)
    before = numba.get_num_threads()
    results = []
    for n_threads in (1, before):
        numba.set_num_threads(n_threads)
        results.append(
            (
                direct_intensity(q, positions, f, v),
                direct_gradient(q, positions, f, v, residual),
                direct_hessian_product(q, positions, f, v, residual, d),
            )
        )
    numba.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_only_the_symmetric_part_of_a_pair_counts():
    q, positions, f = problem(32, 4)
    v = random_covariance(np.random.default_rng(32), 4, 0.2)
    turned = v.copy()
    twist = np.array([[0, 0.01, -0.02], [-0.01, 0, 0.03], [0.02, -0.03, 0]])
    turned[1, 2] += twist
    turned[2, 1] += twist.T
    here, there = (direct_gradient(q, positions, f, x, np.ones(30)) for x in (v, turned))
    assert_allclose(here, there, atol=1e-11 * np.abs(here).max())


# --- 5 errors ------------------------------------------------------------


def test_wrong_arguments_are_named():
    q, positions, f = problem(40)
    v = random_covariance(np.random.default_rng(0), 5)
    with pytest.raises(InputError, match=r"q and positions must be \(n, 3\), got \(30, 2\)"):
        direct_intensity(q[:, :2], positions, f, v)
    with pytest.raises(InputError, match=r"form_factors must be \(30, 5\), got \(30, 4\)"):
        direct_intensity(q, positions, f[:, :4], v)
    with pytest.raises(InputError, match=r"covariance must be \(5, 5\) or \(5, 5, 3, 3\), got"):
        direct_gradient(q, positions, f, v[:4], np.ones(30))
    with pytest.raises(InputError, match=r"residual must be \(30,\), got \(5,\)"):
        direct_gradient(q, positions, f, v, np.ones(5))
    with pytest.raises(InputError, match=r"direction must be \(5, 5, 3, 3\), got \(5, 5\)"):
        direct_product(q, positions, f, v, np.eye(5))
    lopsided = np.zeros((5, 5, 3, 3))
    lopsided[0, 1] = 1.0
    with pytest.raises(InputError, match="direction must be finite and symmetric"):
        direct_product(q, positions, f, v, lopsided)
