"""What one image says of its geometry, and a plain detector for headers that say little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from offbragg.errors import FormatError
from offbragg.reduction._checks import LARGEST
from offbragg.reduction.geometry import Beam, Goniometer
from offbragg.reduction.panel import Panel

#: What `Beam` takes where a header is silent: a synchrotron's beam.
POLARIZATION = 0.999
NO_POLARIZATION = f"it has no polarisation, a fraction of {POLARIZATION} is taken"


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """Geometry of one image.

    Attributes
    ----------
    beam : Beam
    detector : tuple of Panel
    goniometer : Goniometer
    start, width : float
        Angle of the scan axis where the image begins, and rotation during it [degrees].
    exposure_time : float or None
        [s].
    notes : tuple of str
        What was assumed, to be said once for a sweep.
    """

    beam: Beam
    detector: tuple[Panel, ...]
    goniometer: Goniometer
    start: float
    width: float
    exposure_time: float | None = None
    notes: tuple[str, ...] = ()


def plain_geometry(
    wavelength: float,
    distance: float,
    beam_centre: tuple[float, float],
    panel: Mapping[str, Any],
    polarization: float | None = None,
) -> tuple[Beam, tuple[Panel, ...], Goniometer]:
    """Put a detector across the beam, for headers that give no axes.

    The frame is imgCIF's: x along the rotation axis, z from the crystal to the source; the
    image's fast axis along x and its slow one against y, as most beamlines have it.

    Parameters
    ----------
    wavelength : float
        [Å].
    distance : float
        [mm].
    beam_centre : tuple of 2 float
        Fast and slow [pixels]; the first pixel covers 0 to 1.
    panel : mapping
        Further arguments of `Panel`: at least pixel_size and image_size.
    polarization : float, optional
        Fraction polarised in the plane of the rotation axis; `POLARIZATION` if not given.
    """
    if polarization is None:
        polarization = POLARIZATION
    beam = Beam(wavelength, np.array([0.0, 0, -1]), np.array([0.0, 1, 0]), polarization)
    width, height = panel["pixel_size"]
    origin = np.array([-beam_centre[0] * width, beam_centre[1] * height, -distance])
    fast, slow = np.array([1.0, 0, 0]), np.array([0.0, -1, 0])
    detector = (Panel("", origin, fast, slow, **panel),)
    return beam, detector, Goniometer(np.array([1.0, 0, 0]), np.eye(3), np.eye(3))


def header_number(
    header: Mapping[str, Any], name: str, where: str, default: float | None = None
) -> float:
    """A number of a header, or a default where it has none.

    Raises
    ------
    FormatError
        If it is no number, or there is none and no default.
    """
    text = header.get(name)
    if text is None:
        if default is not None:
            return default
        raise FormatError(f"{where}: {name}: expected a number, found none")
    try:
        value = float(str(text).split()[0])
    except (ValueError, IndexError):
        value = np.nan
    if not abs(value) < LARGEST:  # nor NaN
        raise FormatError(f"{where}: {name}: expected a number, found {str(text)[:40]!r}")
    return value
