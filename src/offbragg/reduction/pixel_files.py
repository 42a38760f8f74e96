"""Files of one number a pixel: masks, dark images, flat fields. ``.npy``, TIFF and such, HDF5."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError, MissingFileError
from offbragg.reduction.images import READ_ERRORS, open_with_fabio
from offbragg.reduction.panel import Panel
from offbragg.reduction.panel_arrays import Pixels, split_panels
from offbragg.reduction.stacks import HDF5_SUFFIXES

_DETECTOR = "entry/instrument/detector"
_DARK_PLACES = (f"{_DETECTOR}/dark", "dark")
_FLAT_FIELD_PLACES = (
    f"{_DETECTOR}/flatfield",
    f"{_DETECTOR}/detectorSpecific/flatfield",
    "flatfield",
    "flat_field",
)


def read_pixels(path: str | Path, what: str, hdf5_places: Sequence[str]) -> Pixels:
    """Read the array of a file that holds a number for every pixel.

    Parameters
    ----------
    path : str or Path
        NumPy ``.npy``, TIFF (or what else fabio reads), or HDF5.
    what : str
        For messages: ``"mask"``.
    hdf5_places : sequence of str
        Where HDF5 files have it, the first that is there.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    if path.suffix in HDF5_SUFFIXES:
        return _read_hdf5(path, what, hdf5_places)
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        return np.asarray(open_with_fabio(path).data)
    except (*READ_ERRORS, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"{path}: expected a .npy, TIFF or NXmx {what}, {reason}") from None


def _read_hdf5(path: Path, what: str, places: Sequence[str]) -> Pixels:
    """Read a dataset where NeXus, or a plain file, has it."""
    try:
        with h5py.File(path, "r") as file:
            for place in places:
                if isinstance(file.get(place), h5py.Dataset):
                    return np.asarray(file[place][()])
    except OSError as error:
        raise FormatError(f"{path}: expected an HDF5 {what}, {error}") from None
    raise FormatError(f"{path}: expected a {what} in /{places[0]}, found none")


def read_dark(path: str | Path, detector: tuple[Panel, ...]) -> tuple[FloatArray, ...]:
    """Read a dark image [ADU]: what a pixel reads in one exposure without X-rays.

    Parameters
    ----------
    path : str or Path
        Shapes are those of masks, see `masks.read_mask`. Over and above the panels' pedestal: a
        file that has it in wants a pedestal of 0.
    detector : tuple of Panel

    Returns
    -------
    tuple of ndarray, each of shape (slow, fast), float64
        One a panel. NaN: no such pixel.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no array of numbers, or of another shape than the detector's.
    """
    return _read_panels(path, detector, "dark image", _DARK_PLACES)


def read_flat_field(path: str | Path, detector: tuple[Panel, ...]) -> tuple[FloatArray, ...]:
    """Read a flat field: the response of each pixel, about 1; counts are divided by it.

    Parameters
    ----------
    path : str or Path
        Shapes are those of masks, see `masks.read_mask`.
    detector : tuple of Panel

    Returns
    -------
    tuple of ndarray, each of shape (slow, fast), float64
        One a panel. NaN where the file has 0 or no number: that pixel cannot be used.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no array of numbers >= 0, or of another shape than the detector's.
    """
    planes = _read_panels(path, detector, "flat field", _FLAT_FIELD_PLACES)
    lowest = min(float(np.min(plane, initial=0.0, where=~np.isnan(plane))) for plane in planes)
    if lowest < 0:
        raise FormatError(f"{path}: expected a flat field of numbers >= 0, found {lowest:g}")
    return tuple(np.where(np.isfinite(plane) & (plane > 0), plane, np.nan) for plane in planes)


def _read_panels(
    path: str | Path, detector: tuple[Panel, ...], what: str, places: Sequence[str]
) -> tuple[FloatArray, ...]:
    """Read real numbers, one plane a panel."""
    values = read_pixels(path, what, places)
    if values.dtype.kind not in "biuf":
        raise FormatError(f"{path}: expected a {what} of numbers, found {values.dtype}")
    planes = split_panels(values, detector, str(path))
    return tuple(np.ascontiguousarray(plane, dtype=np.float64) for plane in planes)
