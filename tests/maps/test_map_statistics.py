"""Statistics of a map: numbers by hand, loops over pairs as the oracle, limits, invariances."""

import dataclasses
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_equal

from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.self_agreement import cc_star
from offbragg.maps.statistics import statistics
from offbragg.maps.symmetrize import merge

RTOL_ROUNDING = 1e-9  # the same sums in another order, differences of near numbers
CUBE = (10, 10, 10, 90, 90, 90)


def pearson(pairs):
    x, y = np.array(pairs).T
    return np.corrcoef(x, y)[0, 1]


def weighted_mean(diffuse_map, values, voxels):
    n = np.array([diffuse_map.count.flat[i] for i in voxels], dtype=float)
    return (n * np.array([values[i] for i in voxels])).sum() / n.sum()


def off_shell_means(values, inv_d):
    """Values (a dictionary) minus their means in shells of 0.01 Å⁻¹."""
    shells = {}
    for key in values:
        shells.setdefault(int(np.floor(inv_d[key] / 0.01 + 1e-9)), []).append(key)
    return {
        key: values[key] - np.mean([values[i] for i in keys])
        for keys in shells.values()
        for key in keys
    }


def brute_statistics(diffuse_map, orbits):
    """The overall row, by loops."""
    intensity, inv_d = diffuse_map.intensity.ravel(), diffuse_map.grid.inv_d().ravel()
    measured = [[i for i in orbit if np.isfinite(intensity[i])] for orbit in orbits]
    measured = [orbit for orbit in measured if orbit]
    repeated = [orbit for orbit in measured if len(orbit) > 1]
    row = {"n_voxels": sum(map(len, measured)), "n_unique": len(measured)}
    row["multiplicity"] = row["n_voxels"] / row["n_unique"]
    row["mean_intensity"] = np.mean([weighted_mean(diffuse_map, intensity, o) for o in measured])
    raw = {i: intensity[i] for orbit in repeated for i in orbit}
    for part, values in (("", raw), ("_anisotropic", off_shell_means(raw, inv_d))):
        deviation = unbiased = magnitude = 0.0
        pairs = []
        for orbit in repeated:
            mean = weighted_mean(diffuse_map, values, orbit)
            own = sum(abs(values[i] - mean) for i in orbit)
            deviation += own
            unbiased += own * np.sqrt(len(orbit) / (len(orbit) - 1))
            magnitude += sum(abs(values[i]) for i in orbit)
            pairs += [(values[i], values[j]) for i in orbit for j in orbit if i != j]
        row[f"r_int{part}"] = deviation / magnitude if pairs else np.nan
        row[f"r_meas{part}"] = unbiased / magnitude if pairs else np.nan
        row[f"cc_equivalents{part}"] = pearson(pairs) if pairs else np.nan
        row["n_pairs"] = len(pairs)
    halves = []
    for half in (diffuse_map.half_1.ravel(), diffuse_map.half_2.ravel()):
        means = {}
        for orbit in measured:
            there = [i for i in orbit if np.isfinite(half[i])]
            if there:
                means[orbit[0]] = weighted_mean(diffuse_map, half, there)
        halves.append(means)
    both = sorted(halves[0].keys() & halves[1].keys())
    halves = [{i: half[i] for i in both} for half in halves]
    for part in ("", "_anisotropic"):
        if part:
            halves = [off_shell_means(half, inv_d) for half in halves]
        cc_half = pearson([(halves[0][i], halves[1][i]) for i in both])
        row[f"cc_half{part}"] = cc_half
        row[f"cc_half_error{part}"] = (1 - cc_half**2) / np.sqrt(len(both) - 1)
        row[f"cc_star{part}"] = np.sqrt(2 * cc_half / (1 + cc_half)) if cc_half >= 0 else np.nan
    return row


# --- 1 reference numbers -------------------------------------------------


