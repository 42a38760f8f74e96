"""Smooth functions: products of splines that sum to one, and what their roughness is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.interpolate import BSpline

from offbragg import InputError
from offbragg.reduction.smooth_function import Axis, SmoothFunction

ROUNDING = 1e-12
TWO = SmoothFunction("two", (Axis(-1.0, 2.0, 4), Axis(0.0, 90.0, 3, degree=1)))


def knots(axis):
    """Evenly spaced, beyond either end too, so that all splines are alike."""
    step = (axis.high - axis.low) / axis.n_intervals
    return axis.low + step * np.arange(-axis.degree, axis.n_intervals + axis.degree + 1)


def points(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-1, 2, n), rng.uniform(0, 90, n)])


# --- 2 independent oracle ------------------------------------------------


def test_values_are_products_of_one_dimensional_splines():
    at = points(30)
    c = np.random.default_rng(1).normal(size=(6, 4))
    expected = np.zeros(30)
    for i in range(6):
        for j in range(4):
            one = BSpline(knots(TWO.axes[0]), np.eye(6)[i], 2)(at[:, 0])
            other = BSpline(knots(TWO.axes[1]), np.eye(4)[j], 1)(at[:, 1])
            expected += c[i, j] * one * other
    assert_allclose(TWO.design(at) @ c.ravel(), expected, atol=ROUNDING)


# --- 3 exact limits ------------------------------------------------------


def test_what_is_linear_has_no_roughness():
    slow, fast = np.meshgrid(np.arange(6), np.arange(4), indexing="ij")
    along = [TWO.roughness_along(a) for a in (0, 1)]
    for rows in along:
        assert_allclose(rows @ (1.0 + 2.0 * slow - 3.0 * fast).ravel(), 0.0, atol=ROUNDING)
    assert_allclose(along[0] @ (slow**2).ravel(), 2.0, atol=ROUNDING)
    assert_allclose(along[1] @ (slow**2).ravel(), 0.0, atol=ROUNDING)


def test_categories_have_a_number_each_and_no_roughness():
    chips = SmoothFunction("chips", (Axis.of_categories(3),))
    design = chips.design(np.array([[0.0], [2.0], [1.0], [2.0]])).toarray()
    assert design.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert chips.roughness_along(0).shape == (0, 3)


def test_values_that_are_all_alike_have_one_number():
    assert Axis.over([5.0, 5.0], 1.0).n_splines == 1


# --- 4 invariances -------------------------------------------------------


@given(st.integers(0, 1000), st.integers(0, 3), st.integers(1, 6))
def test_splines_sum_to_one_within_the_range_and_beyond(seed, degree, n_intervals):
    function = SmoothFunction("s", (Axis(0.0, 1.0, n_intervals, degree), Axis(0.0, 2.0, 2)))
    at = np.random.default_rng(seed).uniform(-1, 3, (20, 2))
    assert_allclose(np.asarray(function.design(at).sum(axis=1)).ravel(), 1.0, atol=ROUNDING)


# --- 5 errors ------------------------------------------------------------


def test_what_is_wrong_is_named():
    with pytest.raises(InputError, match="axis must go from low to high, got 1 to 1"):
        Axis(1, 1, 3)
    with pytest.raises(InputError, match="at least one interval"):
        Axis(0, 1, 0)
    with pytest.raises(InputError, match=r"two: points must be \(n, 2\), got \(5,\)"):
        TWO.design(np.zeros(5))
