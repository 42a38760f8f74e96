"""Expected σ: the mean variance of a pixel in each shell, not each voxel's own counts."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import DiffuseMap, HklGrid, merge
from offbragg.inference.weights import with_expected_sigma

CELL = (20.0, 22.0, 25.0, 90.0, 105.0, 90.0)
FLOAT32 = 1e-6  # relative rounding of sums in float64 of float32 values


def counted_map(seed=0, expected=2.0, d_min=2.5, most_pixels=6):
    """Voxels of a flat map, each the mean of a few pixels that expect a few counts altogether."""
    rng = np.random.default_rng(seed)
    grid = HklGrid.from_resolution(CELL, d_min)
    n = rng.integers(1, most_pixels + 1, grid.shape)
    counts = rng.poisson(expected / most_pixels * n)
    intensity = counts / n
    sigma = np.sqrt(np.maximum(counts, 1)) / n
    missing = ~grid.within() | (rng.uniform(size=grid.shape) < 0.1)
    return DiffuseMap(
        grid,
        np.where(missing, np.nan, intensity),
        "P 1 21 1",
        sigma=np.where(missing, np.nan, sigma),
        count=np.where(missing, 0, n).astype(np.int32),
    )


def weighted_mean(values, sigma):
    used = np.isfinite(values) & np.isfinite(sigma)
    return np.average(values[used], weights=sigma[used] ** -2)


# --- 1 reference numbers -------------------------------------------------


def test_two_voxels_of_a_shell_share_their_variance():
    # By hand: v = (0.25·4 + 1·2) / 2 = 1.5, so σ = √(1.5/4) and √(1.5/2).
    grid = HklGrid((1000.0, 1000.0, 1000.0, 90, 90, 90), [1.0, 2.0], [0.0], [0.0])
    observed = DiffuseMap(
        grid,
        np.array([3.0, 5.0]).reshape(2, 1, 1),
        sigma=np.array([0.5, 1.0]).reshape(2, 1, 1),
        count=np.array([4, 2], dtype=np.int32).reshape(2, 1, 1),
        laue_group="-1",
    )
    found = with_expected_sigma(observed).sigma.ravel()
    assert_allclose(found, np.sqrt([1.5 / 4, 1.5 / 2]))


# --- 2 independent oracle ------------------------------------------------


def test_sigma_matches_a_sum_voxel_by_voxel():
    merged = merge(counted_map()).map
    found = with_expected_sigma(merged)
    inv_d, sums, numbers = merged.grid.inv_d(), {}, {}
    used = [i for i in np.ndindex(merged.grid.shape) if np.isfinite(merged.intensity[i])]
    for i in used:
        shell = int(inv_d[i] / 0.01 + 1e-9)
        sums[shell] = sums.get(shell, 0.0) + merged.sigma[i] ** 2 * merged.count[i]
        numbers[shell] = numbers.get(shell, 0) + 1
    for i in used:
        shell = int(inv_d[i] / 0.01 + 1e-9)
        expected = np.sqrt(sums[shell] / numbers[shell] / merged.count[i])
        assert found.sigma[i] == pytest.approx(expected, rel=FLOAT32)
    assert_array_equal(np.isfinite(found.sigma), merged.measured)
    assert_array_equal(found.intensity, merged.intensity)
    assert_array_equal(found.count, merged.count)


def test_own_counts_pull_a_mean_down_and_expected_ones_do_not():
    # The fault that the module is there for: at two counts a voxel, weights from a voxel's own
    # counts give a mean 20 to 40 % low. One expected value everywhere, 1/3 a pixel.
    own, expected = [], []
    for seed in range(8):
        observed = counted_map(seed)
        # As if merged already, so that no four voxels are put together first.
        lone = replace(observed, laue_group="-1")
        own.append(weighted_mean(lone.intensity, lone.sigma))
        expected.append(weighted_mean(lone.intensity, with_expected_sigma(lone).sigma))
    truth = 2.0 / 6
    error = np.std(expected, ddof=1) / np.sqrt(len(expected))
    assert abs(np.mean(expected) - truth) < max(4 * error, 0.01 * truth)
    assert np.mean(own) < 0.85 * truth


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("without", ["sigma", "count"])
def test_a_map_without_sigma_or_counts_comes_back_as_it_is(without):
    observed = replace(counted_map(), **{without: None})
    assert with_expected_sigma(observed) is observed


def test_equal_pixels_keep_their_sigma():
    observed = counted_map()
    flat = np.where(observed.measured, 1 / np.sqrt(np.maximum(observed.count, 1)), np.nan)
    merged = merge(replace(observed, sigma=flat)).map
    assert_allclose(with_expected_sigma(merged).sigma, merged.sigma, rtol=FLOAT32)


# --- 4 invariances -------------------------------------------------------


def test_a_map_is_merged_first():
    observed = counted_map()
    direct, after = with_expected_sigma(observed), with_expected_sigma(merge(observed).map)
    assert direct.laue_group == "2/m"
    assert_array_equal(direct.sigma, after.sigma)
    assert_array_equal(direct.intensity, after.intensity)


def test_the_input_is_not_changed():
    observed = counted_map()
    before = observed.sigma.copy(), observed.intensity.copy(), observed.count.copy()
    with_expected_sigma(observed)
    for values, copy in zip(
        (observed.sigma, observed.intensity, observed.count), before, strict=True
    ):
        assert_array_equal(values, copy)


def test_sigma_that_is_missing_stays_missing():
    merged = merge(counted_map()).map
    sigma = merged.sigma.copy()
    first = tuple(np.argwhere(merged.measured)[0])
    sigma[first] = np.nan
    found = with_expected_sigma(replace(merged, sigma=sigma)).sigma
    assert np.isnan(found[first])
    assert np.isfinite(found[merged.measured]).sum() == merged.measured.sum() - 1
