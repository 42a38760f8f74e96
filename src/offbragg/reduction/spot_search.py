"""Where the Bragg spots of a sweep are: their shape, from a sample of its images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from offbragg.errors import InputError
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.hot_pixels import sample_images
from offbragg.reduction.image_tasks import ImageTask
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.reduction.spot_fit import fit_spot_shape
from offbragg.reduction.spot_mask import SpotMask
from offbragg.reduction.spot_pixels import SpotPixels, pixels_of_spots
from offbragg.runtime import map_in_order

logger = logging.getLogger(__name__)

# Pixels around nodes, in all images that are looked at, 24 bytes each. It is as many images as have
# twice that: what a short series of large images takes is not to be spent on looking at them.
_MOST_PIXELS = 2_500_000
_FEWEST_SAMPLED, _MOST_SAMPLED = 10, 60
# Where spheres will do, on few images (which show spots in slices, and those of three images of one
# crystal differed by half) and for spots that reach half of the way to the next.
_FEWEST_IMAGES, _LONGEST_REACH = 5, 0.5


def search_spots(
    load: Callable[[ImageTask], tuple[Float32Array, ...]],
    tasks: Sequence[ImageTask],
    tables: Sequence[PixelTable],
    experiment: Experiment,
    options: MapOptions,
) -> SpotMask | None:
    """Fit the shape of spots to images spread through a sweep, and say where spots are.

    Parameters
    ----------
    load : callable
        Gives the photons of an image, one array a panel.
    tasks : sequence of ImageTask
        All images of the sweep.
    tables : sequence of PixelTable
        One a panel.
    experiment : Experiment
    options : MapOptions

    Returns
    -------
    SpotMask or None
        None where no shape is found and the options do not insist on one.

    Raises
    ------
    InputError
        As `fit_spot_shape` and `SpotMask`, with the sweep's number, where they insist.
    """
    number, insists = tasks[0].experiment, options.bragg_shape == "fitted"
    if not insists and len(tasks) < _FEWEST_IMAGES:
        return None
    crystal = experiment.crystal
    try:
        shape = fit_spot_shape(_sample(load, tasks, tables, experiment, options), crystal.cell)
        mask = SpotMask(
            crystal.cell, crystal.space_group, shape, options.bragg_sigmas, options.d_min,
            options.bragg == "only",
        )  # fmt: skip
        if not insists and mask.index_reach > _LONGEST_REACH:
            raise InputError(
                f"spots of {shape} reach {mask.index_reach:.2f} of the way to the next"
            )
    except InputError as error:
        if insists:
            message = f"sweep {number}: {error}; give a radius, bragg_shape 'sphere'"
            raise InputError(message) from None
        logger.info("sweep %d: %s: spheres are taken for them", number, error)
        return None
    logger.info("sweep %d: spot shape: %s", number, shape)
    return mask


def _sample(
    load: Callable[[ImageTask], tuple[Float32Array, ...]],
    tasks: Sequence[ImageTask],
    tables: Sequence[PixelTable],
    experiment: Experiment,
    options: MapOptions,
) -> SpotPixels:
    """Collect pixels around nodes, of some images."""
    ordered = sorted(tasks, key=lambda task: task.image)
    n_of_image = sum(len(table.factors) for table in tables)
    n_images = int(np.clip(2 * _MOST_PIXELS // n_of_image, _FEWEST_SAMPLED, _MOST_SAMPLED))
    some = [ordered[index] for index in sample_images(len(ordered), n_images)]
    fraction = _MOST_PIXELS / (len(some) * n_of_image)
    is_still = options.is_still(some[0].experiment)

    def pixels(task: ImageTask) -> SpotPixels:
        return pixels_of_spots(
            tables, load(task), experiment, task.image, d_min=options.d_min,
            fraction=fraction, stills=is_still,
        )  # fmt: skip

    return SpotPixels.joined(list(map_in_order(pixels, some, options.n_workers)))
