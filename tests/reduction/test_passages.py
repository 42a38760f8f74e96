"""Passages: slices of a voxel become its mean; cut-off and long ones are left out."""

import numpy as np
import pytest

from offbragg.reduction.passages import join_passages, number_passages
from offbragg.reduction.scaling import fit_scaling
from offbragg.reduction.scaling_model import Correction, ScalingData
from offbragg.reduction.smooth_function import Axis, SmoothFunction

# Of a factor that there is none of: what noise of 10⁴ photons leaves.
NO_FACTOR = 0.005


def made(angle, voxel, intensity=None, sweep=None, weight=None, off=0.0):
    n = len(angle)
    columns = {
        "angle": np.asarray(angle, dtype=float),
        "sweep": np.zeros(n) if sweep is None else np.asarray(sweep, dtype=float),
        "x": np.linspace(0.0, 1.0, n),
    }
    values = np.ones(n) if intensity is None else np.asarray(intensity, dtype=float)
    voxel = np.asarray(voxel)
    data = ScalingData(values, np.full(n, 0.1), np.full(n, 0.2), voxel // 10, columns)
    weight = np.ones(n) if weight is None else np.asarray(weight, dtype=float)
    return data, voxel, weight, np.ones(n), [np.zeros(n), np.full(n, off), np.zeros(n)]


def turning(values):
    return np.zeros(len(values), dtype=bool)


# --- 1 known truth -------------------------------------------------------


def test_means_of_a_passage_are_by_pixels():
    joined = join_passages(*made([0.5, 1.5], [3, 3], intensity=[2.0, 5.0], weight=[1, 2])).data
    assert joined.intensity == pytest.approx([4.0])
    assert joined.per_intensity == pytest.approx([0.1 * 5 / 9])
    assert joined.own_variance == pytest.approx([0.2 * 5 / 9])
    assert joined.columns["angle"] == pytest.approx([3.5 / 3])
    assert joined.columns["x"] == pytest.approx([2 / 3])


def test_slopes_within_voxels_are_no_absorption():
    """Of a steady beam: slices of voxels that differ alike make a factor, passages do not."""
    rng = np.random.default_rng(0)
    n_voxels = 400
    # Two equivalents, at one angle: of factors that depend on the angle they tell nothing.
    middle = np.repeat(rng.uniform(2, 178, n_voxels // 2), 2)
    angle = np.repeat(middle, 3) + np.tile([-1.0, 0.0, 1.0], n_voxels)
    voxel = np.repeat(np.arange(n_voxels), 3)
    # The intensity rises with the angle throughout: 3 % a degree, in steps from voxel to voxel.
    slices = np.exp(0.03 * (angle - np.repeat(middle, 3)))
    photons = rng.poisson(1e4 * slices)
    data = ScalingData(
        photons / 1e4, np.full(len(angle), 1e-4), np.zeros(len(angle)), voxel // 2,
        {"angle": angle, "sweep": np.zeros(len(angle))},
    )  # fmt: skip
    function = SmoothFunction("scale", (Axis(0.0, 180.0, 6),))
    scale = (Correction(function, ("angle",), "crystal", 0.03),)

    def spread(some):
        return np.std(fit_scaling(some, scale).factor_and_offset(data.columns)[0])

    assert spread(data) > 20 * NO_FACTOR
    one = np.ones(len(angle))
    assert spread(join_passages(data, voxel, one, one, [0 * one] * 3).best()) < NO_FACTOR


# --- 3 exact limits ------------------------------------------------------


def test_sweeps_gaps_and_voxels_are_told_apart():
    angle = np.array([0.5, 1.5, 4.0, 9.0, 0.5, 0.5])
    voxel = np.array([1, 1, 1, 1, 1, 2])
    sweep = np.array([0, 0, 0, 0, 1, 0])
    assert number_passages(voxel, sweep, angle, turning(voxel)).tolist() == [0, 0, 0, 1, 2, 3]


def test_cut_off_and_long_passages_are_left_out():
    long = np.arange(0.0, 34.0, 2.0)
    angle = np.concatenate([[0, 1, 0, 1, 0], long])
    voxel = np.concatenate([[10, 10, 20, 20, 30], np.full(len(long), 40)])
    off = np.where(voxel == 30, 0.3, 0.04)
    off[voxel == 20] = [0.4, -0.4]  # evenly, all in all
    found = join_passages(*made(angle, voxel, weight=np.full(len(voxel), 50.0), off=off))
    assert found.is_whole.tolist() == [True, True, False, False]
    assert found.best().n_orbits == 2


def test_few_pixels_may_be_off_by_chance():
    few, many = (
        join_passages(*made([0, 1], [10, 10], weight=np.full(2, n), off=0.1)) for n in (10.0, 100.0)
    )
    assert few.is_whole.all()
    assert not many.is_whole.any()


def test_where_hardly_any_are_whole_all_are_taken():
    angle, voxel = np.zeros(30), np.arange(30)
    off = np.where(voxel < 2, 0.0, 0.4)
    found = join_passages(*made(angle, voxel, weight=np.full(30, 99.0), off=off))
    assert found.is_whole.sum() == 2
    assert len(found.best().intensity) == 30


def test_stills_are_each_by_themselves_wherever_their_pixels():
    data, voxel, weight, turn, off = made(
        [0, 1, 2, 3], [10, 10, 20, 20], intensity=[1, 2, 3, 4], weight=[500, 100, 500, 500],
        off=np.array([0.3, 0.3, 0.0, 0.0]),
    )  # fmt: skip
    found = join_passages(data, voxel, weight, 0 * turn, off)
    assert not found.is_whole.any()
    assert sorted(found.best().intensity) == [1, 2, 3, 4]
    half = join_passages(data, voxel, weight, np.array([0, 0, 1, 1]), off).best()
    assert sorted(half.intensity) == [1, 2, 3.5]


# --- 4 invariances -------------------------------------------------------


def test_the_order_of_observations_does_not_matter():
    rng = np.random.default_rng(1)
    voxel = rng.integers(0, 20, 200)
    angle = rng.uniform(0, 60, 200).round()
    sweep = np.zeros(200, dtype=np.int64)
    one = number_passages(voxel, sweep, angle, turning(voxel))
    order = rng.permutation(200)
    assert np.array_equal(
        number_passages(voxel[order], sweep, angle[order], turning(voxel)), one[order]
    )
