"""NXmx files: images and the part of the geometry that NeXus readers look for, in HDF5.

The file is in NeXus's own frame: z along the beam, y along the normal of its polarisation, at
right angles to it. It holds what an `Experiment` knows and nothing else, so the electronics of
the detector are left out; the sensor's material is that which absorbs so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import DTypeLike
from scipy.spatial.transform import Rotation

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.reduction.corrections import polarization_axis
from offbragg.reduction.experiment import Experiment, Panel
from offbragg.reduction.sensor import sensor_material

_OMEGA = "/entry/sample/transformations/omega"
_FIXED = "/entry/sample/transformations/fixed"


@contextmanager
def create_nxmx(
    path: str | Path,
    experiment: Experiment,
    dtype: DTypeLike,
    provenance: Mapping[str, str | float] | None = None,
) -> Iterator[h5py.Dataset]:
    """Create an NXmx file and give its dataset of images to be filled.

    ``/entry/data/data`` has the shape (n_images, slow, fast), or (n_images, n_panels, slow, fast)
    for several panels; bitshuffle and LZ4, one chunk an image.

    Parameters
    ----------
    path : str or Path
        Written under a temporary name; renamed when the block ends without an error, else
        removed.
    experiment : Experiment
        Its panels must all have one size.
    dtype : dtype
        Of the pixels.
    provenance : mapping of str to str or float, optional
        Written as an NXprocess: ``program``, ``version``, and what else there is to say.

    Yields
    ------
    h5py.Dataset

    Raises
    ------
    InputError
        If panels differ in size.
    """
    shape = image_shape(experiment)
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs["default"] = "entry"
            entry = _group(file, "entry", "NXentry", default="data")
            entry["definition"] = "NXmx"
            entry["start_time"] = datetime.now(UTC).isoformat(timespec="seconds")
            data = _group(entry, "data", "NXdata", signal="data")
            dataset = data.create_dataset(
                "data",
                shape=(experiment.n_images, *shape),
                dtype=dtype,
                chunks=(1, *shape),
                **hdf5plugin.Bitshuffle(cname="lz4"),
            )
            frame = _nexus_frame(experiment)
            _write_instrument(entry, experiment, frame, dataset)
            _write_sample(entry, experiment, frame)
            if provenance:
                process = _group(entry, "process", "NXprocess")
                for name, value in provenance.items():
                    process[name] = value
            yield dataset
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def image_shape(experiment: Experiment) -> tuple[int, ...]:
    """Shape of an image in a file: (slow, fast), or (n_panels, slow, fast) for several panels.

    Raises
    ------
    InputError
        If panels differ in size.
    """
    shapes = {panel.shape for panel in experiment.detector}
    if len(shapes) > 1:
        raise InputError(f"panels must all have one size, got (slow, fast) {sorted(shapes)}")
    n_panels = len(experiment.detector)
    return (n_panels, *shapes.pop()) if n_panels > 1 else shapes.pop()


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: str) -> h5py.Group:
    """Create a group of a NeXus class."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    group.attrs.update(attributes)
    return group


def _value(group: h5py.Group, name: str, value: object, units: str, **attributes: object) -> None:
    """Write a value with its units and attributes."""
    group[name] = value
    group[name].attrs["units"] = units
    group[name].attrs.update(attributes)


def _nexus_frame(experiment: Experiment) -> FloatArray:
    """Rows x, y, z (3, 3): turns a vector of the laboratory into NeXus's frame."""
    y, z = polarization_axis(experiment.beam), experiment.beam.direction
    return np.array([np.cross(y, z), y, z])


