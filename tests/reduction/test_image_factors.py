"""One factor an image: exposure, flux, and the files that tell."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.image_factors import (
    read_image_factors,
    relative_exposures,
    relative_flux,
)

RTOL_ROUNDING = 1e-12


@pytest.fixture
def write(tmp_path):
    def write(text, name="flux.txt"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


# --- 1 reference numbers -------------------------------------------------


def test_exposures_count_where_they_differ():
    assert relative_exposures([np.full(3, 0.1), np.full(2, 0.1)]) == [None, None]
    assert relative_exposures([np.array([0.1, 0.2]), None]) == [None, None]
    assert relative_exposures([np.array([0.1, 0.2]), np.array([0.0])]) == [None, None]
    one, two = relative_exposures([np.array([1.0, 2.0]), np.array([3.0])])
    assert_allclose(one, [0.5, 1.0])
    assert_allclose(two, [1.5])


def test_flux_by_hand():
    assert_allclose(relative_flux([2.0, np.nan, 6.0, 0.0]), [0.5, np.nan, 1.5, np.nan])


# --- 2 independent oracle ------------------------------------------------


def test_intensities_come_out_even():
    # Photons of a steady source, image by image, under a beam that decays and is interrupted.
    rng = np.random.default_rng(6)
    flux = 1e12 * np.exp(-np.arange(50) / 30)
    flux[20:23] = 0
    photons = rng.poisson(4e5 * flux / 1e12)
    found = photons / relative_flux(flux)
    lit = np.isfinite(found)
    assert lit.sum() == 47
    expected = 4e5 * flux[lit].mean() / 1e12
    sigma = np.sqrt(photons[lit]) / relative_flux(flux)[lit]
    assert np.abs((found[lit] - expected) / sigma).max() < 4


# --- 3 exact limits ------------------------------------------------------


def test_a_steady_beam_changes_nothing():
    assert_allclose(relative_flux(np.full(7, 3e11)), 1.0, rtol=RTOL_ROUNDING)


# --- 4 invariances -------------------------------------------------------


def test_the_unit_of_flux_drops_out():
    flux = np.random.default_rng(2).uniform(1, 2, 9)
    assert_allclose(relative_flux(7e11 * flux), relative_flux(flux), rtol=RTOL_ROUNDING)


@pytest.mark.parametrize(
    "text",
    [
        "1.5\n0.5\n1\n",
        "# monitor\n\n1.5 # first\n0.5\n1.0",
        "flux\n1.5\n0.5\n1",
        "image,flux\n4,1.5\n5,0.5\n6,1e0\n",
        "4;1.5\n5;0.5\n6;1\n",
        "4\t1.5\n5\t0.5\n6\t1\n",
    ],
)
def test_all_kinds_of_text_say_the_same(text, write):
    assert_allclose(read_image_factors(write(text), [4, 5, 6]), [1.5, 0.5, 1.0], rtol=0)


def test_numpy_files(tmp_path):
    np.save(tmp_path / "flux.npy", np.array([3, 1], dtype=np.int32))
    assert_allclose(read_image_factors(tmp_path / "flux.npy", [1, 2]), [3.0, 1.0], rtol=0)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n", r"flux\.txt: expected 3 factors, one an image, found 2"),
        ("1\n2\nx\n", r"flux\.txt: line 3: expected numbers, found 'x'"),
        ("a\nb\n1\n", r"flux\.txt: line 2: expected numbers, found 'b'"),
        ("4 1\n6 1\n5 1\n", r"flux\.txt: expected image 5 in row 2, found 6"),
        ("4 1\n5\n6 1\n", r"flux\.txt: line 2: expected a factor, or an image number and"),
        ("1 2 3\n", r"flux\.txt: line 1: expected a factor, or .* found 3 numbers"),
        ("", r"flux\.txt: expected one factor an image, found none"),
    ],
)
def test_a_wrong_text_is_named(text, message, write):
    with pytest.raises(FormatError, match=message):
        read_image_factors(write(text), [4, 5, 6])


def test_files_that_are_none(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.csv: no such file"):
        read_image_factors(tmp_path / "none.csv", [1])
    (tmp_path / "flux.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(FormatError, match=r"flux\.csv: expected text or \.npy, found neither"):
        read_image_factors(tmp_path / "flux.csv", [1])
    (tmp_path / "flux.npy").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"flux\.npy: expected a \.npy file"):
        read_image_factors(tmp_path / "flux.npy", [1])
    np.save(tmp_path / "flux.npy", np.ones((2, 2)))
    with pytest.raises(FormatError, match=r"numbers of shape \(n_images,\), found float64 of"):
        read_image_factors(tmp_path / "flux.npy", [1, 2])


def test_fluxes_that_cannot_be():
    with pytest.raises(InputError, match="flux must be >= 0, got -2 for image 2 in order"):
        relative_flux([1.0, -2.0])
    with pytest.raises(InputError, match="flux must be > 0 for some image, got none"):
        relative_flux([0.0, np.nan])
