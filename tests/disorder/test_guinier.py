"""Guinier averages of frames at scattered q, and their errors by blocks left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.frames import (
    N_ATOMS,
    amplitudes_of,
    guinier_of,
    guinier_sum,
    made,
    sample_covariance,
    some_q,
)
from tests.oracles import (
    diffuse_sum,
    draw_displacements,
    form_factors,
)

from offbragg.disorder import guinier as guinier_module
from offbragg.disorder.guinier import guinier_error, guinier_intensity
from offbragg.errors import InputError

RTOL_ROUNDING = 1e-10  # the same sums in another order
RMS_Z = (0.85, 1.15)  # rms of some thousand z-scores, few of them independent


def jackknife(values_without, n_frames, block_size):
    """Standard error from values with each block of frames left out."""
    starts = range(0, n_frames, block_size)
    kept = [np.delete(np.arange(n_frames), slice(b, b + block_size)) for b in starts]
    left_out = np.array([values_without(k) for k in kept])
    n = len(left_out)
    return np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean(axis=0)) ** 2, axis=0))


# --- 1 reference numbers -------------------------------------------------


def test_one_atom_at_two_places_by_hand():
    # F = f and f e^{iφ}: ⟨|F|²⟩ − |⟨F⟩|² = f² (1 − cos φ)/2, and 1 − Σw² = 1/2.
    q = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.5, 0.5, 0.5]])
    step = np.array([0.4, 0.3, -0.2])
    frames = np.stack([np.ones((1, 3)), np.ones((1, 3)) + step])
    f = np.array([[6.0], [5.0], [4.0]])
    expected = f[:, 0] ** 2 * (1 - np.cos(q @ step))
    assert_allclose(guinier_intensity(q, frames, f), expected, rtol=RTOL_ROUNDING)
    # w(1−w)|F₁−F₂|² over 2w(1−w): two frames say the same however they are weighted.
    assert_allclose(guinier_intensity(q, frames, f, [1, 9]), expected, rtol=RTOL_ROUNDING)


def test_two_places_of_a_molecule_by_hand():
    # A shift d of the whole: |F₀|² (1 − cos q·d).
    structure, _, _, _ = made()
    q, step = some_q(), np.array([0.3, -0.5, 0.2])
    f = form_factors(structure.elements, q)
    frames = np.stack([structure.positions, structure.positions + step])
    whole = np.abs((f * np.exp(1j * q @ structure.positions.T)).sum(axis=1)) ** 2
    expected = whole * (1 - np.cos(q @ step))
    assert_allclose(guinier_intensity(q, frames, f), expected, rtol=1e-8)


def test_three_frames_and_their_error_by_hand():
    # F = 0, 1, 3 at q·x = 0: amplitudes by form factor are not possible, so places: F = e^{iφ}
    # with φ = 0, π/2, π. Pairs |F_i − F_j|²/2 = 1, 2, 1: the mean of pairs is 4/3, and without
    # one frame they are 1, 2, 1: variance 2/9, error √(2 · 2/9).
    frames = np.array([0.0, np.pi / 2, np.pi])[:, None, None] * [1.0, 0.0, 0.0]
    q, f = np.array([[1.0, 0.0, 0.0]]), np.ones((1, 1))
    assert_allclose(guinier_intensity(q, frames, f), [4 / 3], rtol=RTOL_ROUNDING)
    assert_allclose(guinier_error(q, frames, f), [2 / 3], rtol=RTOL_ROUNDING)


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    seed=st.integers(0, 9999),
    n_frames=st.integers(3, 15),
    weighted=st.booleans(),
    block_size=st.integers(1, 3),
)
def test_average_and_error_match_plain_sums(seed, n_frames, weighted, block_size):
    structure, frames, weights, _ = made(n_frames, seed=seed, weighted=weighted)
    q = some_q(20, seed=seed)
    f = form_factors(structure.elements, q, structure.occupancies)
    f = f * (1.0 + 0.05j) if seed % 2 else f
    expected = guinier_sum(q, frames, f, weights)
    assert_allclose(guinier_intensity(q, frames, f, weights), expected, rtol=1e-9)
    if n_frames - block_size < 2:
        return
    amplitudes = amplitudes_of(q, frames, f)
    errors = jackknife(
        lambda kept: guinier_of(amplitudes[kept], weights[kept] if weighted else None),
        n_frames,
        block_size,
    )
    found = guinier_error(q, frames, f, weights, block_size)
    assert_allclose(found, errors, rtol=1e-7, atol=1e-9 * expected.mean())


def _swap(f, positions, v):
    return positions, f, v


def test_frames_of_a_gaussian_give_the_gaussian_formula_within_their_error():
    # 12 sets of 150 frames from one known covariance: z-scores of the averages have rms 1.
    structure, _, _, v = made()
    q = some_q(150)
    f = form_factors(structure.elements, q)
    expected = diffuse_sum(q, structure.positions, f, v)
    rng = np.random.default_rng(11)
    z = []
    for _ in range(12):
        frames = structure.positions + draw_displacements(rng, v, 150)
        error = guinier_error(q, frames, f)
        z.append((guinier_intensity(q, frames, f) - expected) / error)
    assert RMS_Z[0] < np.sqrt(np.mean(np.square(z))) < RMS_Z[1]
    assert abs(np.mean(z)) < 0.2
    assert 0.03 < np.mean(error / expected) < 0.2


def test_the_average_of_few_frames_is_unbiased():
    # 4 frames, unequal weights: without 1 − Σw² it would be 30 % low.
    structure, _, _, v = made()
    q = some_q(20)
    f = form_factors(structure.elements, q)
    rng = np.random.default_rng(12)
    draws = structure.positions + draw_displacements(rng, v, 4 * 800)
    weights = [1.0, 0.5, 1.0, 2.0]
    found = np.mean([guinier_intensity(q, x, f, weights) for x in np.split(draws, 800)], axis=0)
    expected = diffuse_sum(q, structure.positions, f, v)
    assert_allclose(found.sum(), expected.sum(), rtol=0.03)
    assert_allclose(found, expected, rtol=0.15)


def test_blocks_give_the_error_of_correlated_frames():
    # x_{k+1} = 0.9 x_k + noise: a frame is worth a tenth. Blocks of 40 see it, single frames not.
    structure, _, _, v = made(u=0.1)
    q = some_q(40, 2.0)
    f = form_factors(structure.elements, q)
    expected = diffuse_sum(q, structure.positions, f, v)
    rng = np.random.default_rng(13)
    z_blocks, z_single = [], []
    for _ in range(6):
        noise = draw_displacements(rng, v, 800)
        moves = [noise[0]]
        for step in noise[1:]:
            moves.append(0.9 * moves[-1] + np.sqrt(1 - 0.81) * step)
        frames = structure.positions + np.array(moves)
        deviation = guinier_intensity(q, frames, f) - expected
        z_blocks.append(deviation / guinier_error(q, frames, f, block_size=40))
        z_single.append(deviation / guinier_error(q, frames, f))
    assert 0.7 < np.sqrt(np.mean(np.square(z_blocks))) < 1.4
    assert np.sqrt(np.mean(np.square(z_single))) > 1.8


# --- 3 exact limits ------------------------------------------------------


def test_nothing_is_scattered_forward():
    _, frames, weights, _ = made()
    found = guinier_intensity(np.zeros((1, 3)), frames, np.full((1, N_ATOMS), 6.0), weights)
    assert found[0] < 1e-20


@pytest.mark.parametrize("u", [1e-3, 1e-4])
def test_small_motion_is_gaussian(u):
    # Third and higher orders are left: of relative size √(q²u).
    structure, frames, weights, _ = made(u=u)
    q = some_q()
    f = form_factors(structure.elements, q)
    gaussian = diffuse_sum(q, *_swap(f, *sample_covariance(frames, weights)))
    found = guinier_intensity(q, frames, f, weights)
    assert np.abs(found - gaussian).max() < 3 * np.sqrt(9 * u) * gaussian.max()


def test_far_from_the_origin_nothing_is_lost():
    # |⟨F⟩|² of 2000 atoms that hardly move is 10⁹ times their diffuse scattering.
    rng = np.random.default_rng(16)
    places = rng.uniform(0, 40, (2000, 3))
    frames = places + 1e-3 * rng.normal(size=(20, 2000, 3))
    q = np.array([[0.05, 0.02, 0.0], [0.0, 0.0, 0.08]])
    f = np.full((2, 2000), 6.0)
    expected = 2000 * 36.0 * 1e-6 * np.sum(q**2, axis=1)
    found = guinier_intensity(q, frames, f)
    assert_allclose(found, expected, rtol=0.8)  # of a few frames
    exact = np.abs(amplitudes_of(q, frames, f) - amplitudes_of(q, frames, f).mean(axis=0)) ** 2
    assert_allclose(found, exact.sum(axis=0) / 19, rtol=1e-6)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seed=st.integers(0, 9999), scale=st.floats(1e-3, 1e3))
def test_what_does_not_matter(seed, scale):
    structure, frames, weights, _ = made(9, seed=seed)
    rng = np.random.default_rng(seed)
    q = some_q(10, seed=seed)
    f = form_factors(structure.elements, q)
    here = guinier_intensity(q, frames, f, weights)
    assert np.all(here >= 0)
    close = {"rtol": 1e-8, "atol": 1e-10 * here.mean()}
    assert_allclose(guinier_intensity(-q, frames, f, weights), here, **close)
    assert_allclose(
        guinier_intensity(q, frames + np.array([9.0, -4.0, 7.0]), f, weights), here, **close
    )
    assert_allclose(guinier_intensity(q, frames, f, scale * weights), here, **close)
    order, atoms = rng.permutation(9), rng.permutation(N_ATOMS)
    shuffled = guinier_intensity(q, frames[order][:, atoms], f[:, atoms], weights[order])
    assert_allclose(shuffled, here, **close)


def test_chunks_of_q_do_not_matter(monkeypatch):
    structure, frames, weights, _ = made()
    q = some_q()
    f = form_factors(structure.elements, q)
    here = guinier_intensity(q, frames, f, weights)
    monkeypatch.setattr(guinier_module, "_PHASES_AT_ONCE", 7 * N_ATOMS)
    assert_allclose(guinier_intensity(q, frames, f, weights), here, rtol=1e-12)


# --- 5 errors ------------------------------------------------------------


Q, F = np.ones((2, 3)), np.ones((2, N_ATOMS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, x: guinier_intensity(Q, x, F[:, :2]), r"form_factors must be \(2, 6\), got"),
        (lambda s, x: guinier_intensity(Q[:, :2], x, F), r"q and positions must be \(n, 3\)"),
        (lambda s, x: guinier_error(Q, x, F, block_size=0), "block_size must be >= 1, got 0"),
        (lambda s, x: guinier_error(Q, x, F, block_size=11), "leave at least 2 frames .* 11 of 12"),
        (lambda s, x: guinier_error(Q, x[:2], F), "leave at least 2 frames of weight, got 1 of 2"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    structure, frames, _, _ = made()
    with pytest.raises(InputError, match=message):
        call(structure, frames)
