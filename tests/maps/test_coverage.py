"""What a map covers: shares against a count voxel by voxel, and shapes of known size."""

import numpy as np
import pytest

from offbragg import DiffuseMap, HklGrid, InputError
from offbragg.crystal.symmetry import laue_rotations, rotate_hkl
from offbragg.maps import coverage as coverage_module
from offbragg.maps.coverage import map_coverage
from offbragg.maps.missing_shape import missing_shape

CELL = (22.0, 26.0, 24.0, 90.0, 98.0, 90.0)
ANGLE, DIRECTION = 2.0, 4.0  # degrees: parts of the sphere are 4° wide
CHANCE = 0.005  # of 20 000 voxels in place of all: three standard errors


def with_mask(gone, cell=CELL, group="P 1", d_min=3.0, sampling=(2, 2, 2)):
    grid = HklGrid.from_resolution(cell, d_min, sampling)
    return DiffuseMap(grid, np.where(grid.within() & ~gone(grid), 1.0, np.nan), group)


def unit_vectors(n=30000, seed=0):
    u = np.random.default_rng(seed).normal(size=(n, 3))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


# --- 1 reference numbers, 2 independent oracle ---------------------------------


@pytest.mark.parametrize("group", ["P 1", "P 1 2 1", "P 2 2 2"])
def test_shares_are_those_of_a_count_with_equivalents_filled_in(group):
    cell = (22.0, 26.0, 24.0, 90.0, 90.0, 90.0)
    made = with_mask(
        lambda grid: np.random.default_rng(3).random(grid.shape) < 0.7, cell, group, d_min=4.0
    )
    grid, rotations = made.grid, laue_rotations(group)
    covered, on_node = [], []
    for index in zip(*np.nonzero(grid.within()), strict=True):
        hkl = np.array([axis[i] for axis, i in zip((grid.h, grid.k, grid.l), index, strict=True)])
        places, inside = grid.index_of(np.array([rotate_hkl(hkl, r) for r in rotations]))
        covered.append(any(made.measured[tuple(p)] for p in places[inside]))
        on_node.append(np.allclose(hkl, np.rint(hkl)))
    covered, on_node = np.array(covered), np.array(on_node)
    found = map_coverage(made)
    assert found.nodes == pytest.approx(covered[on_node].mean())
    assert found.between == pytest.approx(covered[~on_node].mean())


# --- 3 exact limits ------------------------------------------------------------


def test_a_whole_map_lacks_nothing():
    found = map_coverage(with_mask(lambda grid: np.zeros(grid.shape, bool)))
    assert (found.between, found.nodes, found.directions) == (1.0, 1.0, 1.0)
    assert (found.hole_d, found.outer_d, found.outer_covered, found.shape) == (None,) * 4


def test_where_every_voxel_is_a_node_nodes_are_as_others():
    found = map_coverage(with_mask(lambda grid: grid.inv_d() < 0, sampling=(1, 1, 1), d_min=2.0))
    assert found.nodes is None
    assert found.between == 1.0


def test_nodes_that_are_left_out_are_told_from_the_others():
    found = map_coverage(with_mask(HklGrid.is_node))
    assert (found.between, found.nodes, found.shape) == (1.0, 0.0, None)


def test_a_hole_and_an_outer_shell():
    found = map_coverage(
        with_mask(lambda grid: (grid.inv_d() < 0.1) | (grid.inv_d() > 0.28), sampling=(4, 4, 4))
    )
    assert found.hole_d == pytest.approx(10.0, rel=0.1)
    assert found.outer_d == pytest.approx(1 / 0.28, rel=0.04)
    assert found.outer_covered < 0.05
    assert found.shape is None


@pytest.mark.parametrize("seed", range(4))
def test_wedges_and_cones_are_found_wherever_they_lie(seed):
    rng = np.random.default_rng(seed)
    axis, width = rng.normal(size=3), rng.uniform(25.0, 150.0)
    axis /= np.linalg.norm(axis)
    across = np.cross(axis, [0.3, 0.9, 0.31])
    across /= np.linalg.norm(across)
    u = unit_vectors()
    azimuth = np.degrees(np.arctan2(u @ np.cross(axis, across), u @ across))
    wedge = missing_shape(u, azimuth % 180.0 < width)
    assert (wedge.kind, wedge.n) == ("wedge", 2)
    single = missing_shape(u, azimuth % 360.0 < width)
    assert (single.kind, single.n) == ("wedge", 1)
    half = width / 2
    cone = missing_shape(u, np.abs(u @ axis) > np.cos(np.radians(half)))
    assert (cone.kind, cone.n) == ("cone", 1)
    for found, size in ((wedge, width), (single, width), (cone, half)):
        assert found.angle == pytest.approx(size, abs=ANGLE)
        assert abs(found.axis @ axis) > np.cos(np.radians(DIRECTION))
        assert found.explained > 0.75


def test_what_has_no_shape_is_given_none():
    u = unit_vectors()
    assert missing_shape(u, np.random.default_rng(1).random(len(u)) < 0.5) is None
    eight = np.all(np.abs(u) > 0.4, axis=1)  # around the corners of a cube
    assert missing_shape(u, eight) is None
    assert missing_shape(u, np.zeros(len(u), bool)) is None


# --- 4 invariances ---------------------------------------------------------------


def test_the_symmetry_fills_what_it_can():
    def half(grid):
        return grid.k[None, :, None] + 0 * grid.inv_d() > 0.1

    # Friedel's law gives what lies beyond k = 0 back.
    assert map_coverage(with_mask(half)).between == pytest.approx(1.0)


def test_some_voxels_tell_what_all_tell(monkeypatch):
    made = with_mask(lambda grid: np.abs(grid.hkl()[..., 1]) > 0.7 * grid.inv_d() * 26.0)
    whole = map_coverage(made)
    monkeypatch.setattr(coverage_module, "MOST_VOXELS", 20_000)
    some = map_coverage(made, np.random.default_rng(5))
    assert some.between == pytest.approx(whole.between, abs=CHANCE)
    assert some.shape.kind == whole.shape.kind
    assert some.shape.angle == pytest.approx(whole.shape.angle, abs=ANGLE)


# --- 5 errors ----------------------------------------------------------------------


def test_a_map_of_nothing_is_refused():
    grid = HklGrid.from_resolution(CELL, 6.0)
    with pytest.raises(InputError, match="expected at least one measured voxel, got none"):
        map_coverage(DiffuseMap(grid, np.full(grid.shape, np.nan)))


def test_a_group_that_does_not_fit_is_refused():
    grid = HklGrid.from_resolution((20, 20, 30, 90, 90, 90), 6.0, (2, 1, 1))
    with pytest.raises(InputError, match=r"sampling \(2, 1, 1\) does not fit the group 4/m"):
        map_coverage(DiffuseMap(grid, np.ones(grid.shape), "P 4"))
