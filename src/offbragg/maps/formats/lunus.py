"""Lattices of LUNUS (.lat)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import CELL_REFUSE_FRACTION
from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.options import (
    check_is_file,
    choose_space_group,
    import_step,
    require_cell,
)

#: LUNUS's value for a voxel that was not measured.
LUNUS_MASK_TAG = -32768.0

_OFF_NODE = 0.05  # voxels that hkl = 0 may lie off a node: bounds are float32 of rounded numbers


def read_lat(path: str | Path, cell: object = None, space_group: str | None = None) -> DiffuseMap:
    """Read a lattice of LUNUS.

    Three counts (integers of 4 bytes, of 8 in some versions), six bounds (float32: lowest and
    highest x, y, z, in units of 1/edge [Å⁻¹]) and the values (float32, x fastest), in the byte
    order of the machine that wrote them; −32768 is "not measured". Byte order and width of the
    counts follow from the size of the file. The highest bound is the last voxel in some versions
    and one beyond it in others: that is taken by which hkl = 0 falls on a voxel, or, where both
    do, the one that fits the cell better.

    Parameters
    ----------
    path : str or Path
    cell : Cell or six numbers
        Unit cell [Å, degrees]: the file has none. Sampling follows from it and the bounds.
    space_group : str, optional
        P 1 where it is not given.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If the size is not that of a lattice, or the bounds put no voxel on hkl = 0.
    InputError
        If there is no cell, or its edges do not fit the bounds.
    """
    path = Path(path)
    checked = require_cell(path, cell, None)
    raw = _read_bytes(path)
    counts, order, start = _lattice_header(path, raw)
    bounds = np.frombuffer(raw, f"{order}f4", 6, start).astype(np.float64).reshape(3, 2)
    values = np.frombuffer(raw, f"{order}f4", -1, start + 24).astype(np.float32)
    values = np.ascontiguousarray(values.reshape(counts[::-1]).transpose(2, 1, 0))
    values[(values == LUNUS_MASK_TAG) | ~np.isfinite(values)] = np.nan
    axes, sampling = [], []
    for axis in range(3):
        names = ("ha", "kb", "lc")[axis]
        first, n = _lattice_axis(path, names, counts[axis], bounds[axis], checked[axis])
        axes.append((first + np.arange(counts[axis])) / n)
        sampling.append(n)
    grid = HklGrid(checked, axes[0], axes[1], axes[2], (sampling[0], sampling[1], sampling[2]))
    return DiffuseMap(
        grid=grid,
        intensity=values,
        space_group=choose_space_group(path, space_group, None),
        provenance=(import_step(path, {"cell": list(checked), "space_group": space_group}),),
    )


def _read_bytes(path: Path) -> bytes:
    check_is_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"{path}: cannot be opened: {error.strerror}") from None


def _lattice_header(path: Path, raw: bytes) -> tuple[tuple[int, int, int], str, int]:
    """Counts, byte order and length of the counts [bytes] that agree with the file's size."""
    for kind in ("<u4", ">u4", "<u8", ">u8"):
        length = 3 * int(kind[2])
        if len(raw) < length + 24:
            break
        n_x, n_y, n_z = (int(n) for n in np.frombuffer(raw, kind, 3))
        if n_x * n_y * n_z > 0 and length + 24 + 4 * n_x * n_y * n_z == len(raw):
            return (n_x, n_y, n_z), kind[0], length
    raise FormatError(
        f"{path}: expected a LUNUS lattice (3 counts, 6 bounds, float32 values), found "
        f"{len(raw)} bytes that do not fit their counts"
    )


def _lattice_axis(
    path: Path, names: str, count: int, bounds: NDArray[np.float64], edge: float
) -> tuple[int, int]:
    """Node of the first voxel and voxels per reciprocal-lattice unit; names: axis and edge."""
    low, high = float(bounds[0]), float(bounds[1])
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise FormatError(f"{path}: bounds of {names[0]}: expected low < high, found {low} {high}")
    readings = []
    for n_steps in (count - 1, count):
        node = low / (high - low) * n_steps
        if n_steps > 0 and abs(node - round(node)) < _OFF_NODE:
            per_unit = n_steps / ((high - low) * edge)
            sampling = max(1, round(per_unit))
            readings.append((abs(per_unit / sampling - 1), round(node), sampling))
    if not readings:
        raise FormatError(
            f"{path}: bounds of {names[0]}: expected hkl = 0 on a voxel, found {low} to {high} in "
            f"{count} voxels"
        )
    misfit, node, sampling = min(readings)
    if misfit > CELL_REFUSE_FRACTION:
        raise InputError(
            f"{path}: cell {names[1]}: expected about {(count - 1) / (high - low):.2f} Å divided "
            f"by the sampling, from the file's bounds, got {edge:.3f}"
        )
    return node, sampling
