"""Passages: what a voxel shows while it goes once through the Ewald sphere, as one observation.

Each wedge of images sees another slice of a voxel, and the intensity varies within it. Smooth
corrections of direction and angle can describe those slopes, and would: all together they are the
map's own smooth variation, which they flatten. Only a whole passage sees a voxel's mean, so
corrections are fitted to whole passages. Of stills there are none, each image is what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.reduction.scaling_model import ScalingData

# A passage goes on beyond images that are masked, for so long [degrees].
_LONGEST_GAP = 3.0
# Corrections vary during a longer passage: it is left out [degrees].
_LONGEST = 30.0
# How far the pixels of a whole passage are in the mean from the voxel's centre, at most [edges of a
# voxel]; further off the slope of the map shows. As much again as few pixels are off by chance.
_MOST_OFF, _BY_CHANCE = 0.05, 2.0 / np.sqrt(12.0)
# Where less than this part of all are whole passages or stills, the others are needed too.
_FEWEST = 0.1


def number_passages(
    voxel: IntArray, sweep: IntArray, angle: FloatArray, is_still: BoolArray
) -> IntArray:
    """Number (n,) of the passage that each observation belongs to, 0 … n_passages − 1.

    Parameters
    ----------
    voxel : ndarray, shape (n,), int64
    sweep : ndarray, shape (n,), int64
    angle : ndarray, shape (n,), float64
        Of its wedge [degrees].
    is_still : ndarray, shape (n,), bool
        Whether the crystal stood still: nothing passes, each is one by itself.

    Examples
    --------
    >>> voxel, angle = np.array([7, 7, 7, 8]), np.array([0.5, 1.5, 90.5, 1.5])
    >>> number_passages(voxel, 0 * voxel, angle, voxel == 0).tolist()
    [0, 0, 1, 2]
    """
    order = np.lexsort((angle, sweep, voxel))
    v, s, a = voxel[order], sweep[order], angle[order]
    begins = (np.diff(v) != 0) | (np.diff(s) != 0) | (np.diff(a) > _LONGEST_GAP)
    begins |= is_still[order][1:]
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.concatenate([[0], np.cumsum(begins)])
    return number


@dataclass(frozen=True, eq=False)
class Passages:
    """Observations of passages.

    Attributes
    ----------
    data : ScalingData
    is_whole : ndarray, shape (n,), bool
        Whether the pixels of each cover its voxel evenly, so that it shows the voxel's mean.
    is_still : ndarray, shape (n,), bool
    """

    data: ScalingData
    is_whole: BoolArray
    is_still: BoolArray

    def best(self) -> ScalingData:
        """What corrections are to be fitted to: whole passages and stills.

        All, where these are few, as of sweeps of some images.
        """
        used = self.is_whole | self.is_still
        if np.count_nonzero(used) < _FEWEST * len(used):
            return self.data
        return self.data.take(np.flatnonzero(used))


def join_passages(
    data: ScalingData,
    voxel: IntArray,
    weight: FloatArray,
    turn: FloatArray,
    offsets: Sequence[FloatArray],
) -> Passages:
    r"""Average the observations of each passage, ``Σ w I / Σ w``.

    Parameters
    ----------
    data : ScalingData
        With columns ``angle`` and ``sweep``, and maybe ``chip``.
    voxel : ndarray, shape (n,), int64
    weight : ndarray, shape (n,), float64
        Pixels of each observation, w.
    turn : ndarray, shape (n,), float64
        How far the crystal turned [degrees]: stills stay as they are.
    offsets : sequence of 3 ndarray, shape (n,), float64
        How far those pixels are, in the mean, from the voxel's centre, along its edges [of these].

    Returns
    -------
    Passages
        Whole ones take no more than 30°, and their pixels are in the mean where the voxel's centre
        is: within 0.05 of its edges, or what so many pixels may be off by chance. They are of one
        chip.
    """
    sweep, angle = data.columns["sweep"], data.columns["angle"]
    passage = number_passages(voxel, sweep.astype(np.int64), angle, turn == 0)
    n = int(passage.max()) + 1
    total: FloatArray = np.bincount(passage, weight, n).astype(np.float64)
    one = np.empty(n, dtype=np.int64)
    one[passage] = np.arange(len(passage))

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(passage, weight * values, n) / total)

    def variance(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(passage, weight**2 * values, n) / total**2)

    # Numbers of sweeps and chips are whole, which a mean may not be.
    columns = {
        name: column[one] if name in ("sweep", "chip") else mean(column)
        for name, column in data.columns.items()
    }
    joined = ScalingData(
        mean(data.intensity), variance(data.per_intensity), variance(data.own_variance),
        data.orbit[one], columns,
    )  # fmt: skip
    length = _largest(passage, angle, n) + _largest(passage, -angle, n)
    off = np.max([np.abs(mean(values)) for values in offsets], axis=0)
    is_near = off <= np.maximum(_MOST_OFF, _BY_CHANCE / np.sqrt(total))
    is_still = turn[one] == 0
    chip = data.columns.get("chip", sweep)
    is_on_one = np.bincount(passage, chip != columns.get("chip", columns["sweep"])[passage], n) == 0
    return Passages(joined, is_near & is_on_one & (length <= _LONGEST) & ~is_still, is_still)


def _largest(group: IntArray, values: FloatArray, n: int) -> FloatArray:
    out = np.full(n, -np.inf)
    np.maximum.at(out, group, values)
    return out
