"""The detector of a NeXus file: NXdetector_modules, or the plain numbers of an Eiger's master."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from offbragg.conventions import FloatArray
from offbragg.reduction.axes import direction, place
from offbragg.reduction.nexus_items import NexusItems
from offbragg.reduction.panel import Panel
from offbragg.reduction.sensor import sensor_absorption

_MATERIALS = {"si": "Si", "silicon": "Si", "cdte": "CdTe", "gaas": "GaAs"}
_CUTOFF = "detectorSpecific/countrate_correction_count_cutoff"


def nexus_panels(items: NexusItems, detector: h5py.Group, wavelength: float) -> tuple[Panel, ...]:
    """Read the panels of an NXdetector.

    Modules say where the outer corner of their first pixel is and how its axes run. Without
    modules the detector is across the beam, as beam_center_x, beam_center_y and
    detector_distance say, in NeXus's frame: z along the beam, y up; its fast axis runs against x
    and its slow one down.

    Raises
    ------
    FormatError
        If something is missing or not what it must be.
    """
    common = _common(items, detector, wavelength)
    modules = [
        group
        for name in sorted(detector, key=_natural)
        if isinstance(group := detector.get(name), h5py.Group) and "fast_pixel_direction" in group
    ]
    if not modules:
        return (_plain(items, detector, common),)
    return tuple(_module(items, group, common, len(modules) > 1) for group in modules)


def _natural(name: str) -> tuple[str, int]:
    """Sort module_10 after module_9."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)


def _common(items: NexusItems, detector: h5py.Group, wavelength: float) -> dict[str, Any]:
    """What all panels of a detector share."""
    thickness = items.number(detector.get("sensor_thickness"), "length", 0.0)
    material = items.text(detector.get("sensor_material")).strip().lower()
    mu = 0.0
    if thickness > 0 and material in _MATERIALS:
        mu = sensor_absorption(_MATERIALS[material], wavelength)
    high = items.number(items.get(detector, "saturation_value", _CUTOFF), None, np.inf)
    return {
        # Gaps and bad pixels are negative, or the largest number, which masks know of.
        "trusted_range": (items.number(detector.get("underload_value"), None, 0.0), high),
        "thickness": thickness,
        "mu": mu,
        "parallax": mu > 0,
    }


def _module(items: NexusItems, group: h5py.Group, common: dict[str, Any], several: bool) -> Panel:
    fast, along_fast, width = _side(items, group, "fast_pixel_direction")
    _, along_slow, height = _side(items, group, "slow_pixel_direction")
    chain = items.chain(fast, items.text(fast.attrs.get("depends_on"), "."))
    offset = items.vector(fast, "offset", np.zeros(3))
    if offset.any():
        unit = fast.attrs.get("offset_units", fast.attrs.get("units"))
        offset = offset * items.unit(unit, "length", fast.name)
    size, start = (_indices(items, group, name) for name in ("data_size", "data_origin"))
    in_one_image = several and len(start) == 2
    return Panel(
        name=group.name.rsplit("/", 1)[1] if several else "",
        origin=place(chain, offset),
        fast_axis=along_fast,
        slow_axis=along_slow,
        pixel_size=(width, height),
        image_size=(size[-1], size[-2]),
        raw_image_offset=(start[-1], start[-2]) if in_one_image else None,
        **common,
    )


def _side(
    items: NexusItems, group: h5py.Group, name: str
) -> tuple[h5py.Dataset, FloatArray, float]:
    """A dataset of a pixel's side, its direction in the laboratory and its length [mm]."""
    item = group.get(name)
    if not isinstance(item, h5py.Dataset):
        raise items.wrong(f"{group.name}/{name}", "an axis", "none")
    chain = items.chain(item, items.text(item.attrs.get("depends_on"), "."))
    return (
        item,
        direction(chain, items.vector(item, "vector")),
        float(items.numbers(item, "length")[0]),
    )


def _indices(items: NexusItems, group: h5py.Group, name: str) -> list[int]:
    item = group.get(name)
    if not isinstance(item, h5py.Dataset):
        raise items.wrong(f"{group.name}/{name}", "two or three whole numbers", "none")
    values = items.numbers(item)
    if values.size not in (2, 3) or not np.array_equal(values, np.rint(values)):
        raise items.wrong(item.name, "two or three whole numbers", str(values.tolist()))
    return [int(value) for value in values]


def _plain(items: NexusItems, detector: h5py.Group, common: dict[str, Any]) -> Panel:
    numbers = {}
    for name, others, kind in (
        ("beam_center_x", (), None),
        ("beam_center_y", (), None),
        ("x_pixel_size", (), "length"),
        ("y_pixel_size", (), "length"),
        ("detector_distance", ("distance",), "length"),
        ("detectorSpecific/x_pixels_in_detector", (), None),
        ("detectorSpecific/y_pixels_in_detector", (), None),
    ):
        item = items.get(detector, name, *others)
        if not isinstance(item, h5py.Dataset):
            raise items.wrong(f"{detector.name}/{name}", "a number, as there is no module", "none")
        numbers[name] = float(items.numbers(item, kind)[0])
    x, y = numbers["beam_center_x"], numbers["beam_center_y"]
    width, height = numbers["x_pixel_size"], numbers["y_pixel_size"]
    size = [int(numbers[f"detectorSpecific/{axis}_pixels_in_detector"]) for axis in "xy"]
    return Panel(
        name="",
        origin=np.array([x * width, y * height, numbers["detector_distance"]]),
        fast_axis=np.array([-1.0, 0, 0]),
        slow_axis=np.array([0.0, -1, 0]),
        pixel_size=(width, height),
        image_size=(size[0], size[1]),
        **common,
    )
