"""Pixels to voxels: the compiled loops against plain NumPy, the rule of variances, splitting."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.made_crystal import make_experiment
from offbragg.reduction._run_kernels import RUN
from offbragg.reduction.bragg_mask import BraggMask, bragg_distance
from offbragg.reduction.corrections import PIXEL_CORRECTIONS, correction_factor
from offbragg.reduction.pixel_table import PixelTable
from offbragg.reduction.voxelize import (
    Accumulator,
    Oversampling,
    VoxelRule,
    accumulate_image,
    normalise,
)

RTOL_FLOAT32 = 1e-6  # κ is float32
REFERENCE = 6e-4  # sr, about that of a pixel here


@pytest.fixture
def counts(experiment):
    """Photons of one image, few a pixel, some pixels excluded."""
    rng = np.random.default_rng(11)
    photons = []
    for panel in experiment.detector:
        values = rng.poisson(2.0, panel.shape).astype(np.float32)
        values[rng.random(panel.shape) < 0.05] = np.nan
        photons.append(values)
    return photons


def tables_of(experiment):
    return [
        PixelTable.of_panel(
            panel, experiment.beam, PIXEL_CORRECTIONS, REFERENCE, np.zeros(panel.shape, bool)
        )
        for panel in experiment.detector
    ]


def grid_of(experiment, d_min=4.0, sampling=(1, 2, 1)):
    return HklGrid.from_resolution(experiment.crystal.cell, d_min, sampling)


def one_image(experiment, counts, rule, image=2, **arguments):
    sums = Accumulator.empty(rule.grid)
    accumulate_image(sums, tables_of(experiment), counts, experiment, image, rule, **arguments)
    return sums


def by_numpy(experiment, counts, grid, image, n_pixel=1, n_rotation=1, near=0.0, stills=False):
    """The same sums, straight from the definition, one pixel and one voxel at a time."""
    sums, n = np.zeros((grid.size, 4)), np.zeros(grid.size, int)
    along = (np.arange(n_pixel) + 0.5) / n_pixel
    turns = (np.arange(n_rotation) + 0.5) / n_rotation
    if stills:
        turns = np.array([0.5])
    for panel, photons in zip(experiment.detector, counts, strict=True):
        kappa = correction_factor(panel, experiment.beam, PIXEL_CORRECTIONS, REFERENCE)
        points = [
            experiment.hkl_of(panel.pixel_positions(x, y), image, t)
            for y in along
            for x in along
            for t in turns
        ]
        index, inside = grid.index_of(np.array(points))
        voxel = np.ravel_multi_index(np.moveaxis(index, -1, 0), grid.shape, mode="clip")
        path = [0.5] if stills else np.linspace(0, 1, 41)
        centres = panel.pixel_positions()
        hkl = np.array([experiment.hkl_of(centres, image, t) for t in path])
        away = bragg_distance(hkl, experiment.crystal.space_group).min(axis=0)
        assert near == 0 or np.abs(away - near).min() > 1e-5  # no pixel in doubt
        for row, column in np.argwhere(np.isfinite(photons) & (away >= near)):
            share = {}
            for v, good in zip(voxel[:, row, column], inside[:, row, column], strict=True):
                if good:
                    share[v] = share.get(v, 0.0) + 1 / len(points)
            c, k = photons[row, column], kappa[row, column]
            for v, w in share.items():
                sums[v] += [w * c * k, w**2 * c * k**2, w**2 * k**2, w]
                n[v] += 1
    return sums, n


# --- 1 reference numbers -------------------------------------------------


def accumulator(rows, counts):
    return Accumulator(np.array(rows, dtype=float), np.array(counts, dtype=np.int32))


def test_means_and_variances_by_hand():
    # Voxel 0: pixels of 3 and 1 photons, κ = 2 and 1: M = 7/2, var = (12 + 1)/4.
    # Voxel 1: no photon in two pixels of κ = 2 and 4: one photon of mean κ² = 10, var = 10/4.
    # Voxel 2: nothing.
    grid = HklGrid((10, 10, 10, 90, 90, 90), [0, 1, 2], [0], [0])
    one = accumulator([[6, 12, 4, 1], [0, 0, 4, 1], [0, 0, 0, 0]], [1, 1, 0])
    two = accumulator([[1, 1, 1, 1], [0, 0, 16, 1], [0, 0, 0, 0]], [1, 1, 0])
    means = normalise((one, two), grid)
    assert_allclose(means.intensity.ravel(), [3.5, 0.0, np.nan])
    assert_allclose(means.sigma.ravel(), [np.sqrt(13) / 2, np.sqrt(10) / 2, np.nan])
    assert_array_equal(means.count.ravel(), [2, 2, 0])
    assert_allclose(means.half_1.ravel(), [6.0, 0.0, np.nan])
    assert_allclose(means.half_2.ravel(), [1.0, 0.0, np.nan])


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("stills", [False, True])
@pytest.mark.parametrize("radius", [0.0, 0.3])
def test_whole_pixels_agree_with_numpy(stills, radius, experiment, counts):
    grid = grid_of(experiment)
    mask = BraggMask(experiment.crystal.cell, "P 1", radius) if radius else None
    found = one_image(experiment, counts, VoxelRule(grid, mask), stills=stills)
    sums, n = by_numpy(experiment, counts, grid, 2, near=radius, stills=stills)
    assert n.sum() > 500
    assert np.sum(n > 1) > 30
    assert_array_equal(found.counts, n)
    assert_allclose(found.sums, sums, rtol=RTOL_FLOAT32)


@pytest.mark.parametrize(("n_pixel", "n_rotation"), [(2, 1), (1, 3), (3, 2)])
def test_split_pixels_agree_with_numpy(n_pixel, n_rotation, experiment, counts):
    grid = grid_of(experiment)
    mask = BraggMask(experiment.crystal.cell, "P 1", 0.3)
    rule = VoxelRule(grid, mask, Oversampling(n_pixel, n_rotation))
    found = one_image(experiment, counts, rule)
    sums, n = by_numpy(experiment, counts, grid, 2, n_pixel, n_rotation, near=0.3)
    assert_array_equal(found.counts, n)
    assert_allclose(found.sums, sums, rtol=RTOL_FLOAT32)


def test_sigma_is_the_scatter_of_the_mean(experiment):
    # Poisson counts of known means: (M − truth)/σ has the variance 1; voxels of one photon or
    # more expected, so that σ from the counts is near enough.
    grid = grid_of(experiment, sampling=(1, 1, 1))
    rule, rng = VoxelRule(grid), np.random.default_rng(5)
    tables, halves = tables_of(experiment), (Accumulator.empty(grid), Accumulator.empty(grid))
    expected = Accumulator.empty(grid)
    for image in range(6):
        mean = [np.full(panel.shape, 4.0, np.float32) for panel in experiment.detector]
        accumulate_image(expected, tables, mean, experiment, image, rule)
        photons = [rng.poisson(m).astype(np.float32) for m in mean]
        accumulate_image(halves[image % 2], tables, photons, experiment, image, rule)
    means = normalise(halves, grid)
    truth = normalise((expected, Accumulator.empty(grid)), grid).intensity
    some = means.count > 3
    z = ((means.intensity - truth) / means.sigma)[some]
    assert len(z) > 150
    assert abs(np.var(z) - 1) < 4 * np.sqrt(2 / len(z))


# --- 3 exact limits ------------------------------------------------------


def test_one_point_a_pixel_is_the_whole_pixel(experiment, counts):
    grid = grid_of(experiment)
    still = replace(experiment, scan=replace(experiment.scan, oscillation_width=np.zeros(6)))
    split = one_image(still, counts, VoxelRule(grid, None, Oversampling(1, 2)))
    still_whole = one_image(still, counts, VoxelRule(grid))
    # Without rotation both points of a pixel are the same.
    assert_array_equal(split.counts, still_whole.counts)
    assert_allclose(split.sums, still_whole.sums, rtol=1e-12)


def test_a_flat_source_is_flat_however_pixels_are_split(experiment):
    tables = tables_of(experiment)
    flat = [
        (1 / table.factors).reshape(panel.shape)
        for table, panel in zip(tables, experiment.detector, strict=True)
    ]
    grid = grid_of(experiment, sampling=(3, 3, 3))
    for sampling in (Oversampling(), Oversampling(2, 3)):
        sums = one_image(experiment, flat, VoxelRule(grid, None, sampling))
        means = normalise((sums, Accumulator.empty(grid)), grid)
        measured = means.count > 0
        assert measured.sum() > 300
        assert_allclose(means.intensity[measured], 1.0, rtol=RTOL_FLOAT32)


def test_a_scale_multiplies_intensity_and_sigma(experiment, counts):
    rule = VoxelRule(grid_of(experiment))
    once = one_image(experiment, counts, rule)
    thrice = one_image(experiment, counts, rule, scale=3.0)
    assert_allclose(thrice.sums, once.sums * [3, 9, 9, 1], rtol=1e-12)
    assert_array_equal(thrice.counts, once.counts)


def test_beyond_d_min_is_no_part_of_the_map(experiment, counts):
    grid = grid_of(experiment)
    sums = one_image(experiment, counts, VoxelRule(grid))
    means = normalise((sums, Accumulator.empty(grid)), grid)
    beyond = ~grid.within()
    assert sums.counts.reshape(grid.shape)[beyond].any()
    assert not means.count[beyond].any()
    assert np.isnan(means.intensity[beyond]).all()
    assert np.isnan(means.sigma[beyond]).all()


def test_excluded_pixels_and_pixels_without_a_factor(experiment):
    panel = experiment.detector[0]
    excluded = np.zeros(panel.shape, bool)
    excluded[3, 4] = True
    table = PixelTable.of_panel(panel, experiment.beam, PIXEL_CORRECTIONS, REFERENCE, excluded)
    assert_array_equal(table.excluded, excluded)
    edge_on = replace(panel, origin=[0, 0, -9.0], fast_axis=[1, 0, 0], slow_axis=[0, 0, -1])
    table = PixelTable.of_panel(edge_on, experiment.beam, ("solid-angle",), REFERENCE, excluded)
    assert table.excluded.all()


# --- 4 invariances -------------------------------------------------------


def test_inputs_are_not_changed(experiment, counts):
    before = [values.copy() for values in counts]
    one_image(experiment, counts, VoxelRule(grid_of(experiment)))
    for now, then in zip(counts, before, strict=True):
        assert_array_equal(now, then)


def test_centring_keeps_pixels_at_absent_nodes(experiment, counts):
    grid = grid_of(experiment)
    cell = experiment.crystal.cell
    n = [
        one_image(experiment, counts, VoxelRule(grid, mask)).counts.sum()
        for mask in (None, BraggMask(cell, "P 1", 0.3), BraggMask(cell, "F 4 3 2", 0.3))
    ]
    assert n[1] < n[2] < n[0]


@pytest.fixture(scope="module")
def wide():
    """Panels of many runs, rows that are no whole number of them: an experiment and photons."""
    cell = (40.0, 50.0, 60.0, 80.0, 95.0, 100.0)
    made = make_experiment(cell, "P 1", d_min=3.0, n_images=8, n_pixels=300)
    rng = np.random.default_rng(3)
    return made, [rng.poisson(1.0, p.shape).astype(np.float32) for p in made.detector]


def test_runs_lie_in_their_balls(wide):
    table = tables_of(wide[0])[0]
    assert len(table.bounds) == -(-len(table.directions) // RUN)
    ball = np.repeat(table.bounds, RUN, axis=0)[: len(table.directions)]
    away = np.linalg.norm(table.directions - ball[:, :3], axis=1)
    assert np.all(away <= ball[:, 3])
    assert np.all(table.bounds[:, 3] < 1.0)


@pytest.mark.parametrize("space_group", ["P 1", "F 4 3 2"])
def test_a_part_of_a_grid_gets_what_it_gets_in_the_whole(space_group, wide):
    """Runs of pixels beside the grid are passed over, and no others."""
    experiment, photons = wide
    cell = experiment.crystal.cell
    whole = HklGrid.from_resolution(cell, 3.0, (2, 1, 1))
    mask = BraggMask(cell, space_group, 0.3)
    all_of_it = one_image(experiment, photons, VoxelRule(whole, mask), 5)
    met = np.argwhere(all_of_it.counts.reshape(whole.shape)[2:-4, 2:-4, 2:-4])
    for place in np.random.default_rng(8).permutation(met)[:6]:
        h, k, l = np.asarray(whole.first_index + 2 + place) / whole.sampling  # noqa: E741
        axes = (np.arange(h, h + 2, 0.5), np.arange(k, k + 3), np.arange(l, l + 3))
        part = HklGrid(cell, *axes)
        found = one_image(experiment, photons, VoxelRule(part, mask), 5)
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        places, inside = whole.index_of(points)
        assert np.all(inside)
        flat = np.ravel_multi_index(np.moveaxis(places, -1, 0), whole.shape).reshape(-1)
        assert_array_equal(found.counts, all_of_it.counts[flat])
        assert_allclose(found.sums, all_of_it.sums[flat], rtol=RTOL_FLOAT32)
        assert found.counts.sum() > 0


# --- 5 errors ------------------------------------------------------------


def test_a_wrong_oversampling_is_named():
    with pytest.raises(InputError, match="oversample must be two whole numbers >= 1, got 0, 1"):
        Oversampling(0, 1)
