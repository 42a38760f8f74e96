"""fit: recovery of known motions, honest errors, held-out blocks, and what must be refused."""

import logging
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import (
    DiffuseMap,
    HklGrid,
    InputError,
    LiquidLike,
    RigidBody,
    Uncorrelated,
    compare,
    fit,
    merge,
    simulate,
)
from offbragg.inference.background import Background
from offbragg.maps.symmetrize import apply_operation

TRUTH = LiquidLike(rms_displacement=0.35, correlation_length=5.0)
START = LiquidLike(rms_displacement=0.5, correlation_length=9.0)
SCALE = 3.0

# A simulation is good to 1e-6 of its mean and steps end at 1e-5 of a parameter.
RECOVERY = 1e-4
# The same numbers summed in another order, through a solver that stops at 1e-5.
SAME = 1e-6
# Of the sd of z over 12 fits: χ² with 12 degrees of freedom is within these but for 1 in 1000.
Z_SPREAD = (0.45, 1.6)
FOUR = 4.0  # standard errors: 6 in 100 000


def z_of(result):
    """Errors of both parameters and the scale in standard errors."""
    parts = [
        (p.value - getattr(TRUTH, name)) / p.standard_error for name, p in result.parameters.items()
    ]
    return np.array([*parts, (result.scale.value - SCALE) / result.scale.standard_error])


@pytest.fixture(scope="module")
def twelve(observe, structure):
    """Twelve fits to twelve draws of noise."""
    return [fit(observe(seed), structure, START, held_out=0.0) for seed in range(12)]


@pytest.fixture(scope="module")
def one(observe, structure):
    """A fit with voxels held out, and its map."""
    observed = observe(0)
    return observed, fit(observed, structure, START, rng=np.random.default_rng(0))


@pytest.fixture
def quick(structure):
    """A fit of one parameter that is not meant to get far."""

    def run(observed, model=START, **options):
        return fit(observed, structure, model, "rms_displacement", max_evaluations=2, **options)

    return run


# --- 1 known truth -------------------------------------------------------


def test_truth_is_within_four_standard_errors(twelve):
    for result in twelve:
        assert result.converged, result.message
        assert np.abs(z_of(result)).max() < FOUR


def test_standard_errors_are_those_of_the_scatter(twelve):
    z = np.array([z_of(result) for result in twelve])
    assert np.all(z.std(axis=0, ddof=1) > Z_SPREAD[0])
    assert np.all(z.std(axis=0, ddof=1) < Z_SPREAD[1])
    # No bias: the mean of 12 within four of its own standard errors.
    assert np.abs(z.mean(axis=0)).max() < FOUR / np.sqrt(12)


def test_correlations_are_those_of_the_scatter(twelve):
    # Of 12 draws a correlation is known to 0.3 or so; the sign and size must be right.
    values = np.array([[p.value for p in result.parameters.values()] for result in twelve])
    expected = np.corrcoef(values.T)[0, 1]
    found = np.mean([result.correlations[0, 1] for result in twelve])
    assert abs(found - expected) < 0.6
    for result in twelve:
        assert_allclose(np.diag(result.correlations), 1.0)
        assert_allclose(result.correlations, result.correlations.T)


@pytest.mark.parametrize("kind", ["smooth", "shells", "none"])
def test_without_noise_the_truth_comes_back(observe, structure, kind):
    observed = replace(observe(0, level=0.0, background=kind == "smooth"), sigma=None)
    result = fit(observed, structure, START, background=kind, held_out=0.0)
    for name, parameter in result.parameters.items():
        assert parameter.value == pytest.approx(getattr(TRUTH, name), rel=RECOVERY)
    assert result.scale.value == pytest.approx(SCALE, rel=RECOVERY)
    # The offset is no cubic spline: what it leaves is small against the map.
    level = np.nanmean(observed.intensity)
    residual = (result.model_map.intensity - observed.intensity)[result.model_map.measured]
    assert np.sqrt(np.nanmean(residual**2)) < 1e-3 * level


def test_an_isotropic_background_does_not_bias(observe, structure, truth):
    # Fits with and without the same smooth offset in the data, of the same noise.
    plain, raised = observe(3, background=False), observe(3)
    a, b = (fit(x, structure, START, held_out=0.0) for x in (plain, raised))
    for name, parameter in a.parameters.items():
        other = b.parameters[name]
        assert abs(other.value - parameter.value) < 0.1 * parameter.standard_error
        assert other.standard_error == pytest.approx(parameter.standard_error, rel=0.02)
    offset = np.interp(2.0, b.background["q"], b.background["intensity"]) - np.interp(
        2.0, a.background["q"], a.background["intensity"]
    )
    assert offset == pytest.approx(1500 * np.exp(-2.0), rel=0.05)


