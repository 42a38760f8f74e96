"""Reading the geometry of a sweep from the headers of its images; the content tells the format.

Read are SMV (``.img``), mini-CBF (Pilatus, Eiger), full imgCIF/CBF, NXmx and Eiger master files.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.geometry import Scan
from offbragg.reduction.image_geometry import ImageGeometry
from offbragg.reduction.image_header import ImageHeader
from offbragg.reduction.images import READ_ERRORS, open_with_fabio
from offbragg.reduction.imgcif import imgcif_header, is_full_imgcif
from offbragg.reduction.mini_cbf import mini_cbf_header
from offbragg.reduction.nexus import read_nexus_geometry
from offbragg.reduction.smv import smv_header

logger = logging.getLogger(__name__)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_START = 1 << 16  # bytes that hold what tells formats apart
_SMV = re.compile(rb"\{\s*HEADER_BYTES")
# Where the last image's angle is off by more [degrees], the steps are not even: read them all.
_EVEN = 1e-3


def is_image(start: bytes) -> bool:
    """Tell from the first bytes of a file, unpacked, if `read_image_geometry` may read it."""
    return start.startswith((b"###CBF", _HDF5)) or _SMV.match(start) is not None


def read_start(path: str | Path) -> bytes:
    """Read what a file begins with, unpacked: enough to tell what it is."""
    path = Path(path)
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                return packed.read(_START)
        if path.suffix == ".bz2":
            with bz2.open(path) as packed:
                return packed.read(_START)
        with path.open("rb") as stream:
            return stream.read(_START)
    except (OSError, EOFError) as error:
        raise FormatError(f"{path}: cannot be read: {error}") from None


def read_image_geometry(
    images: str | Path,
    *,
    image_range: tuple[int, int] | None = None,
    beam_centre: tuple[float, float] | None = None,
    rotation_axis: tuple[float, float, float] | None = None,
) -> ImageGeometry:
    """Read the geometry from the headers of images.

    Where angles go by even steps, the first and the last header tell the scan; else all are read.

    Parameters
    ----------
    images : str or Path
        One image, a template with ``#`` for the digits of the image number, or an HDF5 file.
    image_range : tuple of 2 int, optional
        Numbers of the first and last image of a template, or of an HDF5 file (from 1); all that
        are there if not given.
    beam_centre : tuple of 2 float, optional
        Fast and slow [pixels], in place of what an SMV or mini-CBF header says; the first pixel
        covers 0 to 1.
    rotation_axis : tuple of 3 float, optional
        In place of x, for SMV and mini-CBF, whose headers do not tell it. In their frame the
        beam runs against z, the image's fast axis along x and its slow axis against y.

    Raises
    ------
    MissingFileError
        If an image is not there.
    FormatError
        If a header is of another kind, or lacks something.
    InputError
        If ``image_range`` has no images, or an override is given for a format that has it.
    """
    path = Path(images)
    if "#" not in path.name and not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    numbers, files = _files(path, image_range)
    start = read_start(files[0])
    if not is_image(start):
        raise FormatError(f"{files[0]}: expected an SMV, CBF or NXmx image, found neither")
    plain = not (start.startswith(_HDF5) or is_full_imgcif(start))
    if not plain and (beam_centre is not None or rotation_axis is not None):
        raise InputError(
            f"beam_centre and rotation_axis are for SMV and mini-CBF images; {files[0]} has its own"
        )
    template = str(path.expanduser().resolve())
    if start.startswith(_HDF5):
        return _of_hdf5(path, template, image_range)
    try:
        first = _header(files[0], beam_centre)
        for note in first.notes:
            logger.warning("%s: %s", files[0], note)
        scan = _scan(first, numbers, files, beam_centre)
        goniometer = first.goniometer
        if rotation_axis is not None:
            goniometer = replace(goniometer, rotation_axis=np.array(rotation_axis))
        return ImageGeometry(first.beam, first.detector, goniometer, scan, template)
    except FormatError:
        raise
    except InputError as error:
        raise FormatError(f"{files[0]}: {error}") from None


def _files(path: Path, image_range: tuple[int, int] | None) -> tuple[tuple[int, int], list[Path]]:
    """Numbers of the first and last image, and the files."""
    digits = list(re.finditer("#+", path.name))
    if not digits:
        return (1, 1), [path]
    start, end = digits[-1].span()
    before, after = path.name[:start], path.name[end:]
    if image_range is None:
        name = re.compile(re.escape(before) + rf"(\d{{{end - start}}})" + re.escape(after))
        folder = path.parent if path.parent.is_dir() else None
        found = [
            int(m[1]) for p in (folder.iterdir() if folder else ()) if (m := name.fullmatch(p.name))
        ]
        if not found:
            raise MissingFileError(f"{path}: no such images")
        image_range = min(found), max(found)
    first, last = image_range
    if not 0 <= first <= last:
        raise InputError(f"image_range must be first <= last, got {image_range}")
    files = [
        path.with_name(f"{before}{number:0{end - start}d}{after}")
        for number in range(first, last + 1)
    ]
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more images)" if len(missing) > 1 else ""
        raise MissingFileError(f"{missing[0]}: no such image{more}; image_range tells which to use")
    return (first, last), files


def _scan(
    first: ImageHeader,
    numbers: tuple[int, int],
    files: list[Path],
    beam_centre: tuple[float, float] | None,
) -> Scan:
    n_images = len(files)
    start = first.start + first.width * np.arange(n_images)
    width = np.full(n_images, first.width)
    times = [first.exposure_time] * n_images
    last = _header(files[-1], beam_centre) if n_images > 1 else first
    if abs(last.start - start[-1]) > _EVEN or abs(last.width - first.width) > _EVEN:
        headers = [_header(file, beam_centre) for file in files]
        start = np.array([header.start for header in headers])
        width = np.array([header.width for header in headers])
        times = [header.exposure_time for header in headers]
    known = [time for time in times if time is not None]
    exposures = np.array(known) if len(known) == n_images else None
    return Scan(numbers, np.radians(start), np.radians(width), exposures)


def _header(path: Path, beam_centre: tuple[float, float] | None) -> ImageHeader:
    """Read the header of one image."""
    start = read_start(path)
    if is_full_imgcif(start):
        return imgcif_header(_unpacked(path), str(path))
    if start.startswith(b"###CBF"):
        return mini_cbf_header(start, str(path), beam_centre)
    return smv_header(_fabio_header(path), str(path), beam_centre)


def _fabio_header(path: Path) -> dict[str, Any]:
    try:
        return dict(open_with_fabio(path, header_only=True).header)
    except READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"{path}: expected an image, {reason}") from None


def _unpacked(path: Path) -> bytes:
    unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix)
    content = path.read_bytes()
    try:
        return content if unpack is None else unpack(content)
    except READ_ERRORS as error:
        raise FormatError(f"{path}: cannot be read: {error}") from None


def _of_hdf5(path: Path, template: str, image_range: tuple[int, int] | None) -> ImageGeometry:
    found = read_nexus_geometry(path)
    scan = found.scan
    if image_range is not None:
        first, last = image_range
        if not 1 <= first <= last <= scan.n_images:
            raise InputError(f"image_range must be within 1 to {scan.n_images}, got {image_range}")
        part, times = slice(first - 1, last), scan.exposure_times
        scan = Scan(
            (first, last),
            scan.oscillation_start[part],
            scan.oscillation_width[part],
            None if times is None else times[part],
        )
    return ImageGeometry(found.beam, found.detector, found.goniometer, scan, template)
