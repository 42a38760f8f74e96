"""Arrays in .npy files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import BoolArray, FloatArray
from offbragg.errors import FormatError, MissingFileError


def read_numbers(flag: str, path: Path) -> FloatArray:
    """Read an array of real numbers from a .npy file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it holds no such array.
    """
    values = _read(flag, path, "real numbers")
    if values.dtype.kind not in "iuf":
        raise FormatError(
            f"{flag}: {path}: expected a .npy file of real numbers, found {values.dtype}"
        )
    return values.astype(np.float64)


def read_booleans(flag: str, path: Path) -> BoolArray:
    """Read a boolean array from a .npy file; raises as `read_numbers`."""
    values = _read(flag, path, "booleans")
    if values.dtype != bool:
        raise FormatError(f"{flag}: {path}: expected a .npy file of booleans, found {values.dtype}")
    return values


def _read(flag: str, path: Path, kind: str) -> NDArray[Any]:
    if not path.is_file():
        raise MissingFileError(f"{flag}: {path}: no such file")
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"{flag}: {path}: not a .npy file of {kind}: {error}") from None
    if not isinstance(values, np.ndarray):
        raise FormatError(f"{flag}: {path}: expected a .npy file of {kind}, found an archive")
    return values
