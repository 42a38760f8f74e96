"""MTZ files, by gemmi: the indices are those of a supercell.

A voxel hkl of a map of sampling (n_h, n_k, n_l) is the reflection H = n_h h, K = n_k k, L = n_l l
of a cell whose edges are n_h a, n_k b, n_l c, and whose angles are the crystal's: H is whole, and d
is right. The file is in P 1, since extinctions of the crystal's group do not hold between nodes,
and has one of each pair of Friedel mates. The history says what it was made from; statistics and
provenance follow the headers as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import BoolArray, IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.header import describe, to_json, to_lines
from offbragg.maps.formats.voxel_list import as_float32, list_voxels

#: Label and type of a column of merged mates; type of a pair where they are apart.
COLUMNS = {
    "intensity": ("I", "J", "K"),
    "sigma": ("SIGI", "Q", "M"),
    "count": ("N", "I", "I"),
    "half_1": ("I_HALF1", "J", "K"),
    "half_2": ("I_HALF2", "J", "K"),
}
APPENDED = "offbragg:"


def write_mtz(path: Path, diffuse_map: DiffuseMap) -> None:
    """Write the voxels that have a value.

    Where the map is merged with Friedel mates averaged, the columns are I SIGI N I_HALF1 I_HALF2,
    those that there are; else I(+) I(-) SIGI(+) SIGI(-) and so on.

    Raises
    ------
    InputError
        If no voxel is measured, or a value does not fit float32.
    """
    voxels = list_voxels(diffuse_map)
    if len(voxels) == 0:
        raise InputError("intensity: expected a measured voxel to write as MTZ, found none")
    table = {name: as_float32(name, values) for name, values in voxels.columns.items()}
    hkl, plus, minus = _pair_mates(voxels.node)
    pairs = {name: (_take(x, plus), _take(x, minus)) for name, x in table.items()}
    merged = diffuse_map.friedel == "merged" and _mates_are_copies(
        diffuse_map, hkl, plus, minus, pairs
    )
    mtz = _start(diffuse_map)
    arrays = [as_float32("hkl", column) for column in hkl.T]
    for name, (first, second) in pairs.items():
        label, kind, kind_of_pair = COLUMNS[name]
        if merged:
            mtz.add_column(label, kind)
            arrays.append(np.where(plus >= 0, first, second))
        else:
            for sign, values in (("+", first), ("-", second)):
                mtz.add_column(f"{label}({sign})", kind_of_pair)
                arrays.append(values)
    mtz.set_data(np.stack(arrays, axis=1))
    mtz.update_reso()
    mtz.write_to_file(str(path))


def _start(diffuse_map: DiffuseMap) -> gemmi.Mtz:
    """An MTZ file without data."""
    sampling = diffuse_map.grid.sampling
    a, b, c, *angles = diffuse_map.cell
    n_h, n_k, n_l = sampling
    mtz = gemmi.Mtz(with_base=True)
    mtz.title = "Diffuse scattering"
    mtz.spacegroup = gemmi.SpaceGroup("P 1")
    mtz.add_dataset("diffuse")
    mtz.set_cell_for_all(gemmi.UnitCell(n_h * a, n_k * b, n_l * c, *angles))
    mtz.history = [
        f"Diffuse map of offbragg: indices are {n_h} h, {n_k} k, {n_l} l of the crystal",
        *to_lines(describe(diffuse_map)),
    ]
    more = {"statistics": diffuse_map.statistics, "provenance": diffuse_map.provenance}
    mtz.appended_text = APPENDED + to_json(more)
    return mtz


def _pair_mates(node: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Indices of the half L > 0 (then H, then K) and rows of each and of its mate, or −1."""
    is_plus = _is_plus(node)
    half = np.where(is_plus[:, None], node, -node)
    largest = np.abs(half).max(axis=0)
    shape = tuple(2 * largest + 1)
    code, place = np.unique(
        np.ravel_multi_index(tuple((half + largest).T), shape), return_inverse=True
    )
    hkl = np.stack(np.unravel_index(code, shape), axis=1) - largest
    rows = np.full((2, len(code)), -1, dtype=np.int64)
    rows[np.where(is_plus, 0, 1), place] = np.arange(len(node))
    return hkl, rows[0], rows[1]


def _is_plus(node: IntArray) -> BoolArray:
    """Tell the half of P 1 that CCP4 takes: L > 0, or L = 0 and H > 0, or both 0 and K ≥ 0."""
    h, k, l = node.T  # noqa: E741
    is_plus: BoolArray = (l > 0) | ((l == 0) & ((h > 0) | ((h == 0) & (k >= 0))))
    return is_plus


def _take(values: NDArray[np.float32], rows: IntArray) -> NDArray[np.float32]:
    """Values of rows; NaN for row −1."""
    return np.append(values, np.float32(np.nan))[rows]


def _mates_are_copies(
    diffuse_map: DiffuseMap,
    hkl: IntArray,
    plus: IntArray,
    minus: IntArray,
    pairs: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> bool:
    """Whether one mate of each pair tells the other, if that is in the map's box at all."""
    both = (plus >= 0) & (minus >= 0)
    for first, second in pairs.values():
        if not np.array_equal(first[both], second[both], equal_nan=True):
            return False
    alone = ~both & np.any(hkl != 0, axis=1)
    absent = np.where((plus < 0)[:, None], hkl, -hkl)[alone]
    return not bool(np.any(is_inside(diffuse_map.grid, absent)))


def is_inside(grid: HklGrid, node: IntArray) -> BoolArray:
    """Tell which nodes (n, 3) are in a grid."""
    index = node - grid.first_index
    inside: BoolArray = np.all((index >= 0) & (index < np.array(grid.shape)), axis=1)
    return inside
