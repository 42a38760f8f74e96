"""Images of a known map, disturbed as measurements are: by beam, absorption, detector, air, ice.

Photons are lost with a probability, so that what is left is Poisson's as well; others are added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from offbragg.reduction.experiment import Experiment

Array = NDArray[Any]
# Of the rings in which factors are brought to one geometric mean [Å⁻¹].
_RING = 0.01
# Of a panel, along both axes, in `uneven_chips`.
CHIPS = (2, 2)
# Where sharp powder rings of hexagonal ice are, and how wide [Å].
ICE, ICE_WIDTH = (3.90, 3.67, 3.44), 0.012


@dataclass(frozen=True, eq=False)
class Pixels:
    """Where each pixel of a detector looks.

    Attributes
    ----------
    away : ndarray, shape (*image, 3)
        Scattered less incident direction.
    inv_d : ndarray, shape image
        Resolution [Å⁻¹].
    """

    away: Array
    inv_d: Array

    @classmethod
    def of(cls, experiment: Experiment) -> Pixels:
        """Of all panels, which must be of one size."""
        positions = np.stack([panel.pixel_positions() for panel in experiment.detector])
        rays = positions / np.linalg.norm(positions, axis=-1, keepdims=True)
        away = rays - experiment.beam.direction
        return cls(away, np.linalg.norm(away, axis=-1) / experiment.beam.wavelength)


def drifting_beam(pixels: Pixels, turned: float) -> Array:
    """± 25 % along the sweep; logarithm."""
    return np.full(pixels.inv_d.shape, np.log(1 + 0.25 * np.sin(2 * turned + 0.5)))


def absorbing_crystal(pixels: Pixels, turned: float) -> Array:
    """Up to half of the photons lost, by the way in and by the way out; logarithm."""
    side = np.array([np.cos(turned), np.sin(turned), 0.3])
    path: Array = -0.17 * (1 + np.cos(2 * turned + 1.0)) - 0.6 * (pixels.away @ side)
    return path


def uneven_detector(pixels: Pixels, turned: float) -> Array:
    """A response that varies smoothly by ± 15 %; logarithm."""
    x, y = pixels.away[..., 0], pixels.away[..., 1]
    return np.log1p(0.15 * np.sin(7 * x + 1) * np.cos(6 * y - 0.5))


def uneven_chips(pixels: Pixels, turned: float) -> Array:
    """Four chips a panel that respond alike within a few per cent, see `CHIPS`; logarithm."""
    n_panels, rows, columns = pixels.inv_d.shape
    factors = np.random.default_rng(7).normal(0.0, 0.05, (n_panels, *CHIPS))
    return np.repeat(np.repeat(factors, rows // CHIPS[0], 1), columns // CHIPS[1], 2)


def air(pixels: Pixels, turned: float) -> Array:
    """Air that is seen more at some angles, of the mean intensity; 0 at the angle of least."""
    shape: Array = 0.6 * np.exp(-((pixels.inv_d / 0.25) ** 2))
    return shape * (1 + np.cos(2 * turned - 1.0)) / 2


def ice_rings(pixels: Pixels) -> Array:
    """Sharp powder rings, of the mean intensity: 1 on their circles."""
    d = 1 / np.maximum(pixels.inv_d, 1e-9)
    rings = [np.exp(-0.5 * ((d - at) / ICE_WIDTH) ** 2) for at in ICE]
    return np.sum(rings, axis=0)


def seen_fractions(
    experiment: Experiment, losses: list[Callable[[Pixels, float], Array]]
) -> NDArray[np.float32]:
    """Probabilities (n_images, *image) that a photon is counted; 0.9 at most.

    Equivalents are all at one resolution, so they cannot tell what depends on that alone: the
    geometric mean of each ring over all images is the same.
    """
    pixels = Pixels.of(experiment)
    angles = experiment.angles().mean(axis=1)
    logs = np.zeros((len(angles), *pixels.inv_d.shape), dtype=np.float32)
    for index, turned in enumerate(angles):
        for loss in losses:
            logs[index] += loss(pixels, float(turned))
    ring = (pixels.inv_d / _RING).astype(np.int64).ravel()
    members = np.maximum(np.bincount(ring), 1)
    means = np.bincount(ring, logs.mean(axis=0, dtype=np.float64).ravel()) / members
    centres = np.bincount(ring, pixels.inv_d.ravel()) / members
    has = np.bincount(ring) > 0
    smooth = np.interp(pixels.inv_d, centres[has], means[has])
    logs -= smooth.astype(np.float32)
    logs += np.float32(np.log(0.9) - logs.max())
    return np.exp(logs)


def write_images(
    experiment: Experiment,
    path: Path,
    change: Callable[[int, Array], Array],
) -> Experiment:
    """Write changed images of an experiment, by ``change(index, counts)``; refer to those."""
    with h5py.File(experiment.template) as old, h5py.File(path, "w") as new:
        images = old["entry/data/data"]
        made = new.create_dataset("entry/data/data", images.shape, np.uint32)
        for index in range(len(images)):
            made[index] = change(index, images[index].astype(np.int64))
    return experiment.with_images(path)
