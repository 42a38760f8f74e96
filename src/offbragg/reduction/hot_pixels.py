r"""Hot and dead pixels, found from a sample of the images themselves.

A Bragg peak is in a pixel on some images, a hot pixel is hot on all. The images are added up in K
blocks, in their order, and of the block sums of each pixel the mean m and the lowest l are kept. A
pixel is **hot** if even its lowest block is above what surrounds it, that is the upper quartile μ
of the means of its 24 neighbours: above twice μ, above μ by the neighbours' own m − l, and beyond
Poisson's chance,

.. math:: P(\text{all } K \text{ blocks} \ge l) = P(\ge l\,|\,\mu)^K < \alpha .

It is **dead** (or weak) if its mean, peaks included, is below half the lower quartile ν of the
neighbours' lowest blocks, which are without peaks, and

.. math:: P(\le K m\,|\,K\nu) < \alpha .

Quartiles and not means, so that the steep edge of a beam stop's shadow is no find: a good pixel has
enough neighbours on its own side. Clusters of more than six such pixels are not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc

from offbragg.conventions import BoolArray, FloatArray
from offbragg.errors import InputError
from offbragg.reduction._hot_kernels import add_to_block, close_block, compare_with_neighbours

#: Images that are looked at, spread evenly, and the fewest that tell hot pixels from peaks.
SAMPLE, FEWEST = 100, 5
_BLOCKS = 10
_REACH = 2  # of the surroundings, to either side [pixels]
_FEWEST_NEIGHBOURS = 8


@dataclass(frozen=True, eq=False)
class HotPixels:
    """What was found.

    Attributes
    ----------
    hot, dead : tuple of ndarray, each of shape (slow, fast), bool
        One a panel.
    n_images : int
        That were looked at.
    """

    hot: tuple[BoolArray, ...]
    dead: tuple[BoolArray, ...]
    n_images: int

    @property
    def n_hot(self) -> int:
        """Number of hot pixels."""
        return sum(int(np.count_nonzero(mask)) for mask in self.hot)

    @property
    def n_dead(self) -> int:
        """Number of dead pixels."""
        return sum(int(np.count_nonzero(mask)) for mask in self.dead)


def sample_images(n_images: int, n_sample: int = SAMPLE) -> list[int]:
    """Choose images spread evenly over a sweep, in order; all where there are few.

    >>> sample_images(9, 3)
    [1, 4, 7]
    """
    n = min(n_images, n_sample)
    return [int((i + 0.5) * n_images / n) for i in range(n)]


def find_hot_pixels(
    images: Iterable[Sequence[NDArray[np.float32]]],
    n_images: int,
    *,
    ratio: float = 2.0,
    significance: float = 1e-8,
) -> HotPixels:
    """Find the pixels that count far more, or far less, than their surroundings on all images.

    Parameters
    ----------
    images : iterable of sequence of ndarray, shape (slow, fast), float32
        Photons, one array a panel, in the order of the sweep; NaN = excluded. They are gone
        through once and not kept: 20 bytes a pixel are.
    n_images : int
        How many there are; `FEWEST` at least.
    ratio : float
        Only pixels that differ from their surroundings by more than this factor are found.
    significance : float
        α, the chance that a good pixel is found.

    Returns
    -------
    HotPixels
        A pixel that is not good in three blocks at least, or has fewer than eight good
        neighbours, is not judged.

    Raises
    ------
    InputError
        If there are too few images, or ratio or significance are out of range.

    Notes
    -----
    Peaks can make a pixel look hot only where they reach it in every one of the ten blocks, and
    not its neighbours: the direct beam where nothing stops it, and over sweeps of a few tens of
    degrees broad peaks beside the rotation axis, which hardly move. A hot pixel of one photon an
    image is found beside pixels of 0.2, by 100 images; a dead one where its neighbours count some
    70 photons in all.

    Examples
    --------
    >>> images = np.random.default_rng(0).poisson(2.0, (60, 50, 60)).astype(np.float32)
    >>> images[:, 7, 8] += 30  # a hot pixel
    >>> images[:, 40, 9] = 0  # a dead one
    >>> images[3, 20:23, 30:33] += 90  # a Bragg peak
    >>> found = find_hot_pixels(([image] for image in images), len(images))
    >>> np.argwhere(found.hot[0]).tolist(), found.n_dead
    ([[7, 8]], 1)
    """
    if n_images < FEWEST:
        raise InputError(f"hot pixels need {FEWEST} images or more, got {n_images}")
    if not (ratio > 1 and 0 < significance < 1):
        raise InputError(
            f"ratio must be > 1 and significance 0 to 1, got {ratio:g} and {significance:g}"
        )
    # Blocks may differ by an image in length: the lowest is then lower, for all pixels alike.
    ends = set(np.linspace(0, n_images, min(_BLOCKS, n_images) + 1).round().astype(int).tolist())
    panels: list[_BlockSums] = []
    index = -1
    for index, image in enumerate(images):
        panels = panels or [_BlockSums.empty(panel.shape) for panel in image]
        for sums, photons in zip(panels, image, strict=True):
            add_to_block(photons.reshape(-1), sums.block, sums.broken)
            if index + 1 in ends:
                close_block(sums.block, sums.broken, sums.total, sums.lowest, sums.n_blocks)
    if index + 1 != n_images:
        raise InputError(f"images must be {n_images}, got {index + 1}")
    found = [_judge(sums, ratio, significance) for sums in panels]
    return HotPixels(tuple(hot for hot, _ in found), tuple(dead for _, dead in found), n_images)


@dataclass(frozen=True, eq=False)
class _BlockSums:
    """Sums (n_pixels,) of the block that is going on, and of those that are done."""

    shape: tuple[int, int]
    block: NDArray[np.float32]
    broken: BoolArray
    total: NDArray[np.float32]
    lowest: NDArray[np.float32]
    n_blocks: NDArray[np.int16]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> _BlockSums:
        n = shape[0] * shape[1]
        zeros = [np.zeros(n, dtype=np.float32) for _ in range(3)]
        return cls(
            shape, zeros[0], np.zeros(n, dtype=bool), zeros[1], zeros[2], np.zeros(n, np.int16)
        )


def _judge(sums: _BlockSums, ratio: float, significance: float) -> tuple[BoolArray, BoolArray]:
    """Compare the pixels of a panel with their surroundings: hot and dead (slow, fast)."""
    n_blocks = sums.n_blocks.reshape(sums.shape)
    judged = n_blocks >= 3
    mean = sums.total.reshape(sums.shape) / np.maximum(n_blocks, 1).astype(np.float32)
    lowest = sums.lowest.reshape(sums.shape)
    high, spread, low = (np.empty(sums.shape, dtype=np.float32) for _ in range(3))
    settings = (ratio, _REACH, _FEWEST_NEIGHBOURS)
    compare_with_neighbours(mean, lowest, judged, settings, high, spread, low)

    hot, dead = np.zeros(sums.shape, dtype=bool), np.zeros(sums.shape, dtype=bool)
    at = np.nonzero(np.isfinite(high))
    own, k = lowest[at].astype(np.float64), n_blocks[at].astype(np.float64)
    # A neighbour without any photon is taken to have had one.
    expected = np.maximum(high[at].astype(np.float64), 1 / k)
    above = (own > expected + spread[at]) & (own > ratio * expected)
    hot[at] = above & (_at_least(own, expected) ** k < significance)
    at = np.nonzero(np.isfinite(low))
    k = n_blocks[at].astype(np.float64)
    counted, expected = mean[at].astype(np.float64) * k, low[at].astype(np.float64) * k
    dead[at] = _at_most(counted, expected) < significance
    return hot, dead


def _at_least(count: FloatArray, expected: FloatArray) -> FloatArray:
    """P(N >= count) of Poisson numbers, between whole counts too; count > 0."""
    chance: FloatArray = gammainc(count, expected)
    return chance


def _at_most(count: FloatArray, expected: FloatArray) -> FloatArray:
    """P(N <= count) of Poisson numbers."""
    chance: FloatArray = gammaincc(np.maximum(count, 0.0) + 1.0, np.maximum(expected, 0.0))
    return chance
