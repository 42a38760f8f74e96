"""The headers of INTEGRATE.HKL and XDS_ASCII.HKL: ``!NAME= value`` pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offbragg.reduction._checks import checked_array
from offbragg.reduction.xds_geometry import XdsGeometry, XdsSegment, whole_image, whole_number
from offbragg.reduction.xds_keywords import Keywords


def parse_header(path: Path, lines: list[str]) -> XdsGeometry:
    """Read what stands after the exclamation marks of a reflection file."""
    header = Keywords.from_lines(path, (line[1:] for line in lines if line.startswith("!")))
    nx, ny = (whole_number(path, name, header.number(name)) for name in ("NX", "NY"))
    rows = [header.numbers(f"UNIT_CELL_{name}-AXIS", 3) for name in "ABC"]
    data_range = None
    if "DATA_RANGE" in header:
        first, last = header.numbers("DATA_RANGE", 2)
        data_range = (int(first), int(last))
    return XdsGeometry(
        path=path,
        wavelength=header.number("X-RAY_WAVELENGTH"),
        beam_direction=np.array(header.numbers("INCIDENT_BEAM_DIRECTION", 3)),
        rotation_axis=np.array(header.numbers("ROTATION_AXIS", 3)),
        starting_frame=int(header.number("STARTING_FRAME")),
        starting_angle=header.number("STARTING_ANGLE"),
        oscillation_range=header.number("OSCILLATION_RANGE"),
        space_group_number=whole_number(
            path, "SPACE_GROUP_NUMBER", header.number("SPACE_GROUP_NUMBER")
        ),
        real_space=checked_array("unit cell axes", rows, (3, 3)),
        image_size=(nx, ny),
        pixel_size=(header.number("QX"), header.number("QY")),
        origin=(header.number("ORGX"), header.number("ORGY")),
        distance=header.number("DETECTOR_DISTANCE"),
        x_axis=np.array(header.numbers("DIRECTION_OF_DETECTOR_X-AXIS", 3)),
        y_axis=np.array(header.numbers("DIRECTION_OF_DETECTOR_Y-AXIS", 3)),
        segments=_segments_of_header(header, (nx, ny)),
        name_template=header.text("NAME_TEMPLATE_OF_DATA_FRAMES"),
        data_range=data_range,
    )


def _segments_of_header(header: Keywords, size: tuple[int, int]) -> tuple[XdsSegment, ...]:
    limits = header.rows("SEGMENT", 4)
    if not limits:
        return (whole_image(size),)
    columns = [
        header.rows("SEGMENT_ORGX", 1),
        header.rows("SEGMENT_ORGY", 1),
        header.rows("SEGMENT_DISTANCE", 1),
        header.rows("DIRECTION_OF_SEGMENT_X-AXIS", 3),
        header.rows("DIRECTION_OF_SEGMENT_Y-AXIS", 3),
    ]
    if any(len(column) != len(limits) for column in columns):
        raise header.wrong(
            "SEGMENT",
            f"origin, distance and axes of {len(limits)} segments",
            str([len(column) for column in columns]),
        )
    return tuple(
        XdsSegment((int(x1), int(x2), int(y1), int(y2)), (*ox, *oy), d[0], np.array(x), np.array(y))
        for (x1, x2, y1, y2), ox, oy, d, x, y in zip(limits, *columns, strict=True)
    )
