"""Images as photons: what the options say of a detector, made into tables and applied."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from offbragg.conventions import BoolArray, FloatArray
from offbragg.errors import InputError
from offbragg.reduction.chips import number_chips
from offbragg.reduction.detector_mask import DetectorMask, static_mask
from offbragg.reduction.experiment import Experiment, Panel
from offbragg.reduction.hot_pixels import FEWEST, HotPixels, find_hot_pixels, sample_images
from offbragg.reduction.images import open_sweeps
from offbragg.reduction.masks import mask_untrusted
from offbragg.reduction.options import MapOptions, MaskOptions
from offbragg.reduction.panel_arrays import Pixels
from offbragg.reduction.pixel_files import read_dark, read_flat_field
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.runtime import SILENT, Progress, map_in_order

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


def as_asked(experiments: Sequence[Experiment], options: MapOptions) -> tuple[Experiment, ...]:
    """Put what the options say of images and detectors into the experiments.

    Experiments that shared a detector share one afterwards.
    """
    if options.images is not None:
        experiments = [experiment.with_images(options.images) for experiment in experiments]

    def changed(panel: Panel) -> Panel:
        parallax = panel.parallax and "parallax" in options.corrections
        gain = panel.gain if options.gain is None else options.gain
        if (parallax, gain) == (panel.parallax, panel.gain):
            return panel
        return replace(panel, parallax=parallax, gain=gain)

    detectors = {
        id(experiment.detector): tuple(changed(panel) for panel in experiment.detector)
        for experiment in experiments
    }
    return tuple(
        replace(experiment, detector=detectors[id(experiment.detector)])
        for experiment in experiments
    )


def make_tables(
    experiment: Experiment, options: MapOptions, reference: float, mask: DetectorMask
) -> tuple[PixelTable, ...]:
    """Compute the tables of a detector's pixels, one a panel.

    Parameters
    ----------
    experiment : Experiment
        See `as_asked`.
    options : MapOptions
    reference : float
        Reference solid angle [sr].
    mask : DetectorMask

    Raises
    ------
    FormatError, MissingFileError
        If the dark image or the flat field cannot be read.
    """
    detector = experiment.detector
    chips = number_chips(detector, options.chips)
    darks: Sequence[FloatArray | None] = [None] * len(detector)
    flats: Sequence[FloatArray | None] = [None] * len(detector)
    file = options.file_of("dark")
    if file is not None:
        darks = read_dark(file, detector)
        _warn_of_pedestal(file, darks, detector)
    file = options.file_of("flat-field")
    if file is not None:
        flats = read_flat_field(file, detector)
    return tuple(
        PixelTable.of_panel(
            panel,
            experiment.beam,
            options.pixel_corrections,
            reference,
            excluded,
            air_fraction=options.air_fraction,
            flat_field=flat,
            dark=dark,
            chips=own,
        )
        for panel, excluded, flat, dark, own in zip(
            detector, mask.excluded, flats, darks, chips, strict=True
        )
    )


def _warn_of_pedestal(file: str, darks: Sequence[FloatArray], detector: tuple[Panel, ...]) -> None:
    """Warn where a dark image seems to have the pedestal in it, which is subtracted as well."""
    for dark, panel in zip(darks, detector, strict=True):
        median = float(np.nanmedian(dark)) if np.isfinite(dark).any() else 0.0
        if panel.pedestal > 0 and median >= panel.pedestal:
            logger.warning(
                "%s: its median of %g ADU is not below the pedestal of %g, which is subtracted "
                "besides: is the pedestal in it?", file, median, panel.pedestal,
            )  # fmt: skip
            return


def untrusted_pixels(
    images: Sequence[Pixels], detector: Sequence[Panel], options: MaskOptions
) -> tuple[BoolArray, ...]:
    """Mark the pixels of an image whose raw values cannot be right, one (slow, fast) a panel."""
    masks = []
    for panel, image in zip(detector, images, strict=True):
        low, high = panel.trusted_range
        if options.overload is not None:
            high = min(high, float(options.overload))
        masks.append(mask_untrusted(image, (low, high), options.overload_margin))
    return tuple(masks)


def to_photons(
    images: Sequence[Pixels],
    tables: Sequence[PixelTable],
    detector: Sequence[Panel],
    options: MaskOptions,
) -> tuple[Float32Array, ...]:
    """Turn the raw values of an image into photons; NaN where a pixel is not to be used."""
    untrusted = untrusted_pixels(images, detector, options)
    return tuple(
        table.photons(image, bad)
        for table, image, bad in zip(tables, images, untrusted, strict=True)
    )


def search_hot_pixels(
    load: Callable[[Item], tuple[Float32Array, ...]],
    items: Sequence[Item],
    n_workers: int | None = None,
) -> HotPixels | None:
    """Find hot and dead pixels from a sample of images; None, and a warning, if they are too few.

    Parameters
    ----------
    load : callable
        Gives the photons of an item, one array a panel.
    items : sequence
        All images that share a detector, in order.
    n_workers : int, optional
        Threads that load.
    """
    some = [items[index] for index in sample_images(len(items))] if items else []
    if len(some) < FEWEST:
        logger.warning(
            "hot pixels: not looked for, %d images of one detector are fewer than %d",
            len(some), FEWEST,
        )  # fmt: skip
        return None
    return find_hot_pixels(map_in_order(load, some, n_workers), len(some))


def compute_mask(
    experiments: Sequence[Experiment],
    options: MaskOptions,
    progress: Progress = SILENT,
) -> DetectorMask:
    """Compute what a map of these experiments leaves out on all images.

    Parameters
    ----------
    experiments : sequence of Experiment
        With detectors of the same panels; rings are those of the first.
    options : MaskOptions
    progress : Progress

    Returns
    -------
    DetectorMask

    Raises
    ------
    InputError
        If there is no experiment, or their detectors differ.
    FormatError, MissingFileError
        If a file or an image cannot be read.
    """
    if not experiments:
        raise InputError("experiments must be at least one, got none")
    first = experiments[0]
    shapes = [panel.shape for panel in first.detector]
    for number, other in enumerate(experiments):
        if [panel.shape for panel in other.detector] != shapes:
            raise InputError(f"experiment {number}: detector must be that of the first")
    mask = static_mask(first, options)
    if not options.hot_pixels:
        return mask
    if options.images is not None:
        experiments = [experiment.with_images(options.images) for experiment in experiments]
    tables = [
        PixelTable.of_panel(panel, first.beam, (), 1.0, excluded)
        for panel, excluded in zip(first.detector, mask.excluded, strict=True)
    ]
    every = [(e, i) for e, experiment in enumerate(experiments) for i in range(experiment.n_images)]
    progress.start("hot pixels", len(sample_images(len(every))))
    with open_sweeps(experiments, range(len(experiments))) as read:

        def load(item: tuple[int, int]) -> tuple[Float32Array, ...]:
            photons = to_photons(read(*item), tables, experiments[item[0]].detector, options)
            progress.step()
            return photons

        found = search_hot_pixels(load, every)
    return mask if found is None else mask.with_hot_pixels(found)
