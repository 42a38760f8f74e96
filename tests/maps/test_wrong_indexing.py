"""Wrong indexing: of the same symmetry as the map, and a stranger to it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import DiffuseMap, HklGrid, InputError, compare, merge
from offbragg.crystal.cell import Cell
from offbragg.crystal.symmetry import lattice_rotations, laue_rotations
from offbragg.maps.equivalents import symmetry_orbits
from offbragg.maps.wrong_indexing import wrongly_indexed

CELLS = {
    "P 1": (21.0, 23.0, 26.0, 82.0, 95.0, 104.0),
    "P 1 21 1": (21.0, 24.0, 27.0, 90.0, 105.0, 90.0),
    "P 21 21 21": (20.0, 23.0, 27.0, 90.0, 90.0, 90.0),
    "P 43": (22.0, 22.0, 27.0, 90.0, 90.0, 90.0),
    "P 43 21 2": (22.0, 22.0, 27.0, 90.0, 90.0, 90.0),
    "P 31": (22.0, 22.0, 27.0, 90.0, 90.0, 120.0),
    "P 61 2 2": (22.0, 22.0, 27.0, 90.0, 90.0, 120.0),
    "P 2 3": (22.0, 22.0, 22.0, 90.0, 90.0, 90.0),
}
MEASURED = 0.6  # of these few voxels many lie on mirrors
FOUR = 4.0  # standard errors of a correlation of noise
# Of a voxel: a nearest one is off by so much along each axis at most.
NEAREST = 0.5 + 1e-9


def symmetric_map(space_group, sampling=1, d_min=2.6):
    """Noise with an isotropic part, merged by the Laue group."""
    grid = HklGrid.from_resolution(CELLS[space_group], d_min, sampling)
    values = np.random.default_rng(0).normal(100, 10, grid.shape) * np.exp(-grid.inv_d())
    inside = np.where(grid.within(), values, np.nan)
    count = np.where(grid.within(), 3, 0).astype(np.int32)
    made = DiffuseMap(grid, inside, space_group, sigma=np.ones(grid.shape), count=count)
    return merge(made).map


# --- 1 reference numbers -------------------------------------------------


def test_in_a_tetragonal_cell_h_and_k_change_places():
    observed = symmetric_map("P 43")
    wrong = wrongly_indexed(observed)
    swapped = observed.intensity.transpose(1, 0, 2).copy()
    # Where h = ±k, h = 0 or k = 0 the right value would come.
    hkl = np.abs(observed.grid.hkl())
    swapped[(hkl[..., 0] == hkl[..., 1]) | (hkl[..., 0] == 0) | (hkl[..., 1] == 0)] = np.nan
    assert_allclose(wrong.intensity, swapped)
    assert_array_equal(wrong.count, observed.count.transpose(1, 0, 2))


def test_lattices_have_the_symmetry_of_their_holohedry():
    n = {"P 1": 2, "P 1 21 1": 4, "P 21 21 21": 8, "P 43": 16, "P 31": 24, "P 2 3": 48}
    for space_group, cell in CELLS.items():
        if space_group in n:
            found = lattice_rotations(Cell(*cell))
            assert len(found) == n[space_group]
            known = {tuple(r.ravel()) for r in found}
            assert {tuple(r.ravel()) for r in laue_rotations(space_group)} <= known
    # Within 3 %: the closest first.
    nearly = lattice_rotations(Cell(22.0, 22.4, 27.0, 90.0, 90.0, 90.0))
    assert len(nearly) == 16
    assert all(np.count_nonzero(r) == 3 and abs(r[0, 0]) == 1 for r in nearly[:8])


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("space_group", CELLS)
@pytest.mark.parametrize("sampling", [1, (2, 2, 1)])
def test_it_is_a_stranger_of_the_same_symmetry(space_group, sampling):
    if space_group == "P 2 3" and sampling != 1:
        sampling = 2
    observed = symmetric_map(space_group, sampling, d_min=2.6 if sampling == 1 else 4.0)
    wrong = wrongly_indexed(observed)
    assert wrong.laue_group == observed.laue_group
    assert wrong.space_group == observed.space_group
    assert wrong.cell == observed.cell
    # Most of it is measured, and equivalents are equal.
    assert np.count_nonzero(wrong.measured) > MEASURED * np.count_nonzero(observed.measured)
    orbits = symmetry_orbits(wrong.grid, laue_rotations(space_group)).ravel()
    values = wrong.intensity.ravel()
    assert_allclose(values, values[orbits])
    # Every pair of orbits that change places counts once.
    n_pairs = len(np.unique(orbits[wrong.measured.ravel()])) / 2
    assert abs(compare(observed, wrong).overall.cc) < FOUR / np.sqrt(n_pairs)
    # The profile over resolution stays.
    assert compare(observed, wrong, anisotropic=False).overall.cc > 0.2


@pytest.mark.parametrize("space_group", ["P 1", "P 1 21 1", "P 21 21 21", "P 43 21 2"])
def test_a_turn_takes_the_nearest_voxel_of_its_own_resolution(space_group):
    # A map of the resolution itself comes back to within a voxel.
    grid = HklGrid.from_resolution(CELLS[space_group], 3.0)
    inv_d = np.where(grid.within(), grid.inv_d(), np.nan)
    wrong = wrongly_indexed(DiffuseMap(grid, inv_d, space_group))
    off = np.abs(wrong.intensity - grid.inv_d())[wrong.measured]
    assert off.max() <= NEAREST * grid.cell.reciprocal_lengths.sum()
    assert off.max() > 0.0


def test_holes_stay_holes_and_nothing_is_changed():
    observed = symmetric_map("P 1 21 1")
    hole = observed.intensity.copy()
    hole[observed.grid.inv_d() < 0.15] = np.nan
    holed = replace(observed, intensity=hole)
    before = hole.copy()
    wrong = wrongly_indexed(holed)
    assert not wrong.measured[wrong.grid.inv_d() < 0.1].any()
    assert_array_equal(holed.intensity, before)


# --- 5 errors ------------------------------------------------------------


def test_a_cubic_map_of_the_highest_symmetry_has_none():
    grid = HklGrid.from_resolution(CELLS["P 2 3"], 4.0)
    observed = DiffuseMap(grid, np.ones(grid.shape), "P 4 3 2")
    with pytest.raises(InputError, match="no wrong indexing keeps the Laue group m-3m"):
        wrongly_indexed(observed)
