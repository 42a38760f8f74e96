"""Friedel mates apart, split and compared: planted differences, a dictionary, physics, by hand."""

import dataclasses

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import read_map, split_friedel, write_map
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import laue_rotations, point_rotations
from offbragg.errors import InputError
from offbragg.inference.data import FitData
from offbragg.inference.held_out import blocks_of
from offbragg.maps.comparison import compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.friedel_split import centric_voxels
from offbragg.maps.statistics import statistics
from offbragg.maps.symmetrize import merge
from offbragg.maps.unique_voxels import unique_voxels

RTOL_ROUNDING = 1e-12  # the same sums in another order
CUBE = (10, 10, 10, 90, 90, 90)
GROUPS = ("P 1", "C 1 2 1", "P 41", "P 31 1 2")
BOX = ((-3, -3, -3), (7, 7, 7))


def moved_by(space_group, grid):
    """Equivalents (n, 3) of a grid's hkl by each rotation of the space group, not by Friedel."""
    operations = gemmi.SpaceGroup(space_group).operations().sym_ops
    return [grid.hkl().reshape(-1, 3) @ (np.array(op.rot) / gemmi.Op.DEN) for op in operations]


def even_and_odd(space_group, grid):
    """Fields with the symmetry of a point group: I(-h) = I(h), and I(-h) = -I(h)."""
    even, odd = np.zeros(grid.size), np.zeros(grid.size)
    for moved in moved_by(space_group, grid):
        even += 2 + np.cos(moved @ [0.7, 0.3, 1.1])
        odd += np.sin(moved @ [0.5, 0.9, 0.2])
    return even.reshape(grid.shape), odd.reshape(grid.shape)


def mates(values):
    return values[::-1, ::-1, ::-1]


# --- 1 reference numbers -------------------------------------------------


def test_in_p1_mates_are_opposite_and_no_mirror_images():
    grid = HklGrid((11, 13, 17, 82, 95, 104), *[np.arange(-3, 4)] * 3)
    values = np.full(grid.shape, np.nan)
    seen = {(1, 2, 3): 5.0, (-1, 2, 3): 7.0, (1, -2, 3): 11.0, (1, 2, -3): 13.0}
    for node, value in seen.items():
        values[tuple(np.add(node, 3))] = value
    observed = DiffuseMap(grid, values, "P 1")
    merged, apart = merge(observed).map, merge(observed, friedel="apart").map
    assert merged.measured.sum() == 8
    assert apart.measured.sum() == 4
    for node, value in seen.items():
        place, opposite = (
            tuple(np.array(x) - merged.grid.first_index) for x in (node, -np.array(node))
        )
        assert merged.intensity[place] == merged.intensity[opposite] == value
        assert apart.intensity[tuple(np.array(node) - apart.grid.first_index)] == value


def test_two_pairs_by_hand():
    # Pairs (3, 5) and (9, 6), a lone voxel: R = (2 + 3)/23; over σ: √((4 + 9)/(1 + 4 + 4 + 4)).
    # Ordered pairs about their mean 23/4: product 2·[(-2.75)(-0.75) + (3.25)(0.25)] = 5.75,
    # spread 2.75² + 0.75² + 3.25² + 0.25² = 18.75. Differences of halves (-2, 3) and (-4, 2).
    grid = HklGrid(CUBE, np.arange(-3, 4), [0], [0])

    def along(*values):
        return np.array(values, dtype=float).reshape(7, 1, 1)

    nan = np.nan
    observed = DiffuseMap(
        grid, along(4, 9, 3, nan, 5, 6, nan), "P 1", sigma=along(1, 2, 1, nan, 2, 2, nan),
        half_1=along(4, 9, 3, nan, 5, 6, nan), half_2=along(4, 8, 2, nan, 6, 6, nan),
    )  # fmt: skip
    for found in (statistics(observed), merge(observed, friedel="apart").statistics):
        overall = found["overall"]
        assert overall["n_friedel"] == 2
        assert_allclose(overall["r_friedel"], 5 / 23)
        assert_allclose(overall["cc_friedel"], 5.75 / 18.75)
        assert_allclose(overall["anomalous_over_sigma"], 1.0)
        assert_allclose(overall["cc_half_anomalous"], (8 + 6) / np.sqrt(13 * 20))
        assert np.isnan(overall["equivalents_over_sigma"])


