"""Radial profiles in slabs, and planes of a map: the same as from the whole array."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import DiffuseMap, HklGrid, InputError
from offbragg.maps import radial
from offbragg.maps.radial import radial_profile
from offbragg.maps.section import take_section
from offbragg.maps.shells import anisotropic_part

CELL = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)
# Sums in another order of float64.
ROUNDING = 1e-11


@pytest.fixture
def observed():
    """A map with holes, σ and no symmetry."""
    rng = np.random.default_rng(1)
    grid = HklGrid.from_resolution(CELL, 2.5, (2, 1, 3))
    values = rng.normal(10, 2, grid.shape)
    values[~grid.within() | (rng.random(grid.shape) < 0.2)] = np.nan
    sigma = rng.uniform(0.5, 2, grid.shape)
    sigma[0, 0] = np.nan
    return DiffuseMap(grid, values, sigma=sigma)


class Watch:
    """Progress that counts."""

    def __init__(self):
        self.total, self.done = 0, 0

    def start(self, what, total):
        self.total, self.done = total, 0

    def step(self, n=1):
        self.done += n


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("voxels", [1, 1 << 22])
def test_means_are_those_of_each_shell(observed, monkeypatch, voxels):
    monkeypatch.setattr(radial, "_VOXELS", voxels)  # a plane at a time, or all at once
    watch = Watch()
    found = radial_profile(observed, 0.02, watch)
    assert watch.done == watch.total == (len(observed.grid.h) if voxels == 1 else 1)
    measured = observed.measured
    inv_d, values = observed.grid.inv_d()[measured], observed.intensity[measured]
    sigma = observed.sigma[measured]
    shell = np.floor(inv_d / 0.02 + 1e-9).astype(int)
    assert len(found.mean) == shell.max() + 1
    for number in range(shell.max() + 1):
        own = shell == number
        assert found.n[number] == own.sum()
        if own.any():
            expected = [inv_d[own].mean(), values[own].mean(), values[own].std(),
                        np.sqrt(np.nanmean(sigma[own] ** 2))]  # fmt: skip
            got = [found.inv_d[number], found.mean[number], found.variation[number],
                   found.sigma[number]]  # fmt: skip
            assert_allclose(got, expected, rtol=1e-9, atol=1e-7)
        else:
            assert np.isnan(found.mean[number])


def test_what_varies_is_the_anisotropic_part(observed):
    inv_d = observed.grid.inv_d()
    found = radial_profile(observed).varying(observed.intensity, inv_d)
    assert_allclose(found, anisotropic_part(observed.intensity, inv_d), atol=ROUNDING)


@pytest.mark.parametrize(("plane", "axis"), [("hk", 2), ("hl", 1), ("kl", 0)])
def test_resolutions_of_a_plane_are_those_of_its_voxels(observed, plane, axis):
    section = take_section(observed, plane, 1.0)
    grid = observed.grid
    index = int(np.argmin(np.abs((grid.h, grid.k, grid.l)[axis] - 1.0)))
    assert_allclose(section.inv_d(), np.take(grid.inv_d(), index, axis=axis).T, atol=1e-14)
    assert_array_equal(section.values, np.take(observed.intensity, index, axis=axis).T)


# --- 3 exact limits ------------------------------------------------------


def test_an_isotropic_map_does_not_vary(observed):
    inv_d = observed.grid.inv_d()
    flat = replace(observed, intensity=1e5 * np.floor(inv_d / 0.01 + 1e-9))
    found = radial_profile(flat)
    assert not np.any(found.varying(flat.intensity, inv_d))


def test_a_map_without_values_has_no_shells(observed):
    empty = replace(observed, intensity=np.full(observed.grid.shape, np.nan))
    found = radial_profile(empty)
    assert len(found.mean) == 0
    assert np.all(np.isnan(found.varying(empty.intensity, observed.grid.inv_d())))


# --- 5 errors ------------------------------------------------------------


def test_other_planes_are_refused(observed):
    with pytest.raises(InputError, match="plane must be one of hk hl kl, got 'lk'"):
        take_section(observed, "lk")
    with pytest.raises(InputError, match="width must be > 0"):
        radial_profile(observed, 0.0)
