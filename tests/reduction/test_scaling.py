"""Scaling: corrections planted in made observations come back, outliers go, errors are right."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import InputError
from offbragg.reduction.scaled import ErrorModel, orbit_means, scale_observations
from offbragg.reduction.scaling import fit_scaling
from offbragg.reduction.scaling_model import Correction, Scaling, ScalingData
from offbragg.reduction.smooth_function import Axis, SmoothFunction

N_ORBITS, PER_ORBIT = 1500, 16
# Counts of 100 to 1000 photons an observation: 16 of them, and what corrections cost.
SAME_FACTOR = 0.01
# Merged intensities, less noise: what is left of planted errors of 30 %.
MOST_BIAS = 0.01
THREE = 3.0


class Made:
    """Observations with a drifting beam, absorption and an offset, and the truth."""

    def __init__(self, seed=0, *, factor=True, offset=True, extra=0.0, per_orbit=PER_ORBIT):
        rng = np.random.default_rng(seed)
        n = N_ORBITS * per_orbit
        self.orbit = rng.permutation(np.arange(n) % N_ORBITS)
        inv_d = np.sort(rng.uniform(0.1, 0.5, N_ORBITS))
        self.truth = 40.0 * rng.gamma(16.0, 1 / 16, N_ORBITS) * np.exp(-2 * inv_d)
        angle, x, y = rng.uniform(0, 180, n), rng.normal(0, 0.2, n), rng.normal(0, 0.2, n)
        turned = np.radians(angle)
        self.factor, self.offset = np.ones(n), np.zeros(n)
        if factor:
            self.factor = (1 + 0.3 * np.sin(2 * turned)) * np.exp(
                -0.4 * x * np.cos(turned) - 0.3 * y * np.sin(turned)
            )
        if offset:
            self.offset = 4.0 * np.exp(-3 * inv_d[self.orbit]) * (1 + np.cos(turned))
        expected = self.factor * self.truth[self.orbit] + self.offset
        per_photon = rng.uniform(0.05, 0.2, n)
        changed = expected * np.maximum(1 + extra * rng.normal(size=n), 0.0)
        self.photons = rng.poisson(changed / per_photon)
        columns = {"angle": angle, "x": x, "y": y, "inv_d": inv_d[self.orbit]}
        self.data = ScalingData(
            self.photons * per_photon, per_photon, np.zeros(n), self.orbit, columns
        )

    def merged(self, intensity, weight, used=None):
        used = np.ones(len(intensity), dtype=bool) if used is None else used
        return orbit_means(intensity, weight, self.orbit, used)


def corrections(*names):
    angle = Axis(0.0, 180.0, 12)
    every = {
        "scale": Correction(SmoothFunction("scale", (angle,)), ("angle",), "crystal", 0.03),
        "absorption": Correction(
            SmoothFunction("absorption", (Axis(-0.6, 0.6, 2), Axis(-0.6, 0.6, 2), Axis(0, 180, 5))),
            ("x", "y", "angle"), "all", 0.03,
        ),
        "offset": Correction(
            SmoothFunction("offset", (Axis(0.1, 0.5, 3), Axis(0.0, 180.0, 5))),
            ("inv_d", "angle"), "offset", 0.03,
        ),
    }  # fmt: skip
    return tuple(every[name] for name in names or every)


@pytest.fixture(scope="module")
def made():
    return Made()


@pytest.fixture(scope="module")
def scaling(made):
    return fit_scaling(made.data, corrections())


# --- 1 known truth -------------------------------------------------------


def test_planted_corrections_come_back(made, scaling):
    assert scaling.converged
    assert scaling.misfit[-1] == pytest.approx(1.0, abs=0.06)  # 2 % of Huber's tails, ± 1/√n
    factor, _ = scaling.factor_and_offset(made.data.columns)
    ratio = factor / made.factor
    assert np.std(ratio) / np.mean(ratio) < SAME_FACTOR
    scaled = scale_observations(made.data, scaling)
    merged = made.merged(scaled.intensity, scaled.weight)
    size = np.sum(merged * made.truth) / np.sum(merged**2)
    assert abs(np.mean(size * merged - made.truth)) < MOST_BIAS * np.mean(made.truth)
    shells = np.arange(N_ORBITS) // 300
    for shell in range(5):
        inside = shells == shell
        rest = np.mean(size * merged[inside] - made.truth[inside])
        assert abs(rest) < 2 * MOST_BIAS * np.mean(made.truth[inside])


def test_equivalents_agree_as_well_as_their_counts_let_them(made, scaling):
    none = Scaling.none()
    before = scale_observations(made.data, none, outlier_probability=0.0)
    after = scale_observations(made.data, scaling)
    grown = [x.error_model.inflation * x.error_model.fraction for x in (before, after)]
    assert grown[0] > 0.15 > 5 * grown[1]
    assert after.error_model.inflation == pytest.approx(1.0, abs=0.03)
    assert after.r_meas() < 0.5 * before.r_meas()
    others = after.intensity - made.merged(after.intensity, after.weight)[made.orbit]
    z = others / np.sqrt(after.expected_variance * (1 - 1 / PER_ORBIT))
    assert np.std(z) == pytest.approx(1.0, abs=0.05)


def test_errors_that_grow_with_the_intensity_are_seen():
    found = Made(3, factor=False, offset=False, extra=0.1)
    none = Scaling.none()
    model = scale_observations(found.data, none).error_model
    assert model.fraction * model.inflation == pytest.approx(0.1, rel=0.15)


# --- 2 independent oracle ------------------------------------------------


def test_outliers_of_either_sign_go_and_no_others(made, scaling):
    rng = np.random.default_rng(5)
    bad = rng.choice(len(made.orbit), 60, replace=False)
    intensity = made.data.intensity.copy()
    intensity[bad[:30]] *= 4.0
    intensity[bad[30:]] *= 0.1
    found = scale_observations(replace(made.data, intensity=intensity), scaling)
    assert set(np.flatnonzero(found.is_outlier)) == set(bad)
    clean = scale_observations(made.data, scaling)
    assert np.count_nonzero(clean.is_outlier) == 0


def test_bright_ones_do_not_make_the_others_look_weak():
    """A ring of ice on a quarter of the images: those go, not the three quarters."""
    clean = Made(8, factor=False, offset=False)
    place = np.empty(len(clean.orbit), dtype=int)  # within the orbit
    place[np.argsort(clean.orbit, kind="stable")] = np.arange(len(place)) % PER_ORBIT
    bad = (clean.orbit < 300) & (place < PER_ORBIT // 4)
    intensity = np.where(bad, 3.0, 1.0) * clean.data.intensity
    found = scale_observations(replace(clean.data, intensity=intensity), Scaling.none())
    assert np.count_nonzero(found.is_outlier & ~bad) == 0
    assert np.count_nonzero(found.is_outlier & bad) == np.count_nonzero(bad)


def test_few_photons_are_no_outliers():
    """At half a photon most observations are 0; none is left out, and the mean is right."""
    rng = np.random.default_rng(6)
    n = 40_000
    orbit = np.arange(n) % 2000
    truth = rng.uniform(0.3, 0.7, 2000)
    photons = rng.poisson(truth[orbit])
    data = ScalingData(
        photons.astype(float), np.ones(n), np.zeros(n), orbit, {"angle": np.zeros(n)}
    )
    found = scale_observations(data, Scaling.none())
    assert np.count_nonzero(found.is_outlier) == 0
    merged = orbit_means(found.intensity, found.weight, orbit, ~found.is_outlier)
    error = np.sqrt(np.sum(truth) / 20) / 2000
    assert abs(np.mean(merged) - np.mean(truth)) < THREE * error


# --- 3 exact limits ------------------------------------------------------


def test_without_corrections_observations_stay_as_they_are(made):
    none = Scaling.none()
    found = scale_observations(made.data, none, outlier_probability=0.0)
    assert np.array_equal(found.intensity, made.data.intensity)


def test_what_needs_no_scaling_is_left_alone():
    found = Made(2, factor=False, offset=False)
    scaling = fit_scaling(found.data, corrections())
    factor, offset = scaling.factor_and_offset(found.data.columns)
    assert np.std(factor) < 0.2 * SAME_FACTOR
    assert np.mean(np.abs(offset)) < 0.5 * SAME_FACTOR * np.mean(found.data.intensity)


def test_factors_have_mean_one_and_offsets_reach_zero(made, scaling):
    for name in ("scale", "absorption"):
        (x,) = (c for c in scaling.corrections if c.function.name == name)
        values = scaling.value(name, x.points(made.data.columns))
        assert np.mean(values) == pytest.approx(1.0, abs=0.02)
    angles = np.linspace(0.0, 180.0, 200)
    for inv_d in (0.15, 0.3, 0.45):
        along = scaling.value("offset", np.column_stack([np.full(200, inv_d), angles]))
        assert -0.2 < along.min() < 0.3  # of a mean intensity of 24


def test_an_error_model_of_none_changes_no_variance():
    assert ErrorModel().variance(np.array([2.0]), np.array([5.0])) == 2.0


# --- 4 invariances -------------------------------------------------------


def test_the_unit_of_intensity_does_not_matter(made):
    few = made.data.take(np.arange(6000))
    scaled = replace(few, intensity=1e3 * few.intensity, per_intensity=1e3 * few.per_intensity)
    one, other = (fit_scaling(d, corrections("scale", "offset")) for d in (few, scaled))
    assert np.allclose(one.coefficients[0], other.coefficients[0], rtol=1e-6)
    assert np.allclose(1e3 * one.coefficients[1], other.coefficients[1], rtol=1e-6, atol=1e-6)


# --- 5 errors ------------------------------------------------------------


def test_what_is_wrong_is_named(made, scaling):
    one = Axis(0.0, 1.0, 1)
    with pytest.raises(InputError, match="kind must be one of all, crystal, offset, got 'beam'"):
        Correction(SmoothFunction("a", (one,)), ("x",), "beam", 1.0)
    with pytest.raises(InputError, match="roughness must be > 0, got 0"):
        Correction(SmoothFunction("a", (one,)), ("x",), "all", 0)
    with pytest.raises(InputError, match="no correction 'dose', expected one of scale, abso"):
        scaling.value("dose", np.zeros((1, 1)))
    single = replace(made.data, orbit=np.arange(len(made.orbit)))
    with pytest.raises(InputError, match="expected orbits with two observations or more"):
        fit_scaling(single, corrections("scale"))
    with pytest.raises(InputError, match="outlier_probability must be 0 to 1, got 2"):
        scale_observations(made.data, scaling, outlier_probability=2)
