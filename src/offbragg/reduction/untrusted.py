"""Excluded areas of XDS as the rectangles of a `Panel`: half-open, pixels counted from 0.

XDS counts pixels from 1 and excludes those strictly within the outline. An ellipse or a
quadrilateral becomes one rectangle for each row of pixels.
"""

from __future__ import annotations

import math

import numpy as np

Rectangle = tuple[int, int, int, int]


def untrusted_rectangle(x1: float, x2: float, y1: float, y2: float) -> Rectangle:
    """Area of UNTRUSTED_RECTANGLE= x1 x2 y1 y2: x1 < x < x2 and y1 < y < y2.

    >>> untrusted_rectangle(487, 495, 0, 620)  # the gap between modules of 487 pixels
    (487, 0, 494, 619)
    """
    return _first(x1), _first(y1), _end(x2), _end(y2)


def untrusted_ellipse(
    x1: float, x2: float, y1: float, y2: float, n_rows: int
) -> tuple[Rectangle, ...]:
    """Area of UNTRUSTED_ELLIPSE= x1 x2 y1 y2, the box around the ellipse, row by row."""
    centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
    half_x, half_y = abs(x2 - x1) / 2, abs(y2 - y1) / 2
    rows = []
    for y in range(max(1, math.floor(min(y1, y2))), min(n_rows, math.ceil(max(y1, y2))) + 1):
        inside = 1 - ((y - centre_y) / half_y) ** 2 if half_y else 0.0
        if inside > 0:
            reach = half_x * math.sqrt(inside)
            rows.append((_first(centre_x - reach), y - 1, _end(centre_x + reach), y))
    return tuple(row for row in rows if row[0] < row[2])


def untrusted_quadrilateral(corners: tuple[float, ...], n_rows: int) -> tuple[Rectangle, ...]:
    """Area of UNTRUSTED_QUADRILATERAL= x1 y1 x2 y2 x3 y3 x4 y4, row by row."""
    points = np.reshape(corners, (4, 2))
    low, high = points[:, 1].min(), points[:, 1].max()
    rows = []
    for y in range(max(1, math.floor(low)), min(n_rows, math.ceil(high)) + 1):
        crossings = []
        for (xa, ya), (xb, yb) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if (ya > y) != (yb > y):
                crossings.append(xa + (y - ya) / (yb - ya) * (xb - xa))
        crossings.sort()
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            rows.append((_first(left), y - 1, _end(right), y))
    return tuple(row for row in rows if row[0] < row[2])


def _first(x: float) -> int:
    """Index from 0 of the first pixel beyond x."""
    return math.floor(x)


def _end(x: float) -> int:
    """Index from 0 of the first pixel that is no longer before x."""
    return math.ceil(x) - 1
