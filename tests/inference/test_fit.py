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
    fit,
    merge,
    simulate,
)
from offbragg.crystal.symmetry import laue_rotations
from offbragg.inference.background import Background
from offbragg.inference.held_out import choose_held_out
from offbragg.maps.shells import anisotropic_part
from offbragg.maps.symmetrize import apply_operation

TRUTH = LiquidLike(rms_displacement=0.35, correlation_length=5.0)
START = LiquidLike(rms_displacement=0.45, correlation_length=7.0)
SCALE = 3.0
GROUP = "P 1 21 1"

# Simulations to 1e-5 of their mean; steps that end at 1e-5 of a parameter.
EXACT = {"rtol": 1e-5, "held_out": 0.0}
RECOVERY = 1e-4
# Two fits that must go the same way: a few steps show it. Sums in another order.
FEW = {"max_evaluations": 3, "held_out": 0.0}
SAME = 1e-6
# Derivatives are as exact as maps, 5e-4 of their mean; a standard error follows them.
SAME_ERROR = 3e-3
N_DRAWS = 8
# Of the sd of z over 8 fits: χ² of 7 degrees of freedom is within these but for 1 in 1000.
Z_SPREAD = (0.29, 1.86)
FOUR = 4.0  # standard errors: 6 in 100 000


def z_of(result):
    """Errors of both parameters and the scale in standard errors."""
    parts = [
        (p.value - getattr(TRUTH, name)) / p.standard_error for name, p in result.parameters.items()
    ]
    return np.array([*parts, (result.scale.value - SCALE) / result.scale.standard_error])


def orbit(hkl):
    """Equivalents of a reflection by gemmi's operations, Friedel mates included."""
    hkl = [int(x) for x in hkl]
    images = [op.apply_to_hkl(hkl) for op in gemmi.SpaceGroup(GROUP).operations()]
    return frozenset(tuple(s * x for x in image) for image in images for s in (1, -1))


def first_of_orbits(diffuse_map):
    """Mask of one measured voxel an orbit, hkl = 0 left out."""
    mask, seen = np.zeros(diffuse_map.grid.shape, dtype=bool), set()
    for index in np.argwhere(diffuse_map.measured & (diffuse_map.grid.inv_d() > 0)):
        own = orbit(index + diffuse_map.grid.first_index)
        if own not in seen:
            seen.add(own)
            mask[tuple(index)] = True
    return mask


def held_out_of(diffuse_map, fraction=0.1, seed=0):
    """Mask of the voxels that a fit with this seed holds out."""
    hkl = diffuse_map.grid.hkl()[first_of_orbits(diffuse_map)]
    held = choose_held_out(hkl, laue_rotations(GROUP), fraction, np.random.default_rng(seed))
    mask = np.zeros(diffuse_map.grid.shape, dtype=bool)
    for own in hkl[held]:
        index, inside = diffuse_map.grid.index_of(np.array(sorted(orbit(own))))
        mask[tuple(index[inside].T)] = True
    return mask


def assert_same_answer(one, other, rel=SAME):
    for name, parameter in one.parameters.items():
        assert other.parameters[name].value == pytest.approx(parameter.value, rel=rel)
        assert other.parameters[name].standard_error == pytest.approx(
            parameter.standard_error, rel=SAME_ERROR
        )


@pytest.fixture(scope="module")
def drawn(observe, structure):
    """Fits to eight draws of noise."""
    return [fit(observe(seed), structure, START, held_out=0.0) for seed in range(N_DRAWS)]


@pytest.fixture
def quick(structure):
    """A fit of one parameter that is not meant to get far."""

    def run(observed, model=START, **options):
        return fit(observed, structure, model, "rms_displacement", max_evaluations=2, **options)

    return run


# --- 1 known truth -------------------------------------------------------


def test_truth_is_within_four_standard_errors(drawn):
    for result in drawn:
        assert result.converged, result.message
        assert np.abs(z_of(result)).max() < FOUR


def test_standard_errors_are_those_of_the_scatter(drawn):
    z = np.array([z_of(result) for result in drawn])
    spread = z.std(axis=0, ddof=1)
    assert np.all(spread > Z_SPREAD[0])
    assert np.all(spread < Z_SPREAD[1])
    # No bias: the mean of all within four of its own standard errors.
    assert np.abs(z.mean(axis=0)).max() < FOUR / np.sqrt(N_DRAWS)


