"""The command that tells what a file holds: info."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from offbragg.cli.console import Outcome
from offbragg.cli.options import Common
from offbragg.cli.tables import map_figures
from offbragg.errors import FormatError, InputError, OffbraggError
from offbragg.maps.io import read_map
from offbragg.reduction.experiment import Experiment, read_crystal, read_experiments
from offbragg.reduction.image_geometry import ImageGeometry
from offbragg.reduction.image_reader import is_image, read_image_geometry, read_start
from offbragg.reduction.xds import is_xds_geometry

logger = logging.getLogger(__name__)


def info(file: Path, /, *, common: Common | None = None) -> Outcome:
    """Tell what a map file, an experiment list, geometry of XDS or the header of images holds.

    Parameters
    ----------
    file
        Map file, .expt, XPARM.XDS or INTEGRATE.HKL, image, or template of images with #.
    """
    start = read_start(file) if file.is_file() else b""
    if is_xds_geometry(start):
        return _experiments(_of_xds(file))
    if file.suffix in (".expt", ".json"):
        return _experiments(read_experiments(file))
    if "#" in file.name or (is_image(start) and not _is_map(file)):
        figures = _geometry(read_image_geometry(file))
    else:
        try:
            figures = map_figures(read_map(file))
        except OffbraggError as error:
            raise InputError(
                f"{error} (info reads maps, .expt files, geometry of XDS and images)"
            ) from None
    summary = [(name.replace("_", " "), str(value)) for name, value in figures.items()]
    return Outcome(figures, {}, "", [("", ("file", ""), summary)])


def _of_xds(file: Path) -> tuple[Experiment, ...]:
    """The experiment of XDS; of one image where nothing says how many there are."""
    try:
        return read_experiments(file)
    except FormatError as error:
        if "image numbers" not in str(error):
            raise
        logger.warning("%s, shown is one image", error)
        return (read_crystal(file),)


def _experiments(experiments: tuple[Experiment, ...]) -> Outcome:
    rows = []
    for number, experiment in enumerate(experiments):
        figures = {
            "experiment": number,
            "n_images": experiment.n_images,
            "n_panels": len(experiment.detector),
            "wavelength": experiment.beam.wavelength,
            "space_group": experiment.crystal.space_group,
            "cell": list(experiment.crystal.cell),
            "template": str(experiment.template),
        }
        rows.append(figures)
    table = [tuple(str(value) for value in row.values()) for row in rows]
    return Outcome({"experiments": rows}, {}, "", [("", list(rows[0]), table)])


def _geometry(found: ImageGeometry) -> dict[str, Any]:
    """Figures of the geometry in the headers of images."""
    scan, panel = found.scan, found.detector[0]
    axis = found.goniometer.setting_rotation @ found.goniometer.rotation_axis
    return {
        "n_images": scan.n_images,
        "image_range": list(scan.image_range),
        "angle_start_deg": _round(np.degrees(scan.oscillation_start[0])),
        "angle_width_deg": _round(np.degrees(scan.oscillation_width[0])),
        "wavelength": float(found.beam.wavelength),
        "beam_direction": _rounded(found.beam.direction),
        "polarization_fraction": float(found.beam.polarization_fraction),
        "rotation_axis": _rounded(axis),
        "n_panels": len(found.detector),
        "image_size": [int(n) for n in panel.image_size],
        "pixel_size": [float(size) for size in panel.pixel_size],
        "origin": _rounded(panel.origin),
        "fast_axis": _rounded(panel.fast_axis),
        "slow_axis": _rounded(panel.slow_axis),
        "distance": _round(abs(float(panel.origin @ panel.normal))),
        "beam_centre": _beam_centre(found),
        "sensor_thickness": float(panel.thickness),
        "template": found.template,
    }


def _beam_centre(found: ImageGeometry) -> list[float] | None:
    """Where the beam meets the plane of the first panel [pixels]; None if it does not."""
    panel = found.detector[0]
    frame = np.stack([panel.fast_axis, panel.slow_axis, -found.beam.direction], axis=1)
    if abs(np.linalg.det(frame)) < 1e-6:
        return None
    x, y, _ = np.linalg.solve(frame, -panel.origin)
    return [_round(x / panel.pixel_size[0]), _round(y / panel.pixel_size[1])]


def _round(value: float) -> float:
    return round(float(value), 6)


def _rounded(vector: Any) -> list[float]:
    return [_round(x) + 0.0 for x in vector]  # no −0


def _is_map(file: Path) -> bool:
    """Tell a map from images in HDF5; what cannot be opened is left to the reader of maps."""
    if not h5py.is_hdf5(file):
        return False
    try:
        with h5py.File(file, "r") as opened:
            return "offbragg_format_version" in opened.attrs
    except OSError:
        return True
