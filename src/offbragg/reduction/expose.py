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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from offbragg.crystal.cell import check_cells_agree
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.corrections import mean_solid_angle
from offbragg.reduction.dials_writer import write_experiments
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.exposed_sweep import ExposedSweep, make_sweeps
from offbragg.reduction.nxmx import create_nxmx, image_shape
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


@dataclass(frozen=True)
class ExposeResult:
    """What was written.

    Attributes
    ----------
    experiments : Path
        The ``.expt`` file.
    images : tuple of Path
        One NXmx file an experiment.
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
    the experiments given.

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
        above 0 where the images reach, or counts would not fit 32 bits.

    Notes
    -----
    Memory: the map as float32, 24 n_pixel² bytes a pixel of the detector, and a few images.
    """
    several = (experiments,) if isinstance(experiments, Experiment) else tuple(experiments)
    if not several:
        raise InputError("experiments must hold at least one, got none")
    target, images = _output_names(Path(out_dir), len(several), options)
    for experiment in several:
        check_cells_agree(diffuse_map.cell, experiment.crystal.cell, "map and experiment")
    sweeps = make_sweeps(several, diffuse_map, options.n_pixel, options.n_rotation)

    progress.start("exposing", 2 * sum(sweep.experiment.n_images for sweep in sweeps))
    scale, brightest = _find_scale(sweeps, options, progress)
    dtype = _pixel_type(brightest, options)
    target.parent.mkdir(parents=True, exist_ok=True)
    total, made = 0.0, []
    for sweep, path in zip(sweeps, images, strict=True):
        experiment = _as_made(sweep.experiment, path.name, dtype)
        with create_nxmx(path, experiment, dtype, _provenance(options, scale)) as dataset:
            for index, counts in enumerate(_draw(sweep, scale, options, rng, dtype)):
                dataset[index] = counts
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


def _pixel_type(brightest: float, options: ExposeOptions) -> np.dtype[np.generic]:
    """Choose the smallest type that holds counts of an expectation, 10 standard deviations on."""
    if not options.noise:
        return np.dtype(np.float32)
    highest = brightest + 10.0 * np.sqrt(brightest) + 20.0
    for dtype in (np.dtype(np.uint16), np.dtype(np.uint32)):
        if highest < _largest_trusted(dtype):
            return dtype
    raise InputError(f"photons must give counts below 2^32, got {brightest:.3g} in a pixel")


def _largest_trusted(dtype: DTypeLike) -> float:
    """Largest good value: the last number of a detector's type often marks pixels without data."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return float(np.finfo(np.float32).max)
    return float(np.iinfo(kind).max - 1)


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


def _as_made(experiment: Experiment, template: str, dtype: DTypeLike) -> Experiment:
    """Describe the images made: numbered from 1, in one file, of an ideal counter."""
    n_images = experiment.n_images
    trusted = (-1.0, _largest_trusted(dtype))
    panels = tuple(
        replace(panel, gain=1.0, pedestal=0.0, trusted_range=trusted, raw_image_offset=None)
        for panel in experiment.detector
    )
    scan = replace(experiment.scan, image_range=(1, n_images))
    return replace(
        experiment,
        detector=panels,
        scan=scan,
        template=template,
        image_files=(),
        file_indices=tuple(range(n_images)),
        source="",
    )


def _output_names(
    out_dir: Path, n_experiments: int, options: ExposeOptions
) -> tuple[Path, tuple[Path, ...]]:
    """Paths of the experiment list and the images; refuses to replace files unless told to."""
    if n_experiments == 1:
        images: tuple[Path, ...] = (out_dir / "exposed.h5",)
    else:
        images = tuple(out_dir / f"exposed_{n}.h5" for n in range(1, n_experiments + 1))
    target = out_dir / "exposed.expt"
    there = [path for path in (target, *images) if path.exists()]
    if there and not options.overwrite:
        raise InputError(f"{there[0]}: exists; choose another folder, or overwrite")
    return target, images


def _provenance(options: ExposeOptions, scale: float) -> dict[str, str | float]:
    """What made the images, for the file."""
    return {
        "program": "offbragg",
        "version": importlib.metadata.version("offbragg"),
        "command": "expose",
        "options": json.dumps(asdict(options)),
        "scale": scale,
    }
