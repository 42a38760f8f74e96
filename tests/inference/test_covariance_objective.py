"""CovarianceObjective: the printed formulas, central differences, and what must be refused.

Each loss, with scale and background given or profiled out, isotropic or not.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.stats import poisson
from tests.oracles import diffuse_sum
from tests.strategies import random_covariance

from offbragg import InputError
from offbragg.inference import CovarianceObjective, covariance_objective

RTOL_SUMS = 1e-10  # the same sums in another order
# Fourth-order central differences, step 1e-3 Å², of a function that is smooth in V.
RTOL_DIFFERENCES = 1e-6
STEP = 1e-3
RTOL_MINIMISED = 1e-9  # a simplex of values that agree to rounding
NELDER_MEAD = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000, "maxfev": 5000}
RTOL_EMPTY = 1e-6  # the floor under empty voxels, 1e-8 of the mean count; SLSQP's own stopping
RTOL_LARGE_COUNTS = 1e-2  # next order in the relative residual, 0.3 % in a million counts

LOSSES = ["squares", "huber", "poisson"]
# Scale and background that are given, or what is profiled out.
LINEAR = {
    "fixed": (0.02, None),
    "scale": (None, None),
    "background": (0.02, "three"),
    "both": (None, "three"),
}


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


def columns(q):
    """A constant, a slope, and a third column that says nothing of its own."""
    length = np.linalg.norm(q, axis=1)
    return np.stack([np.ones(len(q)), length, 3.0 - 2.0 * length], axis=1)


def noisy(loss, linear="both", seed=0, *, anisotropic=False, level=0.02):
    """Counts of some ones to hundreds, a few far off for Huber's loss."""
    plain, v, rng = problem(seed, n=4, n_q=40, anisotropic=anisotropic)
    scale, background = LINEAR[linear]
    intensity = level / 1.7 * plain.intensity + 50 * level * (1 + np.linalg.norm(plain.q, axis=1))
    weights = rng.uniform(0.5, 2.0, 40)
    intensity = rng.poisson(intensity).astype(float)
    if loss != "poisson":
        weights /= 1.0 + intensity
        intensity[::9] *= 3.0
    objective = CovarianceObjective(
        plain.q,
        plain.positions,
        plain.form_factors,
        intensity,
        weights,
        scale,
        background=None if background is None else columns(plain.q),
        loss=loss,
    )
    return objective, v, rng


def again(objective, **change):
    """The same problem with other arguments."""
    names = ("q", "positions", "form_factors", "intensity", "weights", "scale", "background")
    arguments = {name: getattr(objective, name) for name in (*names, "loss")}
    return CovarianceObjective(**{**arguments, **change})


def diffuse(objective, v):
    blocks = v if v.ndim == 4 else v[:, :, None, None] * np.eye(3)
    return diffuse_sum(objective.q, objective.positions, objective.form_factors, blocks)


def explicit(objective, expected):
    """The misfit of expected values by the formulas of a textbook."""
    n, weights = objective.intensity, objective.weights
    if objective.loss == "poisson":
        lost = poisson.logpmf(n, n) - poisson.logpmf(n, np.maximum(expected, 1e-300))
        return 2 * np.sum(weights * lost)
    t = np.sqrt(weights) * np.abs(n - expected)
    if objective.loss == "huber":
        return np.sum(np.where(t <= 1.345, t**2, 2 * 1.345 * t - 1.345**2))
    return np.sum(t**2)


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


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_of_every_loss_are_central_differences(loss, linear, anisotropic):
    objective, v, rng = noisy(loss, linear, anisotropic=anisotropic)
    d = direction(rng, v)
    slope = difference(lambda x: objective.value(v + x * d))
    gradient = objective.gradient(v)
    size = np.sum(np.abs(flat(gradient) * flat(d)))
    assert along(gradient, d) == pytest.approx(slope, abs=RTOL_DIFFERENCES * size)
    product = objective.hessian_product(v, d)
    curved = difference(lambda x: objective.gradient(v + x * d))
    assert_allclose(product, curved, atol=RTOL_DIFFERENCES * np.abs(product).max())


@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("loss", LOSSES)
def test_values_are_minima_over_scale_and_background(loss, linear):
    objective, v, _ = noisy(loss, linear)
    intensity = diffuse(objective, v)
    given = objective.scale is not None
    # Two columns of the three: the third depends on them.
    free = np.column_stack([*([] if given else [intensity]), objective.background[:, :2]])
    sizes = np.linalg.norm(free, axis=0)
    offset = objective.scale * intensity if given else 0.0

    def misfit(x):
        return explicit(objective, offset + free @ (x / sizes))

    expected = misfit(np.zeros(len(sizes)))
    if len(sizes):
        start = np.full(len(sizes), np.sum(objective.intensity) / np.sum(free / sizes))
        expected = minimize(misfit, start, method="Nelder-Mead", options=NELDER_MEAD).fun
    assert objective.value(v) == pytest.approx(expected, rel=RTOL_MINIMISED)
    scale, coefficients = objective.scale_and_background(v)
    there = scale * intensity + objective.background @ coefficients
    assert explicit(objective, there) == pytest.approx(expected, rel=RTOL_MINIMISED)