# --- 2 independent oracle ------------------------------------------------


def test_standard_errors_match_the_inverse_of_the_whole_matrix(observe, structure):
    # Every parameter at once, background and scale too, by central differences of simulate.
    observed = observe(1)
    result = fit(observed, structure, START, held_out=0.0, background="smooth")
    unique = merge(observed).map
    grid = unique.grid
    first = np.zeros(grid.shape, dtype=bool)
    seen = set()
    for index in np.argwhere(unique.measured & (grid.inv_d() > 0)):
        hkl = tuple(int(x) for x in index + grid.first_index)
        images = [op.apply_to_hkl(hkl) for op in gemmi.SpaceGroup("P 1 21 1").operations()]
        orbit = frozenset(tuple(s * x for x in image) for image in images for s in (1, -1))
        if orbit not in seen:
            seen.add(orbit)
            first[tuple(index)] = True

    def model(sigma, length):
        return simulate(structure, LiquidLike(sigma, length), grid).intensity[first]

    values = [p.value for p in result.parameters.values()]
    columns = [model(*values)]
    for n in range(2):
        step = 1e-3 * values[n] * np.eye(2)[n]
        slope = (model(*(values + step)) - model(*(values - step))) / (2e-3 * values[n])
        columns.append(result.scale.value * slope)
    q = 2 * np.pi * grid.inv_d()[first]
    columns.extend(Background.over(q, "smooth").basis(q).T)
    weighted = np.stack(columns, axis=1) / unique.sigma[first][:, None]
    errors = np.sqrt(np.diag(np.linalg.inv(weighted.T @ weighted)))
    residuals = (unique.intensity - result.model_map.intensity)[first] / unique.sigma[first]
    inflation = max(1.0, residuals @ residuals / (len(q) - weighted.shape[1]))
    found = [result.scale.standard_error, *(p.standard_error for p in result.parameters.values())]
    # Forward differences of step 5e-3 in the fit: errors to a per cent or so.
    assert_allclose(found, np.sqrt(inflation) * errors[:3], rtol=0.02)


def test_statistics_are_those_of_the_model_map(one):
    observed, result = one
    whole = fit_statistics_by_hand(observed, result)
    for name in ("working", "held_out"):
        assert result.statistics[name]["chi2_reduced"] == pytest.approx(whole[name], rel=1e-6)
    n = {name: result.statistics[name]["n"] for name in ("working", "held_out")}
    inside = observed.measured & (observed.grid.inv_d() > 0)
    assert n["working"] + n["held_out"] == inside.sum()
    assert result.statistics["working"]["cc"] > 0.9


def fit_statistics_by_hand(observed, result):
    """Mean (residual / σ)² of the merged voxels, apart for those in and out of the fit."""
    from offbragg.crystal.symmetry import laue_rotations
    from offbragg.inference.held_out import choose_held_out

    unique = merge(observed).map
    used = unique.measured & (unique.grid.inv_d() > 0)
    hkl = unique.grid.hkl()[used]
    rotations = laue_rotations("P 1 21 1")
    z2 = (((unique.intensity - result.model_map.intensity) / unique.sigma) ** 2)[used]
    # Orbits counted once: each voxel by one over the length of its orbit.
    weight = np.array([1 / len(np.unique(x @ rotations, axis=0)) for x in hkl])
    canonical = np.unique(
        [max((x @ rotations).tolist(), key=lambda y: (y[2], y[1], y[0])) for x in hkl], axis=0
    )
    held = choose_held_out(canonical, rotations, 0.1, np.random.default_rng(0))
    out = {tuple(x) for x in canonical[held]}
    is_out = np.array(
        [max((x @ rotations).tolist(), key=lambda y: (y[2], y[1], y[0])) for x in hkl]
    )
    is_out = np.array([tuple(x) in out for x in is_out])
    return {
        "working": np.average(z2[~is_out], weights=weight[~is_out]),
        "held_out": np.average(z2[is_out], weights=weight[is_out]),
    }


# --- 3 exact limits ------------------------------------------------------


