"""Masks: by value, by rectangle, by file."""

import pickle

import h5py
import numpy as np
import pytest
from fabio.tifimage import TifImage
from numpy.testing import assert_array_equal
from scipy import ndimage

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.detector_mask import static_mask
from offbragg.reduction.masks import mask_untrusted, read_mask, rectangle_mask
from offbragg.reduction.options import MaskOptions

SHAPE = (20, 30)  # slow, fast: of both panels of the made experiment


@pytest.fixture
def pattern():
    """A mask of each panel."""
    return np.random.default_rng(2).random((2, *SHAPE)) < 0.1


# --- 1 reference numbers -------------------------------------------------


def test_values_by_hand():
    image = np.array([[-1, 0, 1], [5, 6, 7]], dtype=np.int32)
    assert_array_equal(mask_untrusted(image, (0, 6)), [[True, False, False], [False, False, True]])
    # Both ends are trusted; −1 as the smallest in signed integers is the old way of writing 0.
    assert_array_equal(mask_untrusted(image, (-1, 6))[0], [True, False, False])
    assert_array_equal(mask_untrusted(image.astype(float), (-1, 6))[0], [False, False, False])
    assert_array_equal(mask_untrusted(image, (-2, 6))[0], [False, False, False])


def test_rectangles_of_dials(experiment):
    excluded = rectangle_mask(experiment.detector[0])  # x0, y0, x1, y1 = 0, 0, 2, 3
    assert excluded[:3, :2].all()
    assert excluded.sum() == 6
    assert not rectangle_mask(experiment.detector[1]).any()


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("margin", [0, 1, 2, 3, 5])
def test_margins_are_discs(margin):
    rng = np.random.default_rng(9)
    image = np.where(rng.random((40, 50)) < 0.01, 70000, rng.integers(0, 10, (40, 50)))
    image[0, 0] = image[-1, 20] = 70000  # at the border
    reach = np.arange(-margin, margin + 1)
    disc = reach[:, None] ** 2 + reach**2 <= margin**2
    expected = ndimage.binary_dilation(image > 65000, disc) | (image < 1)
    assert_array_equal(mask_untrusted(image, (1, 65000), margin), expected)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4"])
def test_every_kind_of_number_is_compared_as_what_it_is(dtype):
    """By whole numbers of Python, which have no end; limits between, beyond and at them."""
    values = [0, 1, 5, 100]
    is_whole = dtype != "f4"
    if is_whole:
        info = np.iinfo(dtype)
        values += [int(info.min), int(info.max), int(info.max) - 1]
    image = np.array([values], dtype)
    for low in (-np.inf, -2, -0.5, 0, 0.5, 1, 3, 1e30, np.inf):
        for high in (-np.inf, -1, 0, 4.5, 5, 100, 65535, 1e9, 1e30, np.inf):
            expected = [not low <= v <= high for v in values]
            if is_whole and info.bits >= 32:
                expected[values.index(info.max)] = True
            assert_array_equal(mask_untrusted(image, (low, high))[0], expected)


# --- 3 exact limits ------------------------------------------------------


def test_low_values_and_flags_have_no_margin():
    image = np.full((9, 9), 5, dtype=np.uint32)
    image[4, 4] = np.iinfo(np.uint32).max  # a dead pixel
    image[1, 1] = 0
    excluded = mask_untrusted(image, (1, 1000), margin=2)
    assert excluded.sum() == 2
    image[4, 4] = 1001
    assert mask_untrusted(image, (1, 1000), margin=2).sum() == 1 + 13


def test_nan_is_excluded():
    image = np.array([[1.0, np.nan, np.inf]])
    assert_array_equal(mask_untrusted(image, (-np.inf, 1e9)), [[False, True, True]])


def test_a_file_adds_to_rectangles(experiment, pattern, tmp_path):
    np.save(tmp_path / "mask.npy", pattern)
    both = static_mask(experiment, MaskOptions(mask=str(tmp_path / "mask.npy")))
    assert_array_equal(both.excluded[0], pattern[0] | rectangle_mask(experiment.detector[0]))
    assert_array_equal(both.excluded[1], pattern[1])
    assert both.counts == {"experiment": 6, "file": pattern.sum()}
    assert static_mask(experiment, MaskOptions()).excluded[0].sum() == 6


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "npy-int", "tif", "h5", "one-image"])
def test_all_kinds_of_files_say_the_same(kind, experiment, pattern, tmp_path):
    path = tmp_path / "mask.npy"
    if kind == "npy":
        np.save(path, pattern)
    elif kind == "npy-int":
        np.save(path, pattern.astype(np.int32) * 7)
    elif kind == "one-image":  # one panel below the other
        np.save(path, pattern.reshape(-1, SHAPE[1]))
    elif kind == "tif":
        path = tmp_path / "mask.tif"
        TifImage(data=pattern.reshape(-1, SHAPE[1]).astype(np.uint8)).write(str(path))
    else:
        path = tmp_path / "mask_master.h5"
        with h5py.File(path, "w") as file:
            file["entry/instrument/detector/pixel_mask"] = pattern.astype(np.uint32) << 3
    for found, expected in zip(read_mask(path, experiment.detector), pattern, strict=True):
        assert found.dtype == bool
        assert_array_equal(found, expected)


def test_the_image_is_not_changed():
    image = np.arange(12.0).reshape(3, 4)
    before = image.copy()
    mask_untrusted(image, (2, 5), 1)
    assert_array_equal(image, before)


# --- 5 errors ------------------------------------------------------------


def test_a_pickle_is_refused_with_the_way_to_convert_it(experiment, tmp_path):
    for name in ("pixels.mask", "mask.pickle", "renamed.npy"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps([1, 2]))
        with pytest.raises(FormatError, match=rf"{name}: expected .* found a pickle; convert it"):
            read_mask(path, experiment.detector)


def test_arrays_of_objects_are_not_unpickled(experiment, tmp_path):
    np.save(tmp_path / "mask.npy", np.array([None, 1]), allow_pickle=True)
    with pytest.raises(FormatError, match=r"mask\.npy: expected a \.npy, TIFF or NXmx mask"):
        read_mask(tmp_path / "mask.npy", experiment.detector)


def test_masks_that_cannot_be(experiment, tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.npy: no such file"):
        read_mask(tmp_path / "none.npy", experiment.detector)
    path = tmp_path / "mask.npy"
    np.save(path, np.zeros((5, 6), bool))
    with pytest.raises(FormatError, match=r"expected an image of 2 panels of \(20, 30\).*\(5, 6\)"):
        read_mask(path, experiment.detector)
    np.save(path, np.full((2, *SHAPE), "x"))
    with pytest.raises(FormatError, match="expected a mask of booleans or integers, found <U1"):
        read_mask(path, experiment.detector)
    path.write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"mask\.npy: expected a \.npy"):
        read_mask(path, experiment.detector)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["else"] = 1
    with pytest.raises(FormatError, match=r"m\.h5: expected a mask in /entry/instrument"):
        read_mask(tmp_path / "m.h5", experiment.detector)


def test_a_margin_must_be_whole():
    with pytest.raises(InputError, match="margin must be a whole number >= 0 pixels, got -1"):
        mask_untrusted(np.zeros((2, 2)), (0, 1), -1)