def _write_instrument(
    entry: h5py.Group, experiment: Experiment, frame: FloatArray, dataset: h5py.Dataset
) -> None:
    """Wavelength, and the panels as detector modules."""
    instrument = _group(entry, "instrument", "NXinstrument")
    beam = _group(instrument, "beam", "NXbeam")
    _value(beam, "incident_wavelength", float(experiment.beam.wavelength), "angstrom")
    # Stokes' I and Q: y is the normal of the plane of polarisation.
    beam["incident_polarization_stokes"] = [
        1.0,
        2 * experiment.beam.polarization_fraction - 1,
        0.0,
        0.0,
    ]
    detector = _group(instrument, "detector", "NXdetector")
    first = experiment.detector[0]
    detector["depends_on"] = "."
    detector["data"] = h5py.SoftLink(dataset.name)
    _value(detector, "x_pixel_size", first.pixel_size[0], "mm")
    _value(detector, "y_pixel_size", first.pixel_size[1], "mm")
    _value(detector, "distance", min(_distance(p) for p in experiment.detector), "mm")
    # The standard asks for both; a sensor that nobody knows absorbs at its surface.
    material = sensor_material(first.mu, experiment.beam.wavelength)
    detector["sensor_material"] = material or "Si"
    _value(detector, "sensor_thickness", first.thickness if material else 0.0, "mm")
    if np.isfinite(first.trusted_range[1]):
        detector["saturation_value"] = first.trusted_range[1]
    if experiment.scan.exposure_times is not None:
        times = experiment.scan.exposure_times
        _value(detector, "count_time", times, "s")
        if np.ptp(times) == 0:  # the standard has one frame_time for all; there is no dead time
            _value(detector, "frame_time", float(times[0]), "s")
    for index, panel in enumerate(experiment.detector):
        module = _group(detector, f"module_{index}", "NXdetector_module")
        several = len(experiment.detector) > 1
        module["data_origin"] = [index, 0, 0] if several else [0, 0]
        module["data_size"] = [1, *panel.shape] if several else list(panel.shape)
        _write_module(module, panel, frame)


def _distance(panel: Panel) -> float:
    """Distance [mm] of a panel's plane from the crystal."""
    return float(abs(panel.origin @ panel.normal))


def _write_module(module: h5py.Group, panel: Panel, frame: FloatArray) -> None:
    """Where a panel begins and how its axes run, as NeXus transformations."""
    length = float(np.linalg.norm(panel.origin))
    direction = panel.origin / length if length else np.array([0.0, 0.0, 1.0])
    steps = (
        ("module_offset", length, direction, "."),
        ("fast_pixel_direction", panel.pixel_size[0], panel.fast_axis, "module_offset"),
        ("slow_pixel_direction", panel.pixel_size[1], panel.slow_axis, "module_offset"),
    )
    for name, value, vector, parent in steps:
        _value(
            module,
            name,
            float(value),
            "mm",
            transformation_type="translation",
            vector=frame @ vector,
            offset=np.zeros(3),
            offset_units="mm",
            depends_on=parent if parent == "." else f"{module.name}/{parent}",
        )


def _write_sample(entry: h5py.Group, experiment: Experiment, frame: FloatArray) -> None:
    """Cell, space group, and the rotation of the crystal: S R(e, φ) F = R(S e, φ) S F."""
    sample = _group(entry, "sample", "NXsample")
    sample["unit_cell"] = np.array(experiment.crystal.cell)
    sample["space_group"] = experiment.crystal.space_group
    turns = _group(sample, "transformations", "NXtransformations")
    goniometer, scan = experiment.goniometer, experiment.scan
    start, width = np.degrees(scan.oscillation_start), np.degrees(scan.oscillation_width)
    axis = frame @ goniometer.setting_rotation @ goniometer.rotation_axis
    rotation = {"transformation_type": "rotation", "offset": np.zeros(3), "offset_units": "mm"}
    _value(turns, "omega", start, "deg", vector=axis, depends_on=".", **rotation)
    _value(turns, "omega_end", start + width, "deg")
    below = Rotation.from_matrix(
        frame @ goniometer.setting_rotation @ goniometer.fixed_rotation @ frame.T
    ).as_rotvec(degrees=True)
    angle = float(np.linalg.norm(below))
    turned = angle > 1e-9
    if turned:
        vector = below / angle
        _value(turns, "fixed", angle, "deg", vector=vector, depends_on=_OMEGA, **rotation)
    sample["depends_on"] = _FIXED if turned else _OMEGA
