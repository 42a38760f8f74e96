"""fit of every kind of model: truth recovered, by either solver, with honest errors."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import (
    BasisCovariance,
    Covariance,
    DiffuseMap,
    ElasticNetwork,
    HklGrid,
    LatticeVibrations,
    LiquidLike,
    RigidBodies,
    RigidBody,
    fit,
    simulate,
)
from offbragg.inference.data import FitData
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.parameters import ParameterVector
from offbragg.made_crystal import make_peptide

EXACT = {"rtol": 1e-6, "held_out": 0.0, "background": "none"}
NOISE = 0.02  # of the map's mean
FOUR = 4.0  # standard errors: 6 in 100 000
RECOVERY = 2e-3  # of the largest element, from maps good to 1e-6: fits stop at 1e-5 of a step
RTOL_ADJOINT = 1e-6


@pytest.fixture(scope="module")
def crystal():
    """Twenty-four carbon atoms, P 21."""
    peptide = make_peptide("GASM", u=0.1)
    return replace(peptide, elements=np.full(peptide.n_atoms, "C"))


def grid_of(structure, sampling=(1, 1, 1)):
    return HklGrid.from_resolution(structure.cell, 1.8, sampling)


def tensor(*diagonal, off=0.0):
    return np.diag(diagonal) + off * (np.ones((3, 3)) - np.eye(3))


def tls(translation, libration, correlation, seed):
    """T, L, S with S a part of what is possible."""
    rng = np.random.default_rng(seed)
    t, l = np.linalg.cholesky(translation), np.linalg.cholesky(libration)  # noqa: E741
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return translation, libration, correlation * l @ turn @ t.T


def two_bodies(correlation, size=1.0):
    """Bodies that mostly translate, against each other."""
    one = np.diag([0.1, 0.06, 0.08, 0.002, 0.003, 0.001]) * size
    motion = np.block([[one, correlation * one], [correlation * one, one]])
    return RigidBodies([np.arange(12), np.arange(12, 24)], motion)


def modes(n_atoms, n_modes, seed=3):
    rng = np.random.default_rng(seed)
    return np.linalg.qr(rng.normal(size=(3 * n_atoms, n_modes)))[0].reshape(n_atoms, 3, n_modes)


#: Truth and where the fit starts.
CASES = {
    "translation": (RigidBody(tensor(0.1, 0.06, 0.03, off=0.01)), RigidBody(0.05)),
    "translation, libration": (
        RigidBody(tensor(0.1, 0.06, 0.03), tensor(0.004, 0.002, 0.003)),
        RigidBody(0.05, 0.002 * np.eye(3)),
    ),
    "liquid-like": (LiquidLike(0.35, 5.0), LiquidLike(0.5, 9.0)),
    "anisotropic σ": (LiquidLike((0.4, 0.3, 0.2), 5.0), LiquidLike((0.3, 0.3, 0.3), 8.0)),
    "cut": (LiquidLike(0.3, 4.0, cutoff=12.0), LiquidLike(0.4, 5.0, cutoff=12.0)),
    "springs": (
        ElasticNetwork(distance_edges=(5.0, 9.0), spring_constants=(3.0, 0.5), scale="absolute"),
        ElasticNetwork(distance_edges=(5.0, 9.0), spring_constants=(1.0, 1.0), scale="absolute"),
    ),
    "basis": (
        BasisCovariance(modes(24, 3), np.diag([3.0, 2.0, 1.0]) + 0.3),
        BasisCovariance(modes(24, 3), 1.5 * np.eye(3)),
    ),
    "sum": (
        RigidBody(tensor(0.06, 0.03, 0.02)) + LiquidLike(0.25, 4.0),
        RigidBody(0.04) + LiquidLike(0.3, 6.0),
    ),
}


def errors_of(result, truth, structure):
    """Difference from the truth of every number, and its standard error."""
    expected = truth.parameters(truth.coherent_unit(structure))
    differences, errors = [], []
    for name, parameter in result.parameters.items():
        differences.append(np.ravel(np.asarray(parameter.value) - expected[name]))
        errors.append(np.ravel(parameter.standard_error))
    return np.concatenate(differences), np.concatenate(errors)


def noisy(structure, model, grid, seed, level=NOISE):
    """A map of a model with Gaussian noise of known σ, alike for equivalents."""
    made = simulate(structure, model, grid, rtol=1e-6)
    rng = np.random.default_rng(seed)
    sigma = np.full(made.grid.shape, level * np.nanmean(made.intensity))
    noise = sigma * rng.normal(size=sigma.shape)
    return DiffuseMap(grid, made.intensity + noise, structure.space_group, sigma=sigma)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_the_truth_is_found_without_noise(crystal, case):
    truth, start = CASES[case]
    observed = simulate(crystal, truth, grid_of(crystal), rtol=1e-6)
    result = fit(observed, crystal, start, max_evaluations=600, **EXACT)
    differences, _ = errors_of(result, truth, crystal)
    expected = truth.parameters(crystal)
    sizes = np.concatenate(
        [np.full(np.size(expected[n]), np.abs(expected[n]).max()) for n in result.parameters]
    )
    assert result.converged, result.message
    assert np.abs(differences / sizes).max() < RECOVERY
    assert result.n_determined == pytest.approx(result.n_numbers, rel=1e-3)


@pytest.mark.parametrize("case", ["translation, libration", "sum", "springs"])
def test_the_truth_is_within_four_standard_errors(crystal, case):
    truth, start = CASES[case]
    observed = noisy(crystal, truth, grid_of(crystal), 11)
    result = fit(
        observed, crystal, start, max_evaluations=600, held_out=0.1, background="none", rtol=1e-5
    )
    differences, errors = errors_of(result, truth, crystal)
    assert np.all(np.isfinite(errors))
    assert np.abs(differences / errors).max() < FOUR
    assert result.statistics["held_out"]["cc_anisotropic"] > 0.9


@pytest.mark.parametrize("adps", ["model", "file"])
def test_either_solver_finds_the_same(crystal, adps):
    truth, start = RigidBody(tensor(0.05, 0.03, 0.02)), RigidBody(0.03)
    observed = simulate(crystal, truth, grid_of(crystal), adps=adps, rtol=1e-6)
    dense, quasi = (
        fit(observed, crystal, start, adps=adps, solver=solver, max_evaluations=500, **EXACT)
        for solver in ("gauss-newton", "l-bfgs")
    )
    for result in (dense, quasi):
        assert_allclose(result.model.translation, truth.translation, atol=5e-4)


def test_vibrations_across_the_crystal_are_fitted(crystal):
    edges = {"distance_edges": (5.0, 8.0), "scale": "absolute"}
    truth = LatticeVibrations((1, 1, 1), spring_constants=(6.0, 2.0), **edges)
    start = LatticeVibrations((1, 1, 1), spring_constants=(3.0, 3.0), **edges)
    observed = simulate(crystal, truth, grid_of(crystal), rtol=1e-6)
    result = fit(observed, crystal, start, max_evaluations=200, **EXACT)
    found = result.parameters["spring_constants"].value
    assert_allclose(found, truth.spring_constants, rtol=RECOVERY)


@pytest.mark.parametrize("adps", ["model", "file"])
@pytest.mark.parametrize("case", ["sum", "anisotropic σ", "cut"])
def test_the_gradient_by_the_vector_is_the_transpose_of_the_derivatives(crystal, case, adps):
    model, _ = CASES[case]
    structure = replace(crystal, u_aniso=np.tile(0.3 * np.eye(3), (crystal.n_atoms, 1, 1)))
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    data = FitData.of(simulate(structure, model, grid), structure.cell, None, None)
    vector = ParameterVector.of(model, None, structure)
    evaluate = Evaluator(structure, vector, data, adps, rtol=1e-8)
    slopes = np.random.default_rng(4).normal(size=len(data.q_length))
    derivatives = evaluate.derivatives(vector.start)
    found = evaluate.gradient(vector.start, slopes)
    assert_allclose(found, derivatives.T @ slopes, atol=RTOL_ADJOINT * np.abs(found).max())
    step = 1e-4 * np.random.default_rng(5).normal(size=len(vector.start))
    moved = evaluate(vector.start + step) - evaluate(vector.start - step)
    expected = 2 * derivatives @ step
    assert np.abs(moved - expected).max() < 1e-3 * np.abs(expected).max()


# --- 3 exact limits ------------------------------------------------------


def test_what_no_voxel_determines_has_no_error(crystal):
    # The trace of S changes no intensity: its diagonal is open, T and L are not.
    motion = tls(tensor(0.1, 0.06, 0.03), tensor(0.004, 0.002, 0.003), 0.4, 2)
    observed = noisy(crystal, RigidBody(*motion), grid_of(crystal), 5)
    start = RigidBody(*tls(tensor(0.08, 0.06, 0.04), tensor(0.003, 0.003, 0.003), 0.2, 2))
    result = fit(observed, crystal, start, held_out=0.0, background="none", max_evaluations=600)
    errors = {name: p.standard_error for name, p in result.parameters.items()}
    assert np.all(np.isfinite(errors["translation"]))
    assert np.all(np.isfinite(errors["libration"]))
    off_diagonal = ~np.eye(3, dtype=bool)
    assert np.all(np.isinf(errors["screw"][~off_diagonal]))
    assert np.all(np.isfinite(errors["screw"][off_diagonal]))
    assert result.n_numbers == 21
    assert result.n_determined < 20.01
    # Six steps of 22. Undamped, the trace of S is walked along to -0.006 in twice as many.
    assert result.converged
    assert result.n_evaluations < 180
    assert abs(np.trace(result.model.screw) - np.trace(start.screw)) < 0.002
    found = result.parameters["translation"]
    assert np.abs((found.value - motion[0]) / found.standard_error).max() < FOUR


def test_a_common_factor_of_springs_is_not_determined_where_v_is_scaled(crystal):
    truth = ElasticNetwork(distance_edges=(5.0, 9.0), spring_constants=(3.0, 0.5))
    start = ElasticNetwork(distance_edges=(5.0, 9.0), spring_constants=(1.0, 1.0))
    observed = simulate(crystal, truth, grid_of(crystal), rtol=1e-6)
    result = fit(observed, crystal, start, max_evaluations=100, **EXACT)
    found = result.parameters["spring_constants"]
    assert found.value[0] / found.value[1] == pytest.approx(6.0, rel=RECOVERY)
    assert np.all(np.isinf(found.standard_error))
    assert result.n_determined == pytest.approx(1.0, abs=1e-3)


def test_a_factor_of_many_numbers_goes_by_gradients(crystal):
    # 24 atoms × 3 × 1: the map of a motion of rank 1; the factor's sign is open.
    rng = np.random.default_rng(7)
    truth = Covariance.from_factor(0.25 * rng.normal(size=(24, 3, 1)))
    observed = simulate(crystal, truth, grid_of(crystal, (2, 2, 2)), rtol=1e-5)
    start = Covariance.from_factor(truth.factor + 0.08 * rng.normal(size=(24, 3, 1)))
    result = fit(
        observed, crystal, start, held_out=0.0, background="none", max_evaluations=400, rtol=1e-5
    )
    before, after = (
        abs(np.sum(x.factor * truth.factor))
        / np.linalg.norm(x.factor) / np.linalg.norm(truth.factor)
        for x in (start, result.model)
    )  # fmt: skip
    assert before < 0.97
    assert after > 0.999
    assert result.statistics["working"]["cc"] > 0.9999


# --- 4 invariances -------------------------------------------------------


def test_standard_errors_are_calibrated(crystal):
    # Twelve noisy repeats of six numbers: χ² of their z is within these but for 1 in 1000.
    truth, grid = RigidBody(tensor(0.1, 0.06, 0.03, off=0.01)), grid_of(crystal)
    exact = simulate(crystal, truth, grid, rtol=1e-6)
    sigma = np.full(grid.shape, 0.1 * np.nanmean(exact.intensity))
    z = []
    for seed in range(12):
        noise = sigma * np.random.default_rng(seed).normal(size=sigma.shape)
        observed = DiffuseMap(grid, exact.intensity + noise, crystal.space_group, sigma=sigma)
        result = fit(observed, crystal, truth, held_out=0.0, background="none", rtol=1e-5)
        differences, errors = errors_of(result, truth, crystal)
        z.append((differences / errors)[np.tril(np.ones((3, 3), dtype=bool)).ravel()])
    assert 0.75 < np.sqrt(np.mean(np.square(z))) < 1.28


@pytest.mark.parametrize("has_sigma", [True, False])
def test_a_robust_loss_does_not_follow_a_few_wrong_voxels(crystal, has_sigma):
    truth, start = CASES["liquid-like"]
    observed = noisy(crystal, truth, grid_of(crystal), 12)
    # One orbit in twenty is off by sixty standard deviations, always upwards.
    inv_d = np.round(observed.grid.inv_d(), 6)
    lengths = np.unique(inv_d)
    is_wrong = np.random.default_rng(3).uniform(size=len(lengths)) < 0.05
    spoilt = observed.intensity + 60 * observed.sigma * is_wrong[np.searchsorted(lengths, inv_d)]
    observed = replace(observed, intensity=spoilt, sigma=observed.sigma if has_sigma else None)
    options = {"held_out": 0.0, "background": "none", "rtol": 1e-5}
    plain, robust = (
        fit(observed, crystal, start, loss=loss, **options) for loss in ("squares", "huber")
    )
    for name, value in truth.parameters(crystal).items():
        off = [abs(x.parameters[name].value - value) for x in (plain, robust)]
        errors = [x.parameters[name].standard_error for x in (plain, robust)]
        assert off[1] < 0.1 * off[0]
        assert errors[1] < 0.3 * errors[0]
        assert off[1] < FOUR * errors[1]


def test_a_robust_loss_is_least_squares_where_nothing_is_wrong(crystal):
    truth, start = CASES["liquid-like"]
    observed = noisy(crystal, truth, grid_of(crystal), 13)
    options = {"held_out": 0.0, "background": "none", "rtol": 1e-5}
    plain, robust = (
        fit(observed, crystal, start, loss=loss, **options) for loss in ("squares", "huber")
    )
    for name, one in plain.parameters.items():
        other = robust.parameters[name]
        assert abs(one.value - other.value) < one.standard_error
        assert other.standard_error == pytest.approx(one.standard_error, rel=0.2)


# --- 5 errors ------------------------------------------------------------


def test_a_fit_cut_short_says_so_and_returns_its_best(crystal):
    truth = RigidBody(tensor(0.1, 0.06, 0.03))
    observed = simulate(crystal, truth, grid_of(crystal), rtol=1e-6)
    result = fit(observed, crystal, RigidBody(0.02), solver="l-bfgs", max_evaluations=6, **EXACT)
    assert not result.converged
    assert "EXCEEDS LIMIT" in result.message
    start = fit(observed, crystal, RigidBody(0.02), solver="l-bfgs", max_evaluations=2, **EXACT)
    assert result.statistics["working"]["r"] <= start.statistics["working"]["r"]