# --- 2 independent oracles -----------------------------------------------


def test_apart_matches_a_dictionary_of_orbits(space_group, box, map_of):
    observed = map_of(space_group, box)
    operations = gemmi.SpaceGroup(space_group).operations().sym_ops
    sums = {}
    for place in np.argwhere(observed.count > 0):
        node = [int(x) for x in place + observed.grid.first_index]
        equivalents = {tuple(op.apply_to_hkl(node)) for op in operations}
        entry = sums.setdefault(min(equivalents), [0.0, 0, equivalents])
        n = observed.count[tuple(place)]
        entry[0] += n * observed.intensity[tuple(place)]
        entry[1] += n
    merged = merge(observed, friedel="apart").map
    assert merged.measured.sum() == sum(len(places) for _, _, places in sums.values())
    for total, n, places in sums.values():
        index = tuple((np.array(list(places)) - merged.grid.first_index).T)
        assert_allclose(merged.intensity[index], total / n, rtol=RTOL_ROUNDING)
        assert_array_equal(merged.count[index], n)


@pytest.mark.parametrize("space_group", GROUPS)
def test_anomalous_scattering_has_the_symmetry_that_apart_averages_by(space_group, grid_of):
    """Molecules that scatter by themselves, I(h) = Σ_R |Σ_j f_j exp(2πi hR·x_j)|², f complex."""
    rng = np.random.default_rng(4)
    f = rng.uniform(5, 8, 6) + 1j * np.array([4.0, 0, 0, 0, 0, 0])
    x = rng.uniform(0, 0.5, (6, 3))
    grid = grid_of(space_group, BOX, 2)
    amplitudes = [np.exp(2j * np.pi * h @ x.T) @ f for h in moved_by(space_group, grid)]
    intensity = sum(np.abs(a) ** 2 for a in amplitudes).reshape(grid.shape)
    observed = DiffuseMap(grid, intensity, space_group)
    apart, merged = merge(observed, friedel="apart").map, merge(observed).map
    same = compare(apart, observed, anisotropic=False).overall
    assert same.n == grid.size
    assert same.r < RTOL_ROUNDING
    assert compare(merged, observed, anisotropic=False).overall.r > 0.02


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("space_group", GROUPS)
def test_a_planted_difference_is_kept_apart_split_off_or_averaged_away(space_group, grid_of):
    grid = grid_of(space_group, BOX)
    even, odd = even_and_odd(space_group, grid)
    assert np.abs(odd).max() > 0.5
    observed = DiffuseMap(grid, even + odd, space_group)
    apart, merged = merge(observed, friedel="apart").map, merge(observed).map
    inside = tuple(
        slice(a, a + n)
        for a, n in zip(grid.first_index - apart.grid.first_index, grid.shape, strict=True)
    )
    assert_allclose(apart.intensity[inside], even + odd, atol=1e-12)
    assert_allclose(merged.intensity[inside], even, atol=1e-12)
    split = split_friedel(observed)
    assert_allclose(split.mean.intensity[inside], even, atol=1e-12)
    found = split.difference.intensity[inside]
    is_centric = np.isnan(found)
    assert_allclose(found[~is_centric], 2 * odd[~is_centric], atol=1e-12)
    assert_allclose(odd[is_centric], 0, atol=1e-12)
    assert (split.mean.friedel, split.difference.friedel) == ("merged", "apart")


