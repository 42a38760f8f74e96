"""The mask of a detector: reasons, images, files that `--mask` reads again."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg.errors import InputError, MissingFileError
from offbragg.reduction.detector_mask import REASONS, DetectorMask, static_mask, write_mask
from offbragg.reduction.masks import read_mask
from offbragg.reduction.options import MaskOptions
from offbragg.reduction.photons import compute_mask

SHAPE = (20, 30)  # slow, fast: of both panels of the made experiment


@pytest.fixture
def with_images(experiment, tmp_path):
    """The experiment with six images, one pixel of the second panel hot on all of them."""
    counts = np.random.default_rng(4).poisson(6.0, (6, 2, *SHAPE)).astype(np.int32)
    counts[:, 1, 7, 8] += 400
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["entry/data/data"] = counts
    images = experiment.with_images(tmp_path / "images.h5")
    return replace(images, file_indices=tuple(range(6)))


def random_mask(detector, seed=0):
    rng = np.random.default_rng(seed)
    return DetectorMask(detector, {"file": tuple(rng.random(p.shape) < 0.2 for p in detector)})


# --- 1 reference numbers -------------------------------------------------


def test_reasons_are_kept_apart(with_images, tmp_path):
    (tmp_path / "s.txt").write_text("rectangle p1 0 0 10 20\n")
    options = MaskOptions(
        mask_shapes=str(tmp_path / "s.txt"), mask_rings=("5.2-4.6",), hot_pixels=True
    )
    found = compute_mask([with_images], options)
    assert tuple(found.reasons) == tuple(name for name in REASONS if name != "file")
    assert found.counts["experiment"] == 6
    assert found.counts["shapes"] == 200
    # Column 8 is in the rectangle: what is masked already is not looked at.
    assert found.counts["hot"] == 0
    bare = compute_mask([with_images], MaskOptions(hot_pixels=True))
    assert_array_equal(np.argwhere(bare.reasons["hot"][1]), [[7, 8]])
    assert bare.excluded[1].sum() == 1


# --- 2 independent oracle ------------------------------------------------


def test_excluded_is_the_union(experiment):
    one, two = random_mask(experiment.detector), random_mask(experiment.detector, 1)
    both = DetectorMask(
        experiment.detector, {"file": one.reasons["file"], "rings": two.reasons["file"]}
    )
    for found, a, b in zip(both.excluded, one.excluded, two.excluded, strict=True):
        assert_array_equal(found, a | b)


# --- 3 exact limits ------------------------------------------------------


def test_without_options_only_the_experiments_own(experiment):
    # No image is there, and none is needed.
    found = compute_mask([experiment], MaskOptions())
    assert found.counts == {"experiment": 6}


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("kind", ["one", "two", "sizes", "offsets"])
def test_what_is_written_is_read_again(kind, experiment, tmp_path):
    first, second = experiment.detector
    detector = {
        "one": (first,),
        "two": (first, second),
        "sizes": (first, replace(second, image_size=(12, 9))),
        "offsets": (
            replace(first, raw_image_offset=(3, 12)),
            replace(second, image_size=(12, 9), raw_image_offset=(20, 1)),
        ),
    }[kind]
    mask = random_mask(detector)
    write_mask(tmp_path / "mask.npy", mask)
    for found, expected in zip(
        read_mask(tmp_path / "mask.npy", detector), mask.excluded, strict=True
    ):
        assert_array_equal(found, expected)
    again = static_mask(
        replace(experiment, detector=detector), MaskOptions(mask=str(tmp_path / "mask.npy"))
    )
    assert again.counts["file"] == sum(part.sum() for part in mask.excluded)


# --- 5 errors ------------------------------------------------------------


def test_what_has_no_mask(experiment):
    with pytest.raises(InputError, match="experiments must be at least one, got none"):
        compute_mask([], MaskOptions())
    other = replace(experiment, detector=experiment.detector[:1])
    with pytest.raises(InputError, match="experiment 1: detector must be that of the first"):
        compute_mask([experiment, other], MaskOptions())
    with pytest.raises(MissingFileError, match="no such"):
        compute_mask([experiment], MaskOptions(hot_pixels=True))