def test_four_voxels_by_hand():
    # Orbits (3, 5) and (8, 8): R_int = (1 + 1)/24; pairs (3,5) (5,3) (8,8) (8,8): mean 6,
    # product 2·(−3)(−1) + 2·2·2 = 14, spread 9 + 1 + 4 + 4 = 18.
    grid = HklGrid(CUBE, [-2, -1, 0, 1, 2], [0], [0])
    intensity = np.array([3, 8, np.nan, 8, 5.0]).reshape(5, 1, 1)
    table = statistics(DiffuseMap(grid, intensity), n_shells=1)["overall"]
    assert_allclose(table["r_int"], 2 / 24)
    assert_allclose(table["cc_equivalents"], 14 / 18)
    assert (table["n_voxels"], table["n_unique"], table["n_pairs"]) == (4, 2, 4)
    assert (table["d_max"], table["d_min"]) == (10.0, 5.0)
    # 33 nodes within |h| = 2: the origin and 16 Friedel pairs.
    assert_allclose(table["completeness"], 2 / 17)


def test_cc_star_by_hand():
    assert_allclose(cc_star(np.array([0.0, 1 / 3, 1.0])), [0, np.sqrt(0.5), 1])
    assert np.isnan(cc_star(np.array([-0.2, np.nan]))).all()


# --- 2 independent oracle ------------------------------------------------


def test_matches_loops_over_pairs(space_group, box, map_of, orbits_of):
    observed = map_of(space_group, box, 2, seed=5, holes=0.1)
    expected = brute_statistics(observed, orbits_of(observed.grid, space_group))
    found = statistics(observed)["overall"]
    for name, value in expected.items():
        assert_allclose(found[name], value, rtol=RTOL_ROUNDING, atol=1e-12, err_msg=name)


def test_shells_are_maps_of_their_own(map_of, orbits_of):
    observed = map_of("P 41", ((-3, -3, -3), (7, 7, 7)), seed=6)
    table = statistics(observed, n_shells=3)["shells"]
    d = observed.grid.d()
    for number in range(3):
        low, high = table["d_min"][number] * (1 - 1e-9), table["d_max"][number] * (1 - 1e-9)
        inside = (d >= low) & ((d < high) | (number == 0))
        part = dataclasses.replace(observed, intensity=np.where(inside, observed.intensity, np.nan))
        expected = brute_statistics(part, orbits_of(observed.grid, "P 41"))
        for name in ("n_voxels", "n_unique", "r_int", "cc_equivalents", "n_pairs", "cc_half"):
            assert_allclose(table[name][number], expected[name], rtol=RTOL_ROUNDING, err_msg=name)


def test_completeness_counts_orbits_of_the_sphere(space_group, map_of, orbits_of, grid_of):
    observed = map_of(space_group, ((-2, -3, -1), (5, 6, 4)), seed=7)
    measured = [
        orbit
        for orbit in orbits_of(observed.grid, space_group)
        if np.isfinite(observed.intensity.ravel()[orbit]).any()
    ]
    furthest = observed.grid.inv_d()[observed.measured].max()
    sphere = grid_of(space_group, ((-8, -8, -8), (17, 17, 17)))
    near = sphere.inv_d().ravel() <= furthest * (1 + 1e-9)
    sphere_orbits = orbits_of(sphere, space_group)
    possible = sum(near[orbit].any() for orbit in sphere_orbits)
    table = statistics(observed, n_shells=3)
    assert_allclose(table["overall"]["completeness"], len(measured) / possible)
    # By shell: what is nearer than the first measured voxel belongs to the first shell.
    inv_d = np.array([sphere.inv_d().ravel()[o[0]] for o in sphere_orbits if near[o].any()])
    outer = (1 + 1e-9) / np.array(table["shells"]["d_min"][:-1])
    number = np.bincount(np.searchsorted(outer, inv_d), minlength=3)
    n_unique = np.array(table["shells"]["n_unique"])
    assert n_unique.sum() == len(measured)
    assert_allclose(table["shells"]["completeness"], n_unique / number)


