"""Merging: numbers by hand, a dictionary of orbits as the oracle, limits, invariances, errors."""

import dataclasses
import logging

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import laue_rotations
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.symmetrize import apply_operation, merge
from offbragg.maps.unique_voxels import unique_voxels

RTOL_ROUNDING = 1e-12  # the same sums in another order
CUBE = (10, 10, 10, 90, 90, 90)


def brute_merge(diffuse_map, orbits):
    """Means over the orbits' measured voxels, one orbit at a time: rows of a table."""
    rows = []
    for orbit in orbits:
        values = {}
        measured = [i for i in orbit if np.isfinite(diffuse_map.intensity.flat[i])]
        if not measured:
            continue
        n = np.array(
            [1 if diffuse_map.count is None else diffuse_map.count.flat[i] for i in measured],
            dtype=float,
        )
        for name in ("intensity", "half_1", "half_2"):
            if (array := getattr(diffuse_map, name)) is not None:
                x = np.array([array.flat[i] for i in measured])
                there = ~np.isnan(x)
                weight = n[there].sum()
                values[name] = (n[there] * x[there]).sum() / weight if weight else np.nan
        if diffuse_map.sigma is not None:
            s = np.array([diffuse_map.sigma.flat[i] for i in measured])
            values["sigma"] = np.sqrt((n**2 * s**2).sum()) / n.sum()
        if diffuse_map.count is not None:
            values["count"] = n.sum()
        rows.append((orbit, measured, values))
    return rows


def check_against_rows(merged, source, rows, space_group):
    """The merged map holds the rows at all equivalents, and nothing else."""
    operations = list(gemmi.SpaceGroup(space_group).operations())
    filled = np.zeros(merged.grid.shape, dtype=bool)
    for _, measured, values in rows:
        start = np.array(np.unravel_index(measured[0], source.grid.shape)) + source.grid.first_index
        nodes = {tuple(op.apply_to_hkl([int(x) for x in start])) for op in operations}
        nodes |= {tuple(-x for x in node) for node in nodes}
        for node in nodes:
            place = tuple(np.array(node) - merged.grid.first_index)
            assert min(place) >= 0
            filled[place] = True
            for name, value in values.items():
                found = getattr(merged, name)[place]
                assert_allclose(found, value, rtol=RTOL_ROUNDING, err_msg=name)
    assert_array_equal(np.isfinite(merged.intensity), filled)


# --- 1 reference numbers -------------------------------------------------


def test_two_friedel_mates_by_hand():
    # 1 pixel of 8 ± 2 and 3 pixels of 4 ± 1: (8 + 3·4)/4 = 5, √(4 + 9·1)/4 = 0.901388.
    grid = HklGrid(CUBE, [-1, 0, 1], [0], [0])
    observed = DiffuseMap(
        grid,
        np.array([8.0, np.nan, 4.0]).reshape(3, 1, 1),
        sigma=np.array([2.0, np.nan, 1.0]).reshape(3, 1, 1),
        count=np.array([1, 0, 3]).reshape(3, 1, 1),
    )
    merged = merge(observed).map
    assert_allclose(merged.intensity.ravel(), [5, np.nan, 5])
    assert_allclose(merged.sigma.ravel(), [0.9013878, np.nan, 0.9013878], rtol=1e-7)
    assert_array_equal(merged.count.ravel(), [4, 0, 4])
    assert merged.laue_group == "-1"
    assert merged.provenance[-1]["options"] == {
        "laue_group": "-1",
        "friedel": "merged",
        "weights": "pixels",
        "n_maps": 1,
    }


def test_without_counts_voxels_weigh_the_same():
    grid = HklGrid(CUBE, [-1, 0, 1], [0], [0])
    observed = DiffuseMap(grid, np.array([8.0, np.nan, 4.0]).reshape(3, 1, 1))
    merged = merge(observed).map
    assert_allclose(merged.intensity.ravel(), [6, np.nan, 6])
    assert merged.sigma is None
    assert merged.count is None
    assert merged.half_1 is None


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("sampling", [1, 2])
def test_merge_matches_a_dictionary_of_orbits(space_group, box, sampling, map_of, orbits_of):
    observed = map_of(space_group, box, sampling)
    rows = brute_merge(observed, orbits_of(observed.grid, space_group))
    check_against_rows(merge(observed).map, observed, rows, space_group)