def test_unequal_mates_leave_nothing_odd_in_the_mean():
    # Of 1 and 9 pixels: averaged by pixels they are 4.6, which is not what they have in common.
    grid = HklGrid(CUBE, [-1, 0, 1], [0], [0])
    observed = DiffuseMap(
        grid,
        np.array([1.0, np.nan, 5.0]).reshape(3, 1, 1),
        sigma=np.array([3.0, np.nan, 1.0]).reshape(3, 1, 1),
        count=np.array([1, 0, 9]).reshape(3, 1, 1),
    )
    split = split_friedel(observed)
    assert_allclose(merge(observed).map.intensity.ravel(), [4.6, np.nan, 4.6])
    assert_allclose(split.mean.intensity.ravel(), [3, np.nan, 3])
    assert_allclose(split.mean.sigma.ravel(), np.sqrt(10) / 2 * np.array([1, np.nan, 1]))
    assert_allclose(split.difference.intensity.ravel(), [-4, np.nan, 4])
    assert_allclose(split.difference.sigma.ravel(), np.sqrt(10) * np.array([1, np.nan, 1]))
    for part in (split.mean, split.difference):
        assert_array_equal(part.count.ravel(), [10, 0, 10])


def test_where_mates_are_equivalent_nothing_is_split(map_of):
    observed = map_of("P 41", BOX)
    apart, split = merge(observed, friedel="apart").map, split_friedel(observed)
    plane = np.zeros(apart.grid.shape, dtype=bool)
    plane[:, :, apart.grid.shape[2] // 2] = True
    assert_array_equal(centric_voxels(apart.grid, point_rotations("P 1")).sum(), 1)
    assert not split.difference.measured[plane].any()
    for name in ("intensity", "sigma", "count", "half_1"):
        assert_array_equal(getattr(split.mean, name)[plane], getattr(apart, name)[plane])


def test_the_mean_alone_where_a_mate_is_missing():
    grid = HklGrid(CUBE, [0, 1, 2], [0], [0])
    split = split_friedel(DiffuseMap(grid, np.array([4.0, 6.0, 8.0]).reshape(3, 1, 1), "P 1"))
    assert_array_equal(split.mean.intensity.ravel(), [8, 6, 4, 6, 8])
    assert not split.difference.measured.any()


def test_noise_an_anomalous_signal_and_absorption_are_told_apart():
    """Over σ: (1, 1), (> 1, 1) and (> 1, > 1), of mates and of other equivalents."""
    grid = HklGrid.from_resolution((30, 30, 40, 90, 90, 90), 2.5)
    rng = np.random.default_rng(3)
    even, odd = even_and_odd("P 4", grid)
    gradient = 0.5 * grid.hkl()[..., 0] / grid.h.max()  # of absorption in one direction
    found = {}
    for name, signal in (("noise", even), ("odd", even + odd), ("tilt", even * (1 + gradient))):
        halves = [signal + np.sqrt(2) * rng.normal(size=grid.shape) for _ in range(2)]
        observed = DiffuseMap(
            grid, sum(halves) / 2, "P 41", sigma=np.ones(grid.shape),
            half_1=halves[0], half_2=halves[1],
        )  # fmt: skip
        found[name] = statistics(observed)["overall"]
    over = {
        name: (row["anomalous_over_sigma"], row["equivalents_over_sigma"])
        for name, row in found.items()
    }
    # 2000 pairs and more: standard errors below 0.02.
    assert found["noise"]["n_friedel"] > 2000
    assert over["noise"] == pytest.approx((1, 1), abs=0.05)
    assert over["odd"][0] > 1.5
    assert over["odd"][1] == pytest.approx(1, abs=0.05)
    assert over["tilt"][1] > 1.5
    assert abs(found["noise"]["cc_half_anomalous"]) < 0.1
    assert found["odd"]["cc_half_anomalous"] > 0.3
    assert found["odd"]["r_friedel"] > found["noise"]["r_friedel"]
    assert found["odd"]["cc_friedel_anisotropic"] < found["noise"]["cc_friedel_anisotropic"]


# --- 4 invariances -------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(group=st.sampled_from(GROUPS), seed=st.integers(0, 2**16), holes=st.sampled_from([0, 0.4]))
def test_parts_are_even_and_odd_and_add_up(map_of, group, seed, holes):
    observed = map_of(group, ((-1, -2, -1), (3, 4, 4)), seed=seed, holes=holes)
    apart, split = merge(observed, friedel="apart").map, split_friedel(observed)
    mean, difference = split.mean.intensity, split.difference.intensity
    assert_array_equal(mean, mates(mean))
    assert_array_equal(difference, -mates(difference))
    known = np.isfinite(difference)
    assert_allclose((mean + difference / 2)[known], apart.intensity[known], rtol=RTOL_ROUNDING)
    assert_array_equal(np.isfinite(mean), apart.measured | mates(apart.measured))
    # Averaging mates afterwards is averaging at once.
    late, direct = merge(apart).map, merge(observed).map
    assert late.laue_group == direct.laue_group
    for name in ("intensity", "sigma", "count"):
        assert_allclose(getattr(late, name), getattr(direct, name), rtol=RTOL_ROUNDING)


def test_a_map_kept_apart_stays_so_in_its_file_and_in_use(map_of, tmp_path):
    apart = merge(map_of("P 41", BOX), friedel="apart").map
    write_map(tmp_path / "apart.h5", apart)
    stored = read_map(tmp_path / "apart.h5")
    assert (stored.laue_group, stored.friedel) == ("P 4", "apart")
    assert stored.provenance[-1]["options"]["friedel"] == "apart"
    assert statistics(stored)["about"]["laue_group"] == "P 4"
    assert merge(stored, friedel="apart").map is stored
    assert merge(stored).map.friedel == "merged"
    assert map_of("P 41", BOX).friedel is None
    voxels = unique_voxels(stored)
    assert voxels.n_equivalents.sum() == stored.measured.sum()
    assert voxels.n_equivalents.max() == 4
    # A fit sees both mates, and holds them out together.
    data = FitData.of(stored, stored.cell, None, None)
    assert_array_equal(data.laue, laue_rotations("4/m"))
    block_of, _ = blocks_of(data.voxels.hkl, data.laue, 2)
    opposite, _ = blocks_of(np.concatenate([data.voxels.hkl, -data.voxels.hkl]), data.laue, 2)
    assert_array_equal(opposite[: len(block_of)], opposite[len(block_of) :])
    # Without its table: orbits are those of its own group.
    table = statistics(dataclasses.replace(stored, statistics={}))
    assert table["overall"]["n_unique"] == len(voxels)
    assert table["overall"]["n_friedel"] > 0


def test_halves_and_dtypes_are_split_as_well(map_of):
    observed = map_of("P 41", BOX)
    single = dataclasses.replace(
        observed,
        **{n: getattr(observed, n).astype(np.float32) for n in ("intensity", "half_1", "sigma")},
    )
    split = split_friedel(single)
    for part in (split.mean, split.difference):
        assert part.intensity.dtype == np.float32
        assert part.count.dtype == np.int32
        assert part.statistics["overall"]["n_friedel"] > 0
        assert part.provenance[-1]["command"] == "split-friedel"
    assert_array_equal(split.difference.half_1, -mates(split.difference.half_1))


# --- 5 errors ------------------------------------------------------------


def test_what_cannot_be_kept_apart_is_named(map_of):
    observed = map_of("P 41", BOX)
    with pytest.raises(InputError, match="friedel must be one of merged, apart, got 'split'"):
        merge(observed, friedel="split")
    expected = "friedel apart: expected maps whose Friedel mates are apart, got one merged by 4/m"
    with pytest.raises(InputError, match=expected):
        merge([observed, merge(observed).map], friedel="apart")
    with pytest.raises(InputError, match=expected):
        split_friedel(merge(observed).map)
    apart = merge(observed, friedel="apart").map
    with pytest.raises(InputError, match="must contain P 4, which the map is merged by, got P 1"):
        merge(apart, "P 1")
    with pytest.raises(InputError, match="laue_group -3 does not fit the cell"):
        merge(observed, "-3", "apart")
