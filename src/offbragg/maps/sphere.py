"""Orbits' means spread over all their equivalents: a full sphere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import lattice_matrices
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import Observations


def fill_sphere(
    observations: Observations,
    rotations: IntArray,
    d_min: float | None,
    dtype: np.dtype[Any],
) -> DiffuseMap:
    """Put each orbit's means at all its equivalents, on a grid centred at hkl = 0."""
    source = observations.grid
    nodes = grid_nodes(source, observations.flat[observations.first()])
    matrices = lattice_matrices(rotations, source.sampling)
    half = np.maximum(np.abs(source.first_index), np.abs(source.first_index + source.shape - 1))
    for matrix in matrices:
        half = np.maximum(half, np.abs(nodes @ matrix).max(axis=0))
    target = _centred_grid(source.cell, half, source.sampling, d_min)
    orbit = np.full(target.size, -1, dtype=np.int64)
    for matrix in matrices:
        place = nodes @ matrix + half
        orbit[np.ravel_multi_index(tuple(place.T), target.shape)] = np.arange(len(nodes))
    orbit = orbit.reshape(target.shape)

    def spread(values: FloatArray | None) -> NDArray[np.floating] | None:
        # Index −1, no orbit, takes the NaN put behind the values.
        return None if values is None else np.append(values, np.nan).astype(dtype)[orbit]

    variance = observations.mean_variance()
    half_1, half_2 = (
        None if x is None else observations.mean(x)
        for x in (observations.half_1, observations.half_2)
    )
    intensity = spread(observations.mean(observations.intensity))
    return DiffuseMap(
        grid=target,
        intensity=np.asarray(intensity),
        sigma=spread(None if variance is None else np.sqrt(variance)),
        count=_spread_counts(observations, orbit) if observations.is_counted else None,
        half_1=spread(half_1),
        half_2=spread(half_2),
    )


def _spread_counts(observations: Observations, orbit: IntArray) -> NDArray[np.integer]:
    """Pixels of each orbit, at all its voxels; 0 elsewhere."""
    total = np.append(np.rint(observations.sum(observations.weight)), 0).astype(np.int64)
    fits = total.max() <= np.iinfo(np.int32).max
    return (total.astype(np.int32) if fits else total)[orbit]


def grid_nodes(grid: HklGrid, flat: IntArray) -> IntArray:
    """Integer nodes (n, 3) of the sampled lattice at flat indices."""
    return np.stack(np.unravel_index(flat, grid.shape), axis=-1) + grid.first_index


def _centred_grid(
    cell: Cell, half: IntArray, sampling: tuple[int, int, int], d_min: float | None = None
) -> HklGrid:
    axes = [np.arange(-n, n + 1) / s for n, s in zip(half, sampling, strict=True)]
    return HklGrid(cell, axes[0], axes[1], axes[2], sampling, d_min)
