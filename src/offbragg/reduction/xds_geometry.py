r"""Geometry as XDS writes it: (G)XPARM.XDS, and the headers of INTEGRATE.HKL and XDS_ASCII.HKL.

XDS leaves the laboratory's frame to its user, and it is kept as it is: nothing in this package
depends on a choice of frame. A pixel is at

.. math:: \mathbf p = E\,[(q_x (x - x_s),\, q_y (y - y_s),\, 0)_{E_s} + f_s\,\mathbf n_s]
          - q_x x_0\,\mathbf e_x - q_y y_0\,\mathbf e_y + F\,(\mathbf e_x\times\mathbf e_y)

with E the columns e_x, e_y, e_x × e_y of the detector, E_s those of the segment within the
detector, (x₀, y₀) ORGX and ORGY and F the distance. x counts from the *centre of the first pixel
as 1*, so that the outer corner of the image is at x = ½.

Sources: W. Kabsch, Acta Cryst. D66, 125 (2010), and the documentation of XDS (coordinate systems,
files); for the half pixel the XDS wiki ("Finding out ORGX ORGY": pixels go from 1 to NX).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError


@dataclass(frozen=True, eq=False)
class XdsSegment:
    """A flat part of the detector, in the detector's own frame.

    Attributes
    ----------
    limits : tuple of 4 int
        First and last pixel along x, first and last along y, counted from 1.
    origin : tuple of 2 float
        Where the normal through the detector's origin meets the segment [pixels].
    distance : float
        From the detector's origin to the segment's plane [mm].
    x_axis, y_axis : ndarray, shape (3,)
    """

    limits: tuple[int, int, int, int]
    origin: tuple[float, float]
    distance: float
    x_axis: FloatArray
    y_axis: FloatArray


@dataclass(frozen=True, eq=False)
class XdsGeometry:
    """What a geometry file of XDS holds, in its own terms.

    Attributes
    ----------
    path : Path
        The file, for messages.
    wavelength : float
        [Å].
    beam_direction, rotation_axis : ndarray, shape (3,)
        Along the incident wave vector; the spindle, about which the crystal turns right-handed.
    starting_frame : int
    starting_angle, oscillation_range : float
        Spindle angle where ``starting_frame`` begins, and rotation during an image [degrees].
    space_group_number : int
    real_space : ndarray, shape (3, 3)
        Rows a, b, c at spindle angle 0 [Å].
    image_size : tuple of 2 int
        NX, NY.
    pixel_size : tuple of 2 float
        QX, QY [mm].
    origin : tuple of 2 float
        ORGX, ORGY [pixels].
    distance : float
        From the crystal to the detector along x_axis × y_axis [mm]; may be negative.
    x_axis, y_axis : ndarray, shape (3,)
    segments : tuple of XdsSegment
        At least one.
    name_template : str
        Of the images, where the file names them.
    data_range : tuple of 2 int, or None
        Numbers of the first and last image, where the file has them.
    """

    path: Path
    wavelength: float
    beam_direction: FloatArray
    rotation_axis: FloatArray
    starting_frame: int
    starting_angle: float
    oscillation_range: float
    space_group_number: int
    real_space: FloatArray
    image_size: tuple[int, int]
    pixel_size: tuple[float, float]
    origin: tuple[float, float]
    distance: float
    x_axis: FloatArray
    y_axis: FloatArray
    segments: tuple[XdsSegment, ...]
    name_template: str = ""
    data_range: tuple[int, int] | None = None


def whole_image(size: tuple[int, int]) -> XdsSegment:
    """The one segment of a flat detector, whose frame is the detector's."""
    x, y, _ = np.eye(3)
    return XdsSegment((1, size[0], 1, size[1]), (0.0, 0.0), 0.0, x, y)


def whole_number(path: Path, what: str, value: float) -> int:
    """Check that a number of a file is whole."""
    if not (abs(value) < 1e9 and value == int(value)):
        raise FormatError(f"{path}: {what}: expected a whole number, found {value}")
    return int(value)


def is_number(word: str) -> bool:
    """Tell if a word is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True