def test_nothing_held_out_is_said(twelve):
    for result in twelve:
        assert result.statistics["held_out"] is None
        assert 0.7 < result.statistics["working"]["chi2_reduced"] < 1.3


def test_held_out_voxels_do_not_move_the_fit(one, structure):
    observed, result = one
    held = result.statistics["held_out"]
    assert held["n_unique"] > 10
    spoilt = held_out_voxels(observed, structure)
    values = np.where(spoilt, observed.intensity + 1e6, observed.intensity)
    changed = fit(
        replace(observed, intensity=values), structure, START, rng=np.random.default_rng(0)
    )
    assert changed.statistics["held_out"]["chi2_reduced"] > 1e3 * held["chi2_reduced"]
    for name, parameter in result.parameters.items():
        assert changed.parameters[name].value == pytest.approx(parameter.value, rel=SAME)


def held_out_voxels(observed, structure):
    """Which voxels (grid) a fit with seed 0 holds out, from what each voxel does to its figures."""
    from offbragg.crystal.symmetry import laue_rotations
    from offbragg.inference.held_out import choose_held_out
    from offbragg.maps.symmetrize import unique_voxels

    voxels = unique_voxels(observed)
    inside = np.any(voxels.hkl != 0, axis=1)
    rotations = laue_rotations(observed.space_group)
    hkl = voxels.hkl[inside]
    held = choose_held_out(hkl, rotations, 0.1, np.random.default_rng(0))
    mask = np.zeros(observed.grid.shape, dtype=bool)
    for rotation in rotations:
        index, in_grid = observed.grid.index_of(hkl[held] @ rotation)
        mask[tuple(index[in_grid].T)] = True
    return mask


def test_limits_are_kept(observe, structure, truth):
    result = fit(observe(0), structure, START, d_min=2.2, d_max=6.0, held_out=0.0)
    d = truth.grid.d()
    inside = (d >= 2.2) & (d <= 6.0)
    assert_array_equal(result.model_map.measured, inside)
    # What lies outside may be anything.
    wild = observe(0)
    wild = replace(wild, intensity=np.where(inside, wild.intensity, 1e9))
    again = fit(wild, structure, START, d_min=2.2, d_max=6.0, held_out=0.0)
    for name, parameter in result.parameters.items():
        assert again.parameters[name].value == pytest.approx(parameter.value, rel=SAME)


def test_voxels_without_a_sigma_take_no_part(observe, structure):
    observed = observe(2)
    spoilt = np.zeros(observed.grid.shape, dtype=bool)
    spoilt[observed.grid.hkl()[..., 1] == 2] = True
    spoilt |= observed.grid.hkl()[..., 1] == -2  # with their equivalents
    without = replace(observed, intensity=np.where(spoilt, np.nan, observed.intensity))
    unknown = replace(
        observed,
        intensity=np.where(spoilt, 1e6, observed.intensity),
        sigma=np.where(spoilt, np.nan, observed.sigma),
    )
    results = [fit(x, structure, START, held_out=0.0) for x in (without, unknown)]
    for name, parameter in results[0].parameters.items():
        assert results[1].parameters[name].value == pytest.approx(parameter.value, rel=SAME)


def test_starting_at_the_truth_stays_there(observe, structure):
    observed = replace(observe(0, level=0.0, background=False), sigma=None)
    result = fit(observed, structure, TRUTH, background="none", held_out=0.0)
    assert result.converged
    assert result.model.rms_displacement == pytest.approx(0.35, rel=1e-6)
    assert result.model.correlation_length == pytest.approx(5.0, rel=1e-6)
    assert result.n_evaluations < 12


def test_one_parameter_leaves_the_other(observe, structure):
    start = replace(START, correlation_length=5.0)
    result = fit(observe(0), structure, start, ["rms_displacement"], held_out=0.0)
    assert list(result.parameters) == ["rms_displacement"]
    assert result.model.correlation_length == 5.0
    found = result.parameters["rms_displacement"]
    assert abs(found.value - 0.35) < FOUR * found.standard_error
    assert found.unit == "Å"


