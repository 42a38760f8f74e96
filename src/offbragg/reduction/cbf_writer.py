"""Mini-CBF files, one an image: the header lines of Pilatus detectors, byte-offset compression.

Such a header knows one panel that stands across the beam, with the rotation axis along its fast
axis, and says nothing of the crystal.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from fabio.compression import compByteOffset
from numpy.typing import NDArray

from offbragg.errors import InputError
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.images import image_paths
from offbragg.reduction.sensor import sensor_material

logger = logging.getLogger(__name__)

#: The largest number of such a file's pixels.
CBF_LARGEST = np.iinfo(np.int32).max

# The header is taken for a nominal geometry below the first, refused beyond the second [degrees].
_EXACT, _NOMINAL = 0.01, 1.0
_NAMES = {"Si": "Silicon", "CdTe": "CdTe", "GaAs": "GaAs"}
_START = b"\x0c\x1a\x04\xd5"
_PADDING = 4095
_BOUNDARY = "--CIF-BINARY-FORMAT-SECTION--"


@dataclass(frozen=True)
class CbfImages:
    """Mini-CBF files to be filled: ``images[index] = array``, index from 0.

    Attributes
    ----------
    experiment : Experiment
    paths : tuple of Path
        One an image.
    started : datetime
        When the first exposure began.
    provenance : mapping of str to str or float
        Written as header lines.
    """

    experiment: Experiment
    paths: tuple[Path, ...]
    started: datetime
    provenance: Mapping[str, str | float]

    def __setitem__(self, index: int, image: NDArray[np.generic]) -> None:
        """Write an image of whole numbers, shape (slow, fast)."""
        lines = header_lines(self.experiment, index, self.started, self.provenance)
        self.paths[index].write_bytes(_file(lines, self.paths[index].stem, image))


@contextmanager
def create_mini_cbf(
    template: str | Path,
    experiment: Experiment,
    provenance: Mapping[str, str | float] | None = None,
) -> Iterator[CbfImages]:
    """Create one mini-CBF file an image, to be filled.

    Parameters
    ----------
    template : str or Path
        With ``#`` for the digits of the image number. The files are written to a folder beside
        it; when the block ends without an error they take the place of all that are there by this
        template, else they are removed.
    experiment : Experiment
    provenance : mapping of str to str or float, optional

    Yields
    ------
    CbfImages

    Raises
    ------
    InputError
        See `check_mini_cbf`.
    """
    left_out = check_mini_cbf(experiment)
    if left_out:
        logger.warning("headers of CBF images leave out tilts that the .expt has: %s", left_out)
    target = Path(template)
    temporary = target.with_name(f".{target.stem.replace('#', '')}.part")
    temporary.mkdir(exist_ok=True)
    try:
        names = [path.name for path in image_paths(experiment.with_images(target))]
        paths = tuple(temporary / name for name in names)
        yield CbfImages(experiment, paths, datetime.now(UTC), provenance or {})
        for path in files_of(target):
            path.unlink()
        for path in paths:
            path.replace(target.with_name(path.name))
    finally:
        shutil.rmtree(temporary)


def files_of(template: Path) -> list[Path]:
    """The files there are whose names have digits for all ``#`` of a template; none without."""
    if "#" not in template.name or not template.parent.is_dir():
        return []
    pattern = template.name.replace("#", "[0-9]")
    return sorted(template.parent.glob(pattern))


def check_mini_cbf(experiment: Experiment) -> str:
    """Refuse a geometry that the header of a mini-CBF has no words for.

    Returns
    -------
    str
        Small tilts that it leaves out, in words; empty for none.

    Raises
    ------
    InputError
        If there are several panels, or panel or rotation axis stand more than 1° off the place
        that such a header gives them.
    """
    if len(experiment.detector) > 1:
        raise InputError(
            f"format must be nxmx for several panels, got cbf for {len(experiment.detector)}"
        )
    panel, goniometer = experiment.detector[0], experiment.goniometer
    axis = goniometer.setting_rotation @ goniometer.rotation_axis
    off = {
        "panel from the plane across the beam": _angle(panel.normal, experiment.beam.direction),
        "rotation axis from the fast axis": _angle(panel.fast_axis, axis),
    }
    words = ", ".join(f"{name} {angle:.2f}°" for name, angle in off.items())
    if max(off.values()) > _NOMINAL:
        raise InputError(f"format must be nxmx where a header cannot tell the geometry: {words}")
    return words if max(off.values()) > _EXACT else ""


