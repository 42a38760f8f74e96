r"""Observations: what the pixels of one wedge of images measured in one voxel.

A voxel crosses the Ewald sphere at several rotation angles; a map averages all of its pixels, but
to scale them they must stay apart by when and where they were measured. One observation is a voxel
in a wedge of consecutive images: with w the share of a pixel in the voxel, c its photons and κ its
corrections,

.. math:: I = \frac{\sum w c \kappa}{\sum w},\qquad
          \mathrm{var} = \frac{\sum w^2 c \kappa^2}{(\sum w)^2},\qquad
          \frac{\mathrm{var\ expected}}{I\ \mathrm{expected}} = \frac{\sum w^2 \kappa}{(\sum w)^2}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.reduction._kernels import (
    SUM_CHIP,
    SUM_EXPECTED,
    SUM_FACTOR,
    SUM_INTENSITY,
    SUM_OFF,
    SUM_OWN,
    SUM_VARIANCE,
    SUM_WEIGHT,
    SUM_X,
    SUM_Y,
)
from offbragg.reduction.geometry import Beam
from offbragg.reduction.voxelize import Accumulator

#: Columns that say how far an observation's pixels are from the voxel's centre along h, k, l.
OFFSETS = ("off_h", "off_k", "off_l")
#: Columns of observations, and how they are stored.
COLUMNS: Mapping[str, type[np.generic]] = {
    "voxel": np.int64,
    "wedge": np.int32,
    "count": np.int32,
    "weight": np.float32,
    "intensity": np.float32,
    "variance": np.float32,
    "one_photon": np.float32,
    "per_intensity": np.float32,
    "own_variance": np.float32,
    "x": np.float32,
    "y": np.float32,
    "chip": np.int32,
    **dict.fromkeys(OFFSETS, np.float32),
}


@dataclass(frozen=True, eq=False)
class Wedges:
    """Consecutive images that observations do not tell apart.

    Attributes
    ----------
    sweep : ndarray, shape (n_wedges,), int64
        Number of the experiment.
    angle : ndarray, shape (n_wedges,), float64
        In the middle of the wedge [degrees].
    half : ndarray, shape (n_wedges,), int64
        Which half map it adds to, 0 or 1.
    first_image, last_image : ndarray, shape (n_wedges,), int64
        Of the experiment's images, from 0; the last is one of them.
    turn : ndarray, shape (n_wedges,), float64
        How far the crystal turned [degrees]; 0 of a still.
    """

    sweep: IntArray
    angle: FloatArray
    half: IntArray
    first_image: IntArray
    last_image: IntArray
    turn: FloatArray

    def __len__(self) -> int:
        return len(self.sweep)


@dataclass(frozen=True, eq=False)
class Observations:
    """Unmerged observations of a grid's voxels.

    Attributes
    ----------
    grid : HklGrid
    space_group : str
    wedges : Wedges
    columns : mapping of str to ndarray, shape (n,)
        ``voxel`` (in the flattened grid), ``wedge``, ``count`` of pixels, ``weight`` Σ w,
        ``intensity``, ``variance`` of the counts, ``one_photon`` (what that is for one photon),
        ``per_intensity`` (variance that a unit of intensity makes expected), ``own_variance``
        (that of a background), ``x`` and ``y`` (mean
        direction of the scattered rays, along two axes across the beam), ``chip`` (of the first
        pixel), ``off_h``, ``off_k`` and
        ``off_l`` (how far its pixels are, in the mean, from the voxel's centre [edges of a voxel]).
    provenance : tuple of mapping
    """

    grid: HklGrid
    space_group: str
    wedges: Wedges
    columns: Mapping[str, NDArray[Any]]
    provenance: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.columns["voxel"])


def axes_across(beam: Beam) -> FloatArray:
    """Two unit vectors (2, 3) across the beam and each other."""
    z = beam.direction
    away = np.eye(3)[int(np.argmin(np.abs(z)))]
    x = np.cross(z, away)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x)])


def take_observations(accumulator: Accumulator, wedge: int) -> dict[str, NDArray[Any]]:
    """Give the observations of a wedge, by voxel, and empty its sums for the next.

    Costs what was touched, not what the grid holds.
    """
    n = int(accumulator.n_touched[0])
    voxel = np.sort(accumulator.touched[:n])
    sums = accumulator.sums[voxel].astype(np.float64)
    count = accumulator.counts[voxel]
    accumulator.sums[voxel] = 0.0
    accumulator.counts[voxel] = 0
    accumulator.n_touched[0] = 0
    weight = sums[:, SUM_WEIGHT]
    found = {
        "voxel": voxel,
        "wedge": np.full(n, wedge),
        "count": count,
        "weight": weight,
        "intensity": sums[:, SUM_INTENSITY] / weight,
        "variance": sums[:, SUM_VARIANCE] / weight**2,
        "one_photon": sums[:, SUM_FACTOR] / np.maximum(count, 1) / weight**2,
        "per_intensity": sums[:, SUM_EXPECTED] / weight**2,
        "own_variance": sums[:, SUM_OWN] / weight**2,
        "x": sums[:, SUM_X] / weight,
        "y": sums[:, SUM_Y] / weight,
        "chip": sums[:, SUM_CHIP],
        **{name: sums[:, SUM_OFF + axis] / weight for axis, name in enumerate(OFFSETS)},
    }
    return {name: values.astype(COLUMNS[name]) for name, values in found.items()}
