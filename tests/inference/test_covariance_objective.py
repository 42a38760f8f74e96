"""CovarianceObjective: the printed formulas, central differences, and what must be refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import diffuse_sum
from tests.strategies import random_covariance

from offbragg import InputError
from offbragg.inference import CovarianceObjective, covariance_objective

RTOL_SUMS = 1e-10  # the same sums in another order
# Fourth-order central differences, step 1e-3 Å², of a function that is smooth in V.
RTOL_DIFFERENCES = 1e-6
STEP = 1e-3


def problem(seed=0, n=6, n_q=25, *, anisotropic=False, complex_f=False):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(n_q, 3))
    f = rng.uniform(1.0, 9.0, (n_q, n))
    if complex_f:
        f = f + 1j * rng.uniform(0.0, 3.0, (n_q, n))
    positions = rng.normal(scale=4.0, size=(n, 3))
    v = random_covariance(rng, n, 0.3, anisotropic=anisotropic)
    weights = rng.uniform(0.5, 2.0, n_q)
    blocks = v if anisotropic else v[:, :, None, None] * np.eye(3)
    observed = 1.7 * diffuse_sum(q, positions, f, blocks) * rng.uniform(0.7, 1.3, n_q)
    return CovarianceObjective(q, positions, f, observed, weights, 1.7), v, rng


def flat(matrix):
    """(3n, 3n) of blocks (n, n, 3, 3); a matrix (n, n) as it is."""
    if matrix.ndim == 2:
        return matrix
    n = len(matrix)
    return matrix.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)


def unflat(matrix, like):
    if like.ndim == 2:
        return matrix
    n = len(like)
    return matrix.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)


def direction(rng, like):
    change = rng.normal(size=flat(like).shape) * 0.05
    return unflat(change + change.T, like)


def along(gradient, change):
    """Sum over free parameters, each once: the upper triangle."""
    return np.sum(np.triu(flat(gradient) * flat(change)))


def difference(function, step=STEP):
    return (8 * (function(step) - function(-step)) - (function(2 * step) - function(-2 * step))) / (
        12 * step
    )


# --- 1 reference numbers -------------------------------------------------


def test_one_atom_by_hand():
    # I = f²(1 − e^{−q²u}); O = (4 − I)²; dO/du = −2 (4 − I) f² q² e^{−q²u}.
    objective = CovarianceObjective([[1.0, 0, 0]], [[0.0, 0, 0]], [[6.0]], [4.0])
    decay = np.exp(-0.1)
    residual = 4 - 36 * (1 - decay)
    assert objective.value([[0.1]]) == pytest.approx(residual**2)
    assert objective.gradient([[0.1]])[0, 0] == pytest.approx(-2 * residual * 36 * decay)
    second = 2 * (36 * decay) ** 2 + 2 * residual * 36 * decay
    assert objective.hessian_product([[0.1]], [[1.0]])[0, 0] == pytest.approx(second)


# --- 2 independent oracle ------------------------------------------------


def test_the_printed_first_derivatives():
    objective, v, _ = problem(1)
    q2 = np.sum(objective.q**2, axis=1)
    n = len(v)
    expected = np.zeros((n, n))
    for x, q, f, observed, weight in zip(
        q2, objective.q, objective.form_factors, objective.intensity, objective.weights, strict=True
    ):
        w = np.exp(-0.5 * x * np.diag(v))
        a = f * w * np.exp(1j * objective.positions @ q)
        pairs = (np.conj(a)[:, None] * a).real
        e = np.exp(x * v)
        residual = observed - 1.7 * np.sum(pairs * (e - 1))
        slopes = 2 * x * pairs * e
        for i in range(n):
            others = np.arange(n) != i
            own = f[i] ** 2 * w[i] ** 2 - np.sum((pairs[i] * (e[i] - 1))[others])
            slopes[i, i] = x * own
        expected += -2 * weight * residual * 1.7 * slopes
    assert_allclose(objective.gradient(v), expected, rtol=1e-9)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999), anisotropic=st.booleans(), complex_f=st.booleans())
def test_derivatives_are_central_differences(seed, anisotropic, complex_f):
    objective, v, rng = problem(seed, anisotropic=anisotropic, complex_f=complex_f)
    d = direction(rng, v)
    slope = difference(lambda x: objective.value(v + x * d))
    size = np.sum(np.abs(flat(objective.gradient(v)) * flat(d)))
    assert along(objective.gradient(v), d) == pytest.approx(slope, abs=RTOL_DIFFERENCES * size)
    product = objective.hessian_product(v, d)
    curved = difference(lambda x: objective.gradient(v + x * d))
    assert_allclose(product, curved, atol=RTOL_DIFFERENCES * np.abs(product).max())


def test_every_free_parameter_of_blocks_has_its_own_derivative():
    objective, v, _ = problem(2, n=2, anisotropic=True)
    found = flat(objective.gradient(v))
    for i in range(6):
        for j in range(i, 6):
            change = np.zeros((6, 6))
            change[i, j] = change[j, i] = 1.0
            change = unflat(change, v)
            slope = difference(lambda x, change=change: objective.value(v + x * change))
            assert found[i, j] == pytest.approx(slope, rel=1e-5, abs=1e-6 * np.abs(found).max())
            assert found[i, j] == pytest.approx(found[j, i])


@pytest.mark.parametrize("what", ["value", "gradient", "hessian_product"])
def test_large_problems_by_matrix_products_give_the_same(monkeypatch, what):
    objective, v, rng = problem(3, n=20, n_q=200)
    arguments = (v, direction(rng, v)) if what == "hessian_product" else (v,)
    expected = getattr(objective, what)(*arguments)
    monkeypatch.setattr(covariance_objective, "_GEMM_TERMS", 1.0)
    found = getattr(objective, what)(*arguments)
    assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


# --- 3 exact limits ------------------------------------------------------


def test_at_the_truth_there_is_no_slope_and_gauss_newton_is_exact():
    objective, v, rng = problem(4)
    truth = objective.intensity - objective._residual(v)
    exact = CovarianceObjective(
        objective.q, objective.positions, objective.form_factors, truth, objective.weights, 1.7
    )
    assert exact.value(v) == pytest.approx(0.0, abs=1e-9 * np.sum(truth**2))
    size = np.abs(objective.gradient(v)).max()
    assert_allclose(exact.gradient(v), 0.0, atol=1e-9 * size)
    d = direction(rng, v)
    assert along(exact.hessian_product(v, d), d) > 0


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("anisotropic", [False, True])
def test_hessian_products_are_symmetric(anisotropic):
    objective, v, rng = problem(5, anisotropic=anisotropic)
    one, other = direction(rng, v), direction(rng, v)
    here = along(objective.hessian_product(v, one), other)
    there = along(objective.hessian_product(v, other), one)
    assert here == pytest.approx(there, rel=1e-8)


def test_isotropic_is_anisotropic_with_equal_blocks():
    objective, v, _ = problem(6)
    blocks = v[:, :, None, None] * np.eye(3)
    assert objective.value(blocks) == pytest.approx(objective.value(v), rel=RTOL_SUMS)
    traces = np.trace(objective.gradient(blocks), axis1=2, axis2=3)
    assert_allclose(traces, objective.gradient(v), rtol=1e-8)


def test_weight_zero_is_left_out():
    objective, v, _ = problem(7)
    weights = objective.weights.copy()
    weights[:10] = 0.0
    observed = objective.intensity.copy()
    observed[:10] = 1e6
    arrays = (objective.q, objective.positions, objective.form_factors)
    whole = CovarianceObjective(*arrays, observed, weights, 1.7)
    part = CovarianceObjective(
        arrays[0][10:], arrays[1], arrays[2][10:], observed[10:], weights[10:], 1.7
    )
    assert whole.value(v) == pytest.approx(part.value(v))
    assert_allclose(whole.gradient(v), part.gradient(v), rtol=1e-9)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": np.zeros((25, 2))}, r"q must be \(25, 3\), got \(25, 2\)"),
        ({"form_factors": np.ones((3, 6))}, r"form_factors must be \(25, 6\), got \(3, 6\)"),
        ({"intensity": np.full(25, np.nan)}, "intensity must be finite"),
        ({"weights": -np.ones(25)}, "weights must be at least 0, got -1"),
        ({"scale": np.inf}, "scale must be finite, got inf"),
    ],
)
def test_a_wrong_argument_is_named(change, message):
    objective, _, _ = problem(8)
    names = ("q", "positions", "form_factors", "intensity", "weights", "scale")
    arguments = {name: getattr(objective, name) for name in names}
    with pytest.raises(InputError, match=message):
        CovarianceObjective(**{**arguments, **change})


def test_a_wrong_covariance_or_direction_is_named():
    objective, v, _ = problem(9)
    with pytest.raises(InputError, match=r"v must be \(6, 6\) or \(6, 6, 3, 3\), got \(5, 5\)"):
        objective.value(np.eye(5))
    with pytest.raises(InputError, match="covariance must be symmetric"):
        objective.gradient(np.triu(np.ones((6, 6))))
    with pytest.raises(InputError, match=r"d must be \(6, 6\), got \(6, 6, 3, 3\)"):
        objective.hessian_product(v, v[:, :, None, None] * np.eye(3))
