"""Masks that are drawn: rectangles, circles and polygons on a panel, and rings of resolution.

Everywhere True means *excluded*. A pixel is excluded where its centre is inside; pixel (i, j), fast
and slow from 0, covers [i, i+1) × [j, j+1), so that its centre is at (i + ½, j + ½).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offbragg.conventions import BoolArray, FloatArray
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.experiment import Beam, Panel

#: Kinds of shapes, and what their numbers are.
SHAPE_KINDS = {
    "rectangle": "fast0 slow0 fast1 slow1",
    "circle": "fast slow radius",
    "polygon": "fast slow of three corners or more",
}
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class MaskShape:
    """A shape on a panel.

    Attributes
    ----------
    kind : str
        ``"rectangle"``, ``"circle"`` or ``"polygon"`` (its sides may cross: what an odd number of
        turns encloses is inside).
    numbers : tuple of float
        In pixels: fast0, slow0, fast1, slow1; or fast, slow, radius; or fast, slow of each corner.
    panel : int or str
        Number, from 0, or name.

    Raises
    ------
    InputError
        If the kind is none of these, or the numbers are no such shape.
    """

    kind: str
    numbers: tuple[float, ...]
    panel: int | str = 0

    def __post_init__(self) -> None:
        if self.kind not in SHAPE_KINDS:
            raise InputError(f"kind must be one of {', '.join(SHAPE_KINDS)}, got {self.kind!r}")
        n = len(self.numbers)
        fits = {"rectangle": n == 4, "circle": n == 3, "polygon": n >= 6 and n % 2 == 0}[self.kind]
        if not fits or not np.all(np.isfinite(self.numbers)):
            raise InputError(
                f"{self.kind} must have {SHAPE_KINDS[self.kind]}, got {list(self.numbers)}"
            )
        if self.kind == "circle" and self.numbers[2] < 0:
            raise InputError(f"circle must have a radius >= 0 pixels, got {self.numbers[2]:g}")


def shape_mask(shape: MaskShape, panel_shape: tuple[int, int]) -> BoolArray:
    """Mark the pixels whose centres are in a shape.

    Parameters
    ----------
    shape : MaskShape
        Its panel is not looked at.
    panel_shape : tuple of 2 int
        Pixels along slow and fast.

    Returns
    -------
    ndarray, shape (slow, fast), bool

    Examples
    --------
    >>> shape_mask(MaskShape("circle", (1.5, 1.5, 1.0)), (3, 3)).astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    fast = np.arange(panel_shape[1]) + 0.5
    slow = (np.arange(panel_shape[0]) + 0.5)[:, None]
    inside: BoolArray
    if shape.kind == "rectangle":
        x0, y0, x1, y1 = shape.numbers
        inside = (fast >= x0) & (fast < x1) & (slow >= y0) & (slow < y1)
    elif shape.kind == "circle":
        x, y, radius = shape.numbers
        inside = (fast - x) ** 2 + (slow - y) ** 2 <= radius**2
    else:
        corners = np.reshape(shape.numbers, (-1, 2))
        inside = np.zeros(panel_shape, dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            # A ray along fast from the pixel crosses this side.
            crosses = (slow >= min(y0, y1)) & (slow < max(y0, y1))
            inside ^= crosses & (fast < x0 + (slow - y0) * (x1 - x0) / (y1 - y0))
    return inside


def shapes_masks(shapes: Sequence[MaskShape], detector: tuple[Panel, ...]) -> tuple[BoolArray, ...]:
    """Mark what any of the shapes covers, one (slow, fast) a panel.

    Raises
    ------
    InputError
        If a shape's panel is not there.
    """
    masks = [np.zeros(panel.shape, dtype=bool) for panel in detector]
    names = [panel.name for panel in detector]
    for shape in shapes:
        number = names.index(shape.panel) if shape.panel in names else shape.panel
        if not isinstance(number, int) or not 0 <= number < len(masks):
            raise InputError(
                f"panel of a {shape.kind} must be 0 to {len(masks) - 1}, or a name such as "
                f"{names[0]!r}, got {shape.panel!r}"
            )
        masks[number] |= shape_mask(shape, detector[number].shape)
    return tuple(masks)


def read_mask_shapes(path: str | Path) -> tuple[MaskShape, ...]:
    """Read shapes from JSON or text.

    Parameters
    ----------
    path : str or Path
        JSON: a list of ``{"kind": "circle", "panel": 0, "numbers": [512, 500, 40]}``; the panel
        may be left out. Text: a line ``circle 0 512 500 40`` a shape (kind, panel, numbers); what
        follows ``#`` is skipped.

    Returns
    -------
    tuple of MaskShape

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If something in it is no shape; the message says where.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"{path}: expected shapes in JSON or text, found neither") from None
    shapes = _from_json(text, path) if text.lstrip()[:1] in ("[", "{") else _from_text(text, path)
    if not shapes:
        raise FormatError(f"{path}: expected shapes, found none")
    return shapes


def _from_json(text: str, path: Path) -> tuple[MaskShape, ...]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: expected JSON, {error}") from None
    shapes = []
    for number, item in enumerate(content if isinstance(content, list) else [content]):
        where = f"{path}: shape {number}"
        if not isinstance(item, dict) or not {"kind", "numbers"} <= set(item):
            raise FormatError(f"{where}: expected an object with kind and numbers, found {item!r}")
        unknown = sorted(set(item) - {"kind", "numbers", "panel"})
        if unknown:
            raise FormatError(f"{where}: expected kind, panel and numbers, found {unknown[0]!r}")
        shapes.append(_shape(item["kind"], item["numbers"], item.get("panel", 0), where))
    return tuple(shapes)


def _from_text(text: str, path: Path) -> tuple[MaskShape, ...]:
    shapes = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words:
            continue
        if len(words) < 2:
            raise FormatError(f"{path}: line {number}: expected kind, panel, numbers, found {line}")
        is_number = words[1].isdecimal() and len(words[1]) < 10
        panel = int(words[1]) if is_number else words[1]
        shapes.append(_shape(words[0], words[2:], panel, f"{path}: line {number}"))
    return tuple(shapes)


def _shape(kind: object, numbers: object, panel: object, where: str) -> MaskShape:
    """Make a shape of what a file has; errors say where."""
    try:
        flat = np.array(numbers, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise FormatError(f"{where}: expected numbers, found {numbers!r}") from None
    if isinstance(panel, bool) or not isinstance(panel, int | str):
        raise FormatError(f"{where}: expected a panel's number or name, found {panel!r}")
    try:
        return MaskShape(str(kind), tuple(float(x) for x in flat), panel)
    except InputError as error:
        raise FormatError(f"{where}: {error}") from None


def parse_ring(text: str) -> tuple[float, float]:
    """Read a range of resolution such as ``3.93-3.87`` [Å], in either order: (d_max, d_min).

    Raises
    ------
    InputError
        If it is none.

    Examples
    --------
    >>> parse_ring("3.87-3.93")
    (3.93, 3.87)
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*[-:]\s*([0-9.]+)\s*", text)
    try:
        low, high = sorted(float(word) for word in (found.groups() if found else ()))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0 < low < high:
        raise InputError(f"mask_rings must be ranges of d in Å such as 3.93-3.87, got {text!r}")
    return high, low


def ring_mask(panel: Panel, beam: Beam, rings: Sequence[tuple[float, float]]) -> BoolArray:
    r"""Mark the pixels whose centres lie in ranges of resolution, ice rings say.

    .. math:: d = \lambda / (2\sin\theta),\quad 4\sin^2\theta = |\hat s_1 - \hat s_0|^2

    Parameters
    ----------
    panel : Panel
    beam : Beam
    rings : sequence of (float, float)
        d_max and d_min [Å] of each, both in the ring.

    Returns
    -------
    ndarray, shape (slow, fast), bool

    Examples
    --------
    >>> panel = Panel("", [0, 0, 100], [1, 0, 0], [0, 1, 0], (10, 10), (6, 1))
    >>> ring_mask(panel, Beam(1.0, [0, 0, 1], [0, 1, 0]), [(4.5, 2.8)]).astype(int).tolist()
    [[0, 0, 1, 1, 0, 0]]
    """
    inside = np.zeros(panel.shape, dtype=bool)
    for first in range(0, panel.shape[0], _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        inv_d = _inv_d(panel.pixel_positions(rows=rows), beam)
        for d_max, d_min in rings:
            inside[rows] |= (inv_d >= 1 / d_max) & (inv_d <= 1 / d_min)
    return inside


def _inv_d(positions: FloatArray, beam: Beam) -> FloatArray:
    """1/d [Å⁻¹] at positions (..., 3)."""
    unit = positions / np.linalg.norm(positions, axis=-1, keepdims=True)
    inv_d: FloatArray = np.linalg.norm(unit - beam.direction, axis=-1) / beam.wavelength
    return inv_d
