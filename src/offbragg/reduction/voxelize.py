r"""Pixels to voxels: the mean of what the pixels of each voxel measured, and its variance.

.. math:: M = \frac{\sum_i w_i I_i}{\sum_i w_i},\qquad
          \mathrm{var} = \frac{\sum_i w_i^2\, c_i \kappa_i^2}{(\sum_i w_i)^2}

over the pixels i of a voxel, with I = c κ, c photons and κ the corrections. Every pixel has the
weight 1, or, where it is split over points of its area and of the rotation, the part of its points
in the voxel; never one that depends on its own count. The Poisson variances c κ² are summed as
they are, without a floor per pixel; where a voxel holds no photon at all, one photon with the mean
κ² of its pixels stands in for them. Sums are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.reduction._kernels import (
    N_SUMS,
    SUM_FACTOR,
    SUM_INTENSITY,
    SUM_VARIANCE,
    SUM_WEIGHT,
    WIDE,
    accumulate_pixels,
    accumulate_samples,
)
from offbragg.reduction.bragg_mask import BraggMask
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.pixel_table import Float32Array, PixelTable
from offbragg.reduction.spot_mask import SpotMask
from offbragg.runtime import iter_chunks

_NOTHING = np.empty(0, dtype=np.float32)
_VOXELS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Accumulator:
    """The sums of all voxels of a grid, over some of the images. One thread may add to it.

    Attributes
    ----------
    sums : ndarray, shape (n_voxels, 4 or 12), float64 or float32
        Σ w I, Σ w² c κ², Σ w² κ² and Σ w of each voxel, in the order of the grid; for a wedge also
        Σ w² κ, Σ w times the direction along two axes, what of Σ w² c κ² is not the photons' own,
        Σ w times how far pixels are from the voxel's centre, along its three edges, and the number
        of the first pixel's chip.
    counts : ndarray, shape (n_voxels,), int32
        Pixels that added to each voxel.
    touched, n_touched : ndarray, shapes (n_voxels,) and (1,), int64
        For a wedge: the voxels that have pixels, and how many they are.
    axes : ndarray, shape (2, 3), float64
        For a wedge: the two directions.
    """

    sums: NDArray[np.floating[Any]]
    counts: NDArray[np.int32]
    touched: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    n_touched: IntArray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    axes: FloatArray = field(default_factory=lambda: np.zeros((2, 3)))

    @classmethod
    def empty(cls, grid: HklGrid) -> Accumulator:
        """Start with nothing."""
        return cls(np.zeros((grid.size, N_SUMS)), np.zeros(grid.size, dtype=np.int32))

    @classmethod
    def of_wedge(cls, grid: HklGrid, axes: FloatArray) -> Accumulator:
        """Start with nothing, to keep what tells one wedge's pixels from another's.

        float32: a wedge adds some hundred pixels to a voxel at most.
        """
        return cls(
            np.zeros((grid.size, WIDE), dtype=np.float32), np.zeros(grid.size, dtype=np.int32),
            np.empty(grid.size, dtype=np.int64), np.zeros(1, dtype=np.int64), axes,
        )  # fmt: skip

    def arrays(self) -> tuple[Any, ...]:
        """Give the arrays that the compiled loops take."""
        return self.sums, self.counts, self.touched, self.n_touched, self.axes


@dataclass(frozen=True)
class Oversampling:
    """How finely a pixel is split: points along each of its sides, and through its rotation."""

    n_pixel: int = 1
    n_rotation: int = 1

    def __post_init__(self) -> None:
        for n in (self.n_pixel, self.n_rotation):
            if n < 1 or n != int(n):
                raise InputError(
                    f"oversample must be two whole numbers >= 1, got {self.n_pixel}, "
                    f"{self.n_rotation}"
                )

    @property
    def is_whole(self) -> bool:
        """Whether pixels are not split at all."""
        return self.n_pixel == 1 and self.n_rotation == 1

    def fractions(self) -> FloatArray:
        """Where in an image's rotation the points lie, (n_rotation,)."""
        return (np.arange(self.n_rotation) + 0.5) / self.n_rotation

    def offsets(self, steps: FloatArray) -> FloatArray:
        """Vectors (n_pixel², 3) [mm] of the points from a pixel's centre, by steps (2, 3)."""
        along = (np.arange(self.n_pixel) + 0.5) / self.n_pixel - 0.5
        fast, slow = np.meshgrid(along, along)
        points: FloatArray = fast.reshape(-1, 1) * steps[0] + slow.reshape(-1, 1) * steps[1]
        return points


@dataclass(frozen=True)
class VoxelRule:
    """How pixels go to voxels: the same for all images of a sweep.

    Attributes
    ----------
    grid : HklGrid
    bragg : BraggMask, SpotMask or None
        None: pixels near Bragg nodes are kept.
    oversampling : Oversampling
    kernel_arguments : tuple
        Grid and nodes as the compiled loops take them.
    """

    grid: HklGrid
    bragg: BraggMask | SpotMask | None = None
    oversampling: Oversampling = Oversampling()
    kernel_arguments: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        grid_arguments = (
            self.grid.first_index.astype(np.float64),
            np.array(self.grid.shape, dtype=np.int64),
            np.array(self.grid.sampling, dtype=np.float64),
        )
        bragg = self.bragg or BraggMask(self.grid.cell, "P 1", 0.0)
        arguments = (grid_arguments, bragg.kernel_arguments())
        object.__setattr__(self, "kernel_arguments", arguments)


