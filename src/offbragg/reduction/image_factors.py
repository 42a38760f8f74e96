r"""One factor an image: exposure times, and flux or transmission from a file.

A count is proportional to both, so all counts of image n are divided by

.. math:: \frac{t_n}{\bar t}\cdot\frac{\Phi_n}{\bar\Phi}

with the means over all images of all sweeps: intensities stay of the order of counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.images import READ_ERRORS


def relative_exposures(exposure_times: Sequence[FloatArray | None]) -> list[FloatArray | None]:
    """Compute the exposure of each image over the mean of all, for sweeps that differ in it.

    Parameters
    ----------
    exposure_times : sequence of ndarray, shape (n_images,), or None
        Exposure times [s] of each sweep, in any order; None where they are not known.

    Returns
    -------
    list of ndarray, shape (n_images,), or None
        What counts are to be divided by. None throughout, for no correction, where all times are
        equal, or any is not known or not positive: nothing can then be said.
    """
    known = [times for times in exposure_times if times is not None and np.all(times > 0)]
    if not known or len(known) < len(exposure_times):
        return [None] * len(exposure_times)
    every = np.concatenate(known)
    if np.ptp(every) <= 1e-6 * every.mean():
        return [None] * len(exposure_times)
    return [times / every.mean() for times in known]


def relative_flux(flux: ArrayLike) -> FloatArray:
    """Compute the flux of each image over the mean of those that had any.

    Parameters
    ----------
    flux : array_like, shape (n_images,)
        Flux, or transmission, or their product, in any unit. 0 or NaN: there was no beam, or
        nothing is known of it.

    Returns
    -------
    ndarray, shape (n_images,)
        What counts are to be divided by; NaN for images to be left out.

    Raises
    ------
    InputError
        If a number is negative or infinite, or none is above 0.

    Examples
    --------
    >>> relative_flux([3.0, 1.0, 0.0]).tolist()
    [1.5, 0.5, nan]
    """
    values = np.asarray(flux, dtype=np.float64)
    wrong = np.flatnonzero((values < 0) | np.isinf(values))
    if len(wrong):
        raise InputError(
            f"flux must be >= 0, got {values[wrong[0]]:g} for image {wrong[0] + 1} in order"
        )
    lit = values > 0
    if not lit.any():
        raise InputError("flux must be > 0 for some image, got none")
    relative: FloatArray = np.where(lit, values, np.nan) / values[lit].mean()
    return relative


def read_image_factors(path: str | Path, image_numbers: Sequence[int]) -> FloatArray:
    r"""Read one number an image: ``.npy``, or text with a line an image.

    Parameters
    ----------
    path : str or Path
        ``.npy`` of shape (n_images,); or text, where lines of ``#`` and a first line of column
        names are skipped, with one number a line, or the image's number and its factor, separated
        by blanks, a comma, a semicolon or a tab.
    image_numbers : sequence of int
        Numbers of all images, sweep after sweep: the order of the file.

    Returns
    -------
    ndarray, shape (n_images,), float64

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it holds something else, another number of images, or image numbers in other order.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "flux.csv"
    >>> _ = file.write_text("image,flux\n7,0.9\n8,1.1\n")
    >>> read_image_factors(file, [7, 8]).tolist()
    [0.9, 1.1]
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    table = _read_npy(path) if path.suffix == ".npy" else _read_text(path)
    n_images = len(image_numbers)
    if len(table) != n_images:
        raise FormatError(f"{path}: expected {n_images} factors, one an image, found {len(table)}")
    if table.shape[1] == 2:
        differs = np.flatnonzero(table[:, 0] != np.asarray(image_numbers))
        if len(differs):
            at = int(differs[0])
            raise FormatError(
                f"{path}: expected image {image_numbers[at]} in row {at + 1}, "
                f"found {table[at, 0]:g}"
            )
    factors: FloatArray = table[:, -1]
    return factors


def _read_npy(path: Path) -> FloatArray:
    """Read a column (n_images, 1) of a NumPy file."""
    try:
        with path.open("rb") as stream:
            values = np.lib.format.read_array(stream, allow_pickle=False)
    except READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"{path}: expected a .npy file, {reason}") from None
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise FormatError(
            f"{path}: expected numbers of shape (n_images,), found {values.dtype} of {values.shape}"
        )
    column: FloatArray = values.astype(np.float64)[:, None]
    return column


def _read_text(path: Path) -> FloatArray:
    """Read a table (n_images, 1 or 2) of text."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise FormatError(f"{path}: expected text or .npy, found neither") from None
    rows: list[list[float]] = []
    heading_allowed = True
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            if not heading_allowed:
                raise FormatError(
                    f"{path}: line {number}: expected numbers, found {line.strip()[:40]!r}"
                ) from None
        heading_allowed = False
        if rows and (len(rows[-1]) > 2 or len(rows[-1]) != len(rows[0])):
            raise FormatError(
                f"{path}: line {number}: expected a factor, or an image number and a factor, in "
                f"every line, found {len(rows[-1])} numbers"
            )
    if not rows:
        raise FormatError(f"{path}: expected one factor an image, found none")
    return np.array(rows)
