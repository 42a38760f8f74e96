"""The mask of a detector: what is excluded on all images, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offbragg.conventions import BoolArray
from offbragg.reduction.experiment import Experiment, Panel
from offbragg.reduction.hot_pixels import HotPixels
from offbragg.reduction.mask_shapes import parse_ring, read_mask_shapes, ring_mask, shapes_masks
from offbragg.reduction.masks import read_mask, rectangle_mask
from offbragg.reduction.options import MaskOptions
from offbragg.reduction.panel_arrays import join_panels

#: Why pixels are excluded: rectangles of the experiment file, and the options of the same names.
REASONS = ("experiment", "file", "shapes", "rings", "hot", "dead")


@dataclass(frozen=True, eq=False)
class DetectorMask:
    """Excluded pixels of all panels, by reason; a pixel may have several.

    Attributes
    ----------
    detector : tuple of Panel
    reasons : mapping of str to tuple of ndarray, each of shape (slow, fast), bool
        One array a panel; keys among `REASONS`, those that were asked for.
    """

    detector: tuple[Panel, ...]
    reasons: Mapping[str, tuple[BoolArray, ...]]

    @property
    def excluded(self) -> tuple[BoolArray, ...]:
        """All together, one (slow, fast) a panel."""
        masks = tuple(np.zeros(panel.shape, dtype=bool) for panel in self.detector)
        for given in self.reasons.values():
            for mask, more in zip(masks, given, strict=True):
                np.logical_or(mask, more, out=mask)
        return masks

    @property
    def counts(self) -> dict[str, int]:
        """Number of pixels by reason."""
        return {
            reason: sum(int(np.count_nonzero(mask)) for mask in masks)
            for reason, masks in self.reasons.items()
        }

    def with_hot_pixels(self, found: HotPixels) -> DetectorMask:
        """Add what was found from the images."""
        return DetectorMask(self.detector, {**self.reasons, "hot": found.hot, "dead": found.dead})


def static_mask(experiment: Experiment, options: MaskOptions) -> DetectorMask:
    """Gather what is known without looking at images: rectangles, file, shapes, rings.

    Raises
    ------
    InputError, FormatError, MissingFileError
        If a file cannot be read or does not fit the detector.
    """
    detector = experiment.detector
    reasons = {"experiment": tuple(rectangle_mask(panel) for panel in detector)}
    if options.mask is not None:
        reasons["file"] = read_mask(options.mask, detector)
    if options.mask_shapes is not None:
        reasons["shapes"] = shapes_masks(read_mask_shapes(options.mask_shapes), detector)
    if options.mask_rings:
        rings = [parse_ring(text) for text in options.mask_rings]
        reasons["rings"] = tuple(ring_mask(panel, experiment.beam, rings) for panel in detector)
    return DetectorMask(detector, reasons)


def write_mask(path: str | Path, mask: DetectorMask) -> None:
    """Write the mask as ``.npy``, True = excluded, as `masks.read_mask` reads it again."""
    with Path(path).open("wb") as stream:
        np.save(stream, join_panels(mask.excluded, mask.detector), allow_pickle=False)
