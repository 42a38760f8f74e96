"""An `Experiment` of what XDS knows: a geometry file, with XDS.INP for what that lacks."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import gemmi
import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError, InputError
from offbragg.reduction.geometry import Beam, CrystalModel, Goniometer, Scan
from offbragg.reduction.panel import Panel
from offbragg.reduction.sensor import sensor_absorption
from offbragg.reduction.sweep import Experiment
from offbragg.reduction.xds import read_xds_geometry
from offbragg.reduction.xds_geometry import XdsGeometry, XdsSegment
from offbragg.reduction.xds_input import UNPOLARISED, XdsInput, read_xds_input

logger = logging.getLogger(__name__)

_MOST_IMAGES = 10_000_000  # beyond this the range is an error, not a scan


def read_xds_experiment(
    path: str | Path,
    *,
    image_range: tuple[int, int] | None = None,
    xds_input: str | Path | None = None,
) -> Experiment:
    """Read the experiment that a geometry file of XDS describes.

    Parameters
    ----------
    path : str or Path
        XPARM.XDS, GXPARM.XDS, INTEGRATE.HKL or XDS_ASCII.HKL.
    image_range : tuple of 2 int, optional
        Numbers of the first and the last image; DATA_RANGE if not given.
    xds_input : str or Path, optional
        XDS.INP; the file of that name beside ``path`` if not given, should there be one.

    Returns
    -------
    Experiment
        In XDS's laboratory frame. Without XDS.INP every value from 0 on is taken as good, the
        sensor as not known and the beam as unpolarised, with a warning.

    Raises
    ------
    MissingFileError
        If a file is not there.
    FormatError
        If something in a file is missing or wrong, the range of images included.
    """
    geometry = read_xds_geometry(path)
    beside = geometry.path.parent / "XDS.INP"
    given = None
    if xds_input is not None or beside.is_file():
        given = read_xds_input(xds_input or beside, geometry.image_size[1])
    try:
        scan = _scan(geometry, given, image_range)
        return Experiment(
            beam=_beam(geometry, given),
            detector=xds_panels(geometry, given),
            goniometer=Goniometer(geometry.rotation_axis, np.eye(3), np.eye(3)),
            scan=scan,
            crystal=_crystal(geometry),
            template=_template(geometry, given),
            source=str(geometry.path),
        )
    except FormatError:
        raise
    except InputError as error:
        raise FormatError(f"{geometry.path}: {error}") from None


def xds_panels(geometry: XdsGeometry, given: XdsInput | None = None) -> tuple[Panel, ...]:
    """Place the detector's segments in the laboratory, a panel each.

    Parameters
    ----------
    geometry : XdsGeometry
    given : XdsInput, optional
        For what a geometry file lacks.

    Raises
    ------
    InputError
        If a segment is not within the image, or its axes are not at right angles.
    """
    thickness = given.thickness if given else 0.0
    mu = given.mu if given else 0.0
    if mu is None:
        mu = sensor_absorption("Si", geometry.wavelength) if thickness > 0 else 0.0
    several = len(geometry.segments) > 1
    nx, ny = geometry.image_size
    untrusted = given.untrusted if given else ()
    panels = []
    for number, segment in enumerate(geometry.segments, start=1):
        x1, x2, y1, y2 = segment.limits
        if not (1 <= x1 <= x2 <= nx and 1 <= y1 <= y2 <= ny):
            raise InputError(
                f"segment {number} must lie within the {nx} × {ny} pixels, got {segment.limits}"
            )
        if not several:  # outside its one segment an image has no good pixels
            outside = ((0, 0, x1 - 1, ny), (x2, 0, nx, ny), (0, 0, nx, y1 - 1), (0, y2, nx, ny))
            untrusted += tuple(r for r in outside if r[0] < r[2] and r[1] < r[3])
            x1, x2, y1, y2 = 1, nx, 1, ny
        origin, fast, slow = _placed(geometry, segment, x1 - 0.5, y1 - 0.5)
        panels.append(
            Panel(
                name=f"segment {number}" if several else "",
                origin=origin,
                fast_axis=fast,
                slow_axis=slow,
                pixel_size=geometry.pixel_size,
                image_size=(x2 - x1 + 1, y2 - y1 + 1),
                trusted_range=given.trusted_range if given else (0.0, np.inf),
                thickness=thickness,
                mu=mu,
                # XDS too takes photons as absorbed within a sensor of known thickness.
                parallax=thickness > 0 and mu > 0,
                mask=_within(untrusted, x1 - 1, x2, y1 - 1, y2),
                raw_image_offset=(x1 - 1, y1 - 1) if several else None,
            )
        )
    return tuple(panels)


def _placed(
    geometry: XdsGeometry, segment: XdsSegment, x: float, y: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Where pixel coordinates (x, y) of a segment are in the laboratory, and its axes there."""
    e_x, e_y = _unit(geometry.x_axis), _unit(geometry.y_axis)
    detector = np.stack([e_x, e_y, np.cross(e_x, e_y)], axis=1)
    fast, slow = _unit(segment.x_axis), _unit(segment.y_axis)
    q = np.array(geometry.pixel_size)
    along = (np.array([x, y]) - segment.origin) * q
    local = along[0] * fast + along[1] * slow + segment.distance * np.cross(fast, slow)
    shift = np.array([*(-q * geometry.origin), geometry.distance])
    return detector @ (local + shift), detector @ fast, detector @ slow