def test_file_adps_are_kept(structure):
    # U = 0.2 Å²: σ² = 0.35² of it liquid-like, the rest each atom by itself.
    loose = replace(structure, u_aniso=np.tile(0.2 * np.eye(3), (structure.n_atoms, 1, 1)))
    grid = HklGrid.from_resolution(loose.cell, 2.0)
    observed = simulate(loose, TRUTH, grid, adps="file")
    start = LiquidLike(0.25, 8.0)
    result = fit(observed, loose, start, adps="file", background="none", held_out=0.0)
    assert result.model.rms_displacement == pytest.approx(0.35, rel=RECOVERY)
    assert result.model.correlation_length == pytest.approx(5.0, rel=RECOVERY)
    assert result.scale.value == pytest.approx(1.0, rel=RECOVERY)
    wrong = fit(observed, loose, start, background="none", held_out=0.0)
    assert abs(wrong.model.correlation_length - 5.0) > 0.2


@pytest.mark.parametrize("model", [TRUTH, replace(TRUTH, order=1)])
def test_means_over_voxels_are_compared_with_means(structure, model):
    grid = HklGrid.from_resolution(structure.cell, 2.2)
    averaged = simulate(structure, model, grid, voxel_average=True)
    options = {"background": "none", "held_out": 0.0, "d_max": 10.0}
    start = replace(model, correlation_length=7.0)
    right = fit(averaged, structure, start, voxel_average=True, **options)
    assert right.model.correlation_length == pytest.approx(5.0, rel=RECOVERY)
    assert right.model.rms_displacement == pytest.approx(0.35, rel=RECOVERY)
    # With counts of pixels that is the default; values at the centres give another answer.
    counted = replace(averaged, count=np.where(averaged.measured, 7, 0).astype(np.int32))
    assert fit(counted, structure, start, **options).model.correlation_length == pytest.approx(
        5.0, rel=RECOVERY
    )
    wrong = fit(averaged, structure, start, **options)
    assert abs(wrong.model.correlation_length - 5.0) > 0.05


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("has_count", [False, True])
def test_merged_and_unmerged_maps_are_the_same_measurement(observe, structure, has_count):
    observed = observe(4)
    if has_count:
        n = np.random.default_rng(0).integers(1, 9, observed.grid.shape)
        observed = replace(observed, count=np.where(observed.measured, n, 0).astype(np.int32))
    merged = merge(observed).map
    options = {"held_out": 0.2, "voxel_average": False}
    results = [
        fit(x, structure, START, rng=np.random.default_rng(5), **options)
        for x in (observed, merged)
    ]
    for name, parameter in results[0].parameters.items():
        other = results[1].parameters[name]
        assert other.value == pytest.approx(parameter.value, rel=SAME)
        assert other.standard_error == pytest.approx(parameter.standard_error, rel=1e-4)
    assert results[1].scale.value == pytest.approx(results[0].scale.value, rel=SAME)
    for part in ("working", "held_out"):
        a, b = (result.statistics[part] for result in results)
        assert a["n_unique"] == b["n_unique"]
        assert a["chi2_reduced"] == pytest.approx(b["chi2_reduced"], rel=1e-5)


def test_copies_of_equivalents_add_no_information(observe, structure):
    # The merged sphere holds each measurement 3.6 times: errors must not shrink by √3.6.
    merged = merge(observe(4)).map
    grid = merged.grid
    half = replace(merged, intensity=np.where(grid.hkl()[..., 2] < 0, np.nan, merged.intensity))
    a, b = (fit(x, structure, START, held_out=0.0) for x in (merged, half))
    for name, parameter in a.parameters.items():
        assert b.parameters[name].value == pytest.approx(parameter.value, rel=SAME)
        assert b.parameters[name].standard_error == pytest.approx(
            parameter.standard_error, rel=1e-4
        )


def test_the_scale_of_a_map_scales_its_answer(observe, structure):
    observed = observe(6)
    larger = replace(observed, intensity=1e-4 * observed.intensity, sigma=1e-4 * observed.sigma)
    a, b = (fit(x, structure, START, held_out=0.0) for x in (observed, larger))
    for name, parameter in a.parameters.items():
        assert b.parameters[name].value == pytest.approx(parameter.value, rel=1e-5)
        assert b.parameters[name].standard_error == pytest.approx(
            parameter.standard_error, rel=1e-3
        )
    assert b.scale.value == pytest.approx(1e-4 * a.scale.value, rel=1e-5)
    assert b.scale.standard_error == pytest.approx(1e-4 * a.scale.standard_error, rel=1e-3)