def test_merge_without_optional_arrays_matches_a_dictionary(space_group, box, map_of, orbits_of):
    full = map_of(space_group, box, seed=1)
    observed = DiffuseMap(full.grid, full.intensity, space_group)
    rows = brute_merge(observed, orbits_of(observed.grid, space_group))
    check_against_rows(merge(observed).map, observed, rows, space_group)


def test_unique_voxels_match_a_dictionary(space_group, box, map_of, orbits_of):
    observed = map_of(space_group, box, 2, seed=2)
    rows = brute_merge(observed, orbits_of(observed.grid, space_group))
    rows.sort(key=lambda row: row[0][0])
    voxels = unique_voxels(observed)
    assert len(voxels) == len(rows)
    assert_array_equal(voxels.index, [measured[0] for _, measured, _ in rows])
    assert_array_equal(voxels.n_equivalents, [len(measured) for _, measured, _ in rows])
    assert_allclose(voxels.hkl, observed.grid.hkl().reshape(-1, 3)[voxels.index], rtol=0)
    for name in ("intensity", "sigma"):
        expected = [values[name] for _, _, values in rows]
        assert_allclose(getattr(voxels, name), expected, rtol=RTOL_ROUNDING)


def test_operations_match_a_loop(map_of):
    observed = map_of("P 31", ((0, -2, 1), (4, 5, 3)), seed=3)
    operation = gemmi.Op("-k,h+k,l")
    turned = apply_operation(observed, "-k,h+k,l")
    for place in np.ndindex(turned.grid.shape):
        node = np.array(place) + turned.grid.first_index
        moved = np.array(operation.apply_to_hkl([int(x) for x in node])) - observed.grid.first_index
        inside = np.all((moved >= 0) & (moved < observed.grid.shape))
        for name, nothing in (("intensity", np.nan), ("sigma", np.nan), ("count", 0)):
            expected = getattr(observed, name)[tuple(moved)] if inside else nothing
            assert_array_equal(getattr(turned, name)[place], expected)
    assert turned.measured.sum() == observed.measured.sum()


# --- 3 exact limits ------------------------------------------------------


def test_weights_are_unbiased_where_counts_are_few():
    # Poisson counts of 0.3 a pixel: weights from the counts themselves pull the mean down.
    rng = np.random.default_rng(6)
    grid = HklGrid(CUBE, *[np.arange(-12, 13)] * 3)
    pixels = rng.integers(1, 20, grid.shape)
    counted = rng.poisson(0.3 * pixels)
    variance = np.maximum(counted, 1) / pixels**2
    observed = DiffuseMap(
        grid, counted / pixels, "P m m m", sigma=np.sqrt(variance), count=pixels.astype(np.int32)
    )
    merged = unique_voxels(observed)
    weight = merged.n_equivalents / merged.n_equivalents.sum()
    standard_error = np.sqrt(0.3 / pixels.sum())
    assert abs((weight * merged.intensity).sum() - 0.3) < 6 * standard_error
    own = (observed.intensity / variance).sum() / (1 / variance).sum()
    assert own < 0.3 - 20 * standard_error


def test_merging_again_changes_nothing(map_of):
    once = merge(map_of("P 31", ((-2, -3, -1), (5, 6, 4))))
    again = merge(once.map)
    assert again.map is once.map
    assert again.statistics is once.map.statistics


def test_a_merged_map_and_its_copy_do_not_count_equivalents_twice(map_of):
    observed = map_of("P 41", ((-3, -3, -3), (7, 7, 7)))
    once = merge(observed).map
    both = merge([once, once]).map
    assert_allclose(both.intensity, once.intensity, rtol=RTOL_ROUNDING)
    assert_allclose(both.sigma, once.sigma / np.sqrt(2), rtol=RTOL_ROUNDING)
    assert_array_equal(both.count, 2 * once.count)


