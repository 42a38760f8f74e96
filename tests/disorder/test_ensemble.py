"""Ensemble: maps of frames, the Gaussian approximation, what superposes, damps and adds."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation
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
    blocks,
    cell_vectors,
    copies,
    diffuse_of_cell,
    diffuse_sum,
    flat,
    form_factors,
)
from tests.strategies import CRYSTALS

from offbragg import HklGrid, LiquidLike, simulate
from offbragg.crystal.frames import superpose
from offbragg.disorder.ensemble import Ensemble, covariance_factor
from offbragg.disorder.gaussian_test import compare_gaussian
from offbragg.disorder.guinier import guinier_error, guinier_intensity
from offbragg.errors import InputError
from offbragg.scattering.engine import Engine

MAP_ERROR = 1e-4  # of the mean: the tolerance that maps are asked for; 2e-6 seen
VOXEL_ERROR = 2e-3  # of the mean: each wave's mean is good to 3e-4
RTOL_ROUNDING = 1e-10  # the same sums in another order
NOTHING = 1e-7  # e², where Σ f² is 300: positions that agree to rounding


# --- 2 independent oracle ------------------------------------------------


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


# --- 4 invariances -------------------------------------------------------


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
