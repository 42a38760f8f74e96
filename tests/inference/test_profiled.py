"""The best scale and background: other solvers, hard cases, dependent columns, no answer."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from offbragg import OffbraggError
from offbragg.inference import convex
from offbragg.inference.convex import minimise_linear
from offbragg.inference.losses import LOSSES, poisson
from offbragg.inference.objective import ProjectedProblem
from offbragg.inference.profiled import LinearPart

RTOL_LSTSQ = 1e-9  # the same linear problem, solved another way in float64
RTOL_DIFFERENCES = 1e-7  # central differences with a step of 1e-4, of the largest
RTOL_FLOOR = 1e-6  # the floor under empty voxels is 1e-8 of the mean count
RTOL_ABSOLUTE = (
    1e-3  # Huber's loss of residuals in units of the threshold / 1e4, from absolute ones
)


def case(loss="squares", seed=0, n=60, level=5.0):
    """Data, weights, background and diffuse intensity."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0.0, 1.0, n)
    background = np.stack([np.ones(n), x, x**2], axis=1)
    diffuse = rng.gamma(1.0, 1.0, n)
    observed = rng.poisson(level * (diffuse + background @ [1.0, 0.5, 0.2])).astype(float)
    weights = rng.uniform(0.2, 2.0, n)
    return (loss, observed, weights, None, background), diffuse, rng


# --- 2 independent oracle ------------------------------------------------


def test_squares_are_those_of_the_projected_problem():
    arguments, diffuse, _ = case()
    _, observed, weights, _, background = arguments
    problem = ProjectedProblem.build(observed, weights**-0.5, background)
    best = LinearPart.of(*arguments).at(diffuse)
    assert best.scale == pytest.approx(problem.scale(problem.model_part(diffuse)), rel=RTOL_LSTSQ)
    assert best.value == pytest.approx(np.sum(problem.residuals(diffuse) ** 2), rel=RTOL_LSTSQ)


def test_huber_far_beyond_its_threshold_is_the_sum_of_absolute_residuals():
    (_, observed, _, _, background), diffuse, rng = case()
    observed = observed + rng.normal(size=len(observed))
    columns = np.column_stack([diffuse, background])
    n, k = columns.shape
    # Residuals u − w with u, w ≥ 0, and the least sum of both.
    program = linprog(
        np.append(np.zeros(k), np.ones(2 * n)),
        A_eq=np.column_stack([columns, np.eye(n), -np.eye(n)]),
        b_eq=observed,
        bounds=[(None, None)] * k + [(0, None)] * (2 * n),
    )
    weights = np.full(n, 1e8)
    best = LinearPart.of("huber", observed, weights, None, background).at(diffuse)
    assert best.value / (2 * 1.345 * 1e4) == pytest.approx(program.fun, rel=RTOL_ABSOLUTE)
    assert best.scale == pytest.approx(program.x[0], rel=RTOL_ABSOLUTE)


@pytest.mark.parametrize("scale", [None, 4.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_slopes_and_their_changes_are_central_differences(loss, scale):
    arguments, diffuse, rng = case(loss)
    part = LinearPart.of(*arguments[:3], scale, arguments[4])
    change = rng.normal(size=len(diffuse)) * np.minimum(diffuse, 1.0)
    step = 1e-4
    best, after, before = (part.at(diffuse + x * change) for x in (0.0, step, -step))
    size = np.abs(best.slopes) @ np.abs(change)
    slope = (after.value - before.value) / (2 * step)
    assert best.slopes @ change == pytest.approx(slope, abs=RTOL_DIFFERENCES * size)
    found = best.change_of_slopes(change)
    expected = (after.slopes - before.slopes) / (2 * step)
    assert_allclose(found, expected, atol=10 * RTOL_DIFFERENCES * np.abs(found).max())


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_data_that_the_model_explains_give_their_own_numbers_back(loss):
    (_, _, weights, _, background), diffuse, _ = case()
    observed = 3.0 * diffuse + background @ [4.0, 2.0, 1.0]
    best = LinearPart.of(loss, observed, weights, None, background).at(diffuse)
    assert best.scale == pytest.approx(3.0)
    assert_allclose(best.coefficients, [4.0, 2.0, 1.0], rtol=1e-7)
    assert best.value == pytest.approx(0.0, abs=1e-12 * np.sum(weights * observed))


@pytest.mark.parametrize("level", [1e-2, 1.0, 1e4])
def test_minima_with_empty_voxels_are_minima(level):
    # A convex loss on a convex set: no small step inside it gains more than the floor costs.
    arguments, diffuse, _ = case("poisson", n=400, level=level)
    _, observed, weights, _, background = arguments
    observed[300:] = 0.0
    best = LinearPart.of(*arguments).at(diffuse)
    columns = np.column_stack([diffuse, background])
    expected = best.scale * diffuse + background @ best.coefficients
    assert np.all(expected >= 0)
    slope = columns.T @ (2 * weights * (1 - observed / expected))
    bounds = [(-x, x) for x in 1.0 / columns.sum(axis=0)]
    gain = -linprog(slope, A_ub=-columns, b_ub=expected, bounds=bounds).fun
    floor = 1e-8 * max(1.0, observed.mean())
    assert gain <= 2 * floor * np.sum(weights[observed == 0])


def test_a_start_is_found_where_only_some_scales_make_counts_possible():
    # c, s − 3c and c − 0.3s must be positive, which neither least squares nor a level are.
    diffuse, column = np.array([0.0, 1.0, -0.3]), np.array([1.0, -3.0, 1.0])
    counts = np.array([0.0, 30.0, 0.0])
    best = LinearPart.of("poisson", counts, np.ones(3), None, column[:, None]).at(diffuse)
    # Best on the edge c = 0.3s; there 30 log s − 0.4s is to be the largest.
    assert best.scale == pytest.approx(75.0, rel=RTOL_FLOOR)
    assert_allclose(best.coefficients, 22.5, rtol=RTOL_FLOOR)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_dependent_columns_change_nothing(loss):
    arguments, diffuse, rng = case(loss)
    background = arguments[4]
    more = np.column_stack([background, background @ rng.normal(size=(3, 2)), np.zeros(60)])
    best = LinearPart.of(*arguments).at(diffuse)
    other = LinearPart.of(*arguments[:4], more).at(diffuse)
    assert other.value == pytest.approx(best.value, rel=RTOL_LSTSQ)
    assert other.scale == pytest.approx(best.scale, rel=1e-7)
    assert_allclose(more @ other.coefficients, background @ best.coefficients, rtol=1e-6)


# --- 5 errors ------------------------------------------------------------


def test_where_no_scale_makes_counts_possible_the_value_is_infinite():
    diffuse = np.array([1.0, -1.0, 2.0])
    part = LinearPart.of("poisson", np.ones(3), np.ones(3), None, np.empty((3, 0)))
    assert part.at(diffuse).value == np.inf
    assert np.isnan(part.at(diffuse).scale)
    assert np.all(np.isnan(part.at(diffuse).change_of_slopes(diffuse)))


def test_steps_that_do_not_settle_are_an_error(monkeypatch):
    monkeypatch.setattr(convex, "_MOST_STEPS", 1)
    (_, observed, weights, _, background), _, _ = case()
    with pytest.raises(OffbraggError, match="do not settle in 1 Newton steps"):
        minimise_linear(poisson, observed, weights, 0 * observed, background, positive=True)
