"""The images of a map: which half each goes to, and what its counts are multiplied by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import FormatError, InputError
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.image_factors import (
    read_image_factors,
    relative_exposures,
    relative_flux,
)
from offbragg.reduction.options import MapOptions

_BLOCKS = 20  # contiguous runs of images that are drawn into one half or the other


@dataclass(frozen=True)
class ImageTask:
    """One image of one experiment, its scale, and the half that it goes to."""

    experiment: int
    image: int
    half: int
    scale: float = 1.0


def list_tasks(
    experiments: Sequence[Experiment], options: MapOptions, rng: np.random.Generator
) -> list[ImageTask]:
    """List all images, with halves drawn by blocks, and what their counts are multiplied by.

    Raises
    ------
    FormatError, MissingFileError
        If the file of fluxes cannot be read, or does not fit the images.
    """
    every = [(e, i) for e, experiment in enumerate(experiments) for i in range(experiment.n_images)]
    halves = draw_halves(len(every), rng)
    scales = 1.0 / _relative_doses(experiments, options)
    return [
        ImageTask(e, i, int(half), float(scale))
        for (e, i), half, scale in zip(every, halves, scales, strict=True)
        if np.isfinite(scale)
    ]


def _relative_doses(experiments: Sequence[Experiment], options: MapOptions) -> FloatArray:
    """What the counts of each image are divided by; NaN where it is to be left out."""
    doses = np.ones(sum(experiment.n_images for experiment in experiments))
    if "exposure" in options.corrections:
        times = relative_exposures([experiment.scan.exposure_times for experiment in experiments])
        doses *= np.concatenate(
            [
                np.ones(experiment.n_images) if some is None else some
                for experiment, some in zip(experiments, times, strict=True)
            ]
        )
    file = options.file_of("flux")
    if file is not None:
        numbers = [n for experiment in experiments for n in experiment.image_numbers.tolist()]
        try:
            doses *= relative_flux(read_image_factors(file, numbers))
        except InputError as error:
            raise FormatError(f"{file}: {error}") from None
    return doses


def draw_halves(n_images: int, rng: np.random.Generator) -> IntArray:
    """Draw which half, 0 or 1, each image (n_images,) goes to, by contiguous blocks.

    There are twenty blocks or a few more, as many of them in either half; fewer images than that
    are drawn singly.
    """
    block = np.arange(n_images) // max(1, n_images // _BLOCKS)
    n_blocks = int(block[-1]) + 1
    half_of_block = rng.permutation(np.arange(n_blocks) % 2)
    drawn: IntArray = half_of_block[block].astype(np.int64)
    return drawn


def in_batches(
    experiments: Sequence[Experiment], tasks: Sequence[ImageTask]
) -> list[list[ImageTask]]:
    """Group tasks in order by what shares beam and detector, so one table serves them all."""

    def shared(task: ImageTask) -> tuple[int, int]:
        experiment = experiments[task.experiment]
        return id(experiment.beam), id(experiment.detector)

    return [list(batch) for _, batch in groupby(tasks, key=shared)]
