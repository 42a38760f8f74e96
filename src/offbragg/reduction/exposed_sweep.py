"""What an experiment expects to count from a map, image by image, before scale and noise."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction._expose_kernels import add_mean_along_arc
from offbragg.reduction.corrections import correction_factor, mean_solid_angle
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.image_factors import relative_exposures
from offbragg.reduction.nxmx import image_shape

logger = logging.getLogger(__name__)

#: Orientations within an image are at most this far apart on the detector [voxels].
ARC_STEP = 0.25


@dataclass(frozen=True)
class ExposedSweep:
    """An experiment, ready to be exposed to a map.

    Attributes
    ----------
    experiment : Experiment
    values : ndarray, shape (n_h, n_k, n_l), float32
        The map, without NaN.
    first_index, sampling : ndarray, shape (3,)
        Of the map's grid: index = hkl · sampling − first_index.
    directions : tuple of ndarray, shape (n_pixels, 3)
        Unit vectors to the pixels, panel after panel; one array for each point in the pixel.
    efficiency : ndarray, shape (n_pixels,)
        ΔΩ/ΔΩ₀ · P · A · T: solid angle, polarisation, sensor, air.
    exposures : ndarray, shape (n_images,)
        Of each image, over the mean of all.
    n_rotation : int
        Orientations averaged in each image.
    """

    experiment: Experiment
    values: NDArray[np.float32]
    first_index: FloatArray
    sampling: FloatArray
    directions: tuple[FloatArray, ...]
    efficiency: FloatArray
    exposures: FloatArray
    n_rotation: int = 1

    def expected_counts(self, image_index: int) -> tuple[FloatArray, bool]:
        """Expected counts (n_pixels,) at scale 1, and whether any mean of the map was below 0."""
        orientations = [
            self.index_transform(image_index, (turn + 0.5) / self.n_rotation)
            for turn in range(self.n_rotation)
        ]
        matrices = np.array([matrix for matrix, _ in orientations])
        vectors = np.array([vector for _, vector in orientations])
        mean = np.zeros(len(self.efficiency))
        for points in self.directions:
            weight = 1.0 / len(self.directions)
            add_mean_along_arc(self.values, points, matrices, vectors, weight, mean)
        has_negative = bool(mean.min() < 0)
        np.maximum(mean, 0.0, out=mean)
        return mean * self.efficiency * self.exposures[image_index], has_negative

    def index_transform(self, image_index: int, fraction: float) -> tuple[FloatArray, FloatArray]:
        """Matrix (3, 3) and vector (3,) with index in the map = matrix · p/|p| − vector."""
        matrix, vector = self.experiment.hkl_transform(image_index, fraction)
        return self.sampling[:, None] * matrix, self.sampling * vector + self.first_index


def make_sweeps(
    experiments: Sequence[Experiment],
    diffuse_map: DiffuseMap,
    n_pixel: int = 1,
    n_rotation: int | None = None,
) -> list[ExposedSweep]:
    """Work out once what all images of an experiment share.

    Parameters
    ----------
    experiments : sequence of Experiment
        ΔΩ₀ is the mean solid angle of a pixel of the first.
    diffuse_map : DiffuseMap
        Voxels without a value count as 0; that is logged, once.
    n_pixel : int
        Points averaged along each edge of a pixel.
    n_rotation : int or None
        Orientations averaged in each image; None: no further apart than `ARC_STEP`.

    Raises
    ------
    InputError
        If the panels of an experiment differ in size.
    """
    for experiment in experiments:
        image_shape(experiment)  # refuse before any work
    values = _filled(diffuse_map)
    reference = mean_solid_angle(experiments[0].detector)
    exposures = relative_exposures([one.scan.exposure_times for one in experiments])
    offsets = (np.arange(n_pixel) + 0.5) / n_pixel
    sweeps = []
    for experiment, exposure in zip(experiments, exposures, strict=True):
        efficiency = [
            1.0 / correction_factor(panel, experiment.beam, reference=reference).ravel()
            for panel in experiment.detector
        ]
        sweep = ExposedSweep(
            experiment=experiment,
            values=values,
            first_index=diffuse_map.grid.first_index.astype(np.float64),
            sampling=np.array(diffuse_map.grid.sampling, dtype=np.float64),
            directions=tuple(_directions(experiment, x, y) for y in offsets for x in offsets),
            efficiency=np.concatenate(efficiency),
            exposures=np.ones(experiment.n_images) if exposure is None else exposure,
        )
        chosen = _count_orientations(sweep) if n_rotation is None else n_rotation
        sweeps.append(replace(sweep, n_rotation=chosen))
    return sweeps


def _directions(experiment: Experiment, fast_offset: float, slow_offset: float) -> FloatArray:
    """Unit vectors (n_pixels, 3) to a point in every pixel of all panels."""
    positions = np.concatenate(
        [
            panel.pixel_positions(fast_offset, slow_offset).reshape(-1, 3)
            for panel in experiment.detector
        ]
    )
    unit: FloatArray = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    return unit


def _count_orientations(sweep: ExposedSweep) -> int:
    """How many orientations of the widest image keep a pixel's steps within ARC_STEP."""
    widest = int(np.argmax(np.abs(sweep.experiment.scan.oscillation_width)))
    some = np.linspace(0, len(sweep.efficiency) - 1, 1000).astype(np.int64)
    steps = []
    for fraction in np.linspace(0.0, 1.0, 9):
        matrix, vector = sweep.index_transform(widest, float(fraction))
        steps.append(sweep.directions[0][some] @ matrix.T - vector)
    lengths = np.linalg.norm(np.diff(steps, axis=0), axis=2).sum(axis=0)
    return max(1, int(np.ceil(lengths.max() / ARC_STEP)))


def _filled(diffuse_map: DiffuseMap) -> NDArray[np.float32]:
    """Give the map's values with 0 for those it has not, and say so once."""
    missing = ~diffuse_map.measured
    if missing.any():
        n_within = int(np.count_nonzero(missing & diffuse_map.grid.within()))
        level = logging.WARNING if n_within else logging.INFO
        text = "map: %d of %d voxels have no value and count as 0, %d of them within d_min"
        logger.log(level, text, np.count_nonzero(missing), missing.size, n_within)
    return np.where(missing, 0.0, diffuse_map.intensity).astype(np.float32)
