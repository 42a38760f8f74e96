"""Splat and pair NUFFT at scattered q, against the slow textbook sum."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.strategies import random_covariance

from offbragg.errors import InputError
from offbragg.scattering import compute_form_factors, diffuse_intensity, reference
from offbragg.scattering.scattered import pair_nufft_at, splat_at

# Errors seen are a tenth of rtol and less; the floor is that of sums of float64.
FLOOR = 1e-9
FUNCTIONS = {"splat": splat_at, "pair-nufft": pair_nufft_at}


def made(seed, n=14, n_q=60, *, isotropic=True):
    """Atoms, q with |q| from 0 to 2, form factors and a covariance."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 12, (n, 3))
    elements = rng.choice(["C", "N", "O", "S"], n)
    directions = rng.normal(size=(n_q, 3))
    q = directions / np.linalg.norm(directions, axis=1)[:, None]
    q *= np.linspace(0.0, 2.0, n_q)[:, None]
    f = compute_form_factors(elements, q, rng.uniform(0.3, 1.0, n))
    return q, positions, f, random_covariance(rng, n, 0.3, anisotropic=not isotropic)


def expected(q, positions, f, v):
    if v.ndim == 2:
        v = v[:, :, None, None] * np.eye(3)
    return reference.diffuse_intensity(q, positions, f, v)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("rtol", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize(
    ("method", "isotropic"), [("splat", True), ("splat", False), ("pair-nufft", True)]
)
def test_the_tolerance_is_kept(method, isotropic, rtol):
    atoms = made(1, isotropic=isotropic)
    truth = expected(*atoms)
    found = FUNCTIONS[method](*atoms, rtol)
    assert np.abs(found - truth).max() < max(rtol, FLOOR) * truth.mean()


@pytest.mark.parametrize("method", FUNCTIONS)
def test_complex_form_factors(method):
    q, positions, f, v = made(2)
    f = f * (1 + 0.2j) + 0.3j * (f[:, :1] > 0)
    f[:, 3:] = f[:, 3:].real
    truth = expected(q, positions, f, v)
    assert np.abs(truth - expected(-q, positions, f, v)).max() > 1e-3 * truth.mean()
    found = FUNCTIONS[method](q, positions, f, v, 1e-6)
    assert np.abs(found - truth).max() < 1e-6 * truth.mean()


@pytest.mark.parametrize("method", FUNCTIONS)
def test_form_factors_may_be_any_functions_of_q(method):
    q, positions, _, v = made(3)
    rng = np.random.default_rng(4)
    kinds = rng.uniform(0.5, 2.0, (len(q), 2))
    f = kinds[:, rng.integers(0, 2, len(positions))] * rng.uniform(0.5, 3.0, len(positions))
    truth = expected(q, positions, f, v)
    found = FUNCTIONS[method](q, positions, f, v, 1e-6)
    assert np.abs(found - truth).max() < 1e-6 * truth.mean()


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("method", FUNCTIONS)
def test_nothing_scatters_at_the_origin_or_without_motion(method):
    q, positions, f, v = made(5)
    found = FUNCTIONS[method](q, positions, f, v)
    assert found[0] == pytest.approx(0.0, abs=1e-6 * found.mean())
    still = FUNCTIONS[method](q, positions, f, np.zeros_like(v))
    assert_allclose(still, 0.0, atol=1e-9 * np.mean(np.sum(f, axis=1) ** 2))
    assert not FUNCTIONS[method](np.zeros((2, 3)), positions, f[:2], v).any()


@pytest.mark.parametrize("method", FUNCTIONS)
def test_one_atom_and_atoms_that_do_not_scatter(method):
    q, positions, f, _ = made(6)
    one = FUNCTIONS[method](q, positions[:1], f[:, :1], np.array([[0.2]]), 1e-8)
    q2 = np.sum(q**2, axis=1)
    assert_allclose(one, f[:, 0] ** 2 * -np.expm1(-0.2 * q2), rtol=1e-7, atol=1e-7)
    assert not FUNCTIONS[method](q, positions[:2], 0 * f[:, :2], 0.1 * np.eye(2)).any()


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("method", FUNCTIONS)
def test_the_one_function_calls_them(method):
    atoms = made(7)
    by_name = diffuse_intensity(*atoms, method=method, rtol=1e-5)
    assert_allclose(by_name, FUNCTIONS[method](*atoms, 1e-5), rtol=1e-9, atol=1e-9)


def test_small_memory_cuts_the_pairs_only():
    atoms = made(8)
    whole, cut = (pair_nufft_at(*atoms, 1e-6, memory) for memory in (2e9, 3e4))
    assert_allclose(cut, whole, rtol=1e-6, atol=1e-7 * whole.mean())


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("method", FUNCTIONS)
def test_too_many_kinds_of_atoms_are_refused(method):
    rng = np.random.default_rng(9)
    q, positions = rng.normal(size=(50, 3)), rng.normal(size=(40, 3))
    with pytest.raises(InputError, match="form_factors must be of at most 30 kinds"):
        FUNCTIONS[method](q, positions, rng.uniform(1, 2, (50, 40)), 0.1 * np.eye(40))


def test_too_small_a_memory_is_named():
    with pytest.raises(InputError, match=r"max_memory must be at least .* bytes for the grid"):
        splat_at(*made(10), max_memory=1e4)


def test_pair_nufft_needs_an_isotropic_covariance():
    atoms = made(11, isotropic=False)
    with pytest.raises(InputError, match="method 'pair-nufft' needs an isotropic covariance"):
        diffuse_intensity(*atoms, method="pair-nufft")


def test_sampling_needs_a_generator():
    with pytest.raises(InputError, match="method 'sampled' needs rng"):
        diffuse_intensity(*made(12), method="sampled")
