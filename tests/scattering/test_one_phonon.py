"""One-phonon scattering: modes, dense covariances, derivatives.

Oracles: the double sum over atoms written out here, central differences of it, and the exact
intensity of `tests.oracles.diffuse_sum` for what the approximation leaves out.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import blocks, diffuse_sum
from tests.strategies import covariances, random_covariance

from offbragg.errors import InputError
from offbragg.scattering.displacements import LowRank
from offbragg.scattering.one_phonon import (
    one_phonon_gradient,
    one_phonon_intensity,
    one_phonon_product,
)

RTOL_ROUNDING = 1e-11  # of (Σ|f|)² q²V: sums in another order
RTOL_ADJOINT = 1e-10  # the same sums in another order, cancelling between q
# Fourth-order central differences with a step of 1e-4 Å²: rounding / h, and h⁴ d⁵I/dV⁵.
RTOL_DIFFERENCES = 1e-9
STEP = 1e-4


def problem(seed=0, n_atoms=5, n_q=30, complex_f=True, scale=1.0):
    """Arguments (q, positions, form factors)."""
    rng = np.random.default_rng(seed)
    f = rng.uniform(1, 10, (n_q, n_atoms))
    if complex_f:
        f = f + 1j * rng.uniform(-3, 3, (n_q, n_atoms))
    return rng.normal(scale=scale, size=(n_q, 3)), rng.normal(scale=4, size=(n_atoms, 3)), f


def first_order(q, positions, f, v):
    """Σ_ij a_i* a_j qᵀV_ij q, one q at a time."""
    v, intensity = blocks(v), []
    for vector, f_q in zip(q, f, strict=True):
        x = np.einsum("a,ijab,b->ij", vector, v, vector)
        a = f_q * np.exp(1j * positions @ vector - 0.5 * np.diag(x))
        intensity.append((a.conj() @ x @ a).real)
    return np.array(intensity)


def size_of(q, f, v):
    """Largest that the sum can be, over q."""
    x = np.einsum("qx,qx->q", q, q) * np.abs(blocks(v)).sum(axis=(2, 3)).max()
    return (np.abs(f).sum(axis=1) ** 2 * x).max()


def direction_like(v, seed=0):
    d = np.random.default_rng(seed).normal(size=v.shape)
    return d + (d.T if d.ndim == 2 else d.transpose(1, 0, 3, 2))


def slope(function, v, d):
    """Derivative of a function along d, by central differences of fourth order."""
    one, two = (function(v + n * STEP * d) - function(v - n * STEP * d) for n in (1, 2))
    return (8 * one - two) / (12 * STEP)


# --- 1 reference numbers -------------------------------------------------


def test_two_atoms_in_one_mode_by_hand():
    # p = 0.1 Å along x and −0.1 Å along x, q = (π/2, 0, 0), 1 Å apart, f = 6 and 8:
    # |6·0.1 − 8·0.1 e^{iπ/2}|² q² e^{−q²·0.01} = (0.36 + 0.64) q² e^{…}.
    q = np.array([[np.pi / 2, 0.0, 0.0]])
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    factor = np.array([[[0.1], [0], [0]], [[-0.1], [0], [0]]])
    found = one_phonon_intensity(q, positions, np.array([[6.0, 8.0]]), LowRank(factor))
    x = np.pi**2 / 4
    assert found[0] == pytest.approx(x * np.exp(-0.01 * x), rel=1e-12)


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=40)
@given(v=covariances(5), seed=st.integers(0, 999), complex_f=st.booleans())
def test_dense_covariances_match_the_double_sum(v, seed, complex_f):
    q, positions, f = problem(seed, complex_f=complex_f)
    found = one_phonon_intensity(q, positions, f, v)
    expected = first_order(q, positions, f, v)
    assert_allclose(found, expected, atol=RTOL_ROUNDING * size_of(q, f, v))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 999), rank=st.integers(1, 9), anisotropic=st.booleans(), few=st.booleans()
)
def test_factors_match_the_double_sum(seed, rank, anisotropic, few):
    q, positions, f = problem(seed, 6)
    shape = (6, 3, rank) if anisotropic else (6, rank)
    p = LowRank(np.random.default_rng(seed).normal(scale=0.3, size=shape))
    memory = 3e3 if few else 2e9
    found = one_phonon_intensity(q, positions, f, p, max_memory=memory)
    expected = first_order(q, positions, f, p.dense())
    assert_allclose(found, expected, atol=RTOL_ROUNDING * size_of(q, f, p.dense()))


@pytest.mark.parametrize("anisotropic", [True, False])
def test_a_dense_covariance_of_low_rank_is_factored_and_gives_the_same(anisotropic):
    # Many q and few modes: factoring is the cheaper way, and leaves 1e-6 of the trace at most.
    q, positions, f = problem(5, 12, 20_000, complex_f=False)
    v = random_covariance(np.random.default_rng(5), 12, 0.1, rank=2, anisotropic=anisotropic)
    rtol = 1e-6
    found = one_phonon_intensity(q, positions, f, v, rtol)
    some = slice(0, 200)
    expected = first_order(q[some], positions, f[some], v)
    limit = rtol * np.einsum("qx,qx->q", q, q) * (f**2).sum(axis=1) * np.trace(blocks(v)[0, 0])
    assert np.all(np.abs(found[some] - expected) <= 36 * limit[some])


def test_an_indefinite_covariance_is_not_factored():
    q, positions, f = problem(6, 4, 20_000, complex_f=False)
    v = random_covariance(np.random.default_rng(6), 4, 0.1, anisotropic=False)
    v -= 0.1 * np.eye(4)
    assert np.linalg.eigvalsh(v)[0] < 0
    found = one_phonon_intensity(q, positions, f, v)[:50]
    expected = first_order(q[:50], positions, f[:50], v)
    assert_allclose(found, expected, atol=RTOL_ROUNDING * size_of(q, f, v))


@settings(deadline=None, derandomize=True, max_examples=20)
@given(v=covariances(5), seed=st.integers(0, 999), complex_f=st.booleans())
def test_product_is_a_central_difference(v, seed, complex_f):
    q, positions, f = problem(seed, complex_f=complex_f, scale=0.7)
    d = direction_like(v, seed)
    expected = slope(lambda w: first_order(q, positions, f, w), v, d)
    found = one_phonon_product(q, positions, f, v, d)
    scale = np.abs(f).sum(axis=1).max() ** 2 * np.abs(d).max()
    assert_allclose(found, expected, atol=RTOL_DIFFERENCES * scale)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(v=covariances(3), seed=st.integers(0, 999))
def test_each_element_of_the_gradient_is_a_central_difference(v, seed):
    q, positions, f = problem(seed, 3, 8, scale=0.7)
    residual = np.random.default_rng(seed).normal(size=8)
    gradient = one_phonon_gradient(q, positions, f, v, residual)
    for index in np.ndindex(v.shape):
        # Both places of a free parameter move together.
        d = np.zeros(v.shape)
        mirror = index[1::-1] + index[:1:-1]
        d[index] = d[mirror] = 1.0
        expected = slope(lambda w: first_order(q, positions, f, w) @ residual, v, d)
        both = 1 if index == mirror else 2
        limit = RTOL_DIFFERENCES * np.abs(f).sum(axis=1).max() ** 2 * np.abs(residual).sum()
        assert both * gradient[index] == pytest.approx(expected, abs=limit)


# --- 3 exact limits ------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(v=covariances(5), seed=st.integers(0, 999))
def test_it_is_never_above_the_exact_intensity(v, seed):
    q, positions, f = problem(seed)
    exact = diffuse_sum(q, positions, f, v)
    found = one_phonon_intensity(q, positions, f, v)
    assert np.all(found <= exact + RTOL_ROUNDING * np.abs(f).sum(axis=1).max() ** 2)


def test_small_displacements_leave_out_the_second_order():
    # ½ Σ a_i* a_j x_ij², then x³/6: with V ten times smaller the rest is a thousand times less.
    q, positions, f = problem(21, 6)
    v = random_covariance(np.random.default_rng(21), 6, 0.02)
    rests = []
    for small in (v, v / 10):
        x = np.einsum("qa,ijab,qb->qij", q, small, q)
        a = f * np.exp(1j * q @ positions.T - 0.5 * np.einsum("qii->qi", x))
        second = 0.5 * np.einsum("qi,qij,qj->q", a.conj(), x**2, a).real
        left_out = diffuse_sum(q, positions, f, small) - one_phonon_intensity(
            q, positions, f, small
        )
        rests.append(np.abs(left_out - second).sum())
    assert rests[1] < 2e-3 * rests[0]


def test_nothing_in_nothing_out():
    q, positions, f = problem(22)
    v = random_covariance(np.random.default_rng(0), 5)
    assert one_phonon_intensity(q[:0], positions, f[:0], v).shape == (0,)
    assert np.all(one_phonon_intensity(q, positions, f, np.zeros((5, 5))) == 0)
    assert np.all(one_phonon_intensity(q, positions, f, LowRank(np.empty((5, 0)))) == 0)
    assert np.all(one_phonon_gradient(np.zeros_like(q), positions, f, v, np.ones(30)) == 0)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(v=covariances(6), seed=st.integers(0, 999), factored=st.booleans())
def test_gradient_is_the_transpose_of_the_product(v, seed, factored):
    q, positions, f = problem(seed, 6, 50)
    rng = np.random.default_rng(seed)
    d, residual = direction_like(v, seed), rng.normal(size=50)
    covariance = v
    if factored:
        covariance = LowRank(rng.normal(scale=0.3, size=(6, 4) if v.ndim == 2 else (6, 3, 4)))
    product = one_phonon_product(q, positions, f, covariance, d, max_memory=4e4)
    gradient = one_phonon_gradient(q, positions, f, covariance, residual)
    size = np.abs(residual) @ np.abs(product)
    assert abs(np.sum(gradient * d) - residual @ product) <= RTOL_ADJOINT * size


@pytest.mark.parametrize("anisotropic", [True, False])
def test_a_factor_and_its_dense_covariance_have_the_same_derivatives(anisotropic):
    q, positions, f = problem(30, 6)
    shape = (6, 3, 4) if anisotropic else (6, 4)
    p = LowRank(np.random.default_rng(30).normal(scale=0.3, size=shape))
    residual = np.linspace(-1, 1, 30)
    dense = one_phonon_gradient(q, positions, f, p.dense(), residual)
    low_rank = one_phonon_gradient(q, positions, f, p, residual)
    assert_allclose(low_rank, dense, atol=1e-12 * np.abs(dense).max())


@settings(deadline=None, derandomize=True, max_examples=20)
@given(shift=st.tuples(*[st.floats(-50.0, 50.0)] * 3))
def test_the_origin_does_not_matter(shift):
    q, positions, f = problem(31)
    v = random_covariance(np.random.default_rng(31), 5)
    here = one_phonon_intensity(q, positions, f, v)
    there = one_phonon_intensity(q, positions + np.array(shift), f, v)
    assert_allclose(there, here, atol=1e-11 * size_of(q, f, v))


# --- 5 errors ------------------------------------------------------------


def test_wrong_arguments_are_named():
    q, positions, f = problem(40)
    v = random_covariance(np.random.default_rng(0), 5)
    with pytest.raises(InputError, match=r"q and positions must be \(n, 3\), got \(30, 2\)"):
        one_phonon_intensity(q[:, :2], positions, f, v)
    with pytest.raises(InputError, match=r"form_factors must be \(30, 5\), got \(30, 4\)"):
        one_phonon_intensity(q, positions, f[:, :4], v)
    with pytest.raises(InputError, match=r"covariance must be \(5, 5\) or \(5, 5, 3, 3\), got"):
        one_phonon_intensity(q, positions, f, v[:4])
    with pytest.raises(InputError, match=r"factor must be of 5 atoms, got shape \(4, 2\)"):
        one_phonon_intensity(q, positions, f, LowRank(np.ones((4, 2))))
    with pytest.raises(InputError, match="rtol must be between 0 and 1, got 2"):
        one_phonon_intensity(q, positions, f, v, rtol=2.0)
    with pytest.raises(InputError, match=r"max_memory must be at least .* bytes, got 10"):
        one_phonon_intensity(q, positions, f, v, max_memory=10.0)
    with pytest.raises(InputError, match=r"direction must be \(5, 5, 3, 3\), got \(5, 5\)"):
        one_phonon_product(q, positions, f, v, np.eye(5))
    with pytest.raises(InputError, match=r"residual must be \(30,\), got \(5,\)"):
        one_phonon_gradient(q, positions, f, v, np.ones(5))
