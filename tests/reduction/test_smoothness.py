"""Smoothness: strengths are those that the coefficients were drawn with; conventions hold."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.optimize import minimize_scalar

from offbragg.reduction.scaling_model import Correction, ScalingData
from offbragg.reduction.smooth_function import Axis, SmoothFunction
from offbragg.reduction.smoothness import Penalty, Smoothness
from offbragg.reduction.undetermined import least, least_rows, mean_rows

ROUNDING = 1e-9
N = 300
# Of a standard deviation that 300 numbers tell: 1/√600, three times.
SAME_SIZE = 0.13
MANY_STEPS = 40


def identity(n, size, part=None):
    return Penalty(part or slice(0, n), sparse.csr_array(sparse.eye_array(n)), size)


def learned(penalties, normal, right, rougher=1e3):
    found = Smoothness(penalties, rougher)
    for _ in range(MANY_STEPS):
        found.learn(normal, right)
    return found


# --- 1 known truth -------------------------------------------------------


def test_the_size_of_coefficients_is_learned():
    rng = np.random.default_rng(0)
    p = rng.normal(0.0, 0.2, N)
    noise = 0.05
    seen = p + rng.normal(0.0, noise, N)
    found = learned([identity(N, 1.0)], np.eye(N) / noise**2, seen / noise**2)
    assert found.strengths[0] ** -0.5 == pytest.approx(0.2, rel=SAME_SIZE)


def test_smooth_along_one_axis_only():
    rng = np.random.default_rng(1)
    function = SmoothFunction("f", (Axis(0.0, 1.0, 20), Axis(0.0, 1.0, 12)))
    p = np.repeat(rng.normal(0.0, 0.3, function.axes[0].n_splines), function.axes[1].n_splines)
    n = len(p)
    noise = 0.02
    seen = p + rng.normal(0.0, noise, n)
    rows = [Penalty(slice(0, n), function.roughness_along(a), 0.1) for a in (0, 1)]
    found = learned([*rows, identity(n, 0.5)], np.eye(n) / noise**2, seen / noise**2)
    along, across = found.strengths[:2] ** -0.5
    assert along > 30 * across
    smooth = np.linalg.solve(np.eye(n) / noise**2 + found.matrix(), seen / noise**2)
    assert np.std(smooth - p) < 0.5 * noise


def test_what_is_not_there_fades_out():
    rng = np.random.default_rng(2)
    noise = 0.05
    seen = rng.normal(0.0, noise, N)
    found = learned([identity(N, 1.0)], np.eye(N) / noise**2, seen / noise**2)
    assert found.strengths[0] ** -0.5 < 0.3 * noise


# --- 2 independent oracle ------------------------------------------------


def test_it_is_the_largest_marginal_likelihood():
    """Of a design that leaves some coefficients undetermined, by a search over one strength."""
    rng = np.random.default_rng(3)
    design = rng.normal(size=(80, 60))
    design[:, 40:] = 0.0
    seen = design @ rng.normal(0.0, 0.3, 60) + rng.normal(size=80)

    def minus_log_likelihood(log_strength):
        covariance = np.eye(80) + design @ design.T / np.exp(log_strength)
        _, log_det = np.linalg.slogdet(covariance)
        return log_det + seen @ np.linalg.solve(covariance, seen)

    best = minimize_scalar(minus_log_likelihood, bounds=(-5, 10), method="bounded").x
    found = learned([identity(60, 1.0)], design.T @ design, design.T @ seen)
    assert np.log(found.strengths[0]) == pytest.approx(best, abs=1e-3)


# --- 3 exact limits ------------------------------------------------------


def test_no_rougher_than_allowed():
    rng = np.random.default_rng(4)
    seen = rng.normal(0.0, 5.0, N)
    found = learned([identity(N, 0.1)], 1e4 * np.eye(N), 1e4 * seen, rougher=3.0)
    assert found.strengths[0] ** -0.5 == pytest.approx(0.3)


def data_of(n, n_sweeps, seed=5):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.4, 0.4, (2, n))
    columns = {
        "x": x, "y": y, "inv_d": np.hypot(x, y), "angle": rng.uniform(0, 90, n),
        "sweep": rng.integers(0, n_sweeps, n).astype(float),
    }  # fmt: skip
    return ScalingData(np.ones(n), np.ones(n), np.zeros(n), np.arange(n), columns)


def test_resolution_alone_is_no_business_of_directions():
    data = data_of(4000, 2)
    function = SmoothFunction("d", (Axis(-0.4, 0.4, 4), Axis(-0.4, 0.4, 4), Axis.of_categories(2)))
    correction = Correction(function, ("x", "y", "sweep"), "all", 0.03)
    design = function.design(correction.points(data.columns))
    rows = mean_rows(correction, design, data)
    # One sweep brighter than the other is no matter of resolution.
    of_sweep = np.tile([1.0, -1.0], function.n_coefficients // 2)
    every = np.linalg.norm(np.asarray(rows @ of_sweep)[1:])
    assert every < 1e-6
    radial = np.linalg.lstsq(design.toarray(), data.columns["inv_d"] ** 2, rcond=None)[0]
    assert np.linalg.norm(rows @ radial) > 10
    linear = np.linalg.lstsq(design.toarray(), data.columns["x"], rcond=None)[0]
    assert np.linalg.norm(rows @ linear) < 0.5 * np.linalg.norm(rows @ radial)


def test_offsets_are_least_where_their_rows_say():
    function = SmoothFunction("c", (Axis(0.1, 0.5, 3), Axis(0.0, 180.0, 6)))
    c = np.random.default_rng(6).normal(size=function.n_coefficients)
    inv_d, angle = (axis.places() for axis in function.axes)
    at = np.stack(np.meshgrid(inv_d, angle, indexing="ij"), axis=-1).reshape(-1, 2)
    expected = (function.design(at) @ c).reshape(len(inv_d), -1).min(axis=1)
    assert_allclose(least_rows(function, c, 100.0) @ c, expected, atol=ROUNDING)


def test_the_least_of_an_offset_can_be_taken_away():
    function = SmoothFunction("c", (Axis(0.1, 0.5, 3), Axis(0.0, 180.0, 6)))
    profile, along = np.array([1.0, 3.0, 2.0, 4.0, 5.0]), np.linspace(0.0, 2.0, 8) ** 2
    c = (profile[:, None] * (1.0 + along)).ravel()
    rest = c - least(function, c)
    at = np.column_stack([np.full(24, 0.3), function.axes[1].places()])
    assert (function.design(at) @ rest).min() == pytest.approx(0.0, abs=ROUNDING)
