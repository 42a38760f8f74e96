"""XPARM.XDS and GXPARM.XDS: lines of numbers, in a layout of 2012 and in an older one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError
from offbragg.reduction._checks import checked_array
from offbragg.reduction.xds_geometry import (
    XdsGeometry,
    XdsSegment,
    is_number,
    whole_image,
    whole_number,
)

# Files of XDS have six digits; axes that disagree by more are damage.
_AXIS_TOLERANCE = 1e-3
_MOST_SEGMENTS = 10_000
_PER_SEGMENT = 2  # lines


def parse_xparm(path: Path, lines: list[str]) -> XdsGeometry:
    """Read the lines of XPARM.XDS that are not blank; names of fields are in the errors."""
    new = lines[0].lstrip().startswith("XPARM.XDS")
    table = _Table(path, lines, int(new))
    frame, angle, width, *axis = table.row("first image, angle, width, rotation axis", 6)
    wavelength, *beam = table.row("wavelength, incident beam", 4)
    if new:
        group, cell = table.row("space group, cell", 7)[0], table.rows("unit cell axis", 3)
        count, nx, ny, qx, qy = table.row("number of segments, NX, NY, QX, QY", 5)
        orgx, orgy, distance = table.row("ORGX, ORGY, distance", 3)
        axes = table.rows("detector axis", 3)
    else:
        count = 1.0
        nx, ny, qx, qy = table.row("NX, NY, QX, QY", 4)
        distance, orgx, orgy = table.row("distance, ORGX, ORGY", 3)
        axes = table.rows("detector axis", 3)
        group, cell = table.row("space group, cell", 7)[0], table.rows("unit cell axis", 3)
    size = (whole_number(path, "NX", nx), whole_number(path, "NY", ny))
    normal = np.cross(axes[0], axes[1])
    if np.abs(normal - axes[2]).max() > _AXIS_TOLERANCE:
        raise FormatError(
            f"{path}: detector axes: expected the third to be first × second, "
            f"{normal.round(6).tolist()}, found {axes[2].tolist()}"
        )
    n_segments = whole_number(path, "number of segments", count)
    if not 1 <= n_segments <= _MOST_SEGMENTS:
        raise FormatError(f"{path}: number of segments: expected 1 or more, found {n_segments}")
    segments = [whole_image(size)]
    if new and (n_segments > 1 or table.n_left >= _PER_SEGMENT):
        segments = [_segment_of(path, table, number + 1) for number in range(n_segments)]
    return XdsGeometry(
        path=path,
        wavelength=wavelength,
        beam_direction=np.array(beam),
        rotation_axis=np.array(axis),
        starting_frame=whole_number(path, "first image", frame),
        starting_angle=angle,
        oscillation_range=width,
        space_group_number=whole_number(path, "space group", group),
        real_space=cell,
        image_size=size,
        pixel_size=(qx, qy),
        origin=(orgx, orgy),
        distance=distance,
        x_axis=axes[0],
        y_axis=axes[1],
        segments=tuple(segments),
    )


def _segment_of(path: Path, table: _Table, number: int) -> XdsSegment:
    """Read the two lines of a segment."""
    _, *limits = table.row(f"segment {number}: number, X1, X2, Y1, Y2", 5)
    values = table.row(f"segment {number}: ORGX, ORGY, distance, axes", 9)
    x1, x2, y1, y2 = (whole_number(path, f"segment {number}", limit) for limit in limits)
    return XdsSegment(
        limits=(x1, x2, y1, y2),
        origin=(values[0], values[1]),
        distance=values[2],
        x_axis=np.array(values[3:6]),
        y_axis=np.array(values[6:9]),
    )


class _Table:
    """Lines of numbers, read one after the other."""

    def __init__(self, path: Path, lines: list[str], start: int) -> None:
        self.path, self._lines, self._next = path, lines, start

    @property
    def n_left(self) -> int:
        """Lines not yet read."""
        return len(self._lines) - self._next

    def row(self, what: str, count: int) -> list[float]:
        """Read the next line, which must hold at least ``count`` numbers."""
        line = self._lines[self._next] if self.n_left else ""
        self._next += 1
        words = line.split()[:count]
        if len(words) < count or not all(is_number(word) for word in words):
            raise FormatError(
                f"{self.path}: line {self._next}, {what}: expected {count} numbers, found "
                f"{line.strip()!r}"
            )
        values: list[float] = checked_array(what, [float(word) for word in words], (None,)).tolist()
        return values

    def rows(self, what: str, count: int) -> FloatArray:
        """Read three lines (3, count)."""
        return np.array([self.row(what, count) for _ in range(3)])
