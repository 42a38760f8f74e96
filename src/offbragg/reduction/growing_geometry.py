"""Geometry from the header of a scan that is being recorded."""

from __future__ import annotations

import time
from pathlib import Path

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.image_geometry import ImageGeometry
from offbragg.reduction.image_reader import read_image_geometry
from offbragg.reduction.stacks import HDF5_SUFFIXES

_LOOK_EVERY = 1.0  # at most [s]
_LOOKS = 8  # at least, in the time-out


def await_image_geometry(images: str | Path, seconds: float) -> ImageGeometry:
    """Read the geometry of an HDF5 master file, as soon as it is there and can be read.

    Parameters
    ----------
    images : str or Path
    seconds : float
        How long to wait for it [s].

    Raises
    ------
    InputError
        If it is no HDF5 file: images one by one do not say how many there are to come.
    MissingFileError, FormatError
        As `read_image_geometry`, when the time is over.
    """
    path = Path(images)
    if path.suffix not in HDF5_SUFFIXES:
        raise InputError(
            "follow needs the number of images to come: expected an experiment list, geometry of "
            f"XDS or an HDF5 master file, got {path}"
        )
    end = time.monotonic() + seconds
    while True:
        try:
            return read_image_geometry(path)
        except (MissingFileError, FormatError):
            if time.monotonic() >= end:
                raise
            time.sleep(min(_LOOK_EVERY, seconds / _LOOKS))
