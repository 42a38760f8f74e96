"""index_alike: sweeps of crystals in different indexing modes become one data set."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg import HklGrid, merge
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.symmetrize import apply_operation
from offbragg.reduction.observations import COLUMNS, Observations, Wedges
from offbragg.reduction.same_indexing import index_alike
from offbragg.reduction.scaled import scale_observations
from offbragg.reduction.scaled_map import map_of, scaling_data
from offbragg.reduction.scaling_model import Scaling

GRID = HklGrid.from_resolution((14.0, 14.0, 18.0, 90.0, 90.0, 90.0), 2.5, (2, 2, 2))


def truth(space_group="P 41"):
    rng = np.random.default_rng(0)
    values = np.where(GRID.within(), rng.gamma(4.0, 25.0, GRID.shape), np.nan)
    return merge(DiffuseMap(GRID, values, space_group)).map


def sweeps(operations, space_group="P 41", noise=6.0):
    """One observation a voxel and sweep; of each sweep the indices are called otherwise."""
    rng = np.random.default_rng(1)
    columns = {name: [] for name in COLUMNS}
    for number, operation in enumerate(operations):
        seen = apply_operation(truth(space_group), operation)
        assert seen.grid.shape == GRID.shape
        voxel = np.flatnonzero(seen.measured & (rng.random(GRID.shape) < 0.6))
        n = len(voxel)
        values = {
            "voxel": voxel, "wedge": np.full(n, number), "count": np.full(n, 4),
            "intensity": seen.intensity.ravel()[voxel] + noise * rng.normal(size=n),
            "variance": np.full(n, noise**2), "per_intensity": np.full(n, noise**2 / 100),
        }  # fmt: skip
        for name in COLUMNS:
            columns[name].append(values.get(name, np.zeros(n)))
    number = np.arange(len(operations))
    joined = {name: np.concatenate(x).astype(COLUMNS[name]) for name, x in columns.items()}
    wedges = Wedges(number, 10.0 * number, number % 2, 0 * number, 0 * number, 0.0 * number)
    return Observations(GRID, space_group, wedges, joined)


def r_meas(observations):
    scaled = scale_observations(scaling_data(observations), Scaling.none(), outlier_probability=0)
    return scaled.r_meas()


# --- 1 known truth -------------------------------------------------------


def test_crystals_in_the_other_mode_are_renamed():
    mixed = sweeps(["h,k,l", "k,h,-l", "h,k,l", "k,h,-l"])
    found, matches = index_alike(mixed)
    assert [match.best for match in matches] == [0, 1, 0, 1]
    assert r_meas(found) < 0.7 * r_meas(mixed)
    right, _ = index_alike(sweeps(["h,k,l"] * 4))
    assert r_meas(found) == pytest.approx(r_meas(right), rel=0.05)
    scaled = scale_observations(scaling_data(found), Scaling.none(), outlier_probability=0)
    made = map_of(found, scaled)
    both = made.measured & truth().measured
    cc = np.corrcoef(made.intensity[both], truth().intensity[both])[0, 1]
    assert cc > 0.9  # noise of 6 in two or three observations, on a spread of 18


def test_the_first_keeps_its_indexing_though_others_differ():
    mixed = sweeps(["k,h,-l", "h,k,l", "h,k,l"])
    found, matches = index_alike(mixed)
    assert [match.sure for match in matches[1:]] == [1, 1]
    first = found.columns["wedge"] == 0
    assert_array_equal(
        found.columns["voxel"][first], mixed.columns["voxel"][mixed.columns["wedge"] == 0]
    )


# --- 3 exact limits ------------------------------------------------------


def test_nothing_changes_where_there_is_nothing_to_change():
    one, none = index_alike(sweeps(["h,k,l"]))
    assert none == []
    assert len(one) == len(sweeps(["h,k,l"]))
    unique = sweeps(["h,k,l"] * 2, "P 43 21 2")
    same, none = index_alike(unique)
    assert none == []
    assert_array_equal(same.columns["voxel"], unique.columns["voxel"])