@pytest.mark.parametrize("kind", ["smooth", "shells", "none"])
def test_without_noise_the_truth_comes_back(observe, structure, kind):
    observed = replace(observe(0, level=0.0, background=False), sigma=None)
    result = fit(observed, structure, START, background=kind, **EXACT)
    assert result.converged
    for name, parameter in result.parameters.items():
        assert parameter.value == pytest.approx(getattr(TRUTH, name), rel=RECOVERY)
    assert result.scale.value == pytest.approx(SCALE, rel=RECOVERY)
    residual = (result.model_map.intensity - observed.intensity)[observed.grid.inv_d() > 0]
    assert np.nanmax(np.abs(residual)) < 1e-3 * np.nanmean(observed.intensity)


def test_an_isotropic_background_does_not_bias(observe, structure):
    # Fits with and without the same smooth offset in the data, of the same noise.
    plain, raised = observe(3, background=False), observe(3)
    a, b = (fit(x, structure, START, held_out=0.0) for x in (plain, raised))
    for name, parameter in a.parameters.items():
        other = b.parameters[name]
        assert abs(other.value - parameter.value) < 0.1 * parameter.standard_error
        assert other.standard_error == pytest.approx(parameter.standard_error, rel=0.02)
    at_2 = [np.interp(2.0, x.background["q"], x.background["intensity"]) for x in (a, b)]
    assert at_2[1] - at_2[0] == pytest.approx(1500 * np.exp(-2.0), rel=0.05)


# --- 2 independent oracle ------------------------------------------------


def test_standard_errors_match_the_inverse_of_the_whole_matrix(observe, structure):
    # Every parameter at once, background and scale too, by central differences of simulate.
    observed = observe(1)
    result = fit(observed, structure, START, held_out=0.0)
    unique = merge(observed).map
    first = first_of_orbits(unique)

    def model(values):
        return simulate(structure, LiquidLike(*values), unique.grid).intensity[first]

    values = np.array([p.value for p in result.parameters.values()])
    columns = [model(values)]
    for n in range(2):
        step = 1e-2 * values[n] * np.eye(2)[n]
        slope = (model(values + step) - model(values - step)) / (2 * step[n])
        columns.append(result.scale.value * slope)
    q = 2 * np.pi * unique.grid.inv_d()[first]
    columns.extend(Background.over(q, "smooth").basis(q).T)
    sigma = unique.sigma[first]
    weighted = np.stack(columns, axis=1) / sigma[:, None]
    solution = np.linalg.lstsq(weighted, unique.intensity[first] / sigma)[0]
    residuals = unique.intensity[first] / sigma - weighted @ solution
    inflation = max(1.0, residuals @ residuals / (len(q) - weighted.shape[1]))
    covariance = inflation * np.linalg.inv(weighted.T @ weighted)
    errors = np.sqrt(np.diag(covariance))
    found = [result.scale.standard_error, *(p.standard_error for p in result.parameters.values())]
    # Forward differences of step 5e-3 in the fit: errors to a per cent or so.
    assert_allclose(found, errors[:3], rtol=0.03)
    expected = covariance[1, 2] / errors[1] / errors[2]
    assert_allclose(result.correlations, [[1, expected], [expected, 1]], atol=0.03)


def test_figures_are_those_of_the_model_map(observe, structure):
    # With a constant a shell the model map holds the very background of the fit.
    observed = observe(0)
    result = fit(observed, structure, START, background="shells", max_evaluations=3)
    unique = merge(observed).map
    used = unique.measured & (unique.grid.inv_d() > 0)
    z2 = ((unique.intensity - result.model_map.intensity) / unique.sigma)[used] ** 2
    # Orbits count once: each voxel by one over the length of its orbit.
    weight = np.array([1 / len(orbit(x)) for x in unique.grid.hkl()[used]])
    out = held_out_of(unique)[used]
    for name, chosen in (("working", ~out), ("held_out", out)):
        assert result.statistics[name]["n"] == chosen.sum()
        assert result.statistics[name]["n_unique"] == pytest.approx(weight[chosen].sum())
    # Held-out voxels may be alone in a shell, without a background to be compared with.
    expected = np.average(z2[~out], weights=weight[~out])
    assert result.statistics["working"]["chi2_reduced"] == pytest.approx(expected, rel=1e-4)


