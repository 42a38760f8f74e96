"""Experiments read from files: DIALS experiment lists, and the geometry files of XDS.

The objects themselves are described in `offbragg.reduction.sweep`; what a header of an image
holds, everything but the crystal, in `offbragg.reduction.image_reader`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.dials import (
    ExptFile,
    ImageNames,
    beam_from_dict,
    crystal_from_dict,
    detector_from_dict,
    goniometer_from_dict,
    imageset_from_dict,
    scan_from_dict,
)
from offbragg.reduction.geometry import Beam, CrystalModel, Goniometer, Scan
from offbragg.reduction.image_reader import is_image, read_image_geometry, read_start
from offbragg.reduction.panel import Panel
from offbragg.reduction.sweep import Experiment
from offbragg.reduction.xds import is_xds_geometry
from offbragg.reduction.xds_experiment import read_xds_experiment

__all__ = [
    "Beam",
    "CrystalModel",
    "Experiment",
    "Goniometer",
    "Panel",
    "Scan",
    "read_background",
    "read_crystal",
    "read_experiments",
]


def read_experiments(
    path: str | Path,
    images: str | Path | None = None,
    *,
    image_range: tuple[int, int] | None = None,
    xds_input: str | Path | None = None,
) -> tuple[Experiment, ...]:
    """Read a DIALS experiment list, or the geometry that XDS writes; the content decides.

    Of DIALS lists both layouts of the scan are read (``oscillation: [start, width]``, as DIALS
    wrote until 3.14 or so, and ``properties`` with a row an image), goniometers of one or several
    axes, detectors with groups of panels, and crystals, beams and settings that vary along the
    scan. Of XDS, XPARM.XDS and GXPARM.XDS in both their layouts and the headers of INTEGRATE.HKL
    and XDS_ASCII.HKL, with one or several detector segments; what these lack (image names and
    numbers, good values, excluded areas, sensor, polarisation) is read from XDS.INP.

    Parameters
    ----------
    path : str or Path
        An ``.expt`` file, or one of XDS.
    images : str or Path, optional
        Where the images are, if not where the file says (relative to itself): a template, a file,
        or a folder that holds files of the same names.
    image_range : tuple of 2 int, optional
        Numbers of the first and the last image of an XDS file, in place of DATA_RANGE.
    xds_input : str or Path, optional
        The XDS.INP of an XDS file; the one beside it if not given, should there be one.

    Returns
    -------
    tuple of Experiment
        One for XDS.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is none of these, or something in it is missing or wrong.
    InputError
        If ``image_range`` or ``xds_input`` is given for a DIALS list.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    start = read_start(path)
    if is_image(start):
        raise FormatError(
            f"{path}: expected a DIALS .expt file or geometry of XDS, found an image or a map, "
            "which hold no crystal (map --crystal and ImageGeometry.with_crystal join the two)"
        )
    if is_xds_geometry(start):
        experiments: tuple[Experiment, ...] = (
            read_xds_experiment(path, image_range=image_range, xds_input=xds_input),
        )
    elif image_range is not None or xds_input is not None:
        raise InputError(f"image_range and xds_input are for files of XDS, got {path}")
    else:
        file = ExptFile(path)
        experiments = tuple(_experiment(file, index) for index in range(len(file.experiments)))
    if images is None:
        return experiments
    return tuple(experiment.with_images(images) for experiment in experiments)


def read_crystal(path: str | Path) -> Experiment:
    """Read the one experiment of a file for its crystal; of XDS, image numbers are not needed.

    Its frame comes with it, so that `ImageGeometry.with_crystal` can turn the crystal into another.

    Raises
    ------
    FormatError
        If there are several, besides what `read_experiments` raises.
    """
    path = Path(path)
    of_xds = path.is_file() and is_xds_geometry(read_start(path))
    experiments = read_experiments(path, image_range=(1, 1) if of_xds else None)
    if len(experiments) > 1:
        raise FormatError(f"{path}: experiment: expected one crystal, found {len(experiments)}")
    return experiments[0]


def read_background(path: str | Path) -> tuple[Experiment, ...]:
    """Read sweeps without a crystal: an experiment list, with or without one, or an image.

    Their experiments have a crystal of 1 Å that means nothing.

    Raises
    ------
    MissingFileError, FormatError
        As `read_experiments` and `read_image_geometry`.
    """
    path = Path(path)
    if path.is_file() and path.suffix in (".expt", ".json"):
        file = ExptFile(path)
        numbers = range(len(file.experiments))
        return tuple(_experiment(file, index, needs_crystal=False) for index in numbers)
    return (read_image_geometry(path).with_crystal(_NO_CRYSTAL),)


def _experiment(file: ExptFile, index: int, *, needs_crystal: bool = True) -> Experiment:
    beam = file.build("beam", index, beam_from_dict)
    detector = file.build("detector", index, detector_from_dict)
    crystal = _NO_CRYSTAL
    if needs_crystal or file.model("crystal", index) is not None:
        crystal = file.build(
            "crystal", index, crystal_from_dict, missing="a crystal model (index the images first)"
        )
    images = ImageNames()
    if file.model("imageset", index) is not None:
        images = file.build("imageset", index, imageset_from_dict)
    scan = _still(len(images.files))
    if file.model("scan", index) is not None:
        scan = file.build("scan", index, scan_from_dict)
    goniometer = _NO_GONIOMETER
    if file.model("goniometer", index) is not None:
        goniometer = file.build("goniometer", index, goniometer_from_dict)
    elif np.any(scan.oscillation_width):
        raise file.wrong(f"experiment {index}: goniometer", "one, as the scan turns", "none")
    folder = file.path.resolve().parent
    paths = tuple(str(folder / name) for name in images.files)
    template = str(folder / images.template) if images.template else (paths or ("",))[0]
    fits = len(images.indices) == scan.n_images  # else one file is shared by several scans
    try:
        return Experiment(
            beam=beam,
            detector=detector,
            goniometer=goniometer,
            scan=scan,
            crystal=crystal,
            template=template,
            identifier=str(file.experiments[index].get("identifier", "")),
            file_indices=images.indices if fits else None,
            image_files=paths if len(paths) == scan.n_images > 1 else (),
            source=str(file.path),
        )
    except InputError as error:
        raise FormatError(f"{file.path}: experiment {index}: {error}") from None


_NO_CRYSTAL = CrystalModel(np.eye(3))
_NO_GONIOMETER = Goniometer(np.array([1.0, 0.0, 0.0]), np.eye(3), np.eye(3))


def _still(n_images: int) -> Scan:
    """Stills at angle 0, for an experiment that has no scan."""
    n_images = max(1, n_images)
    return Scan((1, n_images), np.zeros(n_images), np.zeros(n_images))