def test_sigma_that_is_too_small_is_made_up_for(observe, structure):
    observed = observe(7)
    honest = fit(observed, structure, START, held_out=0.0)
    boast = fit(replace(observed, sigma=observed.sigma / 5), structure, START, held_out=0.0)
    # And without any σ the residuals alone say how large the errors are.
    unknown = fit(replace(observed, sigma=None), structure, START, held_out=0.0)
    assert unknown.statistics["working"]["chi2_reduced"] is None
    for name, parameter in honest.parameters.items():
        assert boast.parameters[name].standard_error == pytest.approx(
            parameter.standard_error, rel=0.15
        )
        assert 1.0 < unknown.parameters[name].standard_error / parameter.standard_error < 2.5


def test_the_seed_decides_what_is_held_out(observe, structure):
    observed = observe(8)
    a, b, c = (
        fit(observed, structure, TRUTH, max_evaluations=2, held_out=0.2, rng=rng)
        for rng in (np.random.default_rng(1), np.random.default_rng(1), np.random.default_rng(2))
    )
    assert a.statistics == b.statistics
    assert a.parameters == b.parameters
    assert a.statistics["held_out"]["chi2_reduced"] != c.statistics["held_out"]["chi2_reduced"]
    default = [fit(observed, structure, TRUTH, max_evaluations=2) for _ in range(2)]
    assert default[0].statistics == default[1].statistics


def test_another_grid_of_the_same_voxels_gives_the_same_answer(observe, structure, truth):
    # Neither centred nor of odd length: half a sphere, cut at l = 0.
    observed = observe(9)
    merged = merge(observed).map
    cut = slice(len(truth.grid.l) // 2, None)
    axes = merged.grid.h, merged.grid.k, merged.grid.l[cut]
    part = DiffuseMap(
        HklGrid(merged.cell, *axes),
        merged.intensity[:, :, cut],
        merged.space_group,
        sigma=merged.sigma[:, :, cut],
        laue_group=merged.laue_group,
    )
    a, b = (fit(x, structure, START, held_out=0.0) for x in (merged, part))
    for name, parameter in a.parameters.items():
        assert b.parameters[name].value == pytest.approx(parameter.value, rel=SAME)


def test_neither_map_nor_structure_is_changed(observe, structure):
    observed = observe(10)
    copies = observed.intensity.copy(), observed.sigma.copy(), structure.positions.copy()
    fit(observed, structure, START, max_evaluations=2)
    now = observed.intensity, observed.sigma, structure.positions
    for values, copy in zip(now, copies, strict=True):
        assert_array_equal(values, copy)
    assert observed.provenance == ()


def test_the_model_map_tells_how_it_was_made(one):
    observed, result = one
    assert result.model_map.grid.same_voxels(observed.grid)
    (step,) = result.model_map.provenance
    assert step["command"] == "fit"
    assert step["options"]["held_out"] == 0.1
    assert step["options"]["background"] == "smooth"
    assert step["model"] == repr(result.model)
    assert compare(observed, result.model_map).overall.cc > 0.5


def test_progress_is_told(quick, observe):
    class Told:
        total, steps = 0, 0

        def start(self, what, total):
            self.total = total
            assert what == "fit"

        def step(self, n=1):
            self.steps += n

    told = Told()
    result = quick(observe(0), progress=told)
    assert told.steps == result.n_evaluations
    assert told.total == 2


def test_evaluations_stop(observe, structure):
    observed = observe(0)
    result = fit(observed, structure, LiquidLike(2.0, 1.0), max_evaluations=9, held_out=0.0)
    assert not result.converged
    assert "maximum number" in result.message
    assert result.n_evaluations <= 9 + 4  # errors at the end need their own


# --- 5 warnings and errors -----------------------------------------------


def test_a_cell_one_per_cent_off_is_said_once(observe, structure, caplog):
    cell = np.array(structure.cell) * [1.01, 1, 1, 1, 1, 1]
    other = replace(structure, cell=cell)
    with caplog.at_level(logging.WARNING, logger="offbragg"):
        result = fit(observe(0), other, START, max_evaluations=9, held_out=0.0)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "structure and map: cell a differs by 1.00 %" in record.getMessage()
    # By hkl, with the structure's own q: no voxel is lost.
    assert_array_equal(result.model_map.measured, observe(0).measured)


def test_a_cell_five_per_cent_off_is_refused(observe, structure):
    cell = np.array(structure.cell) * [1, 1, 0.95, 1, 1, 1]
    with pytest.raises(InputError, match="structure and map: cell c differs by 5.00 %"):
        fit(observe(0), replace(structure, cell=cell), START)


def test_a_structure_without_a_cell_is_refused(observe, structure):
    with pytest.raises(InputError, match="the structure has no unit cell"):
        fit(observe(0), replace(structure, cell=None), START)


def test_a_model_at_its_bound_is_said(structure):
    # One rigid block: the correlation length runs away.
    grid = HklGrid.from_resolution(structure.cell, 2.2)
    observed = simulate(structure, RigidBody(0.05), grid)
    start = LiquidLike(0.25, 9000.0)
    result = fit(observed, structure, start, background="none", held_out=0.0, max_evaluations=90)
    assert not result.converged
    assert "At a bound: correlation_length." in result.message
    assert result.parameters["correlation_length"].value > 9900


def test_a_model_that_does_not_resemble_the_map_is_said(observe, structure):
    observed = observe(0)
    result = fit(replace(observed, intensity=-observed.intensity), structure, START, held_out=0.0)
    assert result.scale.value < 0
    assert not result.converged
    assert "The scale is not positive: the model does not resemble the map." in result.message


def test_a_wrong_indexing_agrees_less(observe, structure):
    # The null beside the figure: h and l exchanged is no symmetry of a monoclinic crystal.
    observed = observe(11)
    right = fit(observed, structure, START, held_out=0.0)
    swapped = apply_operation(observed, "l,k,h")
    swapped = replace(swapped, grid=replace(swapped.grid, cell=structure.cell))
    wrong = fit(swapped, structure, START, held_out=0.0)
    better, worse = (x.statistics["working"]["cc_anisotropic"] for x in (right, wrong))
    assert worse < better - 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "red"}, "fit has no option 'colour', expected one of refine, adps, d_min"),
        ({"background": "flat"}, "background must be one of smooth shells none, got 'flat'"),
        ({"adps": "mine"}, "adps must be 'model' or 'file', got 'mine'"),
        ({"held_out": 1.0}, "held_out must be at least 0 and below 1, got 1.0"),
        ({"held_out": 0.99}, r"\d+ unique voxels cannot determine 1 parameters"),
        ({"d_min": 3.0, "d_max": 2.0}, "measured voxels between 2.0 and 3.0 Å, found none"),
        ({"d_min": 50.0}, "measured voxels between None and 50.0 Å, found none"),
        ({"d_min": 0.0}, "d_min must be > 0, got 0.0"),
        ({"d_max": -1.0}, "d_max must be > 0, got -1.0"),
        ({"block_edge": 0}, "block_edge must be > 0, got 0"),
    ],
)
def test_a_wrong_option_is_named(quick, observe, options, message):
    with pytest.raises(InputError, match=message):
        quick(observe(0), **options)


