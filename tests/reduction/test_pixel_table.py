"""Dark images, flat fields, gain: from files, into photons and κ."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from fabio.tifimage import TifImage
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.errors import FormatError, MissingFileError
from offbragg.reduction.corrections import PIXEL_CORRECTIONS
from offbragg.reduction.pixel_files import read_dark, read_flat_field
from offbragg.reduction.pixel_table import PixelTable

RTOL_FLOAT32 = 1e-6
SHAPE = (20, 30)  # slow, fast: of both panels of the made experiment


@pytest.fixture
def table(experiment):
    """Make the table of the first panel."""

    def make(panel=experiment.detector[0], excluded=None, **arguments):
        if excluded is None:
            excluded = np.zeros(SHAPE, bool)
        return PixelTable.of_panel(
            panel, experiment.beam, PIXEL_CORRECTIONS, 6e-4, excluded, **arguments
        )

    return make


# --- 1 reference numbers -------------------------------------------------


def test_photons_by_hand(table, experiment):
    # (500 − 40 − 60)/4 = 100 photons.
    panel = replace(experiment.detector[0], gain=4.0, pedestal=40.0)
    found = table(panel, dark=np.full(SHAPE, 60.0))
    photons = found.photons(np.full(SHAPE, 500, np.uint16), np.zeros(SHAPE, bool))
    assert photons.dtype == np.float32
    assert_array_equal(photons, 100.0)


# --- 2 independent oracle ------------------------------------------------


def test_intensity_and_variance_of_made_images(table, experiment):
    # Poisson photons of 3 times the response, turned into ADU with a dark image of their own:
    # I = c κ is 3 κ₀ on average, and var = c κ² its scatter, pixel by pixel.
    rng, n = np.random.default_rng(3), 4000
    response = rng.uniform(0.4, 1.6, SHAPE)
    dark = rng.uniform(5, 90, SHAPE)
    panel = replace(experiment.detector[0], gain=2.5, pedestal=11.0)
    made = table(panel, flat_field=response, dark=dark)
    plain = table(panel).factors.reshape(SHAPE)
    kappa = made.factors.reshape(SHAPE)
    total, squares, variance = np.zeros(SHAPE), np.zeros(SHAPE), np.zeros(SHAPE)
    for _ in range(n):
        adu = rng.poisson(3 * response) * 2.5 + dark + 11.0
        photons = made.photons(adu, np.zeros(SHAPE, bool)).astype(float)
        total += photons * kappa
        squares += (photons * kappa) ** 2
        variance += photons * kappa**2
    mean, scatter = total / n, squares / n - (total / n) ** 2
    z = (mean - 3 * plain) / np.sqrt(variance / n**2)
    assert abs(z.mean()) < 4.5 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 4.5 * np.sqrt(2 / z.size)
    # A scatter from 4000 images of a Poisson number of 3 is known to 2.4 %.
    ratio = scatter * n / variance
    assert abs(ratio.mean() - 1) < 4.5 * 0.025 / np.sqrt(ratio.size)


# --- 3 exact limits ------------------------------------------------------


def test_nothing_given_changes_nothing(table):
    plain = table()
    found = table(flat_field=np.ones(SHAPE), dark=np.zeros(SHAPE))
    assert_array_equal(found.factors, plain.factors)
    image = np.random.default_rng(1).integers(0, 99, SHAPE)
    bad = image > 90
    assert_array_equal(found.photons(image, bad), plain.photons(image, bad))
    assert_array_equal(np.isnan(plain.photons(image, bad)), bad)


def test_pixels_without_a_value_are_excluded(table):
    flat, dark = np.ones(SHAPE), np.zeros(SHAPE)
    flat[2, 3], flat[4, 5], dark[6, 7] = np.nan, 0.0, np.nan
    masked = np.zeros(SHAPE, bool)
    masked[8, 9] = True
    found = table(excluded=masked, flat_field=flat, dark=dark).excluded
    assert_array_equal(np.argwhere(found), [[2, 3], [4, 5], [6, 7], [8, 9]])


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "npy-int", "tif", "h5", "one-image"])
@pytest.mark.parametrize(("read", "place"), [(read_dark, "dark"), (read_flat_field, "flatfield")])
def test_all_kinds_of_files_say_the_same(kind, read, place, experiment, tmp_path):
    values = np.random.default_rng(5).integers(1, 9, (2, *SHAPE)).astype(np.float32)
    path = tmp_path / "values.npy"
    if kind == "npy":
        np.save(path, values)
    elif kind == "npy-int":
        np.save(path, values.astype(np.int16))
    elif kind == "one-image":
        np.save(path, values.reshape(-1, SHAPE[1]))
    elif kind == "tif":
        path = tmp_path / "values.tif"
        TifImage(data=values.reshape(-1, SHAPE[1])).write(str(path))
    else:
        path = tmp_path / "master.h5"
        with h5py.File(path, "w") as file:
            file[f"entry/instrument/detector/{place}"] = values
    for found, expected in zip(read(path, experiment.detector), values, strict=True):
        assert found.dtype == np.float64
        assert_array_equal(found, expected)


def test_the_image_is_not_changed(table):
    image = np.random.default_rng(1).normal(50, 5, SHAPE).astype(np.float32)
    before = image.copy()
    table(dark=np.full(SHAPE, 3.0)).photons(image, image > 60)
    assert_array_equal(image, before)


def test_a_flat_field_twice_as_large_halves_the_intensity(table):
    flat = np.random.default_rng(1).uniform(0.5, 2, SHAPE)
    one, two = table(flat_field=flat), table(flat_field=2 * flat)
    assert_allclose(two.factors, one.factors / 2, rtol=RTOL_FLOAT32)


# --- 5 errors ------------------------------------------------------------


def test_files_that_cannot_be(experiment, tmp_path):
    detector = experiment.detector
    with pytest.raises(MissingFileError, match=r"none\.npy: no such file"):
        read_dark(tmp_path / "none.npy", detector)
    path = tmp_path / "flat.npy"
    np.save(path, np.ones((5, 6)))
    with pytest.raises(FormatError, match=r"expected an image of 2 panels of \(20, 30\).*\(5, 6\)"):
        read_flat_field(path, detector)
    np.save(path, np.full((2, *SHAPE), 1j))
    with pytest.raises(FormatError, match="expected a flat field of numbers, found complex128"):
        read_flat_field(path, detector)
    np.save(path, np.full((2, *SHAPE), -0.5))
    with pytest.raises(FormatError, match=r"expected a flat field of numbers >= 0, found -0\.5"):
        read_flat_field(path, detector)
    path.write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"expected a \.npy, TIFF or NXmx dark image"):
        read_dark(path, detector)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["else"] = 1
    with pytest.raises(FormatError, match=r"expected a flat field in /entry/instrument/detector/f"):
        read_flat_field(tmp_path / "m.h5", detector)