def test_empty_voxels_hold_the_background_where_expected_counts_come_to_0():
    # A constant for each of three shells, the last without a count and of little weight: the model
    # alone is above that, so that its constant is minus the least of the model, and one μ is 0.
    objective, v, rng = noisy("poisson", "scale")
    order = np.argsort(np.argsort(np.linalg.norm(objective.q, axis=1)))
    shells = np.eye(3)[np.searchsorted([18, 36], order, side="right")]
    intensity = diffuse(objective, v)
    counts = np.where(order >= 36, 0.0, rng.poisson(5.0 + 0.2 * intensity))
    weights = np.where(order >= 36, 0.01, 1.0)
    objective = again(objective, intensity=counts, weights=weights, background=shells)
    scale, coefficients = objective.scale_and_background(v)
    assert scale > 0.1
    assert coefficients[2] == pytest.approx(-scale * intensity[order >= 36].min(), rel=RTOL_EMPTY)
    free = np.column_stack([intensity, shells])
    constrained = minimize(
        lambda x: explicit(objective, free @ x),
        np.append(scale, coefficients) * [0.5, 1, 1, 0.1],
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: free @ x},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert objective.value(v) == pytest.approx(constrained.fun, rel=RTOL_EMPTY)
    d = direction(rng, v)
    slope = difference(lambda x: objective.value(v + x * d))
    size = np.sum(np.abs(flat(objective.gradient(v)) * flat(d)))
    assert along(objective.gradient(v), d) == pytest.approx(slope, abs=RTOL_EMPTY * size)
    product = objective.hessian_product(v, d)
    curved = difference(lambda x: objective.gradient(v + x * d))
    assert_allclose(product, curved, atol=RTOL_EMPTY * np.abs(product).max())


# --- 3 exact limits ------------------------------------------------------


def test_at_the_truth_there_is_no_slope_and_gauss_newton_is_exact():
    objective, v, rng = problem(4)
    arrays = (objective.q, objective.positions, objective.form_factors)
    truth = 1.7 * diffuse_sum(*arrays, v[:, :, None, None] * np.eye(3))
    exact = CovarianceObjective(*arrays, truth, objective.weights, 1.7)
    assert exact.value(v) == pytest.approx(0.0, abs=1e-9 * np.sum(truth**2))
    size = np.abs(objective.gradient(v)).max()
    assert_allclose(exact.gradient(v), 0.0, atol=1e-9 * size)
    d = direction(rng, v)
    assert along(exact.hessian_product(v, d), d) > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_scale_held_at_its_best_gives_the_same_value_and_slope(loss):
    objective, v, rng = noisy(loss)
    held = again(objective, scale=objective.scale_and_background(v)[0])
    d, gradient = direction(rng, v), objective.gradient(v)
    assert held.value(v) == pytest.approx(objective.value(v), rel=RTOL_SUMS)
    assert_allclose(held.gradient(v), gradient, atol=1e-8 * np.abs(gradient).max())
    # What follows can only lower the curvature.
    assert along(objective.hessian_product(v, d), d) < along(held.hessian_product(v, d), d)


@pytest.mark.parametrize("linear", LINEAR)
def test_huber_is_squares_where_residuals_are_small(linear):
    squares, v, rng = noisy("squares", linear)
    close = again(squares, weights=squares.weights * 1e-6)
    huber = again(close, loss="huber")
    d = direction(rng, v)
    assert huber.value(v) == pytest.approx(close.value(v), rel=RTOL_SUMS)
    assert_allclose(huber.gradient(v), close.gradient(v), rtol=1e-8)
    assert_allclose(huber.hessian_product(v, d), close.hessian_product(v, d), rtol=1e-8)


@pytest.mark.parametrize("linear", LINEAR)
def test_poisson_with_large_counts_is_squares_weighted_by_their_inverse(linear):
    objective, v, rng = noisy("poisson", linear)
    scale, background = LINEAR[linear]
    truth = 1e5 * diffuse(objective, v) + (0 if background is None else 1e6)
    many = again(
        objective,
        intensity=rng.poisson(truth).astype(float),
        scale=None if scale is None else 1e5,
        weights=np.ones(40),
    )
    squares = again(many, loss="squares", weights=1 / many.intensity)
    assert many.value(v) == pytest.approx(squares.value(v), rel=RTOL_LARGE_COUNTS)
    size = np.abs(squares.gradient(v)).max()
    assert_allclose(many.gradient(v), squares.gradient(v), atol=RTOL_LARGE_COUNTS * size)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("loss", LOSSES)
