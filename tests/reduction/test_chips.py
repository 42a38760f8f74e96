"""Chips of a detector: their numbers, in observations too, and factors that come back."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg import InputError, MapOptions
from offbragg.reduction.chips import number_chips
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.observations import axes_across
from offbragg.reduction.observations_file import read_observations
from offbragg.reduction.observe import write_observations
from offbragg.reduction.passages import join_passages
from offbragg.reduction.scaling import fit_scaling
from offbragg.reduction.scaling_curves import scaling_curves
from offbragg.reduction.scaling_model import ScalingData
from offbragg.reduction.standard_scaling import ScalingOptions, standard_corrections

N_ORBITS, PER_ORBIT, PHOTONS = 600, 12, 200.0
SAME_FACTOR = 0.005  # a chip has 900 observations of 200 photons: 0.24 % of one, and the mean's


@pytest.fixture
def sweep(expt_content, write_expt, tmp_path):
    """Six images of two panels of 30 x 20 pixels, a photon in each."""
    with h5py.File(tmp_path / "made.h5", "w") as file:
        file["entry/data/data"] = np.ones((6, 2, 20, 30), np.int32)
    expt_content["imageset"][0] = {
        "__id__": "ImageSequence", "template": "made.h5", "single_file_indices": list(range(6)),
    }  # fmt: skip
    return read_experiments(write_expt(expt_content))


def made(factors, rng):
    """Observations of orbits, each on any chip, and each chip with its factor."""
    n = N_ORBITS * PER_ORBIT
    orbit = rng.permutation(np.arange(n) % N_ORBITS)
    chip = rng.integers(0, len(factors), n)
    expected = rng.gamma(16.0, 1 / 16, N_ORBITS)[orbit] * factors[chip]
    inv_d = np.sort(rng.uniform(0.1, 0.5, N_ORBITS))[orbit]
    return ScalingData(
        rng.poisson(PHOTONS * expected) / PHOTONS, np.full(n, 1 / PHOTONS), np.zeros(n), orbit,
        {"chip": chip.astype(float), "sweep": np.zeros(n), "angle": rng.uniform(0, 90, n),
         "inv_d": inv_d},
    )  # fmt: skip


# --- 1 reference numbers -------------------------------------------------


def test_numbers_go_along_fast_then_slow_then_panels(experiment):
    first, second = number_chips(experiment.detector, (3, 2))
    assert first.shape == (20, 30)
    assert_array_equal(first[0, ::10], [0, 1, 2])
    assert_array_equal(first[10, [9, 10]], [3, 4])
    assert_array_equal(second, first + 6)
    assert [np.bincount(x.ravel())[-6:].tolist() for x in (first, second)] == [[100] * 6] * 2


@pytest.mark.parametrize(
    ("n_modules", "module", "gap"),
    [(5, 487, 7), (12, 195, 17), (2, 1030, 10), (4, 514, 37), (8, 514, 38)],
)
def test_equal_parts_end_in_the_gaps_between_modules(n_modules, module, gap, experiment):
    n = n_modules * module + (n_modules - 1) * gap
    panel = replace(experiment.detector[0], image_size=(n, 2))
    (chips,) = number_chips([panel], (n_modules, 1))
    starts = np.arange(n_modules) * (module + gap)
    for number, start in enumerate(starts):
        assert np.all(chips[0, start : start + module] == number)


# --- 2 known truth -------------------------------------------------------


@pytest.mark.parametrize("oversample", [(1, 1), (2, 2)])
def test_observations_say_which_chip_they_are_of(oversample, sweep, tmp_path):
    """A voxel so small that it sees one pixel is of that pixel's chip."""
    (experiment,) = sweep
    options = MapOptions(
        d_min=4.0, sampling=(9, 9, 9), bragg="keep", overload_margin=0, chips=(3, 2),
        oversample=oversample,
    )  # fmt: skip
    path = tmp_path / "o.h5"
    write_observations(sweep, options, path)
    columns = read_observations(path).columns
    positions = np.concatenate([p.pixel_positions().reshape(-1, 3) for p in experiment.detector])
    rays = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    seen = rays @ axes_across(experiment.beam).T
    chips = np.concatenate([c.ravel() for c in number_chips(experiment.detector, (3, 2))])
    one = np.flatnonzero(columns["count"] == 1)
    assert len(one) > 100
    at = np.stack([columns["x"][one], columns["y"][one]], axis=1)
    away = np.linalg.norm(at[:, None] - seen[None], axis=2)
    nearest = np.argmin(away, axis=1)
    assert away[np.arange(len(one)), nearest].max() < 1e-5
    assert_array_equal(columns["chip"][one], chips[nearest])
    assert len(np.unique(columns["chip"])) > 3


def test_factors_of_chips_come_back():
    rng = np.random.default_rng(4)
    factors = np.exp(rng.normal(0.0, 0.08, 8))
    data = made(factors, rng)
    corrections = standard_corrections(data, ScalingOptions(corrections=("chip",)))
    scaling = fit_scaling(data, corrections)
    (curve,) = scaling_curves(scaling, data)
    assert (curve["by"], curve["at"]) == ("chip", list(range(8)))
    ratio = np.array(curve["mean"]) / factors
    assert np.std(ratio) / np.mean(ratio) < SAME_FACTOR < 0.1 * np.std(factors)


# --- 3 exact limits ------------------------------------------------------


def test_a_detector_of_one_chip_has_no_numbers(experiment):
    assert number_chips(experiment.detector[:1], (1, 1)) == (None,)


def test_chips_that_are_alike_get_no_factors():
    data = made(np.ones(8), np.random.default_rng(5))
    corrections = standard_corrections(data, ScalingOptions(corrections=("chip",)))
    scaling = fit_scaling(data, corrections)
    assert np.std(scaling_curves(scaling, data)[0]["mean"]) < SAME_FACTOR


def test_a_passage_across_two_chips_is_not_whole():
    n = 4
    columns = {
        "angle": np.array([0.5, 1.5, 0.5, 1.5]), "sweep": np.zeros(n),
        "chip": np.array([1.0, 1.0, 1.0, 2.0]),
    }  # fmt: skip
    data = ScalingData(np.ones(n), np.ones(n), np.zeros(n), np.zeros(n, int), columns)
    found = join_passages(data, np.array([5, 5, 6, 6]), np.ones(n), np.ones(n), [np.zeros(n)] * 3)
    assert_array_equal(found.is_whole, [True, False])
    assert found.data.columns["chip"][0] == 1.0


# --- 5 errors ------------------------------------------------------------


def test_what_is_wrong_is_named(experiment):
    with pytest.raises(InputError, match=r"^chips must be two whole numbers >= 1, got 0, 2$"):
        MapOptions(d_min=2.0, chips=(0, 2))
    with pytest.raises(InputError, match=r"^chips must be two whole numbers, got"):
        MapOptions(d_min=2.0, chips=(1, 2, 3))
    with pytest.raises(InputError, match=r"panel 0 has 30 x 20 pixels, fewer than the chips 31"):
        number_chips(experiment.detector, (31, 1))
    wide = [replace(experiment.detector[0], image_size=(400, 400))]
    with pytest.raises(InputError, match=r"^chips: expected 65536 at most, got 90000$"):
        number_chips(wide, (300, 300))
    data = made(np.ones(1), np.random.default_rng(6))
    with pytest.raises(InputError, match=r"^corrections: chip needs observations by several chips"):
        standard_corrections(data, ScalingOptions(corrections=("chip",)))
