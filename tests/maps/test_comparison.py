"""Comparing maps: numbers by hand, a dictionary of hkl as the oracle, limits, errors."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.comparison import common_voxels, compare
from offbragg.maps.diffuse_map import DiffuseMap

RTOL_ROUNDING = 1e-9  # the same sums in another order, differences of near numbers
CELL = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)


def axes_map(first, shape, sampling, seed, cell=CELL, sigma=True):
    """A map of a signal that depends on hkl alone, noise, an isotropic part, and holes."""
    rng = np.random.default_rng(seed)
    axes = [(a + np.arange(n)) / s for a, n, s in zip(first, shape, sampling, strict=True)]
    grid = HklGrid(cell, *axes, sampling)
    hkl = grid.hkl()
    signal = np.cos(hkl @ [1.3, 0.7, 2.1]) + 20 * np.exp(-3 * grid.inv_d())
    intensity = signal + rng.normal(0, 0.5, grid.shape)
    intensity[rng.uniform(size=grid.shape) < 0.2] = np.nan
    errors = rng.uniform(0.3, 0.7, grid.shape) if sigma else None
    return DiffuseMap(grid, intensity, "P 1", sigma=errors)


def brute_pairs(a, b):
    """Values of both maps by hkl in twelfths, measured in both, with 1/d by the cell of a."""
    tables = []
    for x in (a, b):
        nodes = np.rint(12 * x.grid.hkl()).astype(int).reshape(-1, 3)
        sigma = np.full(x.grid.size, np.nan) if x.sigma is None else x.sigma.ravel()
        rows = zip(
            x.intensity.ravel(), sigma, a.grid.cell.reciprocal_lengths[0] * nodes[:, 0], strict=True
        )
        tables.append(
            {tuple(n): row for n, row in zip(nodes, rows, strict=True) if np.isfinite(row[0])}
        )
    keys = sorted(tables[0].keys() & tables[1].keys())
    metric = a.grid.cell.frac_matrix @ a.grid.cell.frac_matrix.T
    hkl = np.array(keys) / 12
    inv_d = np.sqrt(np.maximum(np.einsum("na,ab,nb->n", hkl, metric, hkl), 0))
    values = [np.array([table[key][0] for key in keys]) for table in tables]
    sigmas = [np.array([table[key][1] for key in keys]) for table in tables]
    return values, sigmas, inv_d


def off_means(values, inv_d):
    shell = np.floor(inv_d / 0.01 + 1e-9)
    return values - np.array([values[shell == s].mean() for s in shell])


def weighted_correlation(x, y, w):
    x, y = x - np.average(x, weights=w), y - np.average(y, weights=w)
    return (w * x * y).sum() / np.sqrt((w * x * x).sum() * (w * y * y).sum())


# --- 1 reference numbers -------------------------------------------------


def test_three_voxels_by_hand():
    # k = (1·2 + 2·3 + 4·7)/(4 + 9 + 49) = 36/62; R = Σ|a − k b|/7.
    grid = HklGrid(CELL, [1, 2, 3], [0], [0])
    a = DiffuseMap(grid, np.array([1, 2, 4.0]).reshape(3, 1, 1))
    b = DiffuseMap(grid, np.array([2, 3, 7.0]).reshape(3, 1, 1))
    table = compare(a, b, anisotropic=False, n_shells=1)
    k = 36 / 62
    assert_allclose(table.scale, k)
    assert_allclose(table.overall.r, (abs(1 - 2 * k) + abs(2 - 3 * k) + abs(4 - 7 * k)) / 7)
    # Deviations −4/3 −1/3 5/3 and −2 −1 3: 8 / √(42/9 · 14).
    assert_allclose(table.overall.cc, 8 / np.sqrt(42 / 9 * 14))
    assert table.overall.n == 3
    assert table.overall.weighted_cc is None
    assert table.shells[0] == table.overall


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("anisotropic", [True, False])
@pytest.mark.parametrize(
    ("first", "shape", "sampling"),
    [
        ((-4, -4, -4), (9, 9, 9), (1, 1, 1)),
        ((-5, -2, -3), (8, 7, 6), (1, 1, 1)),
        ((-7, -8, -9), (12, 15, 20), (2, 1, 3)),
    ],
    ids=["same", "even and off-centre", "other sampling"],
)
def test_matches_a_dictionary_of_hkl(first, shape, sampling, anisotropic):
    a = axes_map((-8, -4, -9), (16, 10, 17), (2, 1, 2), seed=1)
    b = axes_map(first, shape, sampling, seed=2)
    (x, y), (sigma_x, sigma_y), inv_d = brute_pairs(a, b)
    if anisotropic:
        x, y = off_means(x, inv_d), off_means(y, inv_d)
    inside = (inv_d <= 1 / 2.5) & (inv_d >= 1 / 9)
    k = (x * y)[inside].sum() / (y * y)[inside].sum()
    table = compare(a, b, d_max=9, d_min=2.5, anisotropic=anisotropic, n_shells=3)
    weights = 1 / (sigma_x**2 + k**2 * sigma_y**2)
    rows = [(table.overall, inside)]
    for number, row in enumerate(table.shells):
        low = 0 if number == 0 else (1 - 1e-9) / row.d_max
        high = 9 if number == 2 else (1 - 1e-9) / row.d_min
        rows.append((row, inside & (inv_d >= low) & (inv_d < high)))
    assert_allclose(table.scale, k, rtol=RTOL_ROUNDING)
    for row, used in rows:
        assert row.n == used.sum() > 5
        assert_allclose(row.cc, np.corrcoef(x[used], y[used])[0, 1], rtol=RTOL_ROUNDING)
        expected = weighted_correlation(x[used], y[used], weights[used])
        assert_allclose(row.weighted_cc, expected, rtol=RTOL_ROUNDING)
        r = np.abs(x - k * y)[used].sum() / np.abs(x[used]).sum()
        assert_allclose(row.r, r, rtol=RTOL_ROUNDING)


def test_common_voxels_are_the_shared_centres():
    a = HklGrid(CELL, np.arange(-4, 5) / 2, np.arange(0, 5) / 3, [0.5])
    b = HklGrid(CELL, np.arange(-3, 5) / 3, np.arange(-2, 9) / 2, np.arange(0, 9) / 4)
    grid, at_a, at_b = common_voxels(a, b)
    assert_allclose(grid.h, [-1, 0, 1])
    assert_allclose(grid.k, [0, 1])
    assert_allclose(grid.l, [0.5])
    assert grid.sampling == (1, 1, 2)
    assert_allclose(a.hkl()[at_a], grid.hkl())
    assert_allclose(b.hkl()[at_b], grid.hkl())


# --- 3 exact limits ------------------------------------------------------


def test_a_map_agrees_with_itself():
    a = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=3)
    table = compare(a, a)
    assert_allclose([table.overall.cc, table.overall.weighted_cc, table.scale], 1, rtol=1e-12)
    assert_allclose(table.overall.r, 0, atol=1e-12)
    assert sum(row.n for row in table.shells) == table.overall.n == a.measured.sum()


def test_a_map_that_does_not_vary_has_no_correlation():
    a = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=3)
    flat = dataclasses.replace(a, intensity=np.full(a.grid.shape, 0.3))
    for anisotropic in (True, False):
        table = compare(a, flat, anisotropic=anisotropic)
        assert np.isnan(table.overall.cc)
        assert np.isnan(table.overall.weighted_cc)


def test_the_isotropic_part_goes_before_the_limits():
    # 1/d = h/100, four voxels a shell of 0.01; d_min = 80 Å keeps six: a shell and half of one,
    # which keeps the mean of its four: residuals −1.5 −0.5, not −0.5 0.5.
    grid = HklGrid((100, 10, 10, 90, 90, 90), np.arange(0, 41) / 4, [0], [0])
    rising = np.arange(41.0).reshape(-1, 1, 1)
    bumpy = np.where(rising == 5, 100.0, rising)
    row = compare(DiffuseMap(grid, rising), DiffuseMap(grid, bumpy), d_min=80, n_shells=1).overall
    x = [-1.5, -0.5, 0.5, 1.5, -1.5, -0.5]
    y = [-1.5, -0.5, 0.5, 1.5, 4 - 117 / 4, 100 - 117 / 4]
    assert row.n == 6
    assert_allclose(row.cc, np.corrcoef(x, y)[0, 1])


def test_weights_of_one_map_and_voxels_without_errors():
    a = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=4)
    b = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=5, sigma=False)
    both = a.measured & b.measured
    x, y = a.intensity[both], b.intensity[both]
    expected = weighted_correlation(x, y, 1 / a.sigma[both] ** 2)
    assert_allclose(compare(a, b, anisotropic=False).overall.weighted_cc, expected)
    assert_allclose(compare(b, a, anisotropic=False).overall.weighted_cc, expected)
    sigma = a.sigma.copy()
    sigma[:4], sigma[4], sigma[5] = np.nan, 0.0, -1.0
    part = dataclasses.replace(a, sigma=sigma)
    weight = np.where(sigma > 0, 1 / a.sigma**2, 0.0)[both]
    found = compare(part, b, anisotropic=False).overall
    assert_allclose(found.weighted_cc, weighted_correlation(x, y, weight))
    assert_allclose(found.cc, compare(a, b, anisotropic=False).overall.cc)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(factor=st.floats(1e-4, 1e4))
def test_the_scale_of_a_map_does_not_matter(factor):
    a = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=6)
    b = axes_map((-3, -4, -2), (9, 6, 9), (1, 1, 1), seed=7)
    scaled = dataclasses.replace(b, intensity=factor * b.intensity, sigma=factor * b.sigma)
    here, there = compare(a, b), compare(a, scaled)
    assert_allclose(there.scale * factor, here.scale, rtol=RTOL_ROUNDING)
    for name in ("cc", "weighted_cc", "r"):
        found = getattr(there.overall, name)
        assert_allclose(found, getattr(here.overall, name), rtol=RTOL_ROUNDING)


def test_order_does_not_matter_for_correlations():
    a = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=8)
    b = axes_map((-3, -4, -2), (9, 6, 9), (1, 1, 1), seed=9)
    assert_allclose(compare(a, b).overall.cc, compare(b, a).overall.cc, rtol=RTOL_ROUNDING)


def test_voxels_measured_in_one_map_only_count_for_nothing():
    a = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=10)
    b = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=11)
    wild = np.where(b.measured | ~a.measured, a.intensity, 1e6)
    assert compare(dataclasses.replace(a, intensity=wild), b) == compare(a, b)


def test_rows_are_plain():
    a = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=12)
    table = dataclasses.asdict(compare(a, a, n_shells=4))
    assert len(json.loads(json.dumps(table))["shells"]) == 4


# --- 5 errors ------------------------------------------------------------


def test_maps_without_overlap_are_refused():
    a = axes_map((0, 0, 0), (3, 3, 3), (1, 1, 1), seed=13)
    far = axes_map((3, 0, 0), (3, 3, 3), (1, 1, 1), seed=13)
    with pytest.raises(InputError, match="expected maps that overlap, found no common h"):
        compare(a, far)
    holes = dataclasses.replace(a, intensity=np.where(a.measured, np.nan, 1.0))
    with pytest.raises(InputError, match="expected voxels measured in both maps, found none"):
        compare(a, holes)
    with pytest.raises(InputError, match="measured in both maps between None and 90 Å, found none"):
        compare(far, far, d_min=90)


def test_cells_that_differ_are_told_of(caplog):
    a = axes_map((0, 0, 0), (3, 3, 3), (1, 1, 1), seed=14)
    near = axes_map((0, 0, 0), (3, 3, 3), (1, 1, 1), seed=14, cell=(11.1, *CELL[1:]))
    with caplog.at_level(logging.WARNING):
        table = compare(a, near, anisotropic=False)
    assert "compare: cell a differs by 0.90 %" in caplog.text
    assert table.overall.n == (a.measured & near.measured).sum()
    other = axes_map((0, 0, 0), (3, 3, 3), (1, 1, 1), seed=14, cell=(11.5, *CELL[1:]))
    with pytest.raises(InputError, match=r"compare: cell a differs by 4.35 %"):
        compare(a, other)


def test_inputs_are_not_changed():
    a = axes_map((-4, -4, -4), (9, 9, 9), (1, 1, 1), seed=15)
    before = a.intensity.copy(), a.sigma.copy()
    compare(a, a)
    assert_array_equal(a.intensity, before[0])
    assert_array_equal(a.sigma, before[1])
