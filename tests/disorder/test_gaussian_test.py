"""The Gaussian approximation against the Guinier average, shell by shell."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.frames import (
    N_ATOMS,
    guinier_sum,
    made,
    nodes_within,
    sample_covariance,
    small_lattice,
    some_q,
)
from tests.oracles import (
    diffuse_sum,
    draw_displacements,
    form_factors,
)

from offbragg.disorder.ensemble import Ensemble
from offbragg.disorder.gaussian_test import compare_gaussian
from offbragg.errors import InputError

MAP_ERROR = 1e-4  # of the mean: the tolerance that maps are asked for; 2e-6 seen


# --- 2 independent oracle ------------------------------------------------


def _swap(f, positions, v):
    return positions, f, v


def test_the_comparison_matches_plain_sums():
    structure, frames, weights, _ = made(20)
    q = some_q(60)
    f = form_factors(structure.elements, q, structure.occupancies)
    found = compare_gaussian(structure, Ensemble(frames, weights), q, 3, 5)
    length = np.linalg.norm(q, axis=1)
    edges = np.cbrt(np.linspace(length.min() ** 3, length.max() ** 3, 4))
    edges[0], edges[-1] = 0.0, np.inf
    shells = [(length >= a) & (length < b) for a, b in itertools.pairwise(edges)]

    def both(kept):
        own = guinier_sum(q, frames[kept], f, weights[kept])
        mean, v = sample_covariance(frames[kept], weights[kept])
        other = diffuse_sum(q, mean, f, v)
        return np.array([[own[s].mean(), other[s].mean()] for s in shells])

    every = np.arange(20)
    rest = np.array([both(np.delete(every, slice(b, b + 4))) for b in range(0, 20, 4)])
    unbiased = 5 * both(every)[:, 1] - 4 * rest[:, :, 1].mean(axis=0)
    differences = rest[:, :, 0] - rest[:, :, 1]
    errors = np.sqrt(4 / 5 * np.sum((differences - differences.mean(axis=0)) ** 2, axis=0))
    assert found.n_blocks == 5
    assert_allclose(found.d, [2 * np.pi / length[s].mean() for s in shells], rtol=1e-12)
    assert_allclose(found.guinier, both(every)[:, 0], rtol=1e-9)
    assert_allclose(found.gaussian, unbiased, rtol=1e-9)
    assert_allclose(found.difference, both(every)[:, 0] - unbiased, rtol=1e-7, atol=1e-7)
    assert_allclose(found.standard_error, errors, rtol=1e-7)
    own = guinier_sum(q, frames, f, weights)
    other = diffuse_sum(q, *_swap(f, *sample_covariance(frames, weights)))
    assert_allclose(found.cc, [np.corrcoef(own[s], other[s])[0, 1] for s in shells], rtol=1e-9)


@pytest.mark.parametrize("damped", [False, True])
def test_the_comparison_on_a_lattice_is_that_at_its_points(damped):
    structure, frames, weights, _ = made(6)
    lattice = small_lattice(structure.cell, 5.0)
    q, _ = nodes_within(lattice)
    model = Ensemble(frames, weights, damped=damped)
    here = compare_gaussian(structure, model, lattice, 2, 3)
    there = compare_gaussian(structure, model, q, 2, 3)
    for name in ("d", "guinier", "gaussian", "difference", "standard_error", "cc"):
        tolerance = MAP_ERROR * there.guinier.mean()
        assert_allclose(getattr(here, name), getattr(there, name), atol=tolerance, err_msg=name)


def test_the_comparison_is_calibrated_where_motion_is_gaussian():
    # 18 sets of 20 frames: z-scores of the differences have mean 0 ± 1/√18 and rms 1.
    structure, _, _, v = made(u=0.2)
    q = some_q(60)
    rng = np.random.default_rng(14)
    z = []
    for _ in range(18):
        model = Ensemble(structure.positions + draw_displacements(rng, v, 20))
        found = compare_gaussian(structure, model, q, 3, 20)
        z.append(found.difference / found.standard_error)
    assert 0.75 < np.sqrt(np.mean(np.square(z))) < 1.3
    assert np.all(np.abs(np.mean(z, axis=0)) < 3 / np.sqrt(18))


def test_the_comparison_finds_motion_that_is_not_gaussian():
    # Atoms that hop 1.6 Å together: the Gaussian formula has no revival at q·d = 2π.
    structure, _, _, _ = made()
    rng = np.random.default_rng(15)
    places = rng.integers(0, 2, 200)[:, None, None] * np.array([1.6, 0.0, 0.0])
    frames = structure.positions + places + 0.02 * rng.normal(size=(200, N_ATOMS, 3))
    found = compare_gaussian(structure, Ensemble(frames), some_q(150, 4.0), 4)
    assert np.abs(found.difference / found.standard_error).max() > 10


# --- 5 errors ------------------------------------------------------------


Q, F = np.ones((2, 3)), np.ones((2, N_ATOMS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, x: compare_gaussian(s, Ensemble(x), Q, 0), "n_shells must be >= 1"),
        (lambda s, x: compare_gaussian(s, Ensemble(x), Q, 1, 1), "n_blocks >= 2, got 1 and 1"),
        (lambda s, x: compare_gaussian(s, Ensemble(x), 0 * Q), "a scattering vector other than 0"),
        (
            lambda s, x: compare_gaussian(s, Ensemble(x), small_lattice(s.cell, voxel=np.eye(3))),
            "needs a lattice without voxels",
        ),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    structure, frames, _, _ = made()
    with pytest.raises(InputError, match=message):
        call(structure, frames)
