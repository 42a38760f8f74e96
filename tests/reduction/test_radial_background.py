"""Radial background: known profiles from few photons, its error, what is not radial."""

import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest

from offbragg.errors import InputError
from offbragg.made_crystal import make_experiment
from offbragg.reduction.corrections import mean_solid_angle
from offbragg.reduction.dials_writer import write_experiments
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map
from offbragg.reduction.pixel_table import PixelTable
from offbragg.reduction.radial_background import RadialModel, fit_log_rate

CELL = (20.0, 24.0, 22.0, 90.0, 100.0, 90.0)
FOUR = 4.0


def profile(two_theta):
    """Air, falling steeply, and the ring of a window."""
    return 0.1 + np.exp(-8 * two_theta) + 0.5 * np.exp(-(((two_theta - 0.3) / 0.03) ** 2))


@pytest.fixture(scope="module")
def detector():
    """Two panels, an inclined one among them, with all that varies around the beam."""
    made = make_experiment(CELL, d_min=2.0, n_images=2, n_pixels=128)
    reference = mean_solid_angle(made.detector)
    tables = [
        PixelTable.of_panel(
            panel, made.beam, ("solid-angle", "polarization", "air"), reference,
            np.zeros(panel.shape, bool),
        )
        for panel in made.detector
    ]  # fmt: skip
    two_thetas = []
    for panel in made.detector:
        p = panel.pixel_positions()
        two_thetas.append(np.arccos(p @ made.beam.direction / np.linalg.norm(p, axis=-1)))
    return RadialModel.of_tables(tables, made.beam), two_thetas


def images(detector, level, n, *, uneven=0.0, seed=0):
    """True photons, and the mean of n images of them."""
    model, two_thetas = detector
    rng = np.random.default_rng(seed)
    truth = [
        level * profile(t) / k * (1 + uneven * np.cos(a))
        for t, k, a in zip(two_thetas, model.factors, model.azimuth, strict=True)
    ]
    return truth, [(rng.poisson(n * x) / n).astype(np.float32) for x in truth]


def rms(found, truth):
    squares = [np.nanmean((x - y) ** 2) for x, y in zip(found, truth, strict=True)]
    return np.sqrt(np.mean(squares))


# --- 1 known truth -------------------------------------------------------


@pytest.mark.parametrize("level", [0.2, 5.0, 200.0])
def test_few_images_tell_a_radial_background(detector, level):
    truth, mean = images(detector, level, 2)
    photons, variances = detector[0].smooth(mean, 2)
    assert rms(photons, truth) < 0.15 * rms(mean, truth)
    # Few photons and a narrow ring: the penalty flattens its top. Ratios of 1.4 to 2 were seen.
    square = np.mean([np.mean((p - x) ** 2) for p, x in zip(photons, truth, strict=True)])
    assert 1 / 3 < square / np.mean([v.mean() for v in variances]) < 3


def test_shadows_peaks_and_hot_pixels_are_no_part_of_it(detector):
    truth, mean = images(detector, 50.0, 4)
    clean, _ = detector[0].smooth(mean, 4)
    for image, two_theta in zip(mean, detector[1], strict=True):
        image[two_theta < 0.05] = np.nan  # the beam stop, masked
        image[60:64, :] = 0.0  # its arm, not masked: 20 photons are missing and more
        image[20:24, 20:24] = 4000.0
        image[100, 5] = 1e6
    photons, _ = detector[0].smooth(mean, 4)
    inside = [t > 0.06 for t in detector[1]]
    difference = [
        (p - c)[i] / x[i] for p, c, i, x in zip(photons, clean, inside, truth, strict=True)
    ]
    assert np.sqrt(np.mean(np.concatenate(difference) ** 2)) < 0.03


# --- 2 independent oracle ------------------------------------------------