def test_figures_by_shell_are_those_of_voxels_of_each_shell(observe, structure):
    unique = merge(observe(0)).map
    result = fit(unique, structure, START, held_out=0.3, max_evaluations=3)
    used, inv_d = unique.measured & (unique.grid.inv_d() > 0), unique.grid.inv_d()
    out = held_out_of(unique, 0.3)
    a, b = unique.intensity, result.model_map.intensity
    limits = [result.statistics[name]["shells"]["d_min"] for name in ("working", "held_out")]
    assert limits[0] == limits[1]
    for name, chosen in (("working", used & ~out), ("held_out", used & out)):
        table = result.statistics[name]["shells"]
        assert sum(table["n"]) == result.statistics[name]["n"] == chosen.sum()
        flat_a, flat_b = (anisotropic_part(x, inv_d, chosen) for x in (a, b))
        scales = [np.sum(x[chosen] * y[chosen]) / np.sum(y[chosen] ** 2)
                  for x, y in ((a, b), (flat_a, flat_b))]  # fmt: skip
        for i, (d_max, d_min) in enumerate(zip(table["d_max"], table["d_min"], strict=True)):
            # Edges are in the outer shell, the outermost voxel in the last.
            own = chosen & (inv_d > (1 - 1e-8) / d_max)
            own &= inv_d < (1 - 1e-8 if i < 9 else 1 + 1e-8) / d_min
            assert table["n"][i] == own.sum()
            for suffix, scale, (x, y) in zip(
                ("", "_anisotropic"), scales, ((a, b), (flat_a, flat_b)), strict=True
            ):
                x, y = x[own], y[own]
                assert table["cc" + suffix][i] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
                r = np.sum(np.abs(x - scale * y)) / np.sum(np.abs(x))
                assert table["r" + suffix][i] == pytest.approx(r, rel=1e-9)


def test_the_anisotropic_part_of_the_model_map_is_the_models_own(observe, structure):
    # A background that falls within a shell would look like agreement: with a wrongly indexed
    # map too.
    result = fit(observe(0), structure, START, held_out=0.0)
    model_map = result.model_map
    pure = simulate(structure, result.model, model_map.grid, rtol=5e-4).intensity
    inv_d, inside = model_map.grid.inv_d(), model_map.measured
    found = anisotropic_part(model_map.intensity, inv_d, inside)[inside]
    expected = result.scale.value * anisotropic_part(pure, inv_d, inside)[inside]
    assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    background = model_map.intensity - result.scale.value * pure
    assert np.nanmax(background) - np.nanmin(background) > 0.3 * np.nanmean(model_map.intensity)


# --- 3 exact limits ------------------------------------------------------


def test_nothing_held_out_is_said(drawn):
    for result in drawn:
        assert result.statistics["held_out"] is None
        assert 0.7 < result.statistics["working"]["chi2_reduced"] < 1.3


def test_held_out_voxels_do_not_move_the_fit(observe, structure):
    observed = observe(0, background=False)
    spoilt = np.where(held_out_of(observed), observed.intensity + 1e6, observed.intensity)
    results = [
        fit(replace(observed, intensity=x), structure, START, max_evaluations=3)
        for x in (observed.intensity, spoilt)
    ]
    assert_same_answer(*results)
    assert results[0].statistics["held_out"]["n_unique"] > 30
    assert results[1].statistics["held_out"]["chi2_reduced"] > 1e6
    # The true model predicts what it has not seen, the innermost voxels included.
    truth = fit(observed, structure, TRUTH, max_evaluations=3)
    assert truth.statistics["held_out"]["chi2_reduced"] < 2


def test_limits_are_kept(observe, structure):
    observed = observe(0)
    d = observed.grid.d()
    inside = (d >= 2.2) & (d <= 6.0)
    # What lies outside may be anything.
    wild = replace(observed, intensity=np.where(inside, observed.intensity, 1e9))
    results = [fit(x, structure, START, d_min=2.2, d_max=6.0, **FEW) for x in (observed, wild)]
    assert_array_equal(results[0].model_map.measured, inside)
    assert_same_answer(*results)


