"""Intensities from drawn displacements: covariance of the draws, honest errors, gradient.

Oracles: `offbragg.scattering.reference` (the textbook sum), the sample covariance, and the exact
gradient of `offbragg.scattering.direct_adjoint`, itself checked against printed formulas.
"""

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.oracles import blocks, flat
from tests.strategies import random_covariance

from offbragg.errors import InputError
from offbragg.scattering import reference
from offbragg.scattering.direct_adjoint import direct_gradient
from offbragg.scattering.displacements import LowRank
from offbragg.scattering.sampling import draw_displacements, sampled_gradient, sampled_intensity

# Of some hundred independent standard normal numbers: |mean| < 0.3 and spread within 0.15 of 1
# are three standard deviations of either and more.
Z_MEAN, Z_SPREAD = 0.3, 0.15


def problem(seed=0, n_atoms=5, n_q=30, complex_f=True, scale=1.0):
    """Arguments (q, positions, form factors)."""
    rng = np.random.default_rng(seed)
    f = rng.uniform(1, 10, (n_q, n_atoms))
    if complex_f:
        f = f + 1j * rng.uniform(-3, 3, (n_q, n_atoms))
    return rng.normal(scale=scale, size=(n_q, 3)), rng.normal(scale=4, size=(n_atoms, 3)), f


def covariance_of(kind, n_atoms=5):
    """A covariance of each form that is taken."""
    rng = np.random.default_rng(3)
    if kind == "isotropic":
        return random_covariance(rng, n_atoms, 0.2, anisotropic=False)
    if kind == "anisotropic":
        return random_covariance(rng, n_atoms, 0.2)
    shape = (n_atoms, 3, 4) if kind == "factor" else (n_atoms, 4)
    return LowRank(rng.normal(scale=0.25, size=shape))


def dense(v):
    return blocks(v.dense() if isinstance(v, LowRank) else v)


KINDS = ("isotropic", "anisotropic", "factor", "isotropic factor")

# --- 1 reference numbers -------------------------------------------------


def test_one_atom_has_no_sampling_error_by_hand():
    # |F|² = f² whatever the displacement: 36 (1 − e^{−0.1}) = 3.425853 from three samples.
    q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    rng = np.random.default_rng(0)
    found, error = sampled_intensity(q, np.zeros((1, 3)), np.array([[6.0]]), one, 3, rng)
    assert found[0] == pytest.approx(3.425853, abs=1e-6)
    assert error[0] < 1e-12


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_covariance(kind):
    v = covariance_of(kind)
    n = 40_000
    drawn = draw_displacements(v, n, np.random.default_rng(1)).reshape(n, 15)
    expected = flat(dense(v))
    # Var(x y) ≤ 2 ⟨x²⟩⟨y²⟩ for Gaussian numbers; 5 standard errors for 225 elements.
    u = np.diag(expected)
    limit = 5 * np.sqrt(2 * np.outer(u, u) / n)
    assert np.all(np.abs(drawn.T @ drawn / n - expected) < limit)
    assert np.all(np.abs(drawn.mean(axis=0)) < 5 * np.sqrt(u / n))


@pytest.mark.parametrize("kind", KINDS)
def test_errors_over_standard_errors_are_standard_normal(kind):
    # One q a draw, so that the z are independent.
    v = covariance_of(kind)
    q, positions, f = problem(2, n_q=200)
    rng = np.random.default_rng(2)
    expected = reference.diffuse_intensity(q, positions, f, dense(v))
    z = []
    for i in range(len(q)):
        one = slice(i, i + 1)
        found, error = sampled_intensity(q[one], positions, f[one], v, 800, rng)
        z.append((found[0] - expected[i]) / error[0])
    assert abs(np.mean(z)) < Z_MEAN
    assert abs(np.std(z) - 1) < Z_SPREAD
    assert np.max(np.abs(z)) < 4.5


def test_one_set_of_draws_serves_many_q():
    v = covariance_of("anisotropic", 8)
    q, positions, f = problem(3, 8, 400, scale=1.5)
    expected = reference.diffuse_intensity(q, positions, f, dense(v))
    found, error = sampled_intensity(q, positions, f, v, 3000, np.random.default_rng(5))
    z = (found - expected) / error
    assert abs(z.mean()) < Z_MEAN
    assert abs(z.std() - 1) < Z_SPREAD
    assert np.median(error / expected) < 0.05  # the test can tell


def test_strong_bragg_scattering_does_not_hide_the_diffuse():
    # |⟨F⟩|² is some 500 times I: without its known fluctuation the error would be some 30 % here.
    q, positions, f = problem(4, 30, 20, complex_f=False, scale=0.03)
    v = random_covariance(np.random.default_rng(4), 30, 0.05)
    expected = reference.diffuse_intensity(q, positions, f, v)
    found, error = sampled_intensity(q, positions, f, v, 2000, np.random.default_rng(6))
    assert np.all(f.sum(axis=1) ** 2 > 100 * expected)
    assert np.all(error < 0.06 * expected)
    assert np.all(np.abs(found - expected) < 4 * error)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_the_exact_one_within_its_scatter(kind):
    v = covariance_of(kind, 4)
    q, positions, f = problem(7, 4, 15)
    residual = np.random.default_rng(7).normal(size=15)
    rng = np.random.default_rng(8)
    batches = np.array([sampled_gradient(q, positions, f, v, residual, 40, rng) for _ in range(40)])
    own = v.dense() if isinstance(v, LowRank) else v
    expected = direct_gradient(q, positions, f, own, residual)
    sigma = batches.std(axis=0, ddof=1) / np.sqrt(40)
    difference = batches.mean(axis=0) - expected
    rounding = 1e-9 * np.abs(expected).max()
    assert np.all(np.abs(difference) < 5 * sigma + rounding)
    assert np.median(sigma) < 0.05 * np.abs(expected).max()


