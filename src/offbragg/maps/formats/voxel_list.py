"""Voxels of a map as a list, one row each: between a map and files that are tables.

Scope: maps and NumPy arrays in, the same out; no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import IntArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.sphere import grid_nodes

#: The arrays of a map, in the order of columns.
ARRAYS = ("intensity", "sigma", "count", "half_1", "half_2")

_LARGEST_COUNT = 2**53  # whole numbers are exact in float64 up to here
_LARGEST_BOX = 2**31  # voxels; a wrong sampling spreads a few rows over more


@dataclass(frozen=True, eq=False)
class VoxelList:
    """Some voxels of a map.

    Attributes
    ----------
    node : ndarray, shape (n, 3), int64
        Their places on the sampled lattice: hkl times sampling.
    columns : mapping of str to ndarray, shape (n,)
        Those of `ARRAYS` that there are.
    """

    node: IntArray
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.node)


def list_voxels(diffuse_map: DiffuseMap) -> VoxelList:
    """List the voxels at which at least one array has a value (a number, or a count above 0).

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [0, 0.5], [0], [0, 1])
    >>> voxels = list_voxels(DiffuseMap(grid, np.array([[[1, np.nan]], [[3, 4]]])))
    >>> voxels.node.tolist(), voxels.columns["intensity"].tolist()
    ([[0, 0, 0], [1, 0, 0], [1, 0, 1]], [1.0, 3.0, 4.0])
    """
    arrays = {name: values for name in ARRAYS if (values := getattr(diffuse_map, name)) is not None}
    present = np.zeros(diffuse_map.grid.shape, dtype=bool)
    for values in arrays.values():
        present |= has_value(values)
    flat = np.flatnonzero(present)
    columns = {name: values.ravel()[flat] for name, values in arrays.items()}
    return VoxelList(grid_nodes(diffuse_map.grid, flat), columns)


def has_value(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell numbers from NaN, and counts from 0."""
    valid: NDArray[np.bool_] = values != 0 if values.dtype.kind in "iu" else ~np.isnan(values)
    return valid


def place_voxels(grid: HklGrid, voxels: VoxelList) -> dict[str, Any]:
    """Arrays of a map from a list: NaN, or a count of 0, elsewhere.

    Raises
    ------
    InputError
        If a voxel is outside the grid, or listed twice.
    """
    index = voxels.node - grid.first_index
    inside = np.all((index >= 0) & (index < np.array(grid.shape)), axis=1)
    if not np.all(inside):
        node = voxels.node[~inside][0] / np.array(grid.sampling)
        raise InputError(f"voxels: expected hkl within the grid, found {_text(node)}")
    flat = np.ravel_multi_index(tuple(index.T), grid.shape)
    taken = np.zeros(grid.size, dtype=bool)
    taken[flat] = True
    if np.count_nonzero(taken) < len(flat):
        values, times = np.unique(flat, return_counts=True)
        node = grid_nodes(grid, values[times > 1][:1])[0] / np.array(grid.sampling)
        raise InputError(f"voxels: expected each hkl once, found {_text(node)} more than once")
    arrays = {}
    for name, column in voxels.columns.items():
        missing = 0 if column.dtype.kind in "iu" else np.nan
        values = np.full(grid.size, missing, dtype=column.dtype)
        values[flat] = column
        arrays[name] = values.reshape(grid.shape)
    return arrays


def box_around(cell: Cell, node: IntArray, sampling: tuple[int, int, int]) -> HklGrid:
    """Give the smallest grid that holds all nodes (n, 3).

    Raises
    ------
    InputError
        If there is none, or the box is larger than any map.
    """
    if len(node) == 0:
        raise InputError("voxels: expected at least one, found none")
    low, high = node.min(axis=0), node.max(axis=0)
    shape = high - low + 1
    if np.prod(shape, dtype=float) > _LARGEST_BOX:
        raise InputError(f"voxels: expected hkl of one map, found a box of {_text(shape)} voxels")
    axes = [np.arange(a, b + 1) / s for a, b, s in zip(low, high, sampling, strict=True)]
    return HklGrid(cell, axes[0], axes[1], axes[2], sampling)


def as_float32(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Values in single precision.

    Raises
    ------
    InputError
        If a number is too large for it, or a whole number not exact in it.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(np.float32)
    if values.dtype.kind in "iu":
        fits = stored.astype(np.float64) == values
    else:
        fits = np.isfinite(stored) == np.isfinite(values)
    if not np.all(fits):
        raise InputError(f"{name} must fit float32, got {values[~fits].ravel()[0]!r}")
    return stored


def as_counts(name: str, values: NDArray[np.floating]) -> NDArray[np.integer]:
    """Counts of pixels from a column of numbers; NaN is 0.

    Raises
    ------
    InputError
        If one is no whole number ≥ 0.
    """
    filled = np.nan_to_num(values.astype(np.float64), nan=0.0)
    wrong = ~((filled >= 0) & (filled <= _LARGEST_COUNT) & (filled == np.rint(filled)))
    if np.any(wrong):
        raise InputError(f"{name} must be whole numbers >= 0, got {filled[wrong][0]:g}")
    if filled.max(initial=0) > np.iinfo(np.int32).max:
        return filled.astype(np.int64)
    return filled.astype(np.int32)


def _text(numbers: NDArray[Any]) -> str:
    return " ".join(f"{x:g}" for x in numbers)