def test_a_larger_group_after_a_smaller_one_is_the_larger_one(map_of):
    observed = map_of("P 41", ((-3, -3, -3), (7, 7, 7)))
    direct = merge(observed, "4/mmm").map
    steps = merge(merge(observed, "4/m").map, "4/mmm").map
    assert steps.laue_group == "4/mmm"
    assert_allclose(steps.intensity, direct.intensity, rtol=RTOL_ROUNDING)
    assert_allclose(steps.sigma, direct.sigma, rtol=RTOL_ROUNDING)
    assert_array_equal(steps.count, direct.count)


def test_maps_of_parts_merge_like_the_whole(map_of):
    # The plain mean of all pixels does not depend on which map a pixel fell in.
    rng = np.random.default_rng(8)
    grid = map_of("P 41", ((-3, -3, -3), (7, 7, 7))).grid
    pixels = [rng.integers(0, 5, grid.shape) for _ in range(2)]
    sums = [rng.poisson(4.0 * n).astype(float) for n in pixels]

    def as_map(total, n):
        with np.errstate(invalid="ignore"):
            return DiffuseMap(grid, total / n, "P 41", sigma=np.sqrt(total) / n, count=n)

    with np.errstate(divide="ignore"):
        parts = merge([as_map(s, n) for s, n in zip(sums, pixels, strict=True)]).map
        whole = merge(as_map(sums[0] + sums[1], pixels[0] + pixels[1])).map
    assert_array_equal(parts.count, whole.count)
    assert_allclose(parts.intensity, whole.intensity, rtol=RTOL_ROUNDING)
    assert_allclose(parts.sigma, whole.sigma, rtol=RTOL_ROUNDING)


def test_a_symmetric_map_is_kept(map_of):
    once = merge(map_of("P 31", ((-2, -3, -1), (5, 6, 4)))).map
    unmarked = dataclasses.replace(once, laue_group=None)
    assert_allclose(merge(unmarked).map.intensity, once.intensity, rtol=RTOL_ROUNDING)


def test_unique_voxels_of_a_merged_map_are_taken_once(map_of):
    merged = merge(map_of("P 41", ((-3, -3, -3), (7, 7, 7)))).map
    voxels = unique_voxels(merged)
    assert voxels.n_equivalents.sum() == merged.measured.sum()
    assert_array_equal(voxels.intensity, merged.intensity.ravel()[voxels.index])
    assert_array_equal(voxels.sigma, np.sqrt(merged.sigma.ravel()[voxels.index] ** 2))


def test_a_voxel_without_pixels_is_not_measured(map_of):
    observed = map_of("P 41", ((-3, -3, -3), (7, 7, 7)), holes=0)
    count = np.where(observed.grid.hkl()[..., 0] > 0, 0, observed.count)
    merged = merge(dataclasses.replace(observed, count=count)).map
    holes = np.where(count > 0, observed.intensity, np.nan)
    without = dataclasses.replace(observed, count=count, intensity=holes)
    expected = merge(without).map
    empty = dataclasses.replace(observed, count=count)
    assert_array_equal(unique_voxels(empty).n_equivalents, unique_voxels(without).n_equivalents)
    assert_allclose(merged.intensity, expected.intensity, rtol=RTOL_ROUNDING)


def test_the_merged_grid_is_that_of_a_centred_map(map_of):
    observed = map_of("P 41", ((-3, -3, -3), (7, 7, 7)))
    grid = HklGrid.from_resolution(observed.cell, 4.0, (2, 2, 1))
    intensity = np.where(grid.within(), 1.0, np.nan)
    merged = merge(DiffuseMap(grid, intensity, "P 41")).map
    assert merged.grid.same_voxels(grid)
    assert merged.grid.d_min == 4.0
    assert_array_equal(merged.intensity, intensity)


# --- 4 invariances -------------------------------------------------------


def test_every_operation_leaves_the_merged_map(space_group, box, map_of):
    merged = merge(map_of(space_group, box)).map
    for rotation in laue_rotations(space_group):
        turned = apply_operation(merged, rotation)
        index, inside = turned.grid.index_of(merged.grid.hkl())
        assert inside[merged.measured].all()
        there = turned.intensity[tuple(index[merged.measured].T)]
        assert_array_equal(there, merged.intensity[merged.measured])


