"""Background: subtracted on its own scale, its variance kept, by angle where it changes."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from offbragg import FormatError, InputError, MapOptions
from offbragg.made_crystal import make_experiment
from offbragg.reduction.dials_writer import write_experiments
from offbragg.reduction.experiment import read_background, read_experiments
from offbragg.reduction.observations_file import read_observations
from offbragg.reduction.observe import write_observations
from offbragg.reduction.pipeline import compute_map
from offbragg.reduction.scaled import scale_observations
from offbragg.reduction.scaled_map import map_of, scaling_data
from offbragg.reduction.scaling_model import Scaling

CELL = (20.0, 24.0, 22.0, 90.0, 100.0, 90.0)
N_IMAGES, N_PIXELS, SIGNAL = 12, 64, 1.5
FOUR = 4.0
MANY = 15  # pixels of a voxel: of fewer, counts and σ go together and errors are skew
PLAIN = {"d_min": 3.0, "bragg": "keep", "corrections": ("exposure", "flux"), "overload_margin": 0}


def level(experiment):
    """Photons from elsewhere: most at the beam, 1 to 6."""
    panels = []
    for panel in experiment.detector:
        p = panel.pixel_positions()
        cosine = p @ experiment.beam.direction / np.linalg.norm(p, axis=-1)
        panels.append(1.0 + 5.0 * np.exp(-40 * (1 - cosine)))
    return np.stack(panels)


class Made:
    """Sweeps with and without a crystal that scatters the same everywhere."""

    def __init__(self, folder, *, n_background=4, exposure=(1.0, 1.0), turning=0.0, seed=0):
        rng = np.random.default_rng(seed)
        made = make_experiment(CELL, d_min=3.0, n_images=N_IMAGES, oscillation_deg=15.0,
                               n_pixels=N_PIXELS)  # fmt: skip
        elsewhere = level(made)
        self.paths = {}
        for name, n, signal, time in (
            ("data", N_IMAGES, SIGNAL, exposure[0]), ("air", n_background, 0.0, exposure[1])
        ):  # fmt: skip
            width = 15.0 * N_IMAGES / n
            scan = replace(
                made.scan, image_range=(1, n), exposure_times=np.full(n, time),
                oscillation_start=np.radians(width * np.arange(n)),
                oscillation_width=np.full(n, np.radians(width)),
            )  # fmt: skip
            middle = np.radians(width * (np.arange(n) + 0.5))
            turned = 1.0 + turning * np.cos(2 * middle)
            expected = time * (signal + turned[:, None, None, None] * elsewhere)
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file["entry/data/data"] = rng.poisson(expected).astype(np.uint32)
            sweep = replace(made, scan=scan).with_images(folder / f"{name}.h5")
            self.paths[name] = folder / f"{name}.expt"
            write_experiments(self.paths[name], sweep)

    def map(self, **options):
        settings = MapOptions(**PLAIN | {"background": (str(self.paths["air"]),)} | options)
        return compute_map(read_experiments(self.paths["data"]), settings)


def score(found, truth):
    """Mean and spread of errors in standard errors, and the error of that mean."""
    many = found.count >= MANY
    z = ((found.intensity - truth) / found.sigma)[many]
    return float(np.mean(z)), float(np.std(z)), 1 / np.sqrt(len(z))


# --- 1 known truth -------------------------------------------------------


def test_what_is_left_is_the_crystals(tmp_path):
    made = Made(tmp_path, n_background=40)
    found = made.map()
    mean, spread, error = score(found, SIGNAL)
    assert abs(mean) < 2 * FOUR * error  # the background's own noise is shared by voxels
    assert spread == pytest.approx(1.0, abs=0.08)
    without = made.map(background=())
    assert np.nanmean(without.intensity) > SIGNAL + 1.0
    assert "air.expt" in " ".join(found.provenance[0]["inputs"])


def test_the_noise_of_few_background_images_counts(tmp_path):
    """One image for twelve: its noise is the larger part of a voxel's variance."""
    found = Made(tmp_path, n_background=1).map()
    _, spread, _ = score(found, SIGNAL)
    assert spread == pytest.approx(1.0, abs=0.12)
    naive = Made(tmp_path, n_background=40).map()
    assert np.nanmean(found.sigma**2) > 1.4 * np.nanmean(naive.sigma**2)


def test_exposures_are_on_one_scale(tmp_path):
    found = Made(tmp_path, n_background=10, exposure=(2.0, 5.0)).map()
    # Counts of 2 s images: twice the signal of one second.
    mean, _, error = score(found, 2.0 * SIGNAL)
    assert abs(mean) < 2 * FOUR * error


def test_a_background_that_turns_is_taken_by_angle(tmp_path):
    made = Made(tmp_path, n_background=12, turning=0.5)
    by_angle, of_all = made.map(background_width=15.0), made.map()
    mean, spread, error = score(by_angle, SIGNAL)
    assert abs(mean) < 2 * FOUR * error
    assert spread == pytest.approx(1.0, abs=0.1)
    assert score(of_all, SIGNAL)[1] > 1.2


# --- 2 independent oracle ------------------------------------------------


def test_observations_carry_its_variance(tmp_path):
    made = Made(tmp_path, n_background=3)
    options = MapOptions(**PLAIN, background=(str(made.paths["air"]),), wedge=1e-3)
    write_observations(read_experiments(made.paths["data"]), options, tmp_path / "o.h5")
    observations = read_observations(tmp_path / "o.h5")
    columns = observations.columns
    assert np.all(columns["own_variance"] > 0)
    # Whole pixels of κ = 1: photons n of variance n, then B and B/3 of the background.
    own = columns["variance"] - columns["intensity"] * columns["per_intensity"]
    assert np.allclose(own, columns["own_variance"], rtol=1e-3, atol=1e-3)
    data = scaling_data(observations)
    scaled = scale_observations(data, Scaling.none(), outlier_probability=0.0)
    assert scaled.error_model.inflation < 1.15
    mean, _, error = score(map_of(observations, scaled), SIGNAL)
    assert abs(mean) < 3 * FOUR * error


# --- 5 errors ------------------------------------------------------------


def test_a_background_needs_no_crystal(tmp_path, expt_content, write_expt):
    del expt_content["experiment"][0]["crystal"]
    path = write_expt(expt_content)
    with pytest.raises(FormatError, match="a crystal model"):
        read_experiments(path)
    (sweep,) = read_background(path)
    assert len(sweep.detector) == 2


def test_what_is_wrong_is_named(tmp_path):
    made = Made(tmp_path)
    with pytest.raises(FormatError):
        made.map(background=(str(tmp_path / "air.h5"),))
    with pytest.raises(InputError, match="background_width must be > 0 degrees, got 0"):
        made.map(background_width=0)
    small = make_experiment(CELL, d_min=3.0, n_images=2, n_pixels=32)
    with h5py.File(tmp_path / "small.h5", "w") as file:
        file["entry/data/data"] = np.zeros((2, 2, *small.detector[0].shape), np.uint32)
    write_experiments(tmp_path / "small.expt", small.with_images(tmp_path / "small.h5"))
    with pytest.raises(InputError, match=r"background 0: panels must be as the data's"):
        made.map(background=(str(tmp_path / "small.expt"),))
