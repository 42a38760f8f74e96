"""Shells: numbers by hand, a loop as the oracle, limits, invariances, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.shells import (
    anisotropic_part,
    isotropic_shells,
    resolution_shells,
    shell_correlation,
    shell_mean,
)

RTOL_ROUNDING = 1e-11  # the same sums in another order, and a mean taken off
ATOL_NOISE = 1e-9  # of values of order 10 with isotropic parts up to 1e3

CELL = (23.0, 29.0, 31.0, 81.0, 97.0, 104.0)


@pytest.fixture
def voxels():
    """Intensities and 1/d of a triclinic grid with holes."""
    rng = np.random.default_rng(3)
    inv_d = HklGrid.from_resolution(CELL, 4.0, (2, 1, 1)).inv_d()
    intensity = rng.normal(10, 2, inv_d.shape)
    intensity[rng.uniform(size=inv_d.shape) < 0.2] = np.nan
    return intensity, inv_d


# --- 1 reference numbers -------------------------------------------------


def test_shells_of_a_hundredth_by_hand():
    # 0.29 / 0.01 is 28.999999999999996 in float64: a voxel on the edge belongs above it.
    assert_array_equal(
        isotropic_shells(np.array([0.0, 0.0099, 0.01, 0.29, 0.2999])), [0, 0, 1, 29, 29]
    )


def test_equal_volumes_by_hand():
    # Edges of 2 shells between 1/d = 1 and 2: 1, (9/2)^(1/3) = 1.650964, 2.
    shells = resolution_shells(np.array([0.0, 1.0, 1.65, 1.652, 2.0]), 2)
    assert_array_equal(shells.index, [0, 0, 0, 1, 1])
    assert_allclose(1 / shells.d_max, [1.0, 1.650964], rtol=1e-6)
    assert_allclose(1 / shells.d_min, [1.650964, 2.0], rtol=1e-6)


def test_given_limits_cut_the_shells_whatever_the_voxels():
    shells = resolution_shells(np.array([0.5, 1.2, 1.7, 3.0]), 2, (1.0, 2.0))
    assert_array_equal(shells.index, [0, 0, 1, 1])
    assert_allclose(1 / shells.d_max, [1.0, 1.650964], rtol=1e-6)


# --- 2 independent oracle ------------------------------------------------


def test_anisotropic_part_matches_a_loop(voxels):
    intensity, inv_d = voxels
    expected = np.full(intensity.shape, np.nan)
    shells = {}
    for place in np.ndindex(intensity.shape):
        if np.isfinite(intensity[place]):
            shells.setdefault(int(inv_d[place] // 0.01), []).append(place)
    for places in shells.values():
        mean = sum(intensity[p] for p in places) / len(places)
        for p in places:
            expected[p] = intensity[p] - mean
    part = anisotropic_part(intensity, inv_d)
    assert_allclose(part, expected, rtol=RTOL_ROUNDING, atol=RTOL_ROUNDING)


@pytest.mark.parametrize("weighted", [False, True])
def test_correlation_matches_numpy_shell_by_shell(weighted):
    rng = np.random.default_rng(4)
    x = rng.normal(1000, 1, 300)
    y = 0.5 * x + rng.normal(0, 1, 300)
    shell = rng.integers(0, 4, 300)
    times = rng.integers(1, 4, 300) if weighted else np.ones(300, dtype=int)
    expected = [
        np.corrcoef(
            np.repeat(x[shell == s], times[shell == s]), np.repeat(y[shell == s], times[shell == s])
        )[0, 1]
        for s in range(4)
    ]
    weights = times.astype(float) if weighted else None
    assert_allclose(shell_correlation(x, y, shell, 4, weights), expected, rtol=1e-9)


# --- 3 exact limits ------------------------------------------------------


def test_an_isotropic_map_has_no_anisotropic_part(voxels):
    _, inv_d = voxels
    intensity = 1e3 * np.exp(-isotropic_shells(inv_d) / 7.0)
    assert_array_equal(anisotropic_part(intensity, inv_d), 0.0)


def test_a_constant_has_no_correlation():
    x = np.full(7, 0.1)
    assert np.isnan(shell_correlation(x, np.arange(7.0), np.zeros(7, dtype=int), 1)).all()
    assert np.isnan(shell_correlation(np.arange(7.0), x, np.zeros(7, dtype=int), 1)).all()


def test_empty_shells_are_nan():
    mean = shell_mean(np.array([1.0, 3.0]), np.array([2, 2]), 4)
    assert_array_equal(mean, [np.nan, np.nan, 2.0, np.nan])


def test_shells_hold_like_numbers_of_a_full_sphere():
    grid = HklGrid.from_resolution((40, 40, 40, 90, 90, 90), 2.0)
    inv_d = grid.inv_d()[grid.within()]
    shells = resolution_shells(inv_d, 8)
    # Nodes of a cubic lattice lie on few lengths: a shell's number moves by 6 %.
    assert_allclose(np.bincount(shells.index), len(inv_d) / 8, rtol=0.08)
    assert_array_equal(shells.d_min[:-1], shells.d_max[1:])
    for number in range(8):
        inside = inv_d[shells.index == number]
        assert inside.max() <= (1 + 1e-9) / shells.d_min[number]
        assert inside[inside > 0].min() >= (1 - 1e-9) / shells.d_max[number]


def test_voxels_of_one_length_share_a_shell():
    shells = resolution_shells(np.array([0.2, 0.2, 0.2]), 3)
    assert_array_equal(shells.index, 0)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seed=st.integers(0, 1000), size=st.floats(0, 1e3))
def test_an_isotropic_part_added_changes_nothing(seed, size):
    rng = np.random.default_rng(seed)
    inv_d = rng.uniform(0, 0.5, 500)
    intensity = rng.normal(10, 2, 500)
    isotropic = size * rng.normal(size=60)[isotropic_shells(inv_d)]
    assert_allclose(
        anisotropic_part(intensity + isotropic, inv_d),
        anisotropic_part(intensity, inv_d),
        atol=ATOL_NOISE,
    )


def test_voxels_outside_the_mask_count_for_nothing(voxels):
    intensity, inv_d = voxels
    mask = np.isfinite(intensity) & (np.random.default_rng(5).uniform(size=inv_d.shape) < 0.5)
    changed = np.where(mask, intensity, 1e6)
    part = anisotropic_part(changed, inv_d, mask)
    assert_array_equal(part, anisotropic_part(intensity, inv_d, mask))
    assert_array_equal(np.isfinite(part), mask)


def test_equivalents_share_a_shell():
    # a = b and c = 2a in float64: lengths that are equal but for rounding.
    grid = HklGrid.from_resolution((48.458, 48.458, 63.398, 90, 90, 90), 3.0, (2, 2, 1))
    shell = isotropic_shells(grid.inv_d())
    assert_array_equal(shell, shell.transpose(1, 0, 2))
    assert_array_equal(shell, shell[::-1, ::-1, ::-1])
    table = resolution_shells(grid.inv_d(), 7).index
    assert_array_equal(table, table.transpose(1, 0, 2))


# --- 5 errors ------------------------------------------------------------


def test_wrong_arguments_are_named():
    with pytest.raises(InputError, match=r"width must be > 0 Å⁻¹, got 0"):
        isotropic_shells(np.zeros(3), 0)
    with pytest.raises(
        InputError, match=r"inv_d must have the intensity's shape \(3,\), got \(2,\)"
    ):
        anisotropic_part(np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="n_shells must be >= 1, got 0"):
        resolution_shells(np.zeros(3), 0)
    with pytest.raises(InputError, match="expected at least one voxel, got none"):
        resolution_shells(np.zeros(0), 3)


def test_inputs_are_not_changed(voxels):
    intensity, inv_d = voxels
    before = intensity.copy(), inv_d.copy()
    anisotropic_part(intensity, inv_d)
    assert_array_equal(intensity, before[0])
    assert_array_equal(inv_d, before[1])