def test_a_wrong_number_of_evaluations_is_refused(observe, structure):
    with pytest.raises(InputError, match="max_evaluations must be > 0, got 0"):
        fit(observe(0), structure, START, max_evaluations=0)


@pytest.mark.parametrize(
    ("model", "refine", "message"),
    [
        (START, "sigma", "LiquidLike has no parameter 'sigma'"),
        (START, (), "expected a parameter of LiquidLike"),
        (Uncorrelated(), None, "expected a parameter of Uncorrelated"),
        (LiquidLike(9.0, 5.0), None, "rms_displacement must start between 0.001 and 5 Å, got 9"),
    ],
)
def test_a_wrong_parameter_is_named(observe, structure, model, refine, message):
    with pytest.raises(InputError, match=message):
        fit(observe(0), structure, model, refine)


def test_file_adps_too_small_for_the_model_name_an_atom(quick, observe):
    with pytest.raises(InputError, match="the model moves atom A GLY 1 N .* by more than its ADP"):
        quick(observe(0), adps="file")


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_map_that_does_not_vary_is_refused(quick, observe, value):
    flat = replace(observe(0), intensity=np.full(observe(0).grid.shape, value))
    for kind in ("smooth", "shells"):
        with pytest.raises(InputError, match="a map that varies beyond an isotropic background"):
            quick(flat, background=kind)


def test_a_map_without_a_voxel_is_refused(quick, observe):
    empty = replace(observe(0), intensity=np.full(observe(0).grid.shape, np.nan))
    with pytest.raises(InputError, match="at least one measured voxel, got none"):
        quick(empty)
