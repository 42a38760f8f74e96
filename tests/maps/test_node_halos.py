"""Halos around Bragg nodes: distances and means against a search over nodes."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import DiffuseMap, HklGrid, InputError, merge
from offbragg.maps.node_halos import node_halos
from offbragg.maps.radial import radial_profile
from offbragg.maps.shells import anisotropic_part

CELL = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)


def made_map(group="P 1", cell=CELL, sampling=(3, 2, 1), d_min=2.5):
    grid = HklGrid.from_resolution(cell, d_min, sampling)
    values = np.random.default_rng(0).normal(10, 2, grid.shape)
    return DiffuseMap(grid, np.where(grid.within(), values, np.nan), group)


def nearest_node(hkl, group, cell):
    """Distance [Å⁻¹, 2π included] of points from nodes that gemmi does not call absent."""
    operations = gemmi.SpaceGroup(group).operations()
    centring = [np.array(t) / 24 for t in operations.cen_ops]
    steps = np.arange(-3, 4)
    around = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    star = np.array(gemmi.UnitCell(*cell).frac.mat.tolist())
    found = np.empty(len(hkl))
    for number, point in enumerate(hkl):
        nodes = np.rint(point) + around
        kept = np.all([np.abs(nodes @ t - np.rint(nodes @ t)) < 1e-6 for t in centring], axis=0)
        found[number] = np.min(np.linalg.norm((nodes[kept] - point) @ star, axis=1))
    return 2 * np.pi * found


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(
    ("group", "cell"),
    [
        ("P 1", CELL),
        ("I 2 2 2", (11.0, 13.0, 17.0, 90, 90, 90)),
        ("R 3:H", (12.0, 12.0, 21.0, 90, 90, 120)),
    ],
)
def test_means_are_those_of_voxels_as_far_from_their_node(group, cell):
    sampling = (3, 3, 2) if "R" in group else (3, 2, 1)
    observed = made_map(group, cell, sampling, d_min=3.5)
    (halo,) = node_halos(observed)
    measured = observed.measured & (observed.grid.inv_d() > 0)
    distance = nearest_node(observed.grid.hkl()[measured], group, cell)
    values = observed.intensity[measured]
    for at, mean, error, n in zip(halo.distance, halo.mean, halo.error, halo.n, strict=True):
        own = np.abs(distance - at) < 1e-6
        assert n == own.sum()
        if n > 1:
            assert mean == pytest.approx(values[own].mean())
            assert error == pytest.approx(values[own].std() / np.sqrt(n - 1), rel=1e-6)
    assert halo.n.sum() == measured.sum()


def test_bins_shells_and_limits():
    observed = made_map(sampling=(4, 4, 4), d_min=3.0)
    halos = node_halos(observed, 12.0, 3.2, 2, width=0.1)
    inv_d = observed.grid.inv_d()
    used = observed.measured & (inv_d > 0) & (inv_d >= 1 / 12) & (inv_d <= 1 / 3.2)
    distance = nearest_node(observed.grid.hkl()[used], "P 1", CELL)
    low, high = inv_d[used].min(), inv_d[used].max()
    middle = np.cbrt((low**3 + high**3) / 2)
    for halo, own in zip(halos, (inv_d[used] < middle, inv_d[used] >= middle), strict=True):
        values, binned = observed.intensity[used][own], np.floor(distance[own] / 0.1 + 1e-9)
        present = halo.n > 0
        expected = [values[binned == b].mean() for b in np.unique(binned)]
        assert_allclose(halo.mean[present], expected)
        assert np.all(np.diff(halo.distance) > 0)
    assert (halos[0].d_max, halos[1].d_min) == pytest.approx((1 / low, 1 / high))
    assert halos[0].d_min == halos[1].d_max == pytest.approx(1 / middle)


def test_a_halo_of_known_shape_is_found():
    observed = made_map("I 1 2 1", (11.0, 13.0, 17.0, 90, 99, 90), (2, 3, 3), d_min=4.0)
    distance = nearest_node(observed.grid.hkl().reshape(-1, 3), "I 1 2 1", observed.cell)
    shape = np.exp(-8 * distance**2).reshape(observed.grid.shape)
    (halo,) = node_halos(replace(observed, intensity=np.where(observed.measured, shape, np.nan)))
    assert len(halo.distance) > 8
    known = halo.n > 0
    assert_allclose(halo.mean[known], np.exp(-8 * halo.distance[known] ** 2), rtol=1e-6)


# --- 3 exact limits ------------------------------------------------------


def test_an_isotropic_map_has_flat_halos_once_its_mean_is_off():
    observed = made_map(sampling=(3, 3, 3))
    flat = replace(observed, intensity=np.floor(observed.grid.inv_d() / 0.01 + 1e-9))
    (halo,) = node_halos(flat, profile=radial_profile(flat))
    assert not np.any(halo.mean)


def test_the_anisotropic_part_is_that_of_the_map():
    observed = made_map(sampling=(2, 2, 2))
    part = anisotropic_part(observed.intensity, observed.grid.inv_d())
    expected = node_halos(replace(observed, intensity=part))[0].mean
    assert_allclose(node_halos(observed, profile=radial_profile(observed))[0].mean, expected)


# --- 4 invariances -------------------------------------------------------


def test_copies_in_a_merged_map_do_not_shrink_the_error():
    observed = made_map("P 1 2 1", (11.0, 13.0, 17.0, 90, 99, 90), (2, 2, 2))
    (whole,) = node_halos(observed)
    (merged,) = node_halos(merge(observed).map)
    # Of 4 equivalents: the spread halves, and so does the root of the number.
    ratio = merged.error[whole.n > 500] / whole.error[whole.n > 500]
    assert_allclose(ratio, 1.0, atol=0.15)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_shells": 0}, "n_shells must be >= 1, got 0"),
        ({"width": 0.0}, "width must be > 0 Å⁻¹, got 0"),
        ({"d_min": -1.0}, "d_min must be > 0 Å, got -1"),
        ({"d_min": 50.0}, "expected voxels measured between None and 50.0 Å, got none"),
    ],
)
def test_what_cannot_be_averaged_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        node_halos(made_map(), **options)
