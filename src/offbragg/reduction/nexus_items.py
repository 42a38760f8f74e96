"""Values, units and chains of transformations in NeXus files."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError
from offbragg.reduction._checks import LARGEST
from offbragg.reduction.axes import Axis

# To Å, mm, radians and s; a name may come in plural.
_LENGTH = {"m": 1e3, "mm": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "nm": 1e-6, "cm": 10.0}
_LENGTH |= {"meter": 1e3, "metre": 1e3, "millimeter": 1.0, "millimetre": 1.0, "micrometer": 1e-3}
_ANGLE = {"deg": np.pi / 180, "degree": np.pi / 180, "rad": 1.0, "radian": 1.0}
_WAVE = {"angstrom": 1.0, "a": 1.0, "å": 1.0, "nm": 10.0, "m": 1e10}
_TIME = {"s": 1.0, "second": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
UNITS = {"length": _LENGTH, "angle": _ANGLE, "wavelength": _WAVE, "time": _TIME}
_USUAL = {"length": "m", "angle": "deg", "wavelength": "angstrom", "time": "s"}


class NexusItems:
    """Values of an open file, in this package's units; errors name file and place."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file, self.path = file, path

    def wrong(self, place: str, expected: str, found: str) -> FormatError:
        """Build the error for a place in this file."""
        return FormatError(f"{self.path}: {place}: expected {expected}, found {found}")

    def get(self, group: Any, *names: str) -> Any:
        """The first of several places in a group that is there; None if none is."""
        for name in names:
            item = group.get(name) if isinstance(group, h5py.Group) else None
            if item is not None:
                return item
        return None

    def text(self, item: Any, default: str = "") -> str:
        """A text: of a dataset or attribute, of one or several strings."""
        if item is None or isinstance(item, h5py.Group):
            return default
        value = item[()] if isinstance(item, h5py.Dataset) else item
        value = np.asarray(value).ravel()
        if value.size == 0:
            return default
        first = value[0]
        return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)

    def numbers(self, item: h5py.Dataset, kind: str | None = None) -> FloatArray:
        """The numbers (n,) of a dataset, in Å, mm, radians or s if a kind of unit is given."""
        try:
            values = np.atleast_1d(np.asarray(item[()], dtype=np.float64)).ravel()
        except (TypeError, ValueError, OSError, AttributeError):
            values = np.array([])
        if values.size == 0 or not np.all(np.abs(values) < LARGEST):
            raise self.wrong(item.name, "numbers", str(item)[:60])
        if kind is None:
            return values
        return values * self.unit(item.attrs.get("units"), kind, item.name)

    def number(self, item: h5py.Dataset | None, kind: str | None, default: float) -> float:
        """The first number of a dataset, or a default where there is none."""
        return default if item is None else float(self.numbers(item, kind)[0])

    def unit(self, given: Any, kind: str, place: str) -> float:
        """The factor of a unit by its name; the usual one where a file is silent."""
        name = self.text(given, _USUAL[kind]).strip()
        for key in (name, name.lower(), name.lower().rstrip("s")):
            if key in UNITS[kind]:
                return UNITS[kind][key]
        raise self.wrong(f"{place}: units", f"a unit of {kind}, as {_USUAL[kind]}", repr(name))

    def chain(self, start: h5py.Dataset | h5py.Group, depends_on: str) -> list[Axis]:
        """Follow ``depends_on`` from an object to the laboratory.

        Parameters
        ----------
        start : Dataset or Group
            Where the path begins, should it be relative.
        depends_on : str
            Its path; ``.`` is the laboratory.
        """
        chain: list[Axis] = []
        folder = start.name if isinstance(start, h5py.Group) else posixpath.dirname(start.name)
        seen: set[str] = set()
        while depends_on not in (".", ""):
            place = posixpath.normpath(posixpath.join(folder, depends_on))
            item = self.file.get(place)
            if not isinstance(item, h5py.Dataset):
                raise self.wrong(f"depends_on {place}", "an axis", "none")
            if place in seen:
                raise self.wrong(f"depends_on {place}", "a chain that ends", "a circle")
            seen.add(place)
            chain.append(self.axis(item))
            folder = posixpath.dirname(place)
            depends_on = self.text(item.attrs.get("depends_on"), ".")
        return chain

    def axis(self, item: h5py.Dataset) -> Axis:
        """Read a dataset that is an axis."""
        kind = self.text(item.attrs.get("transformation_type"))
        if kind not in ("rotation", "translation"):
            raise self.wrong(
                f"{item.name}: transformation_type", "rotation or translation", repr(kind)
            )
        turns = kind == "rotation"
        offset = self.vector(item, "offset", np.zeros(3))
        if offset.any():
            unit = item.attrs.get("offset_units", None if turns else item.attrs.get("units"))
            offset = offset * self.unit(unit, "length", item.name)
        return Axis(
            item.name,
            turns,
            self.vector(item, "vector"),
            self.numbers(item, "angle" if turns else "length"),
            offset,
        )

    def vector(
        self, item: h5py.Dataset, name: str, default: FloatArray | None = None
    ) -> FloatArray:
        """An attribute of three numbers."""
        given = item.attrs.get(name)
        if given is None and default is not None:
            return default
        try:
            vector = np.asarray(given, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            vector = np.array([])
        if vector.shape != (3,) or not np.all(np.abs(vector) < LARGEST):
            raise self.wrong(f"{item.name}: {name}", "three numbers", str(given)[:40])
        if name == "vector" and not vector.any():
            raise self.wrong(f"{item.name}: {name}", "a direction", str(vector.tolist()))
        return vector