def test_voxels_without_a_sigma_take_no_part(observe, structure):
    observed = observe(2)
    spoilt = np.abs(observed.grid.hkl()[..., 1]) == 2  # with all equivalents
    without = replace(observed, intensity=np.where(spoilt, np.nan, observed.intensity))
    unknown = replace(
        observed,
        intensity=np.where(spoilt, 1e6, observed.intensity),
        sigma=np.where(spoilt, np.nan, observed.sigma),
    )
    zero = replace(unknown, sigma=np.where(spoilt, 0.0, observed.sigma))
    expected = fit(without, structure, START, **FEW)
    for other in (unknown, zero):
        assert_same_answer(expected, fit(other, structure, START, **FEW))


def test_starting_at_the_truth_stays_there(observe, structure):
    observed = replace(observe(0, level=0.0, background=False), sigma=None)
    result = fit(observed, structure, TRUTH, background="none", **EXACT)
    assert result.converged
    assert result.model.rms_displacement == pytest.approx(0.35, rel=RECOVERY)
    assert result.model.correlation_length == pytest.approx(5.0, rel=RECOVERY)
    assert result.n_evaluations < 12


def test_one_parameter_leaves_the_other(observe, structure):
    start = replace(START, correlation_length=5.0)
    result = fit(observe(0), structure, start, ["rms_displacement"], held_out=0.0)
    assert list(result.parameters) == ["rms_displacement"]
    assert result.model.correlation_length == 5.0
    found = result.parameters["rms_displacement"]
    assert abs(found.value - 0.35) < FOUR * found.standard_error
    assert found.unit == "Å"
    assert result.correlations.shape == (1, 1)


def test_file_adps_are_kept(structure):
    # U = 0.2 Å²: σ² = 0.35² of it liquid-like, the rest each atom by itself.
    loose = replace(structure, u_aniso=np.tile(0.2 * np.eye(3), (structure.n_atoms, 1, 1)))
    observed = simulate(loose, TRUTH, HklGrid.from_resolution(loose.cell, 2.2), adps="file")
    options = {"background": "none", **EXACT}
    result = fit(observed, loose, LiquidLike(0.3, 6.0), adps="file", **options)
    assert result.model.rms_displacement == pytest.approx(0.35, rel=RECOVERY)
    assert result.model.correlation_length == pytest.approx(5.0, rel=5 * RECOVERY)
    assert result.scale.value == pytest.approx(1.0, rel=RECOVERY)
    # The model's own ADPs alone leave much of the map unexplained.
    wrong = fit(observed, loose, TRUTH, background="none", **FEW)
    working = (x.statistics["working"]["r"] for x in (result, wrong))
    assert next(working) < 1e-3 < 1e-2 < next(working)


def test_means_over_voxels_are_compared_with_means(structure):
    grid = HklGrid.from_resolution(structure.cell, 2.4)
    averaged = simulate(structure, TRUTH, grid, voxel_average=True)
    counted = replace(averaged, count=np.where(averaged.measured, 7, 0).astype(np.int32))
    start = replace(TRUTH, correlation_length=6.0)
    options = {"refine": "correlation_length", "background": "none", "d_max": 10.0, **EXACT}
    right = fit(averaged, structure, start, voxel_average=True, **options)
    # With counts of pixels that is the default.
    default = fit(counted, structure, start, **options)
    for result in (right, default):
        assert result.model.correlation_length == pytest.approx(5.0, rel=5 * RECOVERY)
        assert result.model_map.provenance[-1]["options"]["voxel_average"]
    # Values at the centres give another answer.
    wrong = fit(averaged, structure, start, **options)
    assert abs(wrong.model.correlation_length - 5.0) > 0.05


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("has_count", [False, True])
def test_merged_and_unmerged_maps_are_the_same_measurement(observe, structure, has_count):
    observed = observe(4)
    if has_count:
        n = np.random.default_rng(0).integers(1, 9, observed.grid.shape)
        observed = replace(observed, count=np.where(observed.measured, n, 0).astype(np.int32))
    options = {"held_out": 0.2, "voxel_average": False, "max_evaluations": 3}
    results = [
        fit(x, structure, START, rng=np.random.default_rng(5), **options)
        for x in (observed, merge(observed).map)
    ]
    assert_same_answer(*results)
    assert results[1].scale.value == pytest.approx(results[0].scale.value, rel=SAME)
    for part in ("working", "held_out"):
        a, b = (result.statistics[part] for result in results)
        assert a["n_unique"] == b["n_unique"]
        assert a["chi2_reduced"] == pytest.approx(b["chi2_reduced"], rel=1e-5)


