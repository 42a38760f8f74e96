"""Which pixels are left out: for good, by rectangles and files, and image by image, by value.

Everywhere True means *excluded*.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from offbragg.conventions import BoolArray
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.experiment import Panel
from offbragg.reduction.panel_arrays import Pixels, split_panels
from offbragg.reduction.pixel_files import read_pixels

_HOW_TO_CONVERT = (
    "np.save('mask.npy', [~m.as_numpy_array() for m in pickle.load(open('mask.pickle', 'rb'))]) "
    "in dials.python"
)
_HDF5_PLACES = (
    "entry/instrument/detector/pixel_mask",
    "entry/instrument/detector/detectorSpecific/pixel_mask",
    "entry/data/pixel_mask",
    "pixel_mask",
    "mask",
)


def rectangle_mask(panel: Panel) -> BoolArray:
    """Mark the rectangles of a panel that the experiment file excludes, shape (slow, fast)."""
    excluded = np.zeros(panel.shape, dtype=bool)
    for x0, y0, x1, y1 in panel.mask:
        excluded[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return excluded


def read_mask(path: str | Path, detector: tuple[Panel, ...]) -> tuple[BoolArray, ...]:
    """Read a mask: NumPy ``.npy``, TIFF (or what else fabio reads), or NXmx with a pixel_mask.

    Parameters
    ----------
    path : str or Path
        Non-zero (True) pixels are excluded. Shape (slow, fast), for several panels
        (n_panels, slow, fast), or the one image that holds them all, as for images.
    detector : tuple of Panel

    Returns
    -------
    tuple of ndarray, each of shape (slow, fast), bool
        One a panel.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no mask, has another shape than the detector, or is a Python pickle, as DIALS
        writes them: to read one is to run what is in it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    with path.open("rb") as stream:
        start = stream.read(2)
    # A pickle of protocol 2 or later begins with byte 0x80 and the protocol's number.
    if path.suffix in (".pickle", ".pkl", ".mask") or (
        start[:1] == b"\x80" and start[1:] < b"\x06"
    ):
        raise FormatError(
            f"{path}: expected a .npy, TIFF or NXmx mask, found a pickle; convert it by "
            f"{_HOW_TO_CONVERT}"
        )
    values = read_pixels(path, "mask", _HDF5_PLACES)
    if values.dtype.kind not in "biuf":
        raise FormatError(f"{path}: expected a mask of booleans or integers, found {values.dtype}")
    return tuple(
        np.ascontiguousarray(plane != 0) for plane in split_panels(values, detector, str(path))
    )


def mask_untrusted(image: Pixels, trusted_range: tuple[float, float], margin: int = 0) -> BoolArray:
    """Mark the pixels of an image whose values cannot be right.

    Parameters
    ----------
    image : ndarray, shape (slow, fast)
        Raw values [ADU].
    trusted_range : tuple of 2 float
        Smallest and largest good value, both included. A smallest value of −1 in an image of
        signed integers is how DIALS once wrote "from 0" (ends excluded); negative values are
        then no counts either.
    margin : int
        Pixels within this distance [pixels] of an overload are excluded too; a charge may have
        run over. Values too low, NaN, and the largest number that 32 or 64 bits hold (what
        detectors write for dead pixels and gaps) are excluded without one.

    Returns
    -------
    ndarray, shape (slow, fast), bool
    """
    if margin < 0 or margin != int(margin):
        raise InputError(f"margin must be a whole number >= 0 pixels, got {margin}")
    low, high = trusted_range
    if low == -1 and image.dtype.kind == "i":
        low = 0
    if image.dtype.kind in "iu":
        # Whole numbers are compared as such: as floats it takes several times as long.
        info = np.iinfo(image.dtype)
        over = image > math.floor(min(max(high, info.min - 1), info.max))
        excluded = over.copy()
        if low > info.min:
            excluded |= image < math.ceil(min(low, info.max + 1))
        if info.bits >= 32:
            flagged = image == info.max
            excluded |= flagged
            over &= ~flagged
    else:
        over = image > high
        excluded = over | ~(image >= low)  # ~(>=), so that NaN is excluded
    if margin:
        grow(excluded, over, int(margin))
    return np.asarray(excluded, dtype=bool)


def grow(out: BoolArray, seeds: BoolArray, radius: int) -> None:
    """Mark in ``out`` (slow, fast) the discs of a radius [pixels] around the seeds."""
    if not seeds.any():  # nearly always, and much quicker than nonzero
        return
    rows, columns = np.nonzero(seeds)
    reach = np.arange(-radius, radius + 1)
    last_row, last_column = out.shape[0] - 1, out.shape[1] - 1
    for row_step in reach:
        for column_step in reach:
            if row_step**2 + column_step**2 <= radius**2:
                # Clipping only moves a point towards its seed: it stays in the disc.
                out[
                    np.clip(rows + row_step, 0, last_row),
                    np.clip(columns + column_step, 0, last_column),
                ] = True
