"""Interference function of a finite crystal: sums over cells, nodes, sum rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from offbragg.scattering.bragg import interference

ATOL_ROUNDING = 1e-9  # of N: sums of N unit phases against a ratio of sines


def sum_over_cells(h, n_cells):
    return np.abs(np.exp(2j * np.pi * np.outer(h, np.arange(n_cells))).sum(axis=1)) ** 2 / n_cells


# --- 1 reference numbers -------------------------------------------------


def test_two_cells_by_hand():
    # |1 + e^{2πih}|²/2 = 1 + cos 2πh.
    h = np.array([0.0, 0.25, 0.5, 1 / 3])
    assert_allclose(interference(h, 2), [2.0, 1.0, 0.0, 0.5], atol=1e-12)


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=50)
@given(n_cells=st.integers(1, 30), h=st.lists(st.floats(-20, 20), min_size=1, max_size=20))
def test_matches_the_sum_over_cells(n_cells, h):
    h = np.array(h)
    found = interference(h, n_cells)
    assert_allclose(found, sum_over_cells(h, n_cells), atol=ATOL_ROUNDING * n_cells)
    assert np.all(found >= 0)


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("n_cells", [1, 2, 7, 1000])
def test_nodes_are_exact_however_far(n_cells):
    h = np.array([0.0, -3.0, 17.0, 1e6, 5.0 + 1e-12])
    assert np.array_equal(interference(h, n_cells), np.full(5, float(n_cells)))


def test_one_cell_does_not_interfere():
    assert_allclose(interference(np.linspace(-2, 2, 41), 1), 1.0, rtol=1e-12)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("n_cells", [2, 5, 8])
def test_the_mean_over_a_reciprocal_cell_is_one(n_cells):
    # The trapezoid rule is exact for a trigonometric polynomial of degree N − 1.
    h = np.arange(4 * n_cells) / (4 * n_cells)
    assert interference(h, n_cells).mean() == pytest.approx(1.0, rel=1e-12)


def test_shape_is_kept_and_the_function_is_even_and_periodic():
    h = np.random.default_rng(3).uniform(-0.5, 0.5, (3, 1, 4))
    found = interference(h, 5)
    assert found.shape == (3, 1, 4)
    assert_allclose(interference(-h, 5), found, rtol=1e-12)
    assert_allclose(interference(h + 4, 5), found, atol=1e-9)
