"""XDS.INP: what the geometry files of XDS lack."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import MissingFileError
from offbragg.reduction.untrusted import (
    Rectangle,
    untrusted_ellipse,
    untrusted_quadrilateral,
    untrusted_rectangle,
)
from offbragg.reduction.xds_keywords import Keywords

logger = logging.getLogger(__name__)

# XDS's own, where its input says nothing.
UNPOLARISED = 0.5
_VERTICAL = (0.0, 1.0, 0.0)
_NOT_USED = {
    "X-GEO_CORR": "its map of pixel shifts",
    "Y-GEO_CORR": "its map of pixel shifts",
    "DARK_CURRENT_IMAGE": "its image of the dark current",
    "OFFSET": "its constant offset of pixel values",
    "EXCLUDE_DATA_RANGE": "images that it leaves out are kept",
}


@dataclass(frozen=True, eq=False)
class XdsInput:
    """What XDS.INP says beyond the geometry.

    Attributes
    ----------
    path : Path
    name_template : str
        Of the images, with ``?`` for digits; empty where there is none.
    data_range : tuple of 2 int, or None
        Numbers of the first and the last image.
    trusted_range : tuple of 2 float
        Smallest and largest good value, both good [ADU]: at least 0, unless the file says so.
    untrusted : tuple of rectangles (x0, y0, x1, y1)
        Pixels of the image that are no good, counted from 0: x0 <= i < x1, y0 <= j < y1.
    thickness : float
        Of the sensor [mm]; 0: not known.
    mu : float, or None
        Absorption coefficient of the sensor [mm⁻¹]; None: to be found from the wavelength.
    polarization_fraction : float, or None
        None: the file does not say.
    polarization_normal : ndarray, shape (3,)
    """

    path: Path
    name_template: str
    data_range: tuple[int, int] | None
    trusted_range: tuple[float, float]
    untrusted: tuple[Rectangle, ...]
    thickness: float
    mu: float | None
    polarization_fraction: float | None
    polarization_normal: FloatArray


def read_xds_input(path: str | Path, n_rows: int) -> XdsInput:
    """Read XDS.INP; what it says that is not used is logged as a warning.

    Parameters
    ----------
    path : str or Path
    n_rows : int
        NY, of the images: excluded areas end there.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If a value is not what it must be.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    lines = path.read_text(encoding="latin-1").splitlines()
    given = Keywords.from_lines(path, (line.split("!", 1)[0] for line in lines))
    for name, what in _NOT_USED.items():
        if any(text not in ("", "0", "0.0") for text in given.values.get(name, [])):
            logger.warning("%s: %s is not used: %s", path, name, what)
    mu = given.number("SILICON", -1.0)
    fraction = "FRACTION_OF_POLARIZATION"
    normal = "POLARIZATION_PLANE_NORMAL"
    return XdsInput(
        path=path,
        name_template=given.text("NAME_TEMPLATE_OF_DATA_FRAMES"),
        data_range=_data_range(given),
        trusted_range=(
            given.number("MINIMUM_VALID_PIXEL_VALUE", 0.0),
            given.number("OVERLOAD", np.inf),
        ),
        untrusted=_untrusted(given, n_rows),
        thickness=given.number("SENSOR_THICKNESS", 0.0),
        mu=mu if mu >= 0 else None,
        polarization_fraction=given.number(fraction) if fraction in given else None,
        polarization_normal=np.array(given.numbers(normal, 3) if normal in given else _VERTICAL),
    )


def _data_range(given: Keywords) -> tuple[int, int] | None:
    if "DATA_RANGE" not in given:
        return None
    first, last = given.numbers("DATA_RANGE", 2)
    if not (first == int(first) and last == int(last) and 0 <= first <= last):
        raise given.wrong("DATA_RANGE", "first <= last", given.text("DATA_RANGE"))
    return int(first), int(last)


def _untrusted(given: Keywords, n_rows: int) -> tuple[Rectangle, ...]:
    areas = [untrusted_rectangle(*_four(row)) for row in given.rows("UNTRUSTED_RECTANGLE", 4)]
    for row in given.rows("UNTRUSTED_ELLIPSE", 4):
        areas += untrusted_ellipse(*_four(row), n_rows)
    for row in given.rows("UNTRUSTED_QUADRILATERAL", 8):
        areas += untrusted_quadrilateral(row, n_rows)
    return tuple(areas)


def _four(row: tuple[float, ...]) -> tuple[float, float, float, float]:
    x1, x2, y1, y2 = row
    return x1, x2, y1, y2
