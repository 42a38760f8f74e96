"""bootstrap: the errors of independent noise, more for correlated noise, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import DiffuseMap, ElasticNetwork, InputError, LiquidLike, RigidBody, fit
from offbragg.crystal.symmetry import laue_rotations
from offbragg.inference import bootstrap
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.held_out import blocks_of

TRUTH = LiquidLike(rms_displacement=0.35, correlation_length=5.0)
N_RESAMPLES = 400
# An error from 365 blocks of one voxel and 400 resamples varies by 5 %.
SAME_ERROR = 0.2
# One step against a fit, in errors: second order in these.
ONE_STEP = 0.1
# Where a solver stops, from where a step would lead on, as a fraction of the vector.
STAYS = 2e-3
# Two fits that end within the solver's tolerance of each other.
SAME_FIT = 2e-3
# Blocks of about five voxels with as much variance in common as each has by itself.
MORE = 1.2


def errors_of(found):
    numbers = [np.ravel(p.standard_error) for p in found.parameters.values()]
    return np.concatenate([*numbers, [found.scale.standard_error]])


@pytest.fixture(scope="module")
def independent(observe, structure):
    return fit(observe(0, level=0.05), structure, TRUTH, held_out=0.0, block_edge=1, rtol=1e-5)


# --- 1 known truth -------------------------------------------------------


def test_errors_of_independent_noise_are_those_of_gauss_newton(independent):
    found = bootstrap(independent, N_RESAMPLES)
    assert found.n_blocks == independent.statistics["working"]["n_unique"]
    assert_allclose(errors_of(found), errors_of(independent), rtol=SAME_ERROR)
    assert_allclose(found.correlations, independent.correlations, atol=0.15)


def test_restraints_count_in_a_step_as_they_did_in_the_fit(observe, structure):
    """One step with all weights as they were leads nowhere; without restraints, far."""
    options = {"held_out": 0.0, "block_edge": 1, "rtol": 1e-5}
    start = RigidBody(0.1)
    observed = observe(0, level=0.05)
    result = fit(observed, structure, start, adp_error=0.003, **options)
    optimum = result.optimum
    same, _ = optimum.step(np.ones(optimum.n_blocks))
    free, _ = replace(optimum, expected=None).step(np.ones(optimum.n_blocks))
    size = np.abs(optimum.solution.x).max()
    assert_allclose(same, optimum.solution.x, atol=STAYS * size)
    assert np.abs(free - optimum.solution.x).max() > 10 * STAYS * size


def test_errors_are_larger_where_voxels_of_a_block_share_their_noise(truth, structure):
    grid = truth.grid
    hkl = grid.hkl().reshape(-1, 3)
    block, sizes = blocks_of(hkl, laue_rotations(truth.space_group), 2)
    sigma = np.full(grid.shape, 0.05 * np.nanmean(truth.intensity))
    ratios = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=len(sizes))[block].reshape(grid.shape)
        noise = rng.normal(size=grid.shape) + common
        observed = DiffuseMap(grid, truth.intensity + sigma * noise, truth.space_group, sigma=sigma)
        result = fit(observed, structure, TRUTH, held_out=0.0, block_edge=2)
        ratios.append(errors_of(bootstrap(result)) / errors_of(result))
    assert np.all(np.mean(ratios, axis=0) > MORE)


# --- 2 independent oracle ------------------------------------------------


def test_one_step_is_close_to_a_fit(observe, structure):
    observed = observe(0, level=0.01)
    result = fit(observed, structure, TRUTH, held_out=0.0, block_edge=1, rtol=1e-5)
    optimum = result.optimum
    # Errors of the vector, which are logarithms, and of the scale.
    errors = [p.standard_error / p.value for p in result.parameters.values()]
    errors = np.array([*errors, result.scale.standard_error])
    rng = np.random.default_rng(3)
    for _ in range(3):
        drawn = rng.multinomial(optimum.n_blocks, np.full(optimum.n_blocks, 1 / optimum.n_blocks))
        step, fitted = (
            np.append(*way(drawn.astype(float))) for way in (optimum.step, optimum.refit)
        )
        start = np.append(optimum.solution.x, optimum.solution.scale)
        assert np.abs((step - start) / errors).max() > 0.5
        assert_allclose(step / errors, fitted / errors, atol=ONE_STEP)


def test_full_refits_give_the_same_errors(independent):
    step, full = (bootstrap(independent, 12, refit=refit) for refit in (False, True))
    assert_allclose(errors_of(full), errors_of(step), rtol=0.1)
    for name, p in full.parameters.items():
        assert_allclose(p.interval, step.parameters[name].interval, rtol=0.02)


def test_a_block_drawn_twice_counts_as_a_map_that_holds_it_twice(independent):
    # Twice the weight is σ / √2: the same as a fit to such a map.
    optimum = independent.optimum
    twice = np.where(np.arange(optimum.n_blocks) % 2 == 0, 2.0, 1.0)
    data = optimum.evaluate.data
    sigma = data.voxels.sigma / np.sqrt(twice[optimum.blocks])
    reweighted = replace(data, voxels=replace(data.voxels, sigma=sigma))
    again = replace(optimum, evaluate=replace(optimum.evaluate, data=reweighted))
    x, scale = optimum.refit(twice)
    expected, expected_scale = again.refit(np.ones(optimum.n_blocks))
    assert_allclose(x, expected, rtol=1e-9)
    assert scale == pytest.approx(expected_scale, rel=1e-9)


# --- 3 exact limits ------------------------------------------------------


def test_every_block_once_changes_nothing(independent):
    # The fit ends within its tolerance of the optimum: far below an error.
    optimum = independent.optimum
    x, scale = optimum.step(np.ones(optimum.n_blocks))
    assert_allclose(x, optimum.solution.x, atol=1e-4)
    assert scale == pytest.approx(optimum.solution.scale, rel=1e-4)


def test_shapes_are_those_of_the_fit(observe, structure):
    result = fit(observe(1), structure, RigidBody(0.08), max_evaluations=2)
    found = bootstrap(result, 50)
    p, own = result.parameters["translation"], found.parameters["translation"]
    assert_array_equal(own.value, p.value)
    assert own.standard_error.shape == (3, 3)
    assert own.interval.shape == (2, 3, 3)
    assert np.all(own.interval[0] < own.interval[1])
    assert found.covariance.shape == found.correlations.shape == (9, 9)
    assert_allclose(np.diag(found.correlations), 1.0)
    assert np.abs(found.correlations).max() < 1 + 1e-9


def test_what_nothing_determines_stays_so(observe, structure):
    # Of springs scaled to the ADPs only the ratio counts.
    model = ElasticNetwork(
        distance_edges=(4.5, 9.0), spring_constants=(2.0, 1.0), scale="overall", nodes="all"
    )
    result = fit(observe(1), structure, model, max_evaluations=2)
    p = bootstrap(result, 20).parameters["spring_constants"]
    assert np.all(np.isinf(result.parameters["spring_constants"].standard_error))
    assert np.all(np.isinf(p.standard_error))
    assert_array_equal(p.interval, [[-np.inf] * 2, [np.inf] * 2])


def test_a_fit_can_be_asked_for_them(observe, structure):
    observed, options = observe(2), {"max_evaluations": 3, "held_out": 0.2}
    plain, resampled = (
        fit(observed, structure, TRUTH, errors=errors, rng=np.random.default_rng(4), **options)
        for errors in ("gauss-newton", "bootstrap")
    )
    assert (
        resampled.message
        == f"{plain.message} Errors by bootstrap over {resampled.optimum.n_blocks} blocks."
    )
    for name, p in resampled.parameters.items():
        assert p.value == plain.parameters[name].value
        assert p.standard_error != plain.parameters[name].standard_error
        assert p.interval[0] < p.value < p.interval[1]
        assert plain.parameters[name].interval is None
    assert resampled.scale.standard_error != plain.scale.standard_error
    assert not np.array_equal(resampled.correlations, plain.correlations)
    assert resampled.statistics == plain.statistics


# --- 4 invariances -------------------------------------------------------


def test_the_seed_draws_the_blocks(independent):
    one, same, other = (
        bootstrap(independent, 20, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert_array_equal(one.covariance, same.covariance)
    assert not np.array_equal(one.covariance, other.covariance)


def test_the_unit_of_a_map_without_sigma_scales_nothing(observe, structure):
    observed = replace(observe(3), sigma=None)
    small = replace(observed, intensity=1e-4 * observed.intensity)
    one, other = (
        bootstrap(fit(x, structure, TRUTH, max_evaluations=3, held_out=0.0), 20)
        for x in (observed, small)
    )
    for name, p in one.parameters.items():
        error = other.parameters[name].standard_error
        assert error == pytest.approx(p.standard_error, rel=SAME_FIT)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_resamples": 1}, "n_resamples must be >= 2, got 1"),
        ({"level": 1.0}, r"level must be between 0 and 1, got 1\.0"),
    ],
)
def test_what_is_wrong_is_named(independent, options, message):
    with pytest.raises(InputError, match=message):
        bootstrap(independent, **options)


def test_few_blocks_and_missing_derivatives_are_named(observe, structure, independent, monkeypatch):
    coarse = fit(observe(0), structure, TRUTH, block_edge=20, max_evaluations=2, held_out=0.0)
    with pytest.raises(InputError, match=r"expected at least 10 blocks of hkl, found \d: set a sm"):
        bootstrap(coarse)
    # Before the fit: no evaluation is made.
    options = {"block_edge": 20, "held_out": 0.0, "errors": "bootstrap"}
    monkeypatch.setattr(Evaluator, "full", None)
    with pytest.raises(InputError, match="expected at least 10 blocks of hkl"):
        fit(observe(0), structure, TRUTH, **options)
    bare = replace(independent, optimum=replace(independent.optimum, design=None))
    with pytest.raises(InputError, match="no derivatives are at hand for so many numbers: refit=T"):
        bootstrap(bare)
    with pytest.raises(InputError, match="one of auto gauss-newton bootstrap none, got 'no'"):
        fit(observe(0), structure, TRUTH, errors="no")