def accumulate_image(
    accumulator: Accumulator,
    tables: Sequence[PixelTable],
    photons: Sequence[Float32Array],
    experiment: Experiment,
    image_index: int,
    rule: VoxelRule,
    *,
    stills: bool = False,
    scale: float = 1.0,
    excess: Sequence[Float32Array] | None = None,
) -> None:
    """Add the pixels of one image to the sums.

    Parameters
    ----------
    accumulator : Accumulator
        Changed in place.
    tables : sequence of PixelTable
        One a panel.
    photons : sequence of ndarray, shape (slow, fast), float32
        One a panel; NaN = excluded.
    experiment : Experiment
    image_index : int
        From 0.
    rule : VoxelRule
    stills : bool
        Whether the crystal stood still, at the image's middle angle.
    scale : float
        What all κ of this image are multiplied by.
    excess : sequence of ndarray, shape (slow, fast), float32, optional
        One a panel: what the variance of a pixel's photons exceeds them by, where a background has
        been subtracted from them.
    """
    middle = experiment.hkl_transform(image_index)
    sweep, fractions = (np.zeros((3, 3)), np.zeros(3)), np.full(1, 0.5)
    if not stills:
        begin = experiment.hkl_transform(image_index, 0.0)
        end = experiment.hkl_transform(image_index, 1.0)
        sweep = (end[0] - begin[0], end[1] - begin[1])
        fractions = rule.oversampling.fractions()
    transforms = [experiment.hkl_transform(image_index, float(f)) for f in fractions]
    matrices = np.stack([matrix for matrix, _ in transforms])
    vectors = np.stack([vector for _, vector in transforms])
    beyond = [_NOTHING] * len(tables) if excess is None else [x.reshape(-1) for x in excess]
    for table, panel_photons, more in zip(tables, photons, beyond, strict=True):
        of_pixels = (table.directions, table.factors, float(scale), more, table.chips)
        pixels = (panel_photons.reshape(-1), *of_pixels)
        rest: tuple[Any, ...] = ((middle, sweep), *rule.kernel_arguments, accumulator.arrays())
        if rule.oversampling.is_whole:
            rest = (table.bounds, *rest)
            accumulate_pixels(pixels, *rest)
        else:
            steps = rule.oversampling.offsets(table.steps)
            rest = (*rest, (steps, table.nearness, matrices, vectors))
            accumulate_samples(pixels, *rest)


@dataclass(frozen=True, eq=False)
class VoxelMeans:
    """Arrays of a map, each of the grid's shape; NaN (count: 0) where nothing was measured."""

    intensity: Float32Array
    sigma: Float32Array
    count: NDArray[np.int32]
    half_1: Float32Array
    half_2: Float32Array


def normalise(halves: tuple[Accumulator, Accumulator], grid: HklGrid) -> VoxelMeans:
    """Divide the sums of both halves, and of both together, by their weights.

    Parameters
    ----------
    halves : tuple of 2 Accumulator
    grid : HklGrid
        Voxels beyond its ``d_min`` are not part of the map.

    Returns
    -------
    VoxelMeans
    """
    inside = grid.within().reshape(-1)
    float32 = [np.full(grid.size, np.nan, dtype=np.float32) for _ in range(4)]
    count = np.zeros(grid.size, dtype=np.int32)
    for part in iter_chunks(grid.size, _VOXELS_AT_ONCE):
        ones, twos = (half.sums[part] for half in halves)
        n = halves[0].counts[part] + halves[1].counts[part]
        count[part] = np.where(inside[part], n, 0)
        means = (
            *_mean_and_sigma(ones + twos, n),
            *(_mean_and_sigma(x, n)[0] for x in (ones, twos)),
        )
        for out, values in zip(float32, means, strict=True):
            out[part] = np.where(inside[part], values, np.nan)
    intensity, sigma, half_1, half_2 = (values.reshape(grid.shape) for values in float32)
    return VoxelMeans(intensity, sigma, count.reshape(grid.shape), half_1, half_2)


def _mean_and_sigma(
    sums: NDArray[np.floating[Any]], n_pixels: NDArray[np.int32]
) -> tuple[FloatArray, FloatArray]:
    """Compute means and standard errors (n_voxels,); NaN where there is no weight."""
    weight = np.where(sums[:, SUM_WEIGHT] > 0, sums[:, SUM_WEIGHT], np.nan)
    # Without a photon (or with fewer than none, by a pedestal): one, of the mean κ².
    one_photon = sums[:, SUM_FACTOR] / np.maximum(n_pixels, 1)
    variance = np.where(sums[:, SUM_VARIANCE] > 0, sums[:, SUM_VARIANCE], one_photon)
    return sums[:, SUM_INTENSITY] / weight, np.sqrt(variance) / weight
