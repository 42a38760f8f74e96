"""estimate_uncertainty: textbook least squares, and what nothing determines."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.inference.uncertainty import estimate_uncertainty

RTOL_SUMS = 1e-9  # the same sums in another order, through squares


def jacobian(n=50, k=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, k))


# --- 1 reference numbers -------------------------------------------------


def test_two_numbers_by_hand():
    # Residuals 3x and 4y: errors ½/3 and ½/4 for residuals of variance ¼.
    found = estimate_uncertainty(np.diag([3.0, 4.0]), 0.25, {"a": np.eye(2)})
    assert_allclose(found.errors["a"], [1 / 6, 1 / 8])
    assert_allclose(found.correlations, np.eye(2))
    assert_allclose(found.spectrum, [1 / 8, 1 / 6])
    assert found.n_determined == pytest.approx(1 / (1 + 1 / 36) + 1 / (1 + 1 / 64))


# --- 2 independent oracle ------------------------------------------------


def test_errors_are_those_of_the_inverse_normal_matrix():
    j = jacobian()
    slopes = np.random.default_rng(1).normal(size=(3, 4))
    found = estimate_uncertainty(j, 2.0, {"a": slopes[:1], "b": slopes[1:]})
    expected = 2.0 * slopes @ np.linalg.inv(j.T @ j) @ slopes.T
    errors = np.sqrt(np.diag(expected))
    assert_allclose(np.concatenate(list(found.errors.values())), errors, rtol=RTOL_SUMS)
    assert_allclose(found.correlations, expected / np.outer(errors, errors), rtol=1e-8)


def test_errors_are_the_spread_of_repeated_fits():
    rng = np.random.default_rng(2)
    j = jacobian(30, 3)
    noise = 0.3 * rng.normal(size=(30, 4000))
    solutions = np.linalg.lstsq(j, noise, rcond=None)[0]
    found = estimate_uncertainty(j, 0.09, {"x": np.eye(3)})
    # The error of a standard deviation of 4000 is 1.1 %.
    assert_allclose(found.errors["x"], solutions.std(axis=1), rtol=0.05)


# --- 3 exact limits ------------------------------------------------------


def test_what_nothing_determines_has_an_infinite_error():
    # Only the sum of the first two counts; the third is fine.
    j = jacobian(40, 2)
    j = np.column_stack([j[:, 0], j[:, 0], j[:, 1]])
    names = {"x": np.eye(3), "sum": np.array([[1.0, 1.0, 0.0]])}
    found = estimate_uncertainty(j, 1.0, names)
    assert np.all(np.isinf(found.errors["x"][:2]))
    assert np.isfinite(found.errors["x"][2])
    assert np.isfinite(found.errors["sum"][0])
    assert np.isinf(found.spectrum[-1])
    assert found.n_determined < 2.0
    assert_allclose(found.correlations[0], [1, 0, 0, 0])


@pytest.mark.parametrize(("share", "is_open"), [(1e-2, True), (1e-5, False)])
def test_what_moves_a_number_by_more_than_its_error_leaves_it_open(share, is_open):
    # The second coordinate is seen by nothing; the first is known to 1e-3.
    j = np.column_stack([1e3 * np.eye(4)[0], np.zeros(4)])
    found = estimate_uncertainty(j, 1.0, {"a": np.array([[1.0, share]])})
    assert np.isinf(found.errors["a"][0]) == is_open


def test_fewer_residuals_than_numbers():
    found = estimate_uncertainty(jacobian(2, 5), 1.0, {"x": np.eye(5)})
    assert np.count_nonzero(np.isinf(found.spectrum)) == 3


# --- 4 invariances -------------------------------------------------------


def test_a_factor_of_the_residuals_is_a_factor_of_errors():
    j = jacobian()
    one, other = (estimate_uncertainty(s * j, s**2, {"x": np.eye(4)}) for s in (1.0, 7.0))
    assert_allclose(one.errors["x"], other.errors["x"], rtol=RTOL_SUMS)
    assert one.n_determined == pytest.approx(other.n_determined)