def _unit(vector: FloatArray) -> FloatArray:
    length = np.linalg.norm(vector)
    if not length > 0:
        raise InputError(f"axis must not be zero, got {vector.tolist()}")
    return np.asarray(vector / length)


def _within(
    rectangles: tuple[tuple[int, int, int, int], ...], x0: int, x1: int, y0: int, y1: int
) -> tuple[tuple[int, int, int, int], ...]:
    """The parts of rectangles of the image in a panel, counted from the panel's first pixel."""
    parts = (
        (max(a, x0) - x0, max(b, y0) - y0, min(c, x1) - x0, min(d, y1) - y0)
        for a, b, c, d in rectangles
    )
    return tuple(part for part in parts if part[0] < part[2] and part[1] < part[3])


def _beam(geometry: XdsGeometry, given: XdsInput | None) -> Beam:
    fraction = given.polarization_fraction if given else None
    if fraction is None:
        fraction = UNPOLARISED
        logger.warning(
            "%s: the beam is taken as unpolarised; FRACTION_OF_POLARIZATION in XDS.INP tells more",
            geometry.path,
        )
    normal = given.polarization_normal if given else np.array([0.0, 1.0, 0.0])
    return Beam(geometry.wavelength, geometry.beam_direction, normal, fraction)


def _scan(
    geometry: XdsGeometry, given: XdsInput | None, image_range: tuple[int, int] | None
) -> Scan:
    numbers = image_range or (given.data_range if given else None) or geometry.data_range
    if numbers is None:
        raise FormatError(
            f"{geometry.path}: image numbers: expected DATA_RANGE= first last in an XDS.INP beside "
            "it, or image_range=(first, last) in Python, found neither"
        )
    first, last = (int(number) for number in numbers)
    if not 1 <= last - first + 1 <= _MOST_IMAGES:
        raise InputError(f"image_range must be first <= last, got {(first, last)}")
    steps = np.arange(first, last + 1) - geometry.starting_frame
    start = geometry.starting_angle + geometry.oscillation_range * steps
    width = np.full(len(steps), geometry.oscillation_range)
    return Scan((first, last), np.radians(start), np.radians(width))


def _crystal(geometry: XdsGeometry) -> CrystalModel:
    rows = geometry.real_space
    if not abs(np.linalg.det(rows)) > 1e-6:
        raise InputError(f"unit cell axes must span a volume, got {rows.tolist()}")
    number = geometry.space_group_number or 1  # 0: XDS was not told
    group = gemmi.find_spacegroup_by_number(number) if 1 <= number <= 230 else None
    if group is None:
        raise InputError(f"space group number must be 1 to 230, got {number}")
    a_matrix = np.asarray(np.linalg.inv(rows), dtype=np.float64)
    return CrystalModel(a_matrix, space_group=group.xhm())


def _template(geometry: XdsGeometry, given: XdsInput | None) -> str:
    """The images' names, the digits of their numbers as ``#``."""
    name, source = geometry.name_template, geometry.path
    if given is not None and given.name_template:
        name, source = given.name_template, given.path
    name = name.split()[0] if name.split() else ""  # a format may follow: "x_???.cbf CBF"
    if not name:
        return ""
    path = Path(name)
    if path.suffix in (".h5", ".nxs"):  # XDS means the master file of such images
        last = re.sub(r"\?+", "master", path.name)
    else:
        last = path.name.replace("?", "#")
    return str(source.resolve().parent / path.with_name(last))
