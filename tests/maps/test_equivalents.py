"""Orbits of equivalent voxels: numbers by hand, a dictionary as the oracle, limits, errors."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import check_group_fits_cell, laue_rotations, laue_symbol
from offbragg.errors import InputError
from offbragg.maps.equivalents import (
    covering_grid,
    gather_observations,
    symmetry_orbits,
)

CUBE = (10, 10, 10, 90, 90, 90)
HEXAGONAL = (10, 10, 12, 90, 90, 120)


def representatives(orbits, size):
    """Smallest flat index of each voxel's orbit."""
    found = np.empty(size, dtype=int)
    for orbit in orbits:
        found[orbit] = min(orbit)
    return found


# --- 1 reference numbers -------------------------------------------------


def test_threefold_axis_by_hand():
    # International Tables, P 3: hkl, k i l and i h l are equivalent, with i = -h-k.
    grid = HklGrid(HEXAGONAL, *[np.arange(-3, 4)] * 3)
    orbit = symmetry_orbits(grid, laue_rotations("P 31"))
    one, two, three = (tuple(np.array(hkl) + 3) for hkl in ((1, 2, 3), (2, -3, 3), (-3, 1, 3)))
    assert orbit[one] == orbit[two] == orbit[three]
    # R h in place of h R would make (-2, -1, 3) equivalent to (1, 2, 3).
    assert orbit[1, 2, 6] != orbit[one]


def test_columns_in_place_of_rows_are_found_out(orbits_of):
    grid = HklGrid(HEXAGONAL, *[np.arange(-3, 4)] * 3)
    rotations = laue_rotations("P 31")
    expected = representatives(orbits_of(grid, "P 31"), grid.size)
    assert_array_equal(symmetry_orbits(grid, rotations).ravel(), expected)
    transposed = symmetry_orbits(grid, rotations.transpose(0, 2, 1)).ravel()
    assert np.mean(transposed != expected) > 0.5


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("sampling", [1, 2])
def test_matches_a_dictionary_of_orbits(space_group, box, sampling, grid_of, orbits_of):
    grid = grid_of(space_group, box, sampling)
    expected = representatives(orbits_of(grid, space_group), grid.size)
    found = symmetry_orbits(grid, laue_rotations(space_group))
    assert_array_equal(found.ravel(), expected)


def test_sampling_may_differ_where_axes_are_not_mixed(orbits_of):
    grid = HklGrid(
        (10, 10, 12, 90, 90, 90), np.arange(-4, 5) / 2, np.arange(-4, 5) / 2, np.arange(-3, 4) / 3
    )
    expected = representatives(orbits_of(grid, "P 41"), grid.size)
    assert_array_equal(symmetry_orbits(grid, laue_rotations("P 41")).ravel(), expected)


def test_blocks_of_rows_change_nothing(monkeypatch, grid_of):
    grid = grid_of("P 31", ((-3, -3, -3), (7, 7, 7)))
    whole = symmetry_orbits(grid, laue_rotations("P 31"))
    for n_voxels in (1, 100):
        monkeypatch.setattr("offbragg.maps.equivalents._CHUNK_VOXELS", n_voxels)
        assert_array_equal(symmetry_orbits(grid, laue_rotations("P 31")), whole)


# --- 3 exact limits ------------------------------------------------------


def test_a_grid_without_friedel_mates_has_single_voxels():
    grid = HklGrid(CUBE, [1, 2], [0, 1], [1, 2, 3])
    assert_array_equal(symmetry_orbits(grid, laue_rotations("P 1")).ravel(), np.arange(12))


def test_representatives_represent_themselves(space_group, box, grid_of):
    orbit = symmetry_orbits(grid_of(space_group, box), laue_rotations(space_group)).ravel()
    assert_array_equal(orbit[orbit], orbit)
    assert np.all(orbit <= np.arange(len(orbit)))


def test_observations_of_two_maps_meet_in_one_orbit(map_of):
    a = map_of("P 41", ((0, 0, 0), (3, 3, 3)), holes=0)
    b = map_of("P 41", ((-2, -2, -2), (3, 3, 3)), holes=0)
    observations = gather_observations([a, b], "4/m")
    assert observations.grid.shape == (5, 5, 5)
    # h k l = (1, 2, 1) is in a, its mates (-1, -2, -1) and (-2, 1, -1) … only the first in b.
    first = np.ravel_multi_index((3, 4, 3), (5, 5, 5))
    mate = np.ravel_multi_index((1, 0, 1), (5, 5, 5))
    orbit_of = dict(zip(observations.flat.tolist(), observations.orbit.tolist(), strict=True))
    assert orbit_of[first] == orbit_of[mate]
    assert observations.members()[orbit_of[first]] == 2


def test_first_observation_of_each_orbit(map_of):
    observations = gather_observations([map_of("P 41", ((-2, -2, -2), (5, 5, 5)))], "4/m")
    expected = [np.flatnonzero(observations.orbit == i)[0] for i in range(observations.n_orbits)]
    assert_array_equal(observations.first(), expected)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize(
    "symbol",
    ["P 41", "P 31", "P 31 1 2", "P 32 2 1", "C 1 2 1", "P 1 1 2", "R 3:R", "P 21 3", "B 2 1 1"],
)
def test_a_laue_symbol_gives_its_operations_back(symbol):
    again = laue_rotations(laue_symbol(symbol))
    assert_array_equal(again, laue_rotations(symbol))


# --- 5 errors ------------------------------------------------------------


def test_unequal_sampling_of_mixed_axes_is_refused():
    grid = HklGrid((10, 10, 12, 90, 90, 90), [0, 0.5], [0, 1], [0])
    with pytest.raises(
        InputError, match=r"must be equal on axes that the symmetry mixes, got \(2, 1, 1\)"
    ):
        symmetry_orbits(grid, laue_rotations("P 41"))


@pytest.mark.parametrize(
    ("cell", "group"),
    [((10, 11, 12, 90, 90, 90), "4/m"), ((10, 11, 12, 90, 95, 90), "mmm"), (CUBE, "-3")],
)
def test_a_group_that_does_not_fit_the_cell_is_refused(cell, group):
    grid = HklGrid(cell, [0], [0], [0])
    with pytest.raises(InputError, match=f"laue_group {group} does not fit the cell"):
        check_group_fits_cell(grid.cell, laue_rotations(group), f"laue_group {group}")


def test_unlike_samplings_and_cells_are_refused():
    one, two = HklGrid(CUBE, [0, 1], [0], [0]), HklGrid(CUBE, [0, 0.5], [0], [0])
    with pytest.raises(InputError, match=r"one sampling, got \(1, 1, 1\) and \(2, 1, 1\)"):
        covering_grid([one, two])
    far = HklGrid((10.4, 10, 10, 90, 90, 90), [0, 1], [0], [0])
    with pytest.raises(InputError, match=r"maps: cell a differs by 3.85 %"):
        covering_grid([one, far])
