r"""A map to detector images: what an experiment would count, were the map the truth.

A pixel of an image expects

.. math:: c = s\; t\; \frac{\Delta\Omega}{\Delta\Omega_0}\, P\, A\, T\; \bar I + t B

with Ī the mean of the map over the arc that the pixel sweeps (trilinear in the map; no value
counts as 0), ΔΩ₀ the mean solid angle of a pixel of the first experiment, P, A and T polarisation,
sensor absorption and the air between, t the exposure of the image over the mean exposure, and B a
flat background. The scale s is such that the first term has the mean asked for. Counts are Poisson
numbers. Bragg peaks are there as far as the map has them.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from offbragg.crystal.cell import check_cells_agree
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.cbf_writer import check_mini_cbf
from offbragg.reduction.corrections import mean_solid_angle
from offbragg.reduction.dials_writer import write_experiments
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.exposed_files import (
    SUFFIXES,
    as_made,
    create_images,
    output_names,
    pixel_type,
)
from offbragg.reduction.exposed_sweep import ExposedSweep, make_sweeps
from offbragg.reduction.nxmx import image_shape
from offbragg.runtime import SILENT, Progress, map_in_order

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExposeOptions:
    """How images are made from a map.

    Attributes
    ----------
    photons : float
        Photons per pixel from the map, the mean over all pixels of all images.
    background : float
        Photons per pixel on top, the same in every pixel before the noise; the mean over images
        where exposure times differ.
    n_rotation : int or None
        Orientations averaged in each image. None: as many as keep them a quarter of a voxel apart
        everywhere on the detector. 1: the middle of each image.
    n_pixel : int
        Points averaged along each edge of a pixel.
    noise : bool
        Poisson counts (uint16, or uint32 for bright images); else the expectation, float32.
    format : str
        ``"nxmx"``: one HDF5 file an experiment. ``"cbf"``: one mini-CBF an image, int32, for a
        panel across the beam with the rotation axis along its fast axis, and for counts alone.
    overwrite : bool
        Replace images and experiments of an earlier run in the same folder.
    n_workers : int or None
        Threads; None: all processors. The images do not depend on it.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    photons: float
    background: float = 0.0
    n_rotation: int | None = None
    n_pixel: int = 1
    noise: bool = True
    format: Literal["nxmx", "cbf"] = "nxmx"
    overwrite: bool = False
    n_workers: int | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.photons) and self.photons > 0):
            raise InputError(f"photons must be > 0 a pixel, got {self.photons}")
        if not (np.isfinite(self.background) and self.background >= 0):
            raise InputError(f"background must be >= 0 photons a pixel, got {self.background}")
        for name in ("n_rotation", "n_pixel", "n_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be >= 1, got {value}")
        if self.format not in SUFFIXES:
            raise InputError(f"format must be one of {', '.join(SUFFIXES)}, got {self.format!r}")
        if self.format == "cbf" and not self.noise:
            raise InputError("format must be nxmx without noise: CBF images hold whole numbers")


@dataclass(frozen=True)
class ExposeResult:
    """What was written.

    Attributes
    ----------
    experiments : Path
        The ``.expt`` file.
    images : tuple of Path
        One NXmx file an experiment, or a template with ``#`` for the numbers of CBF files.
    scale : float
        Photons per map unit (usually e² per cell) in a pixel of solid angle ΔΩ₀ that loses
        nothing: what a map reduced from the images is in units of the map that was given.
    solid_angle : float
        ΔΩ₀ [sr].
    mean_counts : float
        Mean of all pixels written: near ``photons + background``.
    n_pixels : int
        Pixels written, of all images.
    n_rotation : tuple of int
        Orientations averaged in each image, by experiment.
    """

    experiments: Path
    images: tuple[Path, ...]
    scale: float
    solid_angle: float
    mean_counts: float
    n_pixels: int
    n_rotation: tuple[int, ...]