# --- 3 exact limits ------------------------------------------------------


def test_a_symmetric_map_agrees_with_itself(map_of):
    merged = merge(map_of("P 31", ((-3, -3, -3), (7, 7, 7)))).map
    unmarked = dataclasses.replace(merged, laue_group=None, statistics={}, half_2=merged.half_1)
    table = statistics(unmarked)["overall"]
    for name in ("r_int", "r_int_anisotropic"):
        assert_allclose(table[name], 0, atol=1e-12)
    for name in ("cc_equivalents", "cc_equivalents_anisotropic", "cc_half", "cc_star"):
        assert_allclose(table[name], 1, rtol=1e-12)


def test_r_meas_does_not_fall_with_multiplicity_and_r_int_does():
    """Of the same noise, two and eight observations an orbit: √(1/2) and √(7/8) of r_meas."""
    grid = HklGrid.from_resolution((40, 40, 40, 90, 90, 90), 3.0)
    rng = np.random.default_rng(1)
    noisy = DiffuseMap(grid, 100 + rng.normal(size=grid.shape))
    few, many = (
        statistics(dataclasses.replace(noisy, space_group=group))["overall"]
        for group in ("P 1", "P 4 2 2")
    )
    assert_allclose(few["r_meas"], many["r_meas"], rtol=0.02)
    assert few["r_int"] < 0.8 * many["r_int"]


def test_variations_are_told_from_noise():
    """Of variance 9 amid noise of variance 4: 1.5; noise alone: 0."""
    grid = HklGrid.from_resolution((40, 40, 40, 90, 90, 90), 3.0)
    rng = np.random.default_rng(2)
    half = merge(DiffuseMap(grid, rng.normal(size=grid.shape) * np.sqrt(2))).map.intensity
    for size, expected in ((3.0, 1.5), (0.0, 0.0)):
        noise = 2 * np.sqrt(2) * rng.normal(size=grid.shape)
        sigma = np.full(grid.shape, 2 * np.sqrt(2))
        seen = DiffuseMap(grid, 100 + size * half + noise, sigma=sigma)
        found = statistics(seen)["overall"]["variation_over_sigma"]
        assert found == pytest.approx(expected, abs=0.1 if size else 0.25)


def test_the_error_of_cc_half_is_how_it_scatters(map_of):
    """Between repeats with other noise, of orbits that are independent."""
    grid = HklGrid.from_resolution((40, 40, 40, 90, 90, 90), 5.0)
    truth = merge(DiffuseMap(grid, np.random.default_rng(0).normal(size=grid.shape))).map
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed + 1)
        halves = [truth.intensity + rng.normal(size=grid.shape) for _ in range(2)]
        seen = DiffuseMap(grid, sum(halves) / 2, half_1=halves[0], half_2=halves[1])
        overall = statistics(seen)["overall"]
        found.append((overall["cc_half"], overall["cc_half_error"]))
    values, errors = np.array(found).T
    assert np.std(values, ddof=1) == pytest.approx(np.mean(errors), rel=0.3)


def test_cc_star_tells_the_correlation_with_the_truth():
    # Halves of the same truth with independent errors: CC* estimates CC(whole, truth).
    rng = np.random.default_rng(8)
    grid = HklGrid(CUBE, *[np.arange(-15, 16)] * 3)
    truth = rng.normal(size=grid.shape)
    truth = truth + truth[::-1, ::-1, ::-1]
    halves = [truth + rng.normal(0, 3, grid.shape) for _ in range(2)]
    whole = (halves[0] + halves[1]) / 2
    observed = DiffuseMap(grid, whole, "P 1", half_1=halves[0], half_2=halves[1])
    merged = merge(observed)
    actual = np.corrcoef(merged.map.intensity.ravel(), truth.ravel())[0, 1]
    # 15 000 orbits: a standard error of 0.008 in CC½, of 0.01 in CC*.
    assert abs(merged.statistics["overall"]["cc_star"] - actual) < 0.04


