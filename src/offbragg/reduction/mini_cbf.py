"""Headers of mini-CBF images: the ``# Name value unit`` lines of Pilatus and Eiger detectors."""

from __future__ import annotations

import re
from typing import Any

import gemmi

from offbragg.errors import FormatError
from offbragg.reduction.image_header import (
    NO_POLARIZATION,
    ImageHeader,
    header_number,
    plain_geometry,
)
from offbragg.reduction.sensor import sensor_absorption

_SENSOR = re.compile(r"#\s*(\w+) sensor, thickness\s+([\d.eE+-]+)\s*m\b")
_PIXEL = re.compile(r"#\s*Pixel_size\s+([\d.eE+-]+)\s*m\s*x\s*([\d.eE+-]+)\s*m\b")
_CENTRE = re.compile(r"#\s*Beam_xy\s*\(\s*([\d.eE+-]+)\s*,\s*([\d.eE+-]+)\s*\)")
_LINE = re.compile(r"#\s*(\w+)\s*[:=]?\s+(.*)")
_SIZES = tuple(
    rb"X-Binary-Size-%b-Dimension:\s*(\d{1,9})\b" % axis for axis in (b"Fastest", b"Second")
)
_MATERIALS = {"Silicon": "Si", "CdTe": "CdTe", "GaAs": "GaAs"}


def mini_cbf_header(
    start: bytes,
    where: str,
    beam_centre: tuple[float, float] | None = None,
) -> ImageHeader:
    """Read the geometry of a mini-CBF header.

    Parameters
    ----------
    start : bytes
        What the file begins with, beyond its header.
    where : str
        File, for messages.
    beam_centre : tuple of 2 float, optional
        Fast and slow [pixels]; Beam_xy if not given.

    Raises
    ------
    FormatError
        If something is missing or no number, or the detector is on a 2θ arm, whose axis such a
        header does not give.
    """
    contents, image_size = _contents(start, where)
    values = {m[1]: m[2] for line in contents.splitlines() if (m := _LINE.match(line.strip()))}
    if abs(header_number(values, "Detector_2theta", where, 0.0)) > 1e-6:
        raise FormatError(
            f"{where}: Detector_2theta: expected 0, as the header does not tell its axis, found "
            f"{values['Detector_2theta']}; give the geometry by an .expt or XPARM.XDS"
        )
    if beam_centre is None:
        beam_centre = _pair(_CENTRE, contents, "Beam_xy", where)
    width, height = _pair(_PIXEL, contents, "Pixel_size", where)
    wavelength = header_number(values, "Wavelength", where)
    panel: dict[str, Any] = {
        "pixel_size": (1e3 * width, 1e3 * height),
        "image_size": image_size,
        # Gaps and bad pixels are negative.
        "trusted_range": (0.0, header_number(values, "Count_cutoff", where, float(1 << 30))),
        **sensor_of(contents, wavelength, where),
    }
    polarization = header_number(values, "Polarization", where, -1.0)
    known = 0 <= polarization <= 1
    beam, detector, goniometer = plain_geometry(
        wavelength,
        1e3 * header_number(values, "Detector_distance", where),
        beam_centre,
        panel,
        polarization if known else None,
    )
    exposure = header_number(values, "Exposure_time", where, 0.0)
    return ImageHeader(
        beam=beam,
        detector=detector,
        goniometer=goniometer,
        start=header_number(values, "Start_angle", where, 0.0),
        width=header_number(values, "Angle_increment", where, 0.0),
        exposure_time=exposure if exposure > 0 else None,
        notes=() if known else (NO_POLARIZATION,),
    )


def sensor_of(contents: str, wavelength: float, where: str) -> dict[str, Any]:
    """Arguments of `Panel` for the sensor that the lines of a header name; none if they do not."""
    found = _SENSOR.search(contents)
    if found is None or found[1] not in _MATERIALS:
        return {}
    thickness = 1e3 * header_number({"thickness": found[2]}, "thickness", where)
    mu = sensor_absorption(_MATERIALS[found[1]], wavelength)
    return {"thickness": thickness, "mu": mu, "parallax": thickness > 0}


def _contents(start: bytes, where: str) -> tuple[str, tuple[int, int]]:
    """The lines of the header, and the image's size along fast and slow."""
    # Everything before the image is CIF; what damaged files hold must not stall a reader.
    text = start.split(b"_array_data.data", 1)[0].decode("latin-1")
    try:
        value = gemmi.cif.read_string(text).sole_block().find_value("_array_data.header_contents")
    except (ValueError, RuntimeError, LookupError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"{where}: expected a CBF header, {reason}") from None
    sizes = [re.search(pattern, start) for pattern in _SIZES]
    if value is None or None in sizes:
        raise FormatError(
            f"{where}: expected _array_data.header_contents and the image's size, found "
            f"{'no lines' if value is None else 'no size'}"
        )
    fast, slow = (int(size[1]) for size in sizes if size)
    return gemmi.cif.as_string(value), (fast, slow)


def _pair(pattern: re.Pattern[str], text: str, name: str, where: str) -> tuple[float, float]:
    found = pattern.search(text)
    if found is None:
        raise FormatError(f"{where}: {name}: expected two numbers, found none")
    first, second = ({name: word} for word in found.groups())
    return header_number(first, name, where), header_number(second, name, where)