def expose(
    diffuse_map: DiffuseMap,
    experiments: Experiment | Sequence[Experiment],
    out_dir: str | Path,
    options: ExposeOptions,
    rng: np.random.Generator,
    progress: Progress = SILENT,
) -> ExposeResult:
    """Make the images of rotation experiments from a map, with Poisson noise.

    The map is taken by its hkl, trilinear between voxel centres; voxels without a value, and all
    beyond the grid, count as 0, and so does a mean below 0. The mean that ``photons`` asks for
    is the exact one: all images are gone through twice. Images come as NXmx files
    (`offbragg.reduction.nxmx`), ``exposed.h5`` or ``exposed_1.h5`` and so on for several
    experiments, beside ``exposed.expt``. The detector made has gain 1, pedestal 0 and a trusted
    range that ends short of the largest number of its pixels; masked pixels are exposed like the
    others. Images are numbered from 1 and refer to the new files; all other geometry is that of
    the experiments given. Readers of headers take a sensor to have parallax: give the panel
    ``parallax`` where the headers shall tell the same geometry as ``exposed.expt``.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    experiments : Experiment or sequence of Experiment
        Sharing one scale.
    out_dir : str or Path
        Made where it is missing.
    options : ExposeOptions
    rng : numpy.random.Generator
        Each image draws from a child of its own, so that the counts are the same for any number
        of threads.
    progress : Progress, optional

    Returns
    -------
    ExposeResult

    Raises
    ------
    InputError
        If the folder has such files already (unless ``overwrite``), the cells of map and crystal
        differ by more than 3 %, the panels of an experiment differ in size, the map is nowhere
        above 0 where the images reach, counts would not fit 32 bits (CBF: 31), or a CBF header
        cannot tell the geometry.

    Notes
    -----
    Memory: the map as float32, 24 n_pixel² bytes a pixel of the detector, and a few images.
    """
    several = (experiments,) if isinstance(experiments, Experiment) else tuple(experiments)
    if not several:
        raise InputError("experiments must hold at least one, got none")
    target, images = output_names(
        Path(out_dir), len(several), options.format, overwrite=options.overwrite
    )
    for experiment in several:
        if options.format == "cbf":
            check_mini_cbf(experiment)
        check_cells_agree(diffuse_map.cell, experiment.crystal.cell, "map and experiment")
    sweeps = make_sweeps(several, diffuse_map, options.n_pixel, options.n_rotation)

    progress.start("exposing", 2 * sum(sweep.experiment.n_images for sweep in sweeps))
    scale, brightest = _find_scale(sweeps, options, progress)
    dtype = pixel_type(brightest, options.format, noise=options.noise)
    target.parent.mkdir(parents=True, exist_ok=True)
    total, made = 0.0, []
    for sweep, path in zip(sweeps, images, strict=True):
        experiment = as_made(sweep.experiment, path.name, dtype)
        made_by = _provenance(options, scale)
        with create_images(path, experiment, dtype, made_by, options.format) as written:
            for index, counts in enumerate(_draw(sweep, scale, options, rng, dtype)):
                written[index] = counts
                total += float(counts.sum(dtype=np.float64))
                progress.step()
        made.append(experiment)
    write_experiments(target, made)
    n_pixels = sum(sweep.experiment.n_images * len(sweep.efficiency) for sweep in sweeps)
    return ExposeResult(
        experiments=target,
        images=images,
        scale=scale,
        solid_angle=mean_solid_angle(several[0].detector),
        mean_counts=total / n_pixels,
        n_pixels=n_pixels,
        n_rotation=tuple(sweep.n_rotation for sweep in sweeps),
    )


def _find_scale(
    sweeps: Sequence[ExposedSweep], options: ExposeOptions, progress: Progress
) -> tuple[float, float]:
    """Scale that gives the photons asked for, and the largest expected count at that scale."""
    total, brightest, n_pixels, n_negative = 0.0, 0.0, 0, 0
    for sweep in sweeps:
        n_images = sweep.experiment.n_images
        for counts, has_negative in map_in_order(
            sweep.expected_counts, range(n_images), options.n_workers
        ):
            total += float(counts.sum())
            brightest = max(brightest, float(counts.max()))
            n_pixels += counts.size
            n_negative += has_negative
            progress.step()
    if not total > 0:
        raise InputError("map must be above 0 somewhere that the images reach, got 0 everywhere")
    if n_negative:
        logger.warning("map: values below 0 count as 0, they are in %d images", n_negative)
    scale = options.photons * n_pixels / total
    exposure = max(float(sweep.exposures.max()) for sweep in sweeps)
    return scale, scale * brightest + options.background * exposure


def _draw(
    sweep: ExposedSweep,
    scale: float,
    options: ExposeOptions,
    rng: np.random.Generator,
    dtype: DTypeLike,
) -> Iterator[NDArray[np.generic]]:
    """Give the images in order, drawn in threads by a generator each."""
    experiment = sweep.experiment
    shape = image_shape(experiment)
    generators = rng.spawn(experiment.n_images)

    def draw(index: int) -> NDArray[np.generic]:
        background = options.background * sweep.exposures[index]
        expected = scale * sweep.expected_counts(index)[0] + background
        counts = generators[index].poisson(expected) if options.noise else expected
        image: NDArray[np.generic] = counts.reshape(shape).astype(dtype)
        return image

    return map_in_order(draw, range(experiment.n_images), options.n_workers)


def _provenance(options: ExposeOptions, scale: float) -> dict[str, str | float]:
    """What made the images, for the file."""
    return {
        "program": "offbragg",
        "version": importlib.metadata.version("offbragg"),
        "command": "expose",
        "options": json.dumps(asdict(options)),
        "scale": scale,
    }