def test_a_merged_map_gives_the_table_stored(map_of):
    observed = map_of("P 41", ((-3, -3, -3), (7, 7, 7)))
    result = merge(observed)
    assert result.map.statistics == result.statistics
    assert_equal(statistics(result.map), statistics(observed))


def test_a_merged_map_without_a_table_says_so(map_of):
    merged = dataclasses.replace(
        merge(map_of("P 41", ((-3, -3, -3), (7, 7, 7)))).map, statistics={}
    )
    table = statistics(merged)
    assert table["about"]["kind"] == "merged"
    assert "no statistics were stored" in table["about"]["note"]
    assert table["overall"]["n_pairs"] == 0
    assert np.isnan(table["overall"]["r_int"])
    assert np.isfinite(table["overall"]["cc_half"])


def test_a_computed_map_says_so():
    grid = HklGrid.from_resolution(CUBE, 3.0)
    table = statistics(DiffuseMap(grid, np.where(grid.within(), 1.0, np.nan), "P m -3 m"))
    assert table["about"]["kind"] == "computed"
    assert "no standard errors, pixel counts or half maps" in table["about"]["note"]
    assert table["overall"]["completeness"] == 1
    assert table["overall"]["r_int"] == 0
    assert np.isnan(table["overall"]["cc_equivalents"])
    assert "cc_half" not in table["overall"]
    assert "mean_i_over_sigma" not in table["overall"]


def test_d_min_of_the_grid_sets_what_is_possible():
    grid = HklGrid.from_resolution(CUBE, 2.0)
    near = np.where(grid.within(4.0), 1.0, np.nan)
    table = statistics(DiffuseMap(grid, near, "P 1"))
    assert table["about"]["d_min"] == 2.0
    # 81 nodes with h² + k² + l² <= 6.25, 515 with <= 25; all but the origin in Friedel pairs.
    assert_allclose(table["overall"]["completeness"], 41 / 258)


def test_one_voxel_at_the_origin():
    table = statistics(DiffuseMap(HklGrid(CUBE, [0], [0], [0]), np.ones((1, 1, 1))), n_shells=2)
    assert table["overall"]["n_unique"] == 1
    assert table["overall"]["completeness"] == 1


# --- 4 invariances -------------------------------------------------------


def test_scale_changes_no_figure_of_merit(map_of):
    observed = map_of("P 31", ((-2, -3, -1), (5, 6, 4)))
    scaled = dataclasses.replace(
        observed,
        **{n: 7.0 * getattr(observed, n) for n in ("intensity", "sigma", "half_1", "half_2")},
    )
    here, there = statistics(observed)["overall"], statistics(scaled)["overall"]
    for name in here:
        factor = 7.0 if name == "mean_intensity" else 1.0
        assert_allclose(there[name], factor * here[name], rtol=RTOL_ROUNDING, err_msg=name)


def test_tables_are_plain_and_even(map_of):
    table = statistics(map_of("P 41", ((-3, -3, -3), (7, 7, 7))), n_shells=4)
    again = json.loads(json.dumps(table))
    assert again.keys() == {"about", "overall", "shells"}
    assert all(len(column) == 4 for column in table["shells"].values())
    assert list(table["overall"]) == list(table["shells"])
    assert table["about"]["weights"] == "pixels"
    assert table["about"]["laue_group"] == "4/m"


# --- 5 errors ------------------------------------------------------------


def test_wrong_arguments_are_named(map_of):
    observed = map_of("P 41", ((-2, -2, -2), (5, 5, 5)))
    with pytest.raises(InputError, match="n_shells must be >= 1, got 0"):
        statistics(observed, n_shells=0)
    nothing = dataclasses.replace(observed, intensity=np.full(observed.grid.shape, np.nan))
    with pytest.raises(InputError, match="expected at least one measured voxel"):
        statistics(nothing)
