"""Isotropic covariances at scattered q by matrix products: value, derivatives, plan.

Oracles: `tests.oracles.diffuse_sum` (plain sums through relative displacements), its central
differences, and the printed formulas for first and second derivatives.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import diffuse_sum
from tests.strategies import random_covariance

from offbragg.errors import InputError
from offbragg.scattering.gemm import (
    diffuse_gemm,
    gemm_gradient,
    gemm_hessian_product,
    gemm_product,
)
from offbragg.scattering.gemm_plan import GemmPlan

RTOL_ROUNDING = 1e-11  # of (Σf)²: sums of n² terms in another order
RTOL_ADJOINT = 1e-10  # the same sums in another order, cancelling between q
# Fourth-order central differences with a step of 1e-4 Å²: rounding / h, and h⁴ d⁵I/dV⁵.
RTOL_DIFFERENCES = 1e-8
STEP = 1e-4
# A derivative is interpolated with the nodes of the intensity, whose tolerance is this.
RTOL_TIGHT = 1e-10


def in_sphere(rng, n_q, q_max):
    """Scattering vectors evenly through a sphere."""
    q = rng.normal(size=(n_q, 3))
    return q * (q_max * rng.uniform(size=(n_q, 1)) ** (1 / 3) / np.linalg.norm(q, axis=1)[:, None])


def problem(seed=0, n_atoms=12, n_q=80, q_max=3.0, complex_f=False, rank=None):
    """Arguments (q, positions, form factors, V); atomic U from 0.02 to 1.5 Å²."""
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.uniform(np.log(0.2), np.log(1.5), n_atoms))
    v = random_covariance(rng, n_atoms, 0.4, rank, anisotropic=False) * np.outer(spread, spread)
    f = rng.uniform(1, 10, (n_q, n_atoms))
    if complex_f:
        f = f + 1j * rng.uniform(0, 4, (n_q, n_atoms))
    return in_sphere(rng, n_q, q_max), rng.normal(scale=5, size=(n_atoms, 3)), f, v


def symmetric(rng, n):
    matrix = rng.normal(size=(n, n))
    return matrix + matrix.T


def sum_of_sizes(q, f, v):
    """Σ_ij |a_i a_j (e^{q²v_ij} − 1)|, what the tolerance is a fraction of."""
    x = np.einsum("qx,qx->q", q, q)[:, None, None]
    own = np.diag(v)
    damping = np.exp(-0.5 * x * (own[:, None] + own))
    sizes = np.abs(f)[:, :, None] * np.abs(f)[:, None, :]
    return (sizes * damping * np.abs(np.expm1(x * v))).sum(axis=(1, 2))


def slope(function, v, d):
    """Derivative of a function along d, by central differences of fourth order."""
    one, two = (function(v + n * STEP * d) - function(v - n * STEP * d) for n in (1, 2))
    return (8 * one - two) / (12 * STEP)


# --- 1 reference numbers -------------------------------------------------


def test_two_atoms_that_move_as_one_by_hand():
    # (1 − e^{−q²u}) |6 + 8 e^{iq}|², q = π/2 along x, u = 0.1: |…|² = 36 + 64.
    q = np.array([[np.pi / 2, 0.0, 0.0]])
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found = diffuse_gemm(q, positions, np.array([[6.0, 8.0]]), np.full((2, 2), 0.1))
    assert found[0] == pytest.approx(100 * (1 - np.exp(-0.1 * np.pi**2 / 4)), rel=1e-12)


def test_derivatives_of_two_atoms_by_hand():
    # Of the printed formulas with Re A_12 = f_1 f_2 w_1 w_2 cos(q·r), E = e^{q²v}; f = 1.
    x, u, v, phase = 2.0, 0.3, 0.1, 0.7
    q, positions = np.array([[np.sqrt(x), 0, 0]]), np.array([[0, 0, 0], [phase / np.sqrt(x), 0, 0]])
    covariance = np.array([[u, v], [v, u]])
    a, e = np.exp(-x * u) * np.cos(phase), np.exp(x * v)
    own = x * (np.exp(-x * u) - a * (e - 1))
    expected = np.array([[own, x * a * e], [x * a * e, own]])
    found = gemm_gradient(q, positions, np.ones((1, 2)), covariance, np.ones(1))
    assert_allclose(found, expected, rtol=1e-12)


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 2**20),
    n_atoms=st.integers(1, 40),
    n_q=st.integers(1, 150),
    q_max=st.floats(0.05, 6.0),
    complex_f=st.booleans(),
    rank=st.sampled_from([1, 3, None]),
    exponent=st.floats(-9.0, -2.0),
)
def test_the_error_is_within_the_tolerance(seed, n_atoms, n_q, q_max, complex_f, rank, exponent):
    q, positions, f, v = problem(seed, n_atoms, n_q, q_max, complex_f, rank)
    rtol = 10.0**exponent
    found = diffuse_gemm(q, positions, f, v, rtol)
    expected = diffuse_sum(q, positions, f, v)
    limit = rtol * sum_of_sizes(q, f, v) + RTOL_ROUNDING * (np.abs(f).sum(axis=1) ** 2).max()
    assert np.all(np.abs(found - expected) <= limit)


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
def test_the_error_of_the_intensity_itself_follows_the_tolerance(rtol):
    # Enough q for panels of several shells, low angles included; U from 0.02 to 1.5 Å².
    q, positions, f, v = problem(5, 30, 3000, 3.0)
    plan = GemmPlan.build(q, f, v, rtol)
    assert plan.n_nodes < 200  # far fewer than the 3000 shells
    expected = diffuse_sum(q, positions, f, v)
    assert_allclose(diffuse_gemm(q, positions, f, v, rtol), expected, rtol=rtol)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(seed=st.integers(0, 2**20), n_atoms=st.integers(1, 40), complex_f=st.booleans())
def test_derivatives_are_central_differences(seed, n_atoms, complex_f):
    q, positions, f, v = problem(seed, n_atoms, 40, 2.0, complex_f)
    rng = np.random.default_rng(seed)
    d, residual = symmetric(rng, n_atoms), rng.normal(size=len(q))
    product = gemm_product(q, positions, f, v, d, RTOL_TIGHT)
    expected = slope(lambda w: diffuse_sum(q, positions, f, w), v, d)
    scale = np.abs(f).sum(axis=1).max() ** 2 * np.abs(d).max()
    assert_allclose(product, expected, atol=RTOL_DIFFERENCES * scale)
    gradient = gemm_gradient(q, positions, f, v, residual, RTOL_TIGHT)
    limit = RTOL_DIFFERENCES * scale * np.abs(residual).sum()
    assert np.sum(gradient * d) == pytest.approx(residual @ expected, abs=limit)


def test_gradient_is_the_printed_formula_for_every_element():
    # ∂I/∂v_ij (i<j) = 2 q² Re(A_ij) E_ij for the one free parameter: twice the element.
    q, positions, f, v = problem(8, 9, 50, 2.5, complex_f=True)
    residual = np.random.default_rng(8).normal(size=len(q))
    x = np.einsum("qx,qx->q", q, q)
    a = f * np.exp(1j * q @ positions.T - 0.5 * np.outer(x, np.diag(v)))
    pairs = (a.conj()[:, :, None] * a[:, None, :]).real
    e = np.exp(x[:, None, None] * v)
    expected = np.einsum("q,qij->ij", residual * x, pairs * e)
    bracket = np.einsum("qii->qi", pairs) - (pairs * (e - 1)).sum(axis=2)
    bracket += np.einsum("qii->qi", pairs * (e - 1))
    np.fill_diagonal(expected, (residual * x) @ bracket)
    found = gemm_gradient(q, positions, f, v, residual, RTOL_TIGHT)
    assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_hessian_product_is_made_of_the_printed_second_derivatives():
    q, positions, f, v = problem(9, 4, 30, 2.0)
    rng = np.random.default_rng(9)
    n, residual, d = 4, rng.normal(size=len(q)), symmetric(rng, 4)
    x = np.einsum("qx,qx->q", q, q)
    a = f * np.exp(1j * q @ positions.T - 0.5 * np.outer(x, np.diag(v)))
    expected = np.zeros((n, n))  # of the free parameters, upper triangle
    for weight, x_q, a_q in zip(residual, x, a, strict=True):
        pairs, e = np.outer(a_q.conj(), a_q).real, np.exp(x_q * v)
        for i in range(n):
            others = [j for j in range(n) if j != i]
            around = sum(pairs[i, j] * (e[i, j] - 1) for j in others)
            expected[i, i] += weight * x_q**2 * (0.5 * around - pairs[i, i]) * d[i, i]
            for j in others:
                both = weight * x_q**2 * pairs[i, j]
                expected[i, i] += 0.5 * both * (e[i, j] - 1) * d[j, j]
                expected[i, i] -= both * e[i, j] * d[i, j]
                if i < j:
                    expected[i, j] += both * e[i, j] * (2 * d[i, j] - d[i, i] - d[j, j])
    found = gemm_hessian_product(q, positions, f, v, residual, d, RTOL_TIGHT)
    assert_allclose(found, found.T)
    free = np.triu(found, 1) * 2 + np.diag(np.diag(found))
    assert_allclose(free, expected, atol=1e-9 * np.abs(expected).max())


def test_hessian_product_is_the_change_of_the_gradient():
    q, positions, f, v = problem(10, 40, 60, 2.0, complex_f=True)
    rng = np.random.default_rng(10)
    residual, d = rng.normal(size=len(q)), symmetric(rng, 40)
    expected = slope(lambda w: gemm_gradient(q, positions, f, w, residual, RTOL_TIGHT), v, d)
    found = gemm_hessian_product(q, positions, f, v, residual, d, RTOL_TIGHT)
    assert_allclose(found, expected, atol=RTOL_DIFFERENCES * np.abs(expected).max())


# --- 3 exact limits ------------------------------------------------------


def test_a_rigid_body_scatters_as_its_closed_form():
    q, positions, f, _ = problem(20, 30, 200)
    found = diffuse_gemm(q, positions, f, np.full((30, 30), 0.3), 1e-8)
    f_zero = np.abs((f * np.exp(1j * q @ positions.T)).sum(axis=1)) ** 2
    expected = -f_zero * np.expm1(-0.3 * np.einsum("qx,qx->q", q, q))
    assert_allclose(found, expected, rtol=1e-8, atol=RTOL_ROUNDING * (f.sum(axis=1) ** 2).max())


def test_independent_atoms_scatter_by_themselves():
    q, positions, f, v = problem(21, 30, 200)
    u = np.diag(v)
    found = diffuse_gemm(q, positions, f, np.diag(u), 1e-8)
    x = np.einsum("qx,qx->q", q, q)
    assert_allclose(found, (f**2 * -np.expm1(-np.outer(x, u))).sum(axis=1), rtol=1e-8)


def test_small_q_keeps_relative_precision():
    # I → q² Σ f_i f_j v_ij: at q = 1e-6 Å⁻¹ some 1e-13 of the terms that would cancel.
    _, positions, f, v = problem(22, 10, 2)
    q = np.array([[1e-6, 0.0, 0.0], [0.0, 2e-6, 0.0]])
    expected = np.array([1e-12, 4e-12]) * np.einsum("qi,ij,qj->q", f, v, f)
    assert_allclose(diffuse_gemm(q, positions, f, v), expected, rtol=1e-5)


def test_no_displacement_and_no_scattering_vector_give_nothing():
    q, positions, f, v = problem(23)
    assert np.all(diffuse_gemm(q, positions, f, np.zeros_like(v)) == 0)
    assert np.all(diffuse_gemm(np.zeros_like(q), positions, f, v) == 0)
    q[::2] = 0
    assert np.all(diffuse_gemm(q, positions, f, v)[::2] == 0)


def test_nothing_in_nothing_out():
    q, positions, f, v = problem(24)
    assert diffuse_gemm(q[:0], positions, f[:0], v).shape == (0,)
    assert np.all(diffuse_gemm(q, positions[:0], f[:, :0], v[:0, :0]) == 0)
    assert np.all(gemm_gradient(q[:0], positions, f[:0], v, np.empty(0)) == 0)


def test_huge_displacements_do_not_overflow():
    # q²v up to 5000: e^{q²v} has no double; a rigid pair still interferes in full.
    q, positions, f, _ = problem(25, 2, 30, 4.0)
    found = diffuse_gemm(q, positions, f, np.full((2, 2), 300.0), 1e-8)
    f_zero = np.abs((f * np.exp(1j * q @ positions.T)).sum(axis=1)) ** 2
    damping = -np.expm1(-300.0 * np.einsum("qx,qx->q", q, q))
    assert_allclose(found, f_zero * damping, rtol=1e-7, atol=1e-9)


def test_q_on_one_shell_need_one_node_and_are_exact():
    q, positions, f, v = problem(26, 12, 60)
    q *= np.repeat([0.7, 1.9], 30)[:, None] / np.linalg.norm(q, axis=1)[:, None]
    assert GemmPlan.build(q, f, v, 1e-2).n_nodes == 2
    expected = diffuse_sum(q, positions, f, v)
    assert_allclose(diffuse_gemm(q, positions, f, v, 1e-2), expected, rtol=1e-11)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    seed=st.integers(0, 2**20),
    n_atoms=st.integers(1, 70),
    complex_f=st.booleans(),
    rtol=st.sampled_from([1e-2, 1e-6]),
)
def test_gradient_is_the_transpose_of_the_product(seed, n_atoms, complex_f, rtol):
    q, positions, f, v = problem(seed, n_atoms, 60, 3.0, complex_f)
    rng = np.random.default_rng(seed)
    d, residual = symmetric(rng, n_atoms), rng.normal(size=len(q))
    product = gemm_product(q, positions, f, v, d, rtol)
    gradient = gemm_gradient(q, positions, f, v, residual, rtol)
    assert_allclose(gradient, gradient.T, rtol=0)
    size = np.abs(residual) @ np.abs(product)
    assert abs(np.sum(gradient * d) - residual @ product) <= RTOL_ADJOINT * size


def test_hessian_is_symmetric():
    q, positions, f, v = problem(30, 50, 60)
    rng = np.random.default_rng(30)
    residual, a, b = rng.normal(size=len(q)), symmetric(rng, 50), symmetric(rng, 50)
    left = np.sum(a * gemm_hessian_product(q, positions, f, v, residual, b))
    right = np.sum(b * gemm_hessian_product(q, positions, f, v, residual, a))
    assert left == pytest.approx(right, rel=RTOL_ADJOINT)


@pytest.mark.parametrize("n_workers", [2, 5, 20])
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch, n_workers):
    # 300 atoms: eight strips a panel; small memory: many panels.
    q, positions, f, v = problem(31, 300, 200)
    d, residual = symmetric(np.random.default_rng(0), 300), np.ones(200)
    results = []
    for n in (1, n_workers):
        monkeypatch.setattr("offbragg.scattering.gemm.count_workers", lambda n=n: n)
        results.append(
            (
                diffuse_gemm(q, positions, f, v, max_memory=2e7),
                gemm_product(q, positions, f, v, d, max_memory=2e7),
                gemm_gradient(q, positions, f, v, residual, max_memory=2e7),
            )
        )
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_results_do_not_depend_on_memory_or_on_the_order_of_q():
    q, positions, f, v = problem(32, 40, 500)
    residual = np.random.default_rng(0).normal(size=500)
    plenty = diffuse_gemm(q, positions, f, v)
    assert_allclose(diffuse_gemm(q, positions, f, v, max_memory=3e5), plenty, rtol=1e-12)
    gradient = gemm_gradient(q, positions, f, v, residual)
    assert_allclose(
        gemm_gradient(q, positions, f, v, residual, max_memory=3e5),
        gradient,
        atol=1e-12 * np.abs(gradient).max(),
    )
    order = np.random.default_rng(1).permutation(500)
    assert_allclose(diffuse_gemm(q[order], positions, f[order], v), plenty[order], rtol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(shift=st.tuples(*[st.floats(-50.0, 50.0)] * 3), seed=st.integers(0, 99))
def test_origin_and_hand_do_not_matter(shift, seed):
    q, positions, f, v = problem(seed, 8, 20)
    here = diffuse_gemm(q, positions, f, v)
    assert_allclose(diffuse_gemm(q, positions + np.array(shift), f, v), here, rtol=1e-9)
    assert_allclose(diffuse_gemm(-q, positions, f, v), here, rtol=1e-12)


def test_the_plan_counts_what_is_multiplied():
    # Blocks on and below the diagonal: between half of 4 n² a q and node, and all of it.
    q, _, f, v = problem(33, 70, 300)
    plan = GemmPlan.build(q, f, v, 1e-4)
    rows = np.concatenate([panel.rows for panel in plan.panels])
    assert np.array_equal(np.sort(rows), np.arange(300))
    all_of_it = sum(4 * 70**2 * panel.weights.size for panel in plan.panels)
    assert 0.5 * all_of_it < plan.n_flops < all_of_it


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("q", np.zeros((80, 2)), r"q and positions must be \(n, 3\), got \(80, 2\)"),
        ("q", np.full((80, 3), np.nan), "q must be finite"),
        ("form_factors", np.ones((3, 12)), r"form_factors must be \(80, 12\), got \(3, 12\)"),
        ("form_factors", np.full((80, 12), np.inf), "form_factors must be finite"),
        ("covariance", np.zeros((12, 12, 3, 3)), r"isotropic covariance must be \(12, 12\), got"),
        ("covariance", np.triu(np.ones((12, 12))), "covariance must be symmetric"),
        ("rtol", 0.0, "rtol must be between 0 and 1, got 0"),
        ("max_memory", 1e3, "max_memory must be at least .* bytes, got 1e"),
    ],
)
def test_a_wrong_argument_is_named(name, value, message):
    names = ("q", "positions", "form_factors", "covariance")
    arguments = dict(zip(names, problem(40), strict=True))
    with pytest.raises(InputError, match=message):
        diffuse_gemm(**{**arguments, name: value})


def test_wrong_directions_and_residuals_are_named():
    arguments = problem(41)
    with pytest.raises(InputError, match=r"direction must be \(12, 12\), got \(12,\)"):
        gemm_product(*arguments, np.zeros(12))
    with pytest.raises(InputError, match="direction must be finite and symmetric"):
        gemm_product(*arguments, np.triu(np.ones((12, 12))))
    with pytest.raises(InputError, match=r"residual must be \(80,\), got \(12,\)"):
        gemm_gradient(*arguments, np.zeros(12))


def test_inputs_are_not_changed():
    arguments = problem(42)
    before = [x.copy() for x in arguments]
    diffuse_gemm(*arguments)
    gemm_gradient(*arguments, np.ones(80))
    for now, then in zip(arguments, before, strict=True):
        assert_allclose(now, then, rtol=0)