def test_hessian_products_of_every_loss_are_symmetric(loss, linear, anisotropic):
    objective, v, rng = noisy(loss, linear, 1, anisotropic=anisotropic)
    one, other = direction(rng, v), direction(rng, v)
    here = along(objective.hessian_product(v, one), other)
    there = along(objective.hessian_product(v, other), one)
    size = along(objective.hessian_product(v, one), one)
    assert here == pytest.approx(there, abs=1e-9 * abs(size))


@pytest.mark.parametrize(("loss", "power"), [("squares", 2), ("huber", 0), ("poisson", 1)])
def test_data_in_another_unit_scale_value_and_gradient(loss, power):
    objective, v, _ = noisy(loss)
    # Huber's threshold is in standard deviations: they go with the unit.
    weights = objective.weights / 49.0 if loss == "huber" else objective.weights
    other = again(objective, intensity=7.0 * objective.intensity, weights=weights)
    assert other.value(v) == pytest.approx(7.0**power * objective.value(v), rel=RTOL_SUMS)
    size = np.abs(other.gradient(v)).max()
    assert_allclose(other.gradient(v), 7.0**power * objective.gradient(v), atol=1e-8 * size)
    assert other.scale_and_background(v)[0] == pytest.approx(
        7.0 * objective.scale_and_background(v)[0]
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_only_what_the_background_spans_matters(loss):
    objective, v, rng = noisy(loss)
    d = direction(rng, v)
    mixed = again(objective, background=objective.background[:, :2] @ [[1e3, 2.0], [-5.0, 1e-3]])
    assert mixed.value(v) == pytest.approx(objective.value(v), rel=1e-8)
    expected = objective.hessian_product(v, d)
    size = np.abs(expected).max()
    assert_allclose(mixed.hessian_product(v, d), expected, atol=1e-7 * size)
    empty = again(objective, background=np.zeros((40, 2)))
    assert empty.value(v) == again(objective, background=None).value(v)
    assert empty.scale_and_background(v)[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", LOSSES)
def test_weight_zero_is_left_out_of_scale_and_background(loss):
    objective, v, _ = noisy(loss)
    weights, intensity = objective.weights.copy(), objective.intensity.copy()
    weights[:10], intensity[:10] = 0.0, 1e6
    whole = again(objective, weights=weights, intensity=intensity)
    names = ("q", "form_factors", "intensity", "weights", "background")
    part = again(whole, **{name: getattr(whole, name)[10:] for name in names})
    assert whole.value(v) == pytest.approx(part.value(v), rel=RTOL_SUMS)
    size = np.abs(part.gradient(v)).max()
    assert_allclose(whole.gradient(v), part.gradient(v), atol=1e-9 * size)


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
        ({"background": np.ones(25)}, r"background must be \(25, k\), got \(25,\)"),
        ({"background": np.ones((24, 2))}, r"background must be \(25, k\), got \(24, 2\)"),
        ({"background": np.full((25, 1), np.nan)}, "background must be finite"),
        ({"loss": "cubes"}, "loss must be one of squares huber poisson, got 'cubes'"),
        (
            {"loss": "poisson", "intensity": np.linspace(-2, 1, 25)},
            "intensity must be counts, at least 0, for poisson, got -2",
        ),
    ],
)
def test_a_wrong_argument_is_named(change, message):
    objective, _, _ = problem(8)
    with pytest.raises(InputError, match=message):
        again(objective, **change)


def test_a_wrong_covariance_or_direction_is_named():
    objective, v, _ = problem(9)
    with pytest.raises(InputError, match=r"v must be \(6, 6\) or \(6, 6, 3, 3\), got \(5, 5\)"):
        objective.value(np.eye(5))
    with pytest.raises(InputError, match="covariance must be symmetric"):
        objective.gradient(np.triu(np.ones((6, 6))))
    with pytest.raises(InputError, match=r"d must be \(6, 6\), got \(6, 6, 3, 3\)"):
        objective.hessian_product(v, v[:, :, None, None] * np.eye(3))


def test_counts_where_none_can_be_have_no_finite_deviance():
    # Nothing moves: no diffuse intensity, whatever the scale.
    objective, v, _ = noisy("poisson", "scale")
    still = np.zeros_like(v)
    assert objective.value(still) == np.inf
    assert np.all(np.isnan(objective.gradient(still)))
    assert again(objective, scale=1.0).value(still) == np.inf
    assert again(objective, intensity=np.zeros(40)).value(still) == 0.0
    assert np.isfinite(again(objective, background=np.ones((40, 1))).value(still))
