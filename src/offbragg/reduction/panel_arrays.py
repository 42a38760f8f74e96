"""Arrays of one image against the panels of a detector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.errors import FormatError
from offbragg.reduction.panel import Panel

Pixels = NDArray[Any]


def split_panels(data: Pixels, panels: tuple[Panel, ...], what: str) -> tuple[Pixels, ...]:
    """Cut what a file holds for one image into arrays (slow, fast), one a panel.

    Parameters
    ----------
    data : ndarray, shape (slow, fast) or (n_panels, slow, fast)
        One image. Several panels in one image are found by their ``raw_image_offset``, or else
        stand one below the other, in order, filling the image.
    panels : tuple of Panel
    what : str
        File, for messages.

    Raises
    ------
    FormatError
        If it does not fit the panels; the message has both shapes.
    """
    shapes = [panel.shape for panel in panels]
    if data.ndim == 3 and data.shape[0] == 1 and len(panels) == 1:
        data = data[0]
    if data.ndim == 3 and [plane.shape for plane in data] == shapes:
        return tuple(data)
    if data.ndim == 2:
        if len(panels) == 1 and data.shape == shapes[0]:
            return (data,)
        offsets = _panel_offsets(panels)
        corners = [
            (y + height, x + width) for (y, x), (height, width) in zip(offsets, shapes, strict=True)
        ]
        filled = np.max(corners, axis=0)
        placed = any(offset != (0, 0) for offset in offsets)
        if placed and np.all(filled <= data.shape):
            return tuple(
                data[y:bottom, x:right]
                for (y, x), (bottom, right) in zip(offsets, corners, strict=True)
            )
    expected = shapes[0] if len(panels) == 1 else f"{len(panels)} panels of {shapes[0]}"
    raise FormatError(f"{what}: expected an image of {expected} (slow, fast), found {data.shape}")


def _panel_offsets(panels: tuple[Panel, ...]) -> list[tuple[int, int]]:
    """Slow and fast pixel where each panel begins in the one image of a file."""
    given = [panel.raw_image_offset for panel in panels]
    if any(offset is not None and offset != (0, 0) for offset in given):
        return [(offset[1], offset[0]) if offset else (0, 0) for offset in given]
    rows = np.cumsum([0, *(panel.shape[0] for panel in panels)])
    return [(int(row), 0) for row in rows[:-1]]


def join_panels(planes: tuple[Pixels, ...], panels: tuple[Panel, ...]) -> Pixels:
    """Put arrays (slow, fast), one a panel, into the one array that `split_panels` cuts up again.

    Returns
    -------
    ndarray
        (slow, fast) for one panel, (n_panels, slow, fast) for several of one size; else one
        image, 0 between the panels.
    """
    if len(planes) == 1:
        return planes[0]
    if len({plane.shape for plane in planes}) == 1:
        return np.stack(planes)
    offsets = _panel_offsets(panels)
    corners = [np.add(offset, p.shape) for offset, p in zip(offsets, planes, strict=True)]
    whole = np.zeros(np.max(corners, axis=0), dtype=planes[0].dtype)
    for (y, x), plane in zip(offsets, planes, strict=True):
        whole[y : y + plane.shape[0], x : x + plane.shape[1]] = plane
    return whole