def test_copies_of_equivalents_add_no_information(observe, structure):
    # The merged sphere holds each measurement 3.6 times: errors must not shrink by √3.6.
    merged = merge(observe(4)).map
    below = merged.grid.hkl()[..., 2] < 0
    half = replace(merged, intensity=np.where(below, np.nan, merged.intensity))
    assert_same_answer(*(fit(x, structure, START, **FEW) for x in (merged, half)))


def test_another_grid_of_the_same_voxels_gives_the_same_answer(observe, structure):
    # Neither centred nor of odd length: half a sphere, cut at l = 0.
    merged = merge(observe(9)).map
    cut = slice(len(merged.grid.l) // 2, -1 if len(merged.grid.l) % 4 == 1 else None)
    part = DiffuseMap(
        HklGrid(merged.cell, merged.grid.h[1:], merged.grid.k, merged.grid.l[cut]),
        merged.intensity[1:, :, cut],
        merged.space_group,
        sigma=merged.sigma[1:, :, cut],
        laue_group=merged.laue_group,
    )
    limits = {"d_min": 2.0}  # within both grids
    assert_same_answer(*(fit(x, structure, START, **FEW, **limits) for x in (merged, part)))


def test_the_unit_of_a_map_scales_its_scale_only(observe, structure):
    observed = observe(6)
    small = replace(observed, intensity=1e-4 * observed.intensity, sigma=1e-4 * observed.sigma)
    a, b = (fit(x, structure, START, **FEW) for x in (observed, small))
    assert_same_answer(a, b)
    assert b.scale.value == pytest.approx(1e-4 * a.scale.value, rel=SAME)
    assert b.scale.standard_error == pytest.approx(1e-4 * a.scale.standard_error, rel=1e-3)


def test_sigma_that_is_too_small_is_made_up_for(observe, structure):
    observed = observe(7)
    honest, boast, unknown = (
        fit(replace(observed, sigma=sigma), structure, TRUTH, **FEW)
        for sigma in (observed.sigma, observed.sigma / 5, None)
    )
    # Without any σ the residuals alone say how large the errors are; all voxels count alike.
    assert unknown.statistics["working"]["chi2_reduced"] is None
    for name, parameter in honest.parameters.items():
        error = parameter.standard_error
        assert boast.parameters[name].standard_error == pytest.approx(error, rel=0.15)
        assert 1.0 < unknown.parameters[name].standard_error / error < 2.5


def test_the_seed_decides_what_is_held_out(observe, quick):
    observed = observe(8)
    a, b, c = (quick(observed, held_out=0.2, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert a.statistics == b.statistics
    assert a.parameters == b.parameters
    assert a.statistics["held_out"]["chi2_reduced"] != c.statistics["held_out"]["chi2_reduced"]
    assert quick(observed).statistics == quick(observed).statistics


def test_neither_map_nor_structure_is_changed(observe, structure, quick):
    observed = observe(10)
    copies = observed.intensity.copy(), observed.sigma.copy(), structure.positions.copy()
    quick(observed)
    now = observed.intensity, observed.sigma, structure.positions
    for values, copy in zip(now, copies, strict=True):
        assert_array_equal(values, copy)
    assert observed.provenance == ()


def test_the_model_map_tells_how_it_was_made(observe, quick):
    observed = observe(0)
    result = quick(observed)
    assert result.model_map.grid.same_voxels(observed.grid)
    assert_array_equal(result.model_map.measured, observed.measured)
    (step,) = result.model_map.provenance
    assert step["command"] == "fit"
    assert step["options"]["held_out"] == 0.1
    assert step["options"]["background"] == "smooth"
    assert step["model"] == repr(result.model)
    whole = result.model_map.intensity + result.residual_map.intensity
    assert_allclose(whole, observed.intensity, rtol=1e-9)
    assert_array_equal(result.residual_map.sigma, observed.sigma)


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
    result = fit(observe(0), structure, LiquidLike(2.0, 1.0), max_evaluations=9, held_out=0.0)
    assert not result.converged
    assert "maximum number" in result.message
    assert result.n_evaluations <= 9 + 4  # errors at the end need their own


# --- 5 warnings and errors -----------------------------------------------


def test_a_cell_one_per_cent_off_is_said_once(observe, structure, quick, caplog):
    cell = np.array(structure.cell) * [1.01, 1, 1, 1, 1, 1]
    observed = observe(0)
    with caplog.at_level(logging.WARNING, logger="offbragg"):
        result = fit(observed, replace(structure, cell=cell), START, **FEW)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "structure and map: cell a differs by 1.00 %" in record.getMessage()
    # By hkl: no voxel is lost, and q is the structure's own.
    assert_array_equal(result.model_map.measured, observed.measured)


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_cell_five_per_cent_off_is_refused(observe, structure, factor):
    cell = np.array(structure.cell) * [1, 1, factor, 1, 1, 1]
    with pytest.raises(InputError, match=r"structure and map: cell c differs by 5\.\d\d %"):
        fit(observe(0), replace(structure, cell=cell), START)


def test_a_structure_without_a_cell_is_refused(observe, structure):
    with pytest.raises(InputError, match="the structure has no unit cell"):
        fit(observe(0), replace(structure, cell=None), START)


def test_a_model_at_its_bound_is_said(structure):
    # One rigid block: the correlation length runs away.
    # Simulations closer than what is left of it to gain.
    grid = HklGrid.from_resolution(structure.cell, 2.4)
    observed = simulate(structure, RigidBody(0.05), grid, rtol=1e-6)
    start = LiquidLike(0.22, 9000.0)
    result = fit(observed, structure, start, background="none", held_out=0.0, rtol=1e-6)
    assert not result.converged
    assert "At a bound: correlation_length." in result.message
    assert result.parameters["correlation_length"].value > 9900


def test_a_model_that_does_not_resemble_the_map_is_said(observe, structure):
    observed = observe(0)
    result = fit(replace(observed, intensity=-observed.intensity), structure, START, **FEW)
    assert result.scale.value < 0
    assert not result.converged
    assert "The scale is not positive: the model does not resemble the map." in result.message


def test_a_wrong_indexing_agrees_less(observe, structure):
    # The null beside the figure: h and -h exchanged is no symmetry of a monoclinic crystal.
    observed = observe(11)
    right = fit(observed, structure, TRUTH, **FEW)
    wrong = fit(apply_operation(observed, "-h,k,l"), structure, TRUTH, **FEW)
    better, worse = (x.statistics["working"]["cc_anisotropic"] for x in (right, wrong))
    assert better > 0.8
    assert worse < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "red"}, "fit has no option 'colour', expected one of refine, adps, d_min"),
        ({"background": "flat"}, "background must be one of smooth shells none, got 'flat'"),
        ({"adps": "mine"}, "adps must be 'model' or 'file', got 'mine'"),
        ({"held_out": 1.0}, "held_out must be at least 0 and below 1, got 1.0"),
        ({"held_out": 0.999}, r"held_out = 0\.999 leaves none of \d+ unique voxels"),
        ({"d_min": 8.0}, r"\d+ unique voxels cannot determine 1 numbers of par"),
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
    with pytest.raises(InputError, match=r"the model moves atom A GLY 1 N .* by more than its ADP"):
        quick(observe(0), adps="file")


@pytest.mark.parametrize("value", [0.0, 5.0])
@pytest.mark.parametrize("kind", ["smooth", "shells"])
def test_a_map_that_does_not_vary_is_refused(quick, observe, value, kind):
    flat = replace(observe(0), intensity=np.full(observe(0).grid.shape, value))
    with pytest.raises(InputError, match="a map that varies beyond an isotropic background"):
        quick(flat, background=kind)


def test_a_map_without_a_voxel_is_refused(quick, observe):
    empty = replace(observe(0), intensity=np.full(observe(0).grid.shape, np.nan))
    with pytest.raises(InputError, match="at least one measured voxel, got none"):
        quick(empty)
