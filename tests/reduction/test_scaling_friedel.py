"""Scaling with Friedel mates apart: what is odd in h is neither error nor outlier."""

import numpy as np
import pytest

from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.reduction.observations import COLUMNS, Observations, Wedges
from offbragg.reduction.scaled import scale_observations
from offbragg.reduction.scaled_map import scale_to_map, scaling_data
from offbragg.reduction.scaling_model import Scaling
from offbragg.reduction.standard_scaling import ScalingOptions

GRID = HklGrid.from_resolution((11.0, 13.0, 17.0, 82.0, 95.0, 104.0), 2.0)
N_WEDGES = 4


def observations(odd_fraction):
    """Of P 1: four observations a voxel, of 100 photons each and a share that is odd in h."""
    rng = np.random.default_rng(5)
    voxel = np.tile(np.flatnonzero(GRID.within()), N_WEDGES)
    n = len(voxel)
    sign = np.sign(GRID.hkl().reshape(-1, 3) @ [1.0, 0.1, 0.01])[voxel]
    values = {
        "voxel": voxel, "wedge": np.repeat(np.arange(N_WEDGES), n // N_WEDGES),
        "count": np.ones(n), "intensity": rng.poisson(100 * (1 + odd_fraction * sign)),
        "variance": np.full(n, 100), "per_intensity": np.ones(n), "one_photon": np.ones(n),
        "weight": np.ones(n),
    }  # fmt: skip
    columns = {k: np.asarray(values.get(k, np.zeros(n))).astype(COLUMNS[k]) for k in COLUMNS}
    number = np.arange(N_WEDGES)
    wedges = Wedges(0 * number, 10.0 * number, number % 2, 0 * number, 0 * number, 0.0 * number)
    return Observations(GRID, "P 1", wedges, columns)


def scaled(friedel, odd_fraction=0.4):
    data = scaling_data(observations(odd_fraction), friedel=friedel)
    return scale_observations(data, Scaling.none(), outlier_probability=1e-6)


def test_orbits_are_those_of_the_point_group():
    made = observations(0.0)
    voxel = made.columns["voxel"]
    apart = scaling_data(made, friedel="apart").orbit
    merged = scaling_data(made).orbit
    assert len(np.unique(apart)) == len(np.unique(voxel))
    assert len(np.unique(merged)) == (len(np.unique(voxel)) + 1) // 2  # the origin is its own mate
    assert np.array_equal(scaling_data(made, "-1", "apart").orbit, apart)


def test_an_odd_part_is_no_error():
    apart, merged = scaled("apart"), scaled("merged")
    assert apart.r_meas() == pytest.approx(scaled("apart", 0.0).r_meas(), rel=0.1)
    assert merged.r_meas() > 2 * apart.r_meas()
    assert not apart.is_outlier.any()
    assert apart.error_model.inflation == pytest.approx(1, abs=0.1)
    total = [
        x.error_model.variance(np.full(1, 100.0), np.full(1, 100.0))[0] for x in (apart, merged)
    ]
    assert total[1] > 5 * total[0]


def test_the_option_reaches_the_map_and_its_provenance():
    made = observations(0.4)
    settings = {"corrections": ("scale",), "most_observations": 5000}
    apart, merged = (
        scale_to_map(made, ScalingOptions(friedel=x, **settings)) for x in ("apart", "merged")
    )
    assert merged.figures["r_meas_after"] > 2 * apart.figures["r_meas_after"]
    assert apart.map.provenance[-1]["options"]["friedel"] == "apart"
    assert apart.map.laue_group is None
    with pytest.raises(InputError, match="friedel must be one of merged, apart, got 'split'"):
        ScalingOptions(friedel="split")
