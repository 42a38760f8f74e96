"""Indexing: maps of crystals that were indexed in different ways come to one."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import DiffuseMap, HklGrid, InputError, merge
from offbragg.crystal.cell import Cell
from offbragg.crystal.symmetry import laue_rotations
from offbragg.maps.indexing import agree_on_indexing, indexing_choices, match_indexing
from offbragg.maps.symmetrize import apply_operation

CELL = Cell(24.0, 24.0, 30.0, 90.0, 90.0, 90.0)
SWAPPED = "k,h,-l"


def crystal(seed, operation="h,k,l", noise=0.5, space_group="P 41"):
    """The same intensities, of another crystal: other noise, some voxels missing, another mode."""
    grid = HklGrid.from_resolution(CELL, 3.0)
    values = np.random.default_rng(0).gamma(4.0, 25.0, grid.shape)
    truth = merge(DiffuseMap(grid, np.where(grid.within(), values, np.nan), space_group)).map
    rng = np.random.default_rng(seed)
    noisy = truth.intensity + noise * 50.0 * rng.normal(size=grid.shape)
    noisy[rng.random(grid.shape) < 0.3] = np.nan
    seen = DiffuseMap(grid, noisy, space_group, sigma=np.full(grid.shape, 50.0 * noise))
    return apply_operation(seen, operation)


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "space_group", "n"),
    [
        # merohedral twin laws of the point groups (Flack, 1987), and by accident of the cell
        ((50, 50, 60, 90, 90, 90), "P 41", 2),
        ((50, 50, 60, 90, 90, 90), "P 43 21 2", 1),
        ((50, 50, 60, 90, 90, 120), "P 31", 4),
        ((50, 50, 60, 90, 90, 120), "P 31 2 1", 2),
        ((50, 50, 60, 90, 90, 120), "P 61", 2),
        ((50, 50, 50, 90, 90, 90), "P 2 3", 2),
        ((50, 50.2, 60, 90, 90, 90), "P 21 21 21", 2),
        ((50, 55, 60, 90, 90, 90), "P 21 21 21", 1),
        ((50, 55, 60, 90, 90.1, 90), "P 1 21 1", 2),
        ((50, 55, 60, 80, 95, 102), "P 1", 1),
    ],
)
def test_there_are_as_many_choices_as_cosets(cell, space_group, n):
    choices = indexing_choices(Cell(*cell), space_group)
    assert len(choices) == n
    assert np.array_equal(choices[0], np.eye(3))


# --- 1 known truth -------------------------------------------------------


def test_a_crystal_in_the_other_mode_is_told():
    reference = crystal(1)
    for operation, best in (("h,k,l", 0), (SWAPPED, 1)):
        match = match_indexing(crystal(2, operation), reference)
        assert match.best == best
        assert match.cc[best] > 0.5
        assert abs(match.cc[1 - best]) < 0.3  # voxels with h = k are the same in both
        assert match.lead == pytest.approx(match.cc[best] - match.cc[1 - best])


def test_the_operation_found_puts_a_map_right():
    reference, other = crystal(1), crystal(2, SWAPPED)
    match = match_indexing(other, reference)
    right = apply_operation(other, match.operations[match.best])
    assert match_indexing(right, reference).best == 0


def test_crystals_come_to_the_first_ones_indexing():
    modes = [SWAPPED, "h,k,l", "h,k,l", SWAPPED, "h,k,l"]
    matches = agree_on_indexing([crystal(n, mode, noise=1.0) for n, mode in enumerate(modes)])
    assert [match.best for match in matches] == [0, 1, 1, 0, 1]
    assert [match.sure for match in matches] == [0, 1, 1, 0, 1]
    assert all(match.lead > 0.2 for match in matches)


def test_a_map_that_cannot_tell_keeps_its_indexing():
    """Of noise one way agrees better by chance; that is not sure."""
    reference = crystal(1)
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(size=reference.grid.shape)
        stranger = replace(reference, intensity=np.where(reference.measured, noise, np.nan))
        assert match_indexing(stranger, reference).sure == 0


# --- 3 exact limits ------------------------------------------------------


def test_where_there_is_one_way_it_is_that():
    lone = crystal(1, space_group="P 43 21 2")
    match = match_indexing(lone, lone)
    assert match.operations == ("h,k,l",)
    assert match.lead == np.inf


# --- 4 invariances -------------------------------------------------------


def test_the_choices_are_no_equivalents_of_each_other():
    laue = {r.tobytes() for r in laue_rotations("P 31")}
    choices = indexing_choices(Cell(50, 50, 60, 90, 90, 120), "P 31")
    for i, one in enumerate(choices):
        for other in choices[:i]:
            between = np.rint(one @ np.linalg.inv(other)).astype(np.int64)
            assert np.ascontiguousarray(between).tobytes() not in laue


def test_a_scale_does_not_matter():
    reference, other = crystal(1), crystal(2, SWAPPED)
    scaled = replace(other, intensity=7.0 * other.intensity + 3.0)
    assert np.allclose(match_indexing(scaled, reference).cc, match_indexing(other, reference).cc)


# --- 5 errors ------------------------------------------------------------


def test_no_maps_are_refused():
    with pytest.raises(InputError, match="expected at least one map, got none"):
        agree_on_indexing([])
