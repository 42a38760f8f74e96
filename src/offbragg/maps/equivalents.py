"""Equivalent voxels: which belong together under a group, and their averages.

In Miller indices an operation acts on row vectors, ``h' = h R``. An orbit is a set of voxels
that a group maps onto each other; equivalents outside a grid do not exist for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import (
    check_group_fits_cell,
    lattice_matrices,
    laue_rotations,
    point_rotations,
)
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import divide
from offbragg.runtime import iter_chunks

_CHUNK_VOXELS = 1 << 16  # of a block that stays in the processor's cache


def symmetry_orbits(grid: HklGrid, rotations: IntArray) -> IntArray:
    """Find the representative of every voxel: the smallest index among its equivalents.

    Parameters
    ----------
    grid : HklGrid
        Any grid, centred or not. Equivalents outside it do not exist.
    rotations : ndarray, shape (n, 3, 3), int64
        All rotations of a group: `laue_rotations` includes Friedel mates, `point_rotations` not.

    Returns
    -------
    ndarray, shape ``grid.shape``, int64
        Index of the representative in the flattened grid.

    Raises
    ------
    InputError
        If axes that the operations mix are sampled differently.

    Notes
    -----
    Time is O(voxels · operations); memory is the result and small blocks.

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [-1, 0, 1, 2], [0], [0])
    >>> symmetry_orbits(grid, laue_rotations("P 1")).ravel().tolist()
    [0, 1, 0, 3]
    """
    matrices = lattice_matrices(rotations, grid.sampling)
    n_h, n_k, n_l = grid.shape
    first = grid.first_index
    representative = np.arange(grid.size, dtype=np.int64).reshape(grid.shape)
    k = (first[1] + np.arange(n_k))[None, :, None]
    l = (first[2] + np.arange(n_l))[None, None, :]  # noqa: E741
    for rows in iter_chunks(n_h, max(1, _CHUNK_VOXELS // (n_k * n_l))):
        h = (first[0] + np.arange(rows.start, rows.stop))[:, None, None]
        block = representative[rows]
        for matrix in matrices:
            index, inside = _equivalent_index((h, k, l), matrix, first, grid.shape)
            np.minimum(block, index, out=block, where=inside)
    return representative


def _equivalent_index(
    nodes: tuple[IntArray, IntArray, IntArray],
    matrix: IntArray,
    first: IntArray,
    shape: tuple[int, int, int],
) -> tuple[IntArray, BoolArray]:
    """Flat index of m M for broadcast m, and whether it is in the grid."""
    index = np.zeros((1, 1, 1), dtype=np.int64)
    inside = np.ones((1, 1, 1), dtype=bool)
    for axis in range(3):
        position = np.full((1, 1, 1), -first[axis])
        for node, factor in zip(nodes, matrix[:, axis], strict=True):
            if factor:  # a term left out keeps the arrays small
                position = position + factor * node
        inside = inside & (position >= 0) & (position < shape[axis])
        index = index * shape[axis] + position
    return index, inside


def covering_grid(grids: Sequence[HklGrid]) -> HklGrid:
    """Smallest grid that holds the voxels of all grids, with the first one's cell.

    Raises
    ------
    InputError
        If samplings differ, or a cell differs from the first by more than 3 %.
    """
    sampling = grids[0].sampling
    for grid in grids[1:]:
        if grid.sampling != sampling:
            raise InputError(f"maps must have one sampling, got {sampling} and {grid.sampling}")
        check_cells_agree(grids[0].cell, grid.cell, "maps")
    firsts = np.array([grid.first_index for grid in grids])
    lasts = firsts + np.array([grid.shape for grid in grids]) - 1
    axes = [
        np.arange(first, last + 1) / n
        for first, last, n in zip(firsts.min(axis=0), lasts.max(axis=0), sampling, strict=True)
    ]
    return HklGrid(grids[0].cell, axes[0], axes[1], axes[2], sampling)


@dataclass(frozen=True)
class Observations:
    """The measured voxels of one or more maps, in the order of the maps, with their orbits.

    Attributes
    ----------
    grid : HklGrid
        Grid that holds all the maps' voxels, with the first map's cell.
    flat : ndarray, shape (n,), int64
        Index in the flattened grid.
    orbit : ndarray, shape (n,), int64
        Number of the orbit, from 0.
    n_orbits : int
    inv_d : ndarray, shape (n,), float64
        1/d [Å⁻¹] by the first map's cell.
    intensity : ndarray, shape (n,), float64
    weight : ndarray, shape (n,), float64
        Pixels averaged, where every map has counts; else 1.
    variance, half_1, half_2 : ndarray, shape (n,), float64, or None
        None where a map has none. The halves may hold NaN.
    is_counted : bool
        Whether the weights are counts of pixels.
    """

    grid: HklGrid
    flat: IntArray
    orbit: IntArray
    n_orbits: int
    inv_d: FloatArray
    intensity: FloatArray
    weight: FloatArray
    variance: FloatArray | None
    half_1: FloatArray | None
    half_2: FloatArray | None
    is_counted: bool

    def sum(self, values: FloatArray) -> FloatArray:
        """Sum of values (n,) over each orbit, shape (n_orbits,)."""
        return np.asarray(np.bincount(self.orbit, values, self.n_orbits), dtype=np.float64)

    def members(self) -> IntArray:
        """Number of observations of each orbit, shape (n_orbits,)."""
        return np.bincount(self.orbit, minlength=self.n_orbits)

    def mean(self, values: FloatArray) -> FloatArray:
        """Weighted mean of the finite values (n,) over each orbit; NaN where there are none."""
        finite = np.isfinite(values)
        weight = np.where(finite, self.weight, 0.0)
        return divide(self.sum(weight * np.where(finite, values, 0.0)), self.sum(weight))

    def mean_variance(self) -> FloatArray | None:
        """Variance of each orbit's mean, Σ w² σ² / (Σ w)², shape (n_orbits,)."""
        if self.variance is None:
            return None
        return divide(self.sum(self.weight**2 * self.variance), self.sum(self.weight) ** 2)

    def first(self) -> IntArray:
        """Position (n_orbits,) of each orbit's first observation."""
        position = np.empty(self.n_orbits, dtype=np.int64)
        # Of equal indices the last assignment stands: backwards, that is the first observation.
        position[self.orbit[::-1]] = np.arange(len(self.orbit) - 1, -1, -1)
        return position