@settings(deadline=None, derandomize=True, max_examples=20)
@given(factor=st.floats(1e-3, 1e3), order=st.permutations(range(3)))
def test_scale_and_order_of_maps(factor, order):
    rng = np.random.default_rng(9)
    maps = []
    for first in (-2, 0, 1):
        grid = HklGrid(CUBE, *[np.arange(first, first + 4)] * 3)
        maps.append(DiffuseMap(grid, rng.normal(5, 1, grid.shape), "P 2 2 2"))
    here = merge(maps).map
    scaled = [dataclasses.replace(maps[i], intensity=factor * maps[i].intensity) for i in order]
    there = merge(scaled).map
    assert_allclose(there.intensity, factor * here.intensity, rtol=1e-9)


def test_an_operation_and_its_inverse(map_of):
    observed = map_of("P 41", ((0, -2, 1), (4, 5, 3)))
    back = apply_operation(apply_operation(observed, "k,-h,l"), "-k,h,l")
    assert back.grid.same_voxels(observed.grid)
    assert_array_equal(back.intensity, observed.intensity)
    assert_array_equal(back.count, observed.count)


def test_types_are_kept(map_of):
    observed = map_of("P 41", ((0, -2, 1), (4, 5, 3)))
    single = dataclasses.replace(observed, intensity=observed.intensity.astype(np.float32))
    assert merge(single).map.intensity.dtype == np.float32
    assert merge(observed).map.intensity.dtype == np.float64
    assert merge(observed).map.count.dtype == np.int32


def test_other_tables_and_provenance_are_kept(map_of):
    observed = dataclasses.replace(
        map_of("P 41", ((0, -2, 1), (4, 5, 3))),
        statistics={"scaling": {"cycle": [1, 2]}},
        provenance=({"command": "map"},),
    )
    merged = merge(observed).map
    assert merged.statistics["scaling"] == {"cycle": [1, 2]}
    assert [step["command"] for step in merged.provenance] == ["map", "merge"]


# --- 5 errors ------------------------------------------------------------


def test_what_cannot_be_merged_is_named(map_of, caplog):
    observed = map_of("P 41", ((-2, -2, -2), (5, 5, 5)))
    with pytest.raises(InputError, match="expected at least one map, got none"):
        merge([])
    with pytest.raises(
        InputError, match="laue_group must contain 4/mmm, which the map is merged by, got 4/m"
    ):
        merge(merge(observed, "4/mmm").map, "4/m")
    with pytest.raises(InputError, match="laue_group must be a space group or one of"):
        merge(observed, "5/m")
    with pytest.raises(InputError, match="laue_group -3 does not fit the cell"):
        merge(observed, "-3")
    nothing = dataclasses.replace(observed, intensity=np.full(observed.grid.shape, np.nan))
    with pytest.raises(InputError, match="expected at least one measured voxel, got none"):
        merge(nothing)
    finer = DiffuseMap(HklGrid(observed.cell, [0, 0.5], [0, 0.5], [0]), np.ones((2, 2, 1)), "P 41")
    with pytest.raises(InputError, match=r"one sampling, got \(1, 1, 1\) and \(2, 2, 1\)"):
        merge([observed, finer])
    longer = dataclasses.replace(observed.grid, cell=(11.1, 11.1, 17, 90, 90, 90))
    with caplog.at_level(logging.WARNING):
        merge([observed, dataclasses.replace(observed, grid=longer)])
    assert "maps: cell a differs by 0.90 %" in caplog.text


@pytest.mark.parametrize("operation", ["h,k", "h,k,2*l", np.eye(2), 2 * np.eye(3), np.eye(3) / 2])
def test_what_is_no_operation_is_refused(map_of, operation):
    observed = map_of("P 1", ((-2, -2, -2), (3, 3, 3)))
    with pytest.raises(InputError, match="operation must be a"):
        apply_operation(observed, operation)


def test_inputs_are_not_changed(map_of):
    observed = map_of("P 41", ((-2, -2, -2), (5, 5, 5)))
    before = {n: getattr(observed, n).copy() for n in ("intensity", "sigma", "count", "half_1")}
    merge(observed)
    unique_voxels(observed)
    for name, values in before.items():
        assert_array_equal(getattr(observed, name), values)