def test_the_error_is_that_of_repeated_fits():
    x = (np.arange(200) + 0.5) / 200
    rate, exposure = np.exp(1 + np.sin(5 * x)), np.full(200, 30.0)
    exposure[50:60] = 0  # no pixel is there
    rng = np.random.default_rng(0)
    fits = [fit_log_rate(rng.poisson(rate * exposure).astype(float), exposure) for _ in range(20)]
    z = [(eta - np.log(rate)) / np.sqrt(variance) for eta, variance in fits]
    assert np.mean(np.square(z)) == pytest.approx(1.0, abs=0.35)
    # Smoothing takes the error well below that of single numbers.
    assert np.mean([v.mean() for _, v in fits]) < 0.15 * np.mean(1 / (rate * 30.0))


# --- 3 what is not radial ------------------------------------------------


@pytest.mark.parametrize(("uneven", "level"), [(0.0, 0.2), (0.0, 50.0), (0.2, 50.0), (0.2, 0.5)])
def test_what_is_not_radial_is_said(detector, caplog, uneven, level):
    _, mean = images(detector, level, 3, uneven=uneven)
    with caplog.at_level(logging.INFO):
        detector[0].smooth(mean, 3)
    (record,) = caplog.records
    assert "of the background is not radial" in record.message
    part = float(record.message.split("; ")[1].split(" %")[0])
    if uneven:
        # cos of the azimuth over whole rings: rms 0.2/√2; rings are not whole at the borders.
        assert part == pytest.approx(100 * uneven / np.sqrt(2), rel=0.25)
        assert record.levelno == logging.WARNING
    else:
        assert part < 1.5
        assert record.levelno == logging.INFO


# --- 4 a map -------------------------------------------------------------


def test_a_map_with_one_background_image(tmp_path):
    """One image for twelve: the model's variance is small, and is what remains."""
    rng = np.random.default_rng(0)
    made = make_experiment(CELL, d_min=3.0, n_images=12, oscillation_deg=15.0, n_pixels=64)
    elsewhere = []
    for panel in made.detector:
        p = panel.pixel_positions()
        cosine = p @ made.beam.direction / np.linalg.norm(p, axis=-1)
        elsewhere.append(10 * profile(np.arccos(cosine)))
    elsewhere = np.stack(elsewhere)
    for name, n, signal in (("data", 12, 1.5), ("air", 1, 0.0)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            counts = rng.poisson(signal + elsewhere, (n, *elsewhere.shape))
            file["entry/data/data"] = counts.astype(np.uint32)
    scan = made.scan
    one = replace(
        scan, image_range=(1, 1), oscillation_start=scan.oscillation_start[:1],
        oscillation_width=scan.oscillation_width[:1],
        exposure_times=None if scan.exposure_times is None else scan.exposure_times[:1],
    )  # fmt: skip
    write_experiments(
        tmp_path / "air.expt", replace(made, scan=one).with_images(tmp_path / "air.h5")
    )
    data = made.with_images(tmp_path / "data.h5")
    plain = {"d_min": 3.0, "bragg": "keep", "corrections": (), "overload_margin": 0}
    maps = {}
    for model in ("images", "radial"):
        options = MapOptions(
            **plain, background=(str(tmp_path / "air.expt"),), background_model=model
        )
        maps[model] = compute_map([data], options)
    many = maps["radial"].count >= 15
    found = {name: (m.intensity[many] - 1.5, m.sigma[many]) for name, m in maps.items()}
    difference, sigma = found["radial"]
    assert np.std(difference / sigma) == pytest.approx(1.0, abs=0.12)
    assert abs(np.mean(difference)) < FOUR * 0.03  # the model's error is common to rings
    assert np.std(difference) < 0.8 * np.std(found["images"][0])
    assert np.mean(sigma**2) < 0.7 * np.mean(found["images"][1] ** 2)


# --- 5 errors ------------------------------------------------------------


def test_what_is_wrong_is_named(detector):
    empty = [np.zeros_like(x) for x in detector[0].factors]
    with pytest.raises(InputError, match="'radial': expected 100 photons or more, got 0"):
        detector[0].smooth(empty, 3)
    with pytest.raises(InputError, match="background_model must be one of images, radial, got 'r'"):
        MapOptions(d_min=2.0, background_model="r")