def header_lines(
    experiment: Experiment,
    index: int,
    started: datetime,
    provenance: Mapping[str, str | float] | None = None,
) -> list[str]:
    """The lines of the header of image ``index``, from 0, each beginning with ``#``.

    Parameters
    ----------
    experiment : Experiment
        Of one panel; lengths in a header are in m.
    index : int
    started : datetime
        When the first exposure began; that of image ``index`` follows from the exposure times.
    provenance : mapping of str to str or float, optional
    """
    beam, panel, scan = experiment.beam, experiment.detector[0], experiment.scan
    times = np.zeros(scan.n_images) if scan.exposure_times is None else scan.exposure_times
    now = started + timedelta(seconds=float(times[:index].sum()))
    # The beam meets the panel's plane at t·ŝ₀.
    distance = float(panel.origin @ panel.normal / (beam.direction @ panel.normal))
    met = distance * beam.direction - panel.origin
    fast, slow = (
        float(met @ axis / size)
        for axis, size in zip((panel.fast_axis, panel.slow_axis), panel.pixel_size, strict=True)
    )
    width, height = (1e-3 * size for size in panel.pixel_size)
    start, turn = (
        float(np.degrees(values[index]))
        for values in (scan.oscillation_start, scan.oscillation_width)
    )
    material = sensor_material(panel.mu, beam.wavelength)
    sensor = []
    if panel.thickness > 0 and material:
        sensor = [f"{_NAMES[material]} sensor, thickness {1e-3 * panel.thickness:.9g} m"]
    lines = [
        "Detector: made",
        f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}",
        f"Pixel_size {width:.12g} m x {height:.12g} m",
        *sensor,
        f"Exposure_time {times[index]:.9g} s",
        f"Exposure_period {times[index]:.9g} s",
        f"Count_cutoff {int(min(panel.trusted_range[1], CBF_LARGEST))} counts",
        f"Wavelength {beam.wavelength:.12g} A",
        f"Detector_distance {1e-3 * distance:.12g} m",
        f"Beam_xy ({fast:.10g}, {slow:.10g}) pixels",
        f"Polarization {beam.polarization_fraction:.9g}",
        f"Start_angle {start:.12g} deg.",
        f"Angle_increment {turn:.12g} deg.",
        "Detector_2theta 0.0 deg.",
        *(f"Made_{name} {value}" for name, value in (provenance or {}).items()),
    ]
    return [f"# {line}" for line in lines]


def _angle(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Angle between two vectors [degrees], without loss where it is small."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)))


def _file(lines: list[str], name: str, image: NDArray[np.generic]) -> bytes:
    """The bytes of a file."""
    data: bytes = compByteOffset(np.ascontiguousarray(image, dtype=np.int32))
    slow, fast = image.shape
    digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    text = [
        "###CBF: VERSION 1.5, mini-CBF",
        "",
        f"data_{name}",
        "",
        # The word for detectors of any size, of which readers expect no gaps of modules.
        '_array_data.header_convention "GENERIC_MINI"',
        "_array_data.header_contents",
        ";",
        *lines,
        ";",
        "",
        "_array_data.data",
        ";",
        _BOUNDARY,
        "Content-Type: application/octet-stream;",
        '     conversions="x-CBF_BYTE_OFFSET"',
        "Content-Transfer-Encoding: BINARY",
        f"X-Binary-Size: {len(data)}",
        "X-Binary-ID: 1",
        'X-Binary-Element-Type: "signed 32-bit integer"',
        "X-Binary-Element-Byte-Order: LITTLE_ENDIAN",
        f"Content-MD5: {digest}",
        f"X-Binary-Number-of-Elements: {image.size}",
        f"X-Binary-Size-Fastest-Dimension: {fast}",
        f"X-Binary-Size-Second-Dimension: {slow}",
        f"X-Binary-Size-Padding: {_PADDING}",
        "",
        "",
    ]
    end = f"\r\n{_BOUNDARY}--\r\n;\r\n".encode()
    return "\r\n".join(text).encode() + _START + data + bytes(_PADDING) + end
