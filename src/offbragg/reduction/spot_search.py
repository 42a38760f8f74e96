"""The shape of a sweep's Bragg spots, from a sample of its images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from offbragg.errors import InputError
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.hot_pixels import sample_images
from offbragg.reduction.image_tasks import ImageTask
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.reduction.spot_fit import fit_spot_shape
from offbragg.reduction.spot_pixels import SpotPixels, pixels_of_spots
from offbragg.reduction.spot_shape import SpotShape
from offbragg.runtime import map_in_order

logger = logging.getLogger(__name__)

#: Images of a sweep that are looked at, and pixels in all of them, 24 bytes each.
SAMPLE, MOST_PIXELS = 60, 4_000_000


def search_spot_shape(
    load: Callable[[ImageTask], tuple[Float32Array, ...]],
    tasks: Sequence[ImageTask],
    tables: Sequence[PixelTable],
    experiment: Experiment,
    options: MapOptions,
) -> SpotShape:
    """Fit the shape of spots to images spread through a sweep.

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

    Raises
    ------
    InputError
        As `fit_spot_shape`, with the sweep's number.
    """
    ordered = sorted(tasks, key=lambda task: task.image)
    some = [ordered[index] for index in sample_images(len(ordered), SAMPLE)]
    number = some[0].experiment
    n_pixels = len(some) * sum(len(table.factors) for table in tables)

    def pixels(task: ImageTask) -> SpotPixels:
        return pixels_of_spots(
            tables, load(task), experiment, task.image, d_min=options.d_min,
            fraction=MOST_PIXELS / n_pixels, stills=options.is_still(number),
        )  # fmt: skip

    found = SpotPixels.joined(list(map_in_order(pixels, some, options.n_workers)))
    try:
        shape = fit_spot_shape(found, experiment.crystal.cell)
    except InputError as error:
        raise InputError(f"sweep {number}: {error}") from None
    logger.info("sweep %d: spot shape: %s", number, shape)
    return shape
