"""Full imgCIF headers: axes of the goniometer and the detector, in CIF.

Meaning of the items: the imgCIF dictionary (IUCr, cif_img.dic). Its frame is kept: x along the
principal axis of the goniometer, z from the crystal towards the source. A displacement of an
array's axis is that of the *centre* of the first pixel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError
from offbragg.reduction._checks import LARGEST
from offbragg.reduction.axes import Axis, direction, place
from offbragg.reduction.geometry import Beam, Goniometer
from offbragg.reduction.image_header import NO_POLARIZATION, POLARIZATION, ImageHeader
from offbragg.reduction.mini_cbf import sensor_of
from offbragg.reduction.panel import Panel

# What CBF adds to CIF, and CIF readers choke on.
_BINARY = re.compile(rb"--CIF-BINARY-FORMAT-SECTION--.*?--CIF-BINARY-FORMAT-SECTION----", re.DOTALL)
_DEFAULT_SOURCE = (0.0, 0.0, 1.0)
_NO_VALUE = (".", "?", "")

Row = dict[str, str]


def is_full_imgcif(start: bytes) -> bool:
    """Tell if a CBF describes its axes, rather than only having lines of a mini-CBF."""
    return b"_axis.depends_on" in start and b"_array_structure_list_axis." in start


def imgcif_header(content: bytes, where: str) -> ImageHeader:
    """Read the geometry of a full imgCIF file.

    Parameters
    ----------
    content : bytes
        Of the whole file.
    where : str
        File, for messages.

    Raises
    ------
    FormatError
        If it is no CIF, or an item is missing or not what it must be.
    """
    text = _BINARY.sub(b"", content).decode("latin-1")
    try:
        block = gemmi.cif.read_string(text).sole_block()
    except (ValueError, RuntimeError, LookupError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"{where}: expected imgCIF, {reason}") from None
    cif = _Cif(block, where)
    axes = cif.axes()
    wavelength = cif.number(
        cif.only("_diffrn_radiation_wavelength"), "wavelength", "_diffrn_radiation_wavelength"
    )
    contents = block.find_value("_array_data.header_contents") or ""
    goniometer, start, width = _goniometer(cif, axes)
    frame = cif.rows("_diffrn_scan_frame")
    radiation = (cif.rows("_diffrn_radiation") or [{}])[0]
    exposure = frame[0].get("integration_time", "?") if frame else "?"
    return ImageHeader(
        beam=_beam(cif, axes, wavelength),
        detector=_detector(cif, axes, sensor_of(contents, wavelength, where)),
        goniometer=goniometer,
        start=start,
        width=width,
        exposure_time=None if exposure in _NO_VALUE else cif.float_of(exposure, "integration_time"),
        notes=() if "polarizn_source_ratio" in radiation else (NO_POLARIZATION,),
    )


@dataclass(frozen=True)
class _CifAxis:
    """A row of the axis category."""

    axis: Axis
    equipment: str
    depends_on: str


class _Cif:
    """Categories of one data block as rows by item name."""

    def __init__(self, block: gemmi.cif.Block, where: str) -> None:
        self._block, self.where = block, where

    def wrong(self, item: str, expected: str, found: str) -> FormatError:
        """Build the error for an item of this file."""
        return FormatError(f"{self.where}: {item}: expected {expected}, found {found}")

    def rows(self, category: str) -> list[Row]:
        """All rows of a category, whether it is a loop or single items."""
        table = self._block.find_mmcif_category(category + ".")
        names = [tag.split(".", 1)[1] for tag in table.tags]
        return [
            {name: gemmi.cif.as_string(value) for name, value in zip(names, row, strict=True)}
            for row in table
        ]

    def only(self, category: str) -> Row:
        """The first row of a category that must be there."""
        rows = self.rows(category)
        if not rows:
            raise self.wrong(category, "a value", "none")
        return rows[0]

    def float_of(self, text: str, item: str) -> float:
        """A number of the file, without its standard uncertainty."""
        value = float(gemmi.cif.as_number(text))
        if not abs(value) < LARGEST:  # nor NaN
            raise self.wrong(item, "a number", repr(text))
        return value

    def number(self, row: Row, name: str, category: str, default: float | None = None) -> float:
        """A number of a row, or a default where it has none."""
        text = row.get(name, "?")
        if text in _NO_VALUE and default is not None:
            return default
        return self.float_of(text, f"{category}.{name}")

    def axes(self) -> dict[str, _CifAxis]:
        """All axes by name, at their settings in the first frame [mm, radians]."""
        settings = {row.get("axis_id", ""): row for row in self.rows("_diffrn_scan_axis")}
        of_frame = {row.get("axis_id", ""): row for row in self.rows("_diffrn_scan_frame_axis")}
        found = {}
        for row in self.rows("_axis"):
            name, kind = row.get("id", ""), row.get("type", "general")
            vector = [self.number(row, f"vector[{i}]", "_axis", 0.0) for i in (1, 2, 3)]
            offset = [self.number(row, f"offset[{i}]", "_axis", 0.0) for i in (1, 2, 3)]
            turns = kind == "rotation"
            item = "angle" if turns else "displacement"
            value = self.number(of_frame.get(name, {}), item, "_diffrn_scan_frame_axis", np.nan)
            if np.isnan(value):
                scan = settings.get(name, {})
                value = self.number(scan, f"{item}_start", "_diffrn_scan_axis", 0.0)
            axis = Axis(
                name,
                turns,
                np.array(vector),
                np.array([np.radians(value) if turns else value]),
                np.array(offset),
            )
            found[name] = _CifAxis(axis, row.get("equipment", ""), row.get("depends_on", "."))
        return found

    def chain(self, axes: dict[str, _CifAxis], name: str) -> list[Axis]:
        """The axes that carry something, from the one it is on to the laboratory."""
        chain: list[Axis] = []
        while name not in _NO_VALUE:
            if name not in axes:
                raise self.wrong("_axis.depends_on", "the name of an axis", repr(name))
            if len(chain) > len(axes):
                raise self.wrong("_axis.depends_on", "a chain that ends", f"a circle at {name!r}")
            chain.append(axes[name].axis)
            name = axes[name].depends_on
        return chain


def _beam(cif: _Cif, axes: dict[str, _CifAxis], wavelength: float) -> Beam:
    """Beam from the axis of the source, polarised as the file says, else in the plane of x."""
    sources = [a.axis.vector for a in axes.values() if a.equipment == "source"]
    to_source = sources[0] if sources else np.array(_DEFAULT_SOURCE)
    row = (cif.rows("_diffrn_radiation") or [{}])[0]
    category = "_diffrn_radiation"
    # (I_in plane − I_normal) / (I_in plane + I_normal)
    ratio = cif.number(row, "polarizn_source_ratio", category, 2 * POLARIZATION - 1)
    turned = np.radians(cif.number(row, "polarizn_source_norm", category, 0.0))
    normal = np.array([-np.sin(turned), np.cos(turned), 0.0])
    if not -1 <= ratio <= 1:
        raise cif.wrong(f"{category}.polarizn_source_ratio", "−1 to 1", str(ratio))
    return Beam(wavelength, -to_source, normal, (1 + ratio) / 2)


def _goniometer(cif: _Cif, axes: dict[str, _CifAxis]) -> tuple[Goniometer, float, float]:
    """Goniometer, and angle and rotation of its scan axis [degrees]."""
    mounted = {n: a for n, a in axes.items() if a.equipment == "goniometer" and a.axis.turns}
    if not mounted:
        raise cif.wrong("_axis.equipment", "an axis of the goniometer", "none")
    carriers = {a.depends_on for a in mounted.values()}
    ends = [name for name in mounted if name not in carriers]
    if len(ends) != 1:
        raise cif.wrong("_axis", "one axis that carries the crystal", str(ends))
    chain = cif.chain(axes, ends[0])
    widths = {}
    for row in cif.rows("_diffrn_scan_axis"):
        width = cif.number(row, "angle_increment", "_diffrn_scan_axis", 0.0)
        if row.get("axis_id") in mounted and width:
            widths[row["axis_id"]] = width
    if len(widths) > 1:
        raise cif.wrong("_diffrn_scan_axis.angle_increment", "one axis that turns", str(widths))
    scanned = next(iter(widths), chain[-1].name)  # a still: its outermost axis
    index = [axis.name for axis in chain].index(scanned)
    goniometer = Goniometer.from_axes(
        [axis.vector for axis in chain], [axis.value for axis in chain], index
    )
    return goniometer, float(np.degrees(chain[index].value)), widths.get(scanned, 0.0)


def _detector(cif: _Cif, axes: dict[str, _CifAxis], sensor: dict[str, Any]) -> tuple[Panel, ...]:
    """A panel for each array of the file."""
    structure = cif.rows("_array_structure_list")
    placed = {row.get("axis_set_id", ""): row for row in cif.rows("_array_structure_list_axis")}
    intensities = {row.get("array_id", ""): row for row in cif.rows("_array_intensities")}
    if not structure:
        raise cif.wrong("_array_structure_list", "fast and slow axis of the image", "none")
    panels = []
    for array in dict.fromkeys(row.get("array_id", "") for row in structure):
        rows = [row for row in structure if row.get("array_id", "") == array]
        fast, slow = _by_precedence(cif, rows)
        names, steps, shifts = [], [], []
        for row in (fast, slow):
            place_row = placed.get(row.get("axis_set_id", ""), {})
            category = "_array_structure_list_axis"
            names.append(place_row.get("axis_id", row.get("axis_set_id", "")))
            steps.append(cif.number(place_row, "displacement_increment", category))
            shifts.append(cif.number(place_row, "displacement", category, 0.0))
        origin, along = _corner(cif, axes, names, steps, shifts)
        values = intensities.get(array, {})
        gain = cif.number(values, "gain", "_array_intensities", 1.0)
        high = cif.number(values, "overload", "_array_intensities", np.inf)
        panels.append(
            Panel(
                name=array,
                origin=origin,
                fast_axis=along[0],
                slow_axis=along[1],
                pixel_size=(abs(steps[0]), abs(steps[1])),
                image_size=(
                    int(cif.number(fast, "dimension", "_array_structure_list")),
                    int(cif.number(slow, "dimension", "_array_structure_list")),
                ),
                trusted_range=(0.0, high),
                gain=gain,
                **sensor,
            )
        )
    return tuple(panels)


def _by_precedence(cif: _Cif, rows: Iterable[Row]) -> tuple[Row, Row]:
    """The rows of the fast and of the slow index."""
    by_order = {row.get("precedence", ""): row for row in rows}
    for order in ("1", "2"):
        row = by_order.get(order)
        if row is None:
            raise cif.wrong("_array_structure_list.precedence", "1 and 2", str(sorted(by_order)))
        if row.get("direction", "increasing") != "increasing":
            raise cif.wrong("_array_structure_list.direction", "increasing", row["direction"])
    return by_order["1"], by_order["2"]


def _corner(
    cif: _Cif,
    axes: dict[str, _CifAxis],
    names: list[str],
    steps: list[float],
    shifts: list[float],
) -> tuple[FloatArray, list[FloatArray]]:
    """Outer corner of the first pixel, and the directions of fast and slow."""
    chains = [cif.chain(axes, name) for name in names]
    # One of the two axes carries the other: the longer chain goes through both.
    longer = max(chains, key=len)
    vectors = dict(zip(names, shifts, strict=True))
    settled = [
        Axis(a.name, a.turns, a.vector, np.array([vectors.get(a.name, a.value)]), a.offset)
        for a in longer
    ]
    if not all(name in {axis.name for axis in longer} for name in names):
        raise cif.wrong("_axis.depends_on", f"one of {names} to carry the other", "neither")
    along = []
    for chain, step in zip(chains, steps, strict=True):
        if not step:
            raise cif.wrong("displacement_increment", "the size of a pixel", "0")
        unit = chain[0].vector / np.linalg.norm(chain[0].vector)
        along.append(np.sign(step) * direction(chain[1:], unit))
    centre = place(settled)
    corner: FloatArray = centre - 0.5 * (abs(steps[0]) * along[0] + abs(steps[1]) * along[1])
    return corner, along