def gather_observations(
    maps: Sequence[DiffuseMap],
    laue_group: str,
    *,
    rotations: IntArray | None = None,
    thin_merged: bool = True,
) -> Observations:
    """Collect the measured voxels of maps and number their orbits.

    Parameters
    ----------
    maps : sequence of DiffuseMap
    laue_group : str
        A Laue symbol or a space group (its Laue group is meant).
    rotations : ndarray, shape (n, 3, 3), int64, optional
        Those whose equivalents are to be one orbit; those of the Laue group if not given.
    thin_merged : bool
        Take one voxel an orbit from maps that are merged: the equivalents are copies of it.

    Raises
    ------
    InputError
        If samplings differ or do not fit the group, cells differ by more than 3 %, the group does
        not fit the cell, or no voxel is measured.
    """
    grid = covering_grid([x.grid for x in maps])
    rotations = laue_rotations(laue_group) if rotations is None else rotations
    check_group_fits_cell(grid.cell, rotations, f"laue_group {laue_group}")
    representative = symmetry_orbits(grid, rotations)
    flat = np.arange(grid.size).reshape(grid.shape)
    inv_d = grid.inv_d()
    parts: dict[str, list[Any]] = {name: [] for name in _PARTS}
    for diffuse_map in maps:
        used = _used_voxels(diffuse_map, thin_merged)
        start = diffuse_map.grid.first_index - grid.first_index
        block = tuple(slice(a, a + n) for a, n in zip(start, diffuse_map.grid.shape, strict=True))
        parts["flat"].append(flat[block][used])
        parts["orbit"].append(representative[block][used])
        parts["inv_d"].append(inv_d[block][used])
        for name in ("intensity", "count", "sigma", "half_1", "half_2"):
            values = getattr(diffuse_map, name)
            if values is not None:
                parts[name].append(values[used].astype(np.float64))
    del representative, flat, inv_d
    return _as_observations(grid, parts, len(maps))


def regroup(observations: Observations, rotations: IntArray) -> Observations:
    """Return the same observations with the orbits of other operations (n, 3, 3)."""
    grid = observations.grid
    representative = symmetry_orbits(grid, rotations).ravel()[observations.flat]
    orbit, n_orbits = _numbered(representative, grid.size)
    return replace(observations, orbit=orbit, n_orbits=n_orbits)


def _numbered(representative: IntArray, size: int) -> tuple[IntArray, int]:
    """Number the orbits of voxels (n,) from 0, in the order of their representatives."""
    present = np.zeros(size, dtype=bool)
    present[representative] = True
    unique = np.flatnonzero(present)
    number = np.empty(size, dtype=np.int64)
    number[unique] = np.arange(len(unique))
    return number[representative], len(unique)


_PARTS = ("flat", "orbit", "inv_d", "intensity", "count", "sigma", "half_1", "half_2")


def _used_voxels(diffuse_map: DiffuseMap, thin_merged: bool) -> BoolArray:
    """Measured voxels; of a merged map the first of each orbit, where asked."""
    used = diffuse_map.measured
    if diffuse_map.count is not None:
        used = used & (diffuse_map.count > 0)
    if thin_merged and diffuse_map.laue_group is not None:
        orbits = symmetry_orbits(diffuse_map.grid, point_rotations(diffuse_map.laue_group))
        index = np.flatnonzero(used)
        first = np.full(diffuse_map.grid.size, -1, dtype=np.int64)
        first[orbits.ravel()[index[::-1]]] = index[::-1]
        used = np.zeros(diffuse_map.grid.shape, dtype=bool)
        used.ravel()[first[first >= 0]] = True
    return used


def _as_observations(grid: HklGrid, parts: Mapping[str, list[Any]], n_maps: int) -> Observations:
    """Join the maps' parts; an optional one counts only where every map has it."""
    joined = {
        name: np.concatenate(values) if n_maps > 1 else values[0]
        for name, values in parts.items()
        if len(values) == n_maps
    }
    representative = joined["orbit"]
    if len(representative) == 0:
        raise InputError("map: expected at least one measured voxel, got none")
    orbit, n_orbits = _numbered(representative, grid.size)
    sigma = joined.get("sigma")
    return Observations(
        grid=grid,
        flat=joined["flat"],
        orbit=orbit,
        n_orbits=n_orbits,
        inv_d=joined["inv_d"],
        intensity=joined["intensity"],
        weight=joined["count"] if "count" in joined else np.ones(len(representative)),
        variance=None if sigma is None else sigma**2,
        half_1=joined.get("half_1"),
        half_2=joined.get("half_2"),
        is_counted="count" in joined,
    )