# --- 3 exact limits ------------------------------------------------------


def test_the_error_falls_as_the_root_of_the_number_of_samples():
    v = covariance_of("anisotropic")
    q, positions, f = problem(10, n_q=100)
    expected = reference.diffuse_intensity(q, positions, f, dense(v))
    numbers, stated, real = [100, 400, 1600, 6400], [], []
    for n in numbers:
        found, error = sampled_intensity(q, positions, f, v, n, np.random.default_rng(n))
        stated.append(np.mean(error))
        real.append(np.sqrt(np.mean((found - expected) ** 2)))
    slope = np.polyfit(np.log(numbers), np.log(stated), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.03)
    slope = np.polyfit(np.log(numbers), np.log(real), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.2)


def test_atoms_at_rest_scatter_nothing():
    q, positions, f = problem(11)
    found, error = sampled_intensity(q, positions, f, np.zeros((5, 5)), 5, np.random.default_rng(0))
    assert_allclose(found, 0.0, atol=1e-10)
    assert_allclose(error, 0.0, atol=1e-10)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_draws_continue_where_the_last_left_off(kind):
    v = covariance_of(kind)
    rng = np.random.default_rng(20)
    parts = np.concatenate([draw_displacements(v, 3, rng), draw_displacements(v, 4, rng)])
    assert_allclose(draw_displacements(v, 7, np.random.default_rng(20)), parts, rtol=1e-12)


def test_results_do_not_depend_on_memory_or_threads():
    v = covariance_of("factor")
    q, positions, f = problem(21, n_q=300)
    before = numba.get_num_threads()
    results = []
    for n_threads, memory in ((before, 2e9), (1, 2e9), (before, 1e5)):
        numba.set_num_threads(n_threads)
        rng = np.random.default_rng(21)
        results.append(sampled_intensity(q, positions, f, v, 50, rng, memory))
    numba.set_num_threads(before)
    for value, threads, memory in zip(*results, strict=True):
        assert np.array_equal(value, threads)
        assert_allclose(value, memory, rtol=1e-9)


def test_positions_and_displacements_turn_together():
    q, positions, f = problem(22)
    p = np.random.default_rng(22).normal(scale=0.2, size=(5, 3, 4))
    turn = np.linalg.qr(np.random.default_rng(23).normal(size=(3, 3)))[0]
    here = sampled_intensity(q, positions, f, LowRank(p), 20, np.random.default_rng(0))
    turned = LowRank(np.einsum("xy,iyk->ixk", turn, p))
    there = sampled_intensity(
        q @ turn.T, positions @ turn.T, f, turned, 20, np.random.default_rng(0)
    )
    assert_allclose(there, here, rtol=1e-8)


# --- 5 errors ------------------------------------------------------------


def test_wrong_arguments_are_named():
    q, positions, f = problem(30)
    v, rng = covariance_of("anisotropic"), np.random.default_rng(0)
    with pytest.raises(InputError, match=r"q and positions must be \(n, 3\), got \(30, 2\)"):
        sampled_intensity(q[:, :2], positions, f, v, 10, rng)
    with pytest.raises(InputError, match=r"form_factors must be \(30, 5\), got \(30, 4\)"):
        sampled_intensity(q, positions, f[:, :4], v, 10, rng)
    with pytest.raises(InputError, match=r"covariance must be \(5, 5\) or \(5, 5, 3, 3\), got"):
        sampled_intensity(q, positions, f, v[:4], 10, rng)
    with pytest.raises(InputError, match=r"covariance must be \(5, 5\) or .*, got \(4, 4\)"):
        sampled_intensity(q, positions, f, LowRank(np.ones((4, 2))), 10, rng)
    with pytest.raises(InputError, match="n_samples must be >= 3, got 2"):
        sampled_intensity(q, positions, f, v, 2, rng)
    with pytest.raises(InputError, match="n_samples must be >= 1, got 0"):
        sampled_gradient(q, positions, f, v, np.ones(30), 0, rng)
    with pytest.raises(InputError, match=r"residual must be \(30,\), got \(5,\)"):
        sampled_gradient(q, positions, f, v, np.ones(5), 1, rng)
    with pytest.raises(InputError, match="n_samples must be >= 0, got -1"):
        draw_displacements(v, -1, rng)
    with pytest.raises(InputError, match=r"max_memory must be at least .* bytes, got 10"):
        sampled_intensity(q, positions, f, v, 10, rng, max_memory=10.0)


def test_a_covariance_that_none_can_have_is_refused():
    v = np.array([[0.1, 0.2], [0.2, 0.1]])
    with pytest.raises(InputError, match=r"positive semi-definite, got an eigenvalue of -0\.1 Å²"):
        draw_displacements(v, 1, np.random.default_rng(0))
