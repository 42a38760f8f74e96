"""Ensemble: Guinier averages, their errors, the Gaussian approximation and its test."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation
from tests.oracles import (
    blocks,
    cell_vectors,
    copies,
    diffuse_of_cell,
    diffuse_sum,
    draw_displacements,
    flat,
    form_factors,
    q_of,
)
from tests.strategies import CRYSTALS, random_covariance, random_structure

from offbragg import HklGrid, LiquidLike, simulate
from offbragg.crystal.ensembles import superpose
from offbragg.disorder import ensemble as ensemble_module
from offbragg.disorder.ensemble import (
    Ensemble,
    compare_gaussian,
    covariance_factor,
    guinier_error,
    guinier_intensity,
)
from offbragg.errors import InputError
from offbragg.scattering import HalfLattice
from offbragg.scattering.engine import Engine

MAP_ERROR = 1e-4  # of the mean: the tolerance that maps are asked for; 2e-6 seen
VOXEL_ERROR = 2e-3  # of the mean: each wave's mean is good to 3e-4
RTOL_ROUNDING = 1e-10  # the same sums in another order
RMS_Z = (0.85, 1.15)  # rms of some thousand z-scores, few of them independent
NOTHING = 1e-7  # e², where Σ f² is 300: positions that agree to rounding
N_ATOMS = 6


def made(n_frames=12, u=0.3, seed=3, crystal="triclinic", *, weighted=True):
    """A structure, frames around it, weights, and the covariance that they were drawn from."""
    rng = np.random.default_rng(seed)
    cell, groups = CRYSTALS[crystal]
    structure = random_structure(rng, N_ATOMS, cell, groups[0])
    v = random_covariance(rng, N_ATOMS, u)
    frames = structure.positions + draw_displacements(rng, v, n_frames)
    return structure, frames, rng.uniform(0.2, 1.0, n_frames) if weighted else None, v


def some_q(n=40, longest=3.0, seed=4):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(n, 3))
    return q * (longest * np.cbrt(rng.uniform(0.05, 1.0, n)) / np.linalg.norm(q, axis=1))[:, None]


def small_lattice(cell, d_min=3.0, sampling=(1, 2, 1), voxel=None):
    extent = tuple(int(x / d_min * n) for x, n in zip(cell[:3], sampling, strict=True))
    return HalfLattice(cell, sampling, extent, 2 * np.pi / d_min, voxel)


def nodes_within(lattice):
    """q (n, 3) of the nodes within q_max, and where they are."""
    m_x, m_y, m_z = lattice.extent
    axes = np.arange(-m_x, m_x + 1), np.arange(-m_y, m_y + 1), np.arange(m_z + 1)
    m = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    q = q_of(m / np.array(lattice.sampling), lattice.cell)
    inside = np.linalg.norm(q, axis=-1) <= lattice.q_max
    return q[inside], inside


def amplitudes_of(q, frames, f):
    return np.stack([(f * np.exp(1j * q @ frame.T)).sum(axis=1) for frame in frames])


def guinier_of(amplitudes, weights=None):
    """(Σ w|F|² − |Σ wF|²) / (1 − Σw²) as it is written."""
    w = np.ones(len(amplitudes)) if weights is None else np.asarray(weights, dtype=float)
    w = w / w.sum()
    mean_square = np.tensordot(w, np.abs(amplitudes) ** 2, axes=1)
    return (mean_square - np.abs(np.tensordot(w, amplitudes, axes=1)) ** 2) / (1 - np.sum(w**2))


def guinier_sum(q, frames, f, weights=None):
    return guinier_of(amplitudes_of(q, frames, f), weights)


def sample_covariance(frames, weights=None):
    """Mean and unbiased covariance (n, n, 3, 3) by numpy."""
    n = frames.shape[1]
    v = np.cov(frames.reshape(len(frames), -1).T, aweights=weights)
    v = v.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
    return np.average(frames, axis=0, weights=weights), v


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


@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize("approximation", ["none", "gaussian"])
def test_lattices_match_plain_sums(approximation, damped):
    structure, frames, weights, _ = made()
    lattice = small_lattice(structure.cell)
    model = Ensemble(frames, weights, approximation, damped=damped)
    found = model.diffuse_on_lattice(lattice, structure)
    q, inside = nodes_within(lattice)
    f = form_factors(structure.elements, q, structure.occupancies)
    damping = np.exp(-0.5 * np.einsum("qx,axy,qy->qa", q, structure.u_aniso, q) * damped)
    own = np.sum(f**2 * (1 - damping**2), axis=1)
    if approximation == "none":
        expected = own + guinier_sum(q, frames, f * damping, weights)
    else:
        expected = own + diffuse_sum(q, *_swap(f * damping, *sample_covariance(frames, weights)))
    assert np.abs(found[inside] - expected).max() < MAP_ERROR * expected.mean()
    assert not found[~inside].any()
    assert found[lattice.extent[0], lattice.extent[1], 0] == 0.0


def _swap(f, positions, v):
    return positions, f, v


@pytest.mark.parametrize("crystal", ["monoclinic", "trigonal"])
def test_maps_match_sums_over_explicit_copies(crystal):
    structure, frames, weights, _ = made(8, crystal=crystal)
    cell, group = CRYSTALS[crystal][0], CRYSTALS[crystal][1][0]
    grid = HklGrid.from_resolution(cell, 3.5)
    q = grid.q()[grid.within()]
    f = form_factors(structure.elements, q, structure.occupancies)
    model = Ensemble(frames, weights)
    found = simulate(structure, model, grid).intensity[grid.within()]
    # Copies of every frame, and the average over the frames of each copy.
    moved = [[x for x, _ in copies(x, np.eye(N_ATOMS), cell, group)] for x in frames]
    expected = sum(guinier_sum(q, np.array(of), f, weights) for of in zip(*moved, strict=True))
    assert np.abs(found - expected).max() < MAP_ERROR * expected.mean()
    gaussian = replace(model, approximation="gaussian")
    found = simulate(structure, gaussian, grid).intensity[grid.within()]
    mean, v = sample_covariance(frames, weights)
    expected = diffuse_of_cell(q, mean, f, v, cell, group)
    assert np.abs(found - expected).max() < 10 * MAP_ERROR * expected.mean()


def test_errors_on_a_lattice_match_those_at_its_points():
    structure, frames, weights, _ = made(7)
    lattice = small_lattice(structure.cell)
    q, inside = nodes_within(lattice)
    f = form_factors(structure.elements, q, structure.occupancies)
    for block_size in (1, 3):
        found = Ensemble(frames, weights).error_on_lattice(lattice, structure, block_size)
        expected = guinier_error(q, frames, f, weights, block_size)
        assert np.abs(found[inside] - expected).max() < MAP_ERROR * expected.mean()


def test_means_over_voxels_match_sums_over_pairs():
    # Oracle: each pair of atoms, of one frame or two, times Π sinc of its separation.
    structure, frames, weights, _ = made(2)
    structure, frames = structure.take(structure.elements == "C"), frames[:, [0, 4]]
    edges = np.array([[0.5, 0.0, 0.0], [0.0, 0.4, 0.1], [0.0, 0.0, 0.5]])
    lattice = small_lattice(structure.cell, 5.0, (2, 2, 2), edges)
    found = Ensemble(frames, weights).diffuse_on_lattice(lattice, structure)
    q, inside = nodes_within(lattice)
    f = form_factors(structure.elements, q, structure.occupancies)
    places = frames.reshape(-1, 3)
    along = np.linalg.solve(cell_vectors(structure.cell).T, places.T).T @ edges.T
    window = np.prod(np.sinc(along[:, None] - along[None, :]), axis=-1)
    waves = np.tile(f, 2) * np.exp(1j * q @ places.T)
    w = weights / weights.sum()
    of_frame = np.repeat(np.arange(2), 2)
    share = w[of_frame][:, None] * ((of_frame[:, None] == of_frame) - w[of_frame])
    kernel = share * window / (1 - np.sum(w**2))
    expected = np.einsum("qi,ij,qj->q", waves.conj(), kernel, waves, optimize=True).real
    at_nodes = guinier_sum(q, frames, f, weights)
    assert np.abs(found[inside] - expected).max() < VOXEL_ERROR * expected.mean()
    assert np.abs(at_nodes - expected).max() > 20 * VOXEL_ERROR * expected.mean()


@pytest.mark.parametrize("n_frames", [3, 12, 40])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_covariance_is_numpys(n_frames, weighted):
    structure, frames, weights, _ = made(n_frames, weighted=weighted)
    mean, v = sample_covariance(frames, weights)
    factor = covariance_factor(frames, weights)
    assert factor.shape == (N_ATOMS, 3, min(n_frames, 3 * N_ATOMS))
    moves = Ensemble(frames, weights).displacements(structure)
    assert_allclose(moves.correlated.dense(), v, atol=1e-12)
    assert moves.independent is None
    assert np.linalg.matrix_rank(flat(moves.correlated.dense()), tol=1e-9) == min(n_frames - 1, 18)
    unit = Ensemble(frames, weights).coherent_unit(structure)
    assert_allclose(unit.positions, mean, rtol=RTOL_ROUNDING)


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


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("approximation", ["none", "gaussian"])
def test_frames_that_are_one_scatter_nothing(approximation):
    structure, frames, _, _ = made()
    model = Ensemble(np.tile(frames[:1], (5, 1, 1)), approximation=approximation)
    lattice = small_lattice(structure.cell)
    assert model.diffuse_on_lattice(lattice, structure).max() < NOTHING
    q = some_q()
    f = form_factors(structure.elements, q)
    assert guinier_intensity(q, model.frames, f).max() < 1e-20


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


def test_frames_without_weight_do_not_count():
    structure, frames, _, _ = made()
    q = some_q()
    f = form_factors(structure.elements, q)
    weights = np.where(np.arange(12) % 3 == 1, 0.0, np.arange(12) + 1.0)
    kept = weights > 0
    expected = guinier_intensity(q, frames[kept], f, weights[kept])
    assert_allclose(guinier_intensity(q, frames, f, weights), expected, rtol=RTOL_ROUNDING)
    assert_allclose(
        Ensemble(frames, weights).displacements(structure).dense(N_ATOMS),
        Ensemble(frames[kept], weights[kept]).displacements(structure).dense(N_ATOMS),
        atol=1e-12,
    )


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
    monkeypatch.setattr(ensemble_module, "_PHASES_AT_ONCE", 7 * N_ATOMS)
    assert_allclose(guinier_intensity(q, frames, f, weights), here, rtol=1e-12)


@pytest.mark.parametrize("approximation", ["none", "gaussian"])
def test_superposed_frames_do_not_know_how_they_lay(approximation):
    structure, frames, weights, _ = made(8, u=0.1)
    rng = np.random.default_rng(17)
    turns = Rotation.random(8, rng=rng).as_matrix()
    turns[0] = np.eye(3)
    moved = frames @ turns + rng.uniform(-9, 9, (8, 1, 3)) * (np.arange(8) > 0)[:, None, None]
    lattice = small_lattice(structure.cell)
    options = {"approximation": approximation, "superposed": True}
    here = Ensemble(frames, weights, **options)
    there = Ensemble(moved, weights, **options)
    assert_allclose(there.frames, here.frames, atol=1e-7)
    assert_allclose(here.frames, superpose(frames, weights=weights), rtol=0)
    found = [model.diffuse_on_lattice(lattice, structure) for model in (here, there)]
    assert np.abs(found[0] - found[1]).max() < MAP_ERROR * found[0].mean()
    untouched = Ensemble(frames, weights, approximation)
    assert np.array_equal(untouched.frames, frames)
    u = [
        np.trace(m.displacements(structure).u_aniso(N_ATOMS).sum(axis=0)) for m in (here, untouched)
    ]
    assert u[0] < 0.9 * u[1]


def test_the_positions_of_the_structure_do_not_matter():
    structure, frames, weights, _ = made(5)
    elsewhere = replace(structure, positions=structure.positions + 1.7)
    lattice = small_lattice(structure.cell)
    for approximation in ("none", "gaussian"):
        model = Ensemble(frames, weights, approximation)
        found = [model.diffuse_on_lattice(lattice, s) for s in (structure, elsewhere)]
        assert_allclose(found[0], found[1], rtol=1e-12)
    unit = model.coherent_unit(structure)
    assert_allclose(model.coherent_unit(unit).positions, unit.positions, rtol=0)
    assert np.array_equal(unit.u_aniso, structure.u_aniso)


def test_a_gaussian_ensemble_adds_to_other_models_and_is_filled_up():
    structure, frames, weights, _ = made(30, u=0.05)
    model = Ensemble(frames, weights, "gaussian")
    _, v = sample_covariance(frames, weights)
    other = LiquidLike(0.3, 4.0)
    summed = (model + other).displacements(structure).dense(N_ATOMS)
    unit = model.coherent_unit(structure)
    apart = blocks(other.displacements(structure).correlated)
    assert_allclose(summed, v + apart, atol=1e-12)
    assert_allclose((model + other).coherent_unit(structure).positions, unit.positions, rtol=0)
    own = v[range(N_ATOMS), range(N_ATOMS)]
    roomy = replace(structure, u_aniso=own + 0.1 * np.eye(3))
    assert_allclose(model.with_adps(roomy, "file").u_aniso(N_ATOMS), roomy.u_aniso, atol=1e-12)
    damped = replace(model, damped=True).displacements(structure)
    assert_allclose(damped.u_aniso(N_ATOMS), own + structure.u_aniso, atol=1e-12)


def test_the_name_is_short_and_frames_are_not_changed():
    structure, frames, weights, _ = made()
    before = frames.copy(), weights.copy()
    model = Ensemble(frames, weights, superposed=True)
    model.diffuse_on_lattice(small_lattice(structure.cell, 5.0), structure)
    compare_gaussian(structure, model, some_q(10), 2, 3)
    assert repr(model) == (
        "Ensemble(12 frames of 6 atoms, approximation='none', superposed=True, damped=False)"
    )
    assert np.array_equal(frames, before[0])
    assert np.array_equal(weights, before[1])
    assert model.parameters(structure) == {}


# --- 5 errors ------------------------------------------------------------

Q, F = np.ones((2, 3)), np.ones((2, N_ATOMS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, x: Ensemble(x[0]), r"frames must be \(n_frames, n_atoms, 3\)"),
        (lambda s, x: Ensemble(x[:1]), "frames must be at least 2 with weight, got 1 of 1"),
        (lambda s, x: Ensemble(x, [1.0]), r"weights must be \(12,\), one a frame, got \(1,\)"),
        (lambda s, x: Ensemble(x, np.eye(12)[0]), "at least 2 with weight, got 1 of 12"),
        (lambda s, x: Ensemble(x, -np.ones(12)), "weights must be finite, >= 0"),
        (lambda s, x: Ensemble(x, None, "exact"), "approximation must be one of none gaussian"),
        (lambda s, x: Ensemble(x[:, :4]).coherent_unit(s), "structure's 6 atoms, got 4"),
        (lambda s, x: Ensemble(x[:, :4]).displacements(s), "structure's 6 atoms, got 4"),
        (lambda s, x: Ensemble(x).with_adps(s, "file"), r"adps='file' needs Ensemble\(approx"),
        (lambda s, x: Ensemble(x).with_adps(s, "both"), "adps must be 'model' or 'file'"),
        (lambda s, x: Ensemble(x) + LiquidLike(0.3, 4.0), "a sum needs"),
        (lambda s, x: guinier_intensity(Q, x, F[:, :2]), r"form_factors must be \(2, 6\), got"),
        (lambda s, x: guinier_intensity(Q[:, :2], x, F), r"q and positions must be \(n, 3\)"),
        (lambda s, x: guinier_error(Q, x, F, block_size=0), "block_size must be >= 1, got 0"),
        (lambda s, x: guinier_error(Q, x, F, block_size=11), "leave at least 2 frames .* 11 of 12"),
        (lambda s, x: guinier_error(Q, x[:2], F), "leave at least 2 frames of weight, got 1 of 2"),
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


@pytest.mark.parametrize("options", [{"wavelength": 1.5}, {"method": "splat"}])
def test_what_frames_cannot_do_is_said(options):
    structure, frames, _, _ = made()
    with pytest.raises(InputError, match=r"Ensemble\(approximation='none'\) needs wavelength=None"):
        Ensemble(frames).diffuse_on_lattice(
            small_lattice(structure.cell), structure, engine=Engine(**options)
        )
