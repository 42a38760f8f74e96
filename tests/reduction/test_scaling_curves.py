"""Curves of a scaling: values of known corrections in their bins, and shells before and after."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg.reduction.scaled import scale_observations
from offbragg.reduction.scaling_curves import scaling_curves, scaling_shells
from offbragg.reduction.scaling_model import Correction, Scaling, ScalingData
from offbragg.reduction.smooth_function import Axis, SmoothFunction

N = 4000


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    columns = {
        "angle": rng.uniform(0.0, 90.0, N),
        "sweep": rng.integers(0, 2, N).astype(float),
        "x": rng.uniform(-0.3, 0.3, N),
        "y": rng.uniform(-0.2, 0.2, N),
        "inv_d": rng.uniform(0.05, 0.5, N),
    }
    return ScalingData(
        rng.poisson(20.0, N).astype(float), np.ones(N), np.zeros(N), rng.integers(0, 800, N),
        columns,
    )  # fmt: skip


def linear(name, variables, axes, kind, values):
    """A correction that is linear along its first axis, from values at its two ends."""
    function = SmoothFunction(name, axes)
    n_others = function.n_coefficients // axes[0].n_splines
    coefficients = np.repeat(np.asarray(values, dtype=float), n_others)
    return Correction(function, variables, kind, 0.1), coefficients


def test_a_scale_of_two_sweeps_is_drawn_where_it_was_observed(data):
    angle = Axis(0.0, 90.0, 1, degree=1)
    function = SmoothFunction("scale", (angle, Axis.of_categories(2)))
    # By sweep and end: 1 to 2, and 1 to 1/2.
    coefficients = np.log([1.0, 1.0, 2.0, 0.5])
    correction = Correction(function, ("angle", "sweep"), "all", 0.1)
    first, second = scaling_curves(Scaling((correction,), (coefficients,), True, np.empty(0)), data)
    for curve, factor, sweep in ((first, 2.0, 0), (second, 0.5, 1)):
        assert (curve["name"], curve["kind"], curve["by"]) == ("scale", "all", "angle")
        assert curve["sweep"] == sweep
        expected = factor ** (np.array(curve["at"]) / 90.0)
        assert np.array(curve["mean"]) == pytest.approx(expected, rel=1e-3)
        # It depends on nothing but the axis: the band is as wide as a bin, of 2.25°.
        assert np.all(np.array(curve["high"]) / curve["low"] < 1.02)


def test_offsets_are_in_units_of_the_mean_and_bands_show_the_rest(data):
    axes = (Axis(0.05, 0.5, 1, degree=1), Axis(0.0, 90.0, 1, degree=1))
    made = linear("offset", ("inv_d", "angle"), axes, "offset", [0.0, 10.0])
    curves = scaling_curves(Scaling((made[0],), (made[1],), True, np.empty(0)), data)
    by = {curve["by"]: curve for curve in curves}
    assert set(by) == {"angle", "inv_d"}
    at = (np.array(by["inv_d"]["at"]) - 0.05) / 0.45
    assert np.array(by["inv_d"]["mean"]) == pytest.approx(
        10.0 * at / data.intensity.mean(), abs=1e-3
    )
    # By angle, it goes all the way with resolution: 5 to 95 % of an even spread.
    middle = 10.0 / data.intensity.mean()
    assert np.mean(by["angle"]["low"]) == pytest.approx(0.05 * middle, abs=0.02 * middle)
    assert np.mean(by["angle"]["high"]) == pytest.approx(0.95 * middle, abs=0.02 * middle)


def test_a_factor_of_direction_is_a_picture(data):
    axes = (Axis(-0.3, 0.3, 1, degree=1), Axis(-0.2, 0.2, 1, degree=1))
    made = linear("detector", ("x", "y"), axes, "all", np.log([0.9, 1.1]))
    (curve,) = scaling_curves(Scaling((made[0],), (made[1],), True, np.empty(0)), data)
    assert curve["by"] == "direction"
    picture = np.array(curve["mean"])
    assert picture.shape == (len(curve["x"]), len(curve["y"]))
    along = (np.array(curve["x"]) + 0.3) / 0.6
    assert np.nanmean(picture, axis=1) == pytest.approx(0.9 * (1.1 / 0.9) ** along, rel=5e-3)


def test_no_corrections_have_no_curves(data):
    assert scaling_curves(Scaling.none(), data) == []


def test_shells_before_and_after_add_up_to_the_whole(data):
    spoilt = replace(data, intensity=data.intensity * (1 + 0.3 * (np.arange(N) % 2)))
    before = scale_observations(spoilt, Scaling.none(), outlier_probability=0.0)
    after = scale_observations(data, Scaling.none(), outlier_probability=0.0)
    inv_d = data.orbit / 2000.0 + 0.1  # orbits are at one resolution each
    table = scaling_shells(before, after, inv_d)
    assert sum(table["n"]) == N
    assert table["d_max"][0] == pytest.approx(10.0)
    assert np.all(np.array(table["r_meas_after"]) < table["r_meas_before"])
    one = scaling_shells(before, after, np.full(N, 0.2))
    assert one["r_meas_before"][0] == pytest.approx(before.r_meas())
    assert min(table["r_meas_after"]) < after.r_meas() < max(table["r_meas_after"])
