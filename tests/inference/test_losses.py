"""Losses by voxel: numbers by hand, scipy's Poisson distribution, derivatives, the impossible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import poisson as poisson_distribution

from offbragg.inference.losses import HUBER, LOSSES, huber, poisson, squares
from offbragg.inference.solve import HUBER as HUBER_OF_FITS

RTOL_LOGPMF = 1e-9  # differences of logarithms of factorials lose digits
RTOL_DIFFERENCES = 1e-7  # central differences with a step of 1e-5, of the largest
RTOL_ROUNDING = 1e-12  # the same terms in another order
RTOL_SMALL_EXCESS = 1e-7  # 1 + 1e-8 is known to 1e-16
STEP = 1e-5


def case(seed=0, n=50):
    """Expected and observed values, some of these 0, and weights."""
    rng = np.random.default_rng(seed)
    expected = rng.uniform(0.3, 20.0, n)
    return expected, rng.poisson(expected).astype(float), rng.uniform(0.1, 3.0, n)


# --- 1 reference numbers -------------------------------------------------


def test_huber_by_hand():
    # t = 2 (5 − 1) = 8 beyond k: 2·1.345·8 − 1.345², slope −2·2·1.345; within: t = 1.
    found = huber(np.array([1.0, 4.5]), np.array([5.0, 5.0]), np.array([4.0, 4.0]))
    assert_allclose(found.value, [19.710975, 1.0])
    assert_allclose(found.slope, [-5.38, -4.0])
    assert_allclose(found.curvature, [0.0, 8.0])


def test_fits_and_objectives_doubt_the_same_residuals():
    assert HUBER == HUBER_OF_FITS == 1.345


# --- 2 independent oracle ------------------------------------------------


def test_poisson_is_the_log_likelihood_that_is_lost():
    expected, counts, weights = case()
    assert np.any(counts == 0)
    best = poisson_distribution.logpmf(counts, counts)
    lost = 2 * weights * (best - poisson_distribution.logpmf(counts, expected))
    assert_allclose(poisson(expected, counts, weights).value, lost, rtol=RTOL_LOGPMF, atol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999), name=st.sampled_from(list(LOSSES)))
def test_derivatives_are_central_differences(seed, name):
    expected, observed, weights = case(seed)
    loss = LOSSES[name]
    found = loss(expected, observed, weights)
    after, before = (loss(expected + x, observed, weights) for x in (STEP, -STEP))
    # A step over Huber's threshold is not for differences.
    smooth = after.curvature == before.curvature if name == "huber" else slice(None)
    for derivative, one, other in (
        (found.slope, after.value, before.value),
        (found.curvature, after.slope, before.slope),
    ):
        error = (derivative - (one - other) / (2 * STEP))[smooth]
        assert_allclose(error, 0.0, atol=RTOL_DIFFERENCES * np.abs(derivative).max())


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES.values())
def test_a_perfect_fit_costs_nothing(loss):
    _, observed, weights = case(1)
    observed += 1.0
    found = loss(observed, observed, weights)
    assert_array_equal(found.value, 0.0)
    assert_array_equal(found.slope, 0.0)


def test_huber_is_squares_up_to_the_threshold_and_goes_on_straight():
    t = np.array([0.3, -1.3, 1.344])
    small = huber(-t, np.zeros(3), np.ones(3)), squares(-t, np.zeros(3), np.ones(3))
    for one, other in zip(*small, strict=True):
        assert_allclose(one, other, rtol=RTOL_ROUNDING)
    at = [huber(np.zeros(1), np.array([x]), np.ones(1)) for x in (HUBER - 1e-9, HUBER + 1e-9)]
    assert_allclose(at[0].value, at[1].value, rtol=1e-8)
    assert_allclose(at[0].slope, at[1].slope, rtol=1e-8)


def test_large_counts_lose_no_digits():
    # ℓ = n x² for x = (μ − n)/n = 1e-8 in a count of 1e12: 1e-4.
    n = np.array([1e12])
    found = poisson(n * (1 + 1e-8), n, np.ones(1))
    assert_allclose(found.value, 1e-4, rtol=RTOL_SMALL_EXCESS)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("loss", [squares, poisson])
def test_weights_multiply(loss):
    expected, observed, weights = case(2)
    for one, other in zip(
        loss(expected, observed, 3.0 * weights), loss(expected, observed, weights), strict=True
    ):
        assert_allclose(one, 3.0 * other, rtol=RTOL_ROUNDING)


def test_huber_only_sees_standard_deviations():
    expected, observed, weights = case(3)
    one = huber(7.0 * expected, 7.0 * observed, weights / 49.0)
    other = huber(expected, observed, weights)
    assert_allclose(one.value, other.value, rtol=RTOL_ROUNDING)
    assert_allclose(7.0 * one.slope, other.slope, rtol=RTOL_ROUNDING)


# --- 5 what cannot be ----------------------------------------------------


def test_impossible_counts_are_infinitely_unlikely():
    expected = np.array([0.0, -1.0, -1.0, 0.0, 0.0])
    found = poisson(expected, np.array([1.0, 1.0, 0.0, 0.0, 1.0]), np.array([1.0, 1, 1, 1, 0]))
    assert found.value.tolist() == [np.inf, np.inf, np.inf, 0.0, 0.0]
    assert np.isnan(found.slope).tolist() == [True, True, True, False, False]
    assert np.isnan(found.curvature).tolist() == [True, True, True, False, False]
    assert found.slope[3:].tolist() == [2.0, 0.0]


@pytest.mark.parametrize("loss", LOSSES.values())
def test_inputs_are_not_changed(loss):
    arrays = case(4)
    before = [x.copy() for x in arrays]
    loss(*arrays)
    for array, copy in zip(arrays, before, strict=True):
        assert_array_equal(array, copy)
