"""Geometry of NXmx files and of the master files that DECTRIS's Eiger detectors write."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.axes import Axis
from offbragg.reduction.geometry import Beam, Goniometer, Scan
from offbragg.reduction.image_header import NO_POLARIZATION, POLARIZATION
from offbragg.reduction.nexus_detector import nexus_panels
from offbragg.reduction.nexus_items import NexusItems
from offbragg.reduction.panel import Panel
from offbragg.reduction.stacks import image_datasets, open_growing

logger = logging.getLogger(__name__)

# NeXus's frame: z along the beam, y up; the axis of most beamlines turns against x.
_BEAM, _UP, _AXIS = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)
# An axis is held still whose settings differ by less; motors report a few digits.
_STILL = np.radians(1e-4)


@dataclass(frozen=True, eq=False)
class NexusGeometry:
    """What such a file says: everything but the crystal.

    Attributes
    ----------
    beam : Beam
    detector : tuple of Panel
    goniometer : Goniometer
    scan : Scan
        Its images are numbered from 1.
    """

    beam: Beam
    detector: tuple[Panel, ...]
    goniometer: Goniometer
    scan: Scan


def read_nexus_geometry(path: str | Path) -> NexusGeometry:
    """Read beam, detector, goniometer and scan of an NXmx or Eiger master file.

    The chains of ``depends_on`` are followed. Where there are none, the older master files of
    Eiger detectors say what is needed in numbers: beam centre, distance, omega.

    Raises
    ------
    MissingFileError
        If there is no such file, or one that it links.
    FormatError
        If it is no such file, or something is missing or not what it must be.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        with open_growing(path) as file:
            return _geometry(NexusItems(file, path))
    except FormatError:
        raise
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None
    except MissingFileError:
        raise
    except OSError as error:
        raise FormatError(f"{path}: expected HDF5, {error}") from None


def _geometry(items: NexusItems) -> NexusGeometry:
    groups = [item for item in items.file.values() if isinstance(item, h5py.Group)]
    entry = items.get(items.file, "entry") or next(iter(groups), None)
    if not isinstance(entry, h5py.Group):
        raise items.wrong("/entry", "an NXentry", "none")
    beam = _beam(items, entry)
    detector = items.get(entry, "instrument/detector") or _of_class(items, entry, "NXdetector")
    if not isinstance(detector, h5py.Group):
        raise items.wrong("/entry/instrument/detector", "an NXdetector", "none")
    panels = nexus_panels(items, detector, beam.wavelength)
    goniometer, start, width = _rotation(items, entry)
    times = detector.get("count_time")
    exposures = None
    if times is not None:
        seconds = items.numbers(times, "time")
        exposures = np.full(len(start), seconds[0]) if seconds.size != len(start) else seconds
    return NexusGeometry(beam, panels, goniometer, Scan((1, len(start)), start, width, exposures))


def _of_class(items: NexusItems, entry: h5py.Group, name: str) -> h5py.Group | None:
    instrument = entry.get("instrument")
    for item in instrument.values() if isinstance(instrument, h5py.Group) else ():
        if isinstance(item, h5py.Group) and items.text(item.attrs.get("NX_class")) == name:
            return item
    return None


def _beam(items: NexusItems, entry: h5py.Group) -> Beam:
    group = items.get(entry, "instrument/beam", "sample/beam")
    group = group or _of_class(items, entry, "NXbeam")
    item = items.get(group, "incident_wavelength")
    if not isinstance(item, h5py.Dataset):
        raise items.wrong("/entry/instrument/beam/incident_wavelength", "a number", "none")
    wavelength = float(items.numbers(item, "wavelength")[0])
    stokes = items.get(group, "incident_polarization_stokes", "incident_polarisation_stokes")
    fraction, normal = POLARIZATION, np.array(_UP)
    if isinstance(stokes, h5py.Dataset):
        s0, s1 = items.numbers(stokes)[:2]
        if s0 > 0 and abs(s1) <= s0:
            fraction = (1 + s1 / s0) / 2
    else:
        logger.warning("%s: %s", items.path, NO_POLARIZATION)
    return Beam(wavelength, np.array(_BEAM), normal, float(fraction))


def _rotation(items: NexusItems, entry: h5py.Group) -> tuple[Goniometer, FloatArray, FloatArray]:
    """Goniometer, and the angles (n_images,) where images begin, and their widths [radians]."""
    sample = entry.get("sample")
    given = items.text(sample.get("depends_on"), ".") if isinstance(sample, h5py.Group) else "."
    chain = []
    if given not in (".", ""):
        chain = [axis for axis in items.chain(sample, given) if axis.turns]
    if not chain:
        plain = items.get(sample, "goniometer/omega", "transformations/omega")
        angles = items.numbers(plain, "angle") if plain is not None else np.zeros(1)
        name = plain.name if plain is not None else ""
        chain = [Axis(name, True, np.array(_AXIS), angles, np.zeros(3))]
    moving = [i for i, axis in enumerate(chain) if np.ptp(axis.values) > _STILL]
    if len(moving) > 1:
        names = [chain[i].name for i in moving]
        raise items.wrong("sample", "one axis that turns", str(names))
    # None turns: an axis with a setting for each image, else the one that has a width.
    listed = [i for i, axis in enumerate(chain) if axis.values.size > 1]
    widths = [i for i, axis in enumerate(chain) if _width_item(items, axis) is not None]
    index = next(iter([*moving, *listed, *widths]), len(chain) - 1)
    scanned = chain[index]
    goniometer = Goniometer.from_axes(
        [axis.vector for axis in chain], [axis.value for axis in chain], index
    )
    start = scanned.values
    if start.size == 1:
        start = np.full(_image_count(items), start[0])
    return goniometer, start, _widths(items, scanned, start)


def _width_item(items: NexusItems, axis: Axis) -> h5py.Dataset | None:
    """Where a file says how far an axis turns in an image."""
    names = [f"{axis.name}_{end}" for end in ("end", "increment_set", "range_average")]
    found = items.get(items.file, *names) if axis.name else None
    return found if isinstance(found, h5py.Dataset) else None


def _widths(items: NexusItems, axis: Axis, start: FloatArray) -> FloatArray:
    item = _width_item(items, axis)
    if item is None:
        steps = np.diff(start)
        return np.append(steps, steps[-1]) if steps.size else np.zeros(1)
    values = items.numbers(item, "angle")
    if values.size not in (1, start.size):
        raise items.wrong(item.name, f"one number or {start.size}", str(values.size))
    if item.name.endswith("_end"):
        values = values - start
    return np.broadcast_to(values, start.shape).astype(np.float64)


def _image_count(items: NexusItems) -> int:
    """How many images the file has, where no axis has an angle for each."""
    return sum(len(dataset) for dataset in image_datasets(items.file, items.path))
