"""Space groups as arrays of operations, and which reflections they make equivalent.

All of a group's operations, centring included, come from gemmi. In Miller indices an operation
acts on row vectors, ``h' = h R``; on fractional coordinates, ``x' = R x + t``.
"""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import CELL_REFUSE_FRACTION, FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.errors import InputError


@dataclass(frozen=True)
class Operations:
    """All operations of a space group, centring included.

    Attributes
    ----------
    rotations : ndarray, shape (n_operations, 3, 3), int64
        Rotation parts in fractional coordinates.
    translations : ndarray, shape (n_operations, 3), float64
        Translations, fractional, in [0, 1).
    """

    rotations: IntArray
    translations: FloatArray

    def __len__(self) -> int:
        return len(self.rotations)


def as_space_group(value: object, cell: Cell | None = None) -> gemmi.SpaceGroup:
    """Return gemmi's space group for a name (Hermann–Mauguin or Hall), a number or a group.

    The cell decides between settings that share a name (R 3 in hexagonal or rhombohedral axes).

    Raises
    ------
    InputError
        If no space group has that name.

    Examples
    --------
    >>> as_space_group("P212121").xhm(), as_space_group(" P 4w").xhm(), as_space_group(5).xhm()
    ('P 21 21 21', 'P 41', 'C 1 2 1')
    """
    if isinstance(value, gemmi.SpaceGroup):
        return value
    found = None
    if isinstance(value, int | np.integer) and value > 0:
        found = gemmi.find_spacegroup_by_number(int(value))
    elif isinstance(value, str) and value.strip():
        angles = (cell.alpha, cell.gamma) if cell else (0.0, 0.0)
        found = gemmi.find_spacegroup_by_name(value.strip(), *angles) or _find_by_hall(value)
    if found is None:
        raise InputError(f"space group must be a Hermann-Mauguin or Hall symbol, got {value!r}")
    return found


def _find_by_hall(symbol: str) -> gemmi.SpaceGroup | None:
    try:
        return gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(symbol))
    except (RuntimeError, ValueError):
        return None


def space_group_operations(space_group: object) -> Operations:
    """Give every operation of a space group, centring included.

    >>> len(space_group_operations("C 1 2 1"))
    4
    """
    operations = list(as_space_group(space_group).operations())
    return Operations(
        np.array([op.rot for op in operations], dtype=np.int64) // gemmi.Op.DEN,
        np.array([op.tran for op in operations], dtype=np.float64) / gemmi.Op.DEN % 1.0,
    )


def point_rotations(group: object) -> IntArray:
    """Distinct rotations (n, 3, 3) of a group as it is, with inversions only where it has them.

    Parameters
    ----------
    group : str, int or gemmi.SpaceGroup
        A space group (its point group is meant), or a Laue symbol such as ``"4/m"``.

    Examples
    --------
    >>> len(point_rotations("P 41")), len(point_rotations("4/m")), len(point_rotations("P 1"))
    (4, 8, 1)
    """
    rotations = space_group_operations(as_laue_space_group(group)).rotations
    return np.unique(rotations.reshape(-1, 9), axis=0).reshape(-1, 3, 3)


def laue_rotations(laue_group: object) -> IntArray:
    """Distinct rotations (n, 3, 3) of the Laue group: the point group and its inversions.

    Parameters
    ----------
    laue_group : str, int or gemmi.SpaceGroup
        A space group (its Laue group is meant), or a Laue symbol such as ``"4/m"``.

    Examples
    --------
    >>> len(laue_rotations("P 41")), len(laue_rotations("4/m")), len(laue_rotations("P 1"))
    (8, 8, 2)
    """
    rotations = point_rotations(laue_group)
    both = np.concatenate([rotations, -rotations])
    return np.unique(both.reshape(-1, 9), axis=0).reshape(-1, 3, 3)


def as_laue_space_group(value: object) -> gemmi.SpaceGroup:
    """Return a symmorphic or other space group that stands for a Laue group.

    Laue symbols are read as the primitive group of that symbol in its standard setting
    (``"4/m"`` → P 4/m, ``"2/m"`` → P 1 2/m 1, ``"-3"`` → P -3, ``"m-3m"`` → P m -3 m).

    Raises
    ------
    InputError
        If it is neither a Laue symbol nor a space group.
    """
    if isinstance(value, str):
        symbol = value.replace(" ", "")
        if symbol in _LAUE_SYMBOLS:
            return as_space_group(_LAUE_SYMBOLS[symbol])
    try:
        return as_space_group(value)
    except InputError:
        expected = " ".join(_LAUE_SYMBOLS)
        raise InputError(
            f"laue_group must be a space group or one of {expected}, got {value!r}"
        ) from None


_LAUE_SYMBOLS = {
    "-1": "P -1",
    "2/m": "P 1 2/m 1",
    "mmm": "P m m m",
    "4/m": "P 4/m",
    "4/mmm": "P 4/m m m",
    "-3": "P -3",
    "-3m": "P -3 m 1",
    "-3m1": "P -3 m 1",
    "-31m": "P -3 1 m",
    "6/m": "P 6/m",
    "6/mmm": "P 6/m m m",
    "m-3": "P m -3",
    "m-3m": "P m -3 m",
}


def laue_symbol(group: object) -> str:
    """Name the Laue group of a space group, so that `laue_rotations` gives it back.

    The short symbol where that says the axes too, else the space group that has its operations.

    >>> laue_symbol("P 41"), laue_symbol("P 31 1 2"), laue_symbol("P 1 1 2")
    ('4/m', '-31m', 'P 1 1 2/m')
    """
    rotations = laue_rotations(group)
    for symbol in _LAUE_SYMBOLS:
        # "-3m" does not say which axes its mirrors are on.
        if symbol != "-3m" and np.array_equal(laue_rotations(symbol), rotations):
            return symbol
    return primitive_symbol(rotations) or str(as_laue_space_group(group).xhm())


def primitive_symbol(rotations: IntArray) -> str | None:
    """Name the primitive space group that has rotations and no translations, if it has a name.

    >>> primitive_symbol(point_rotations("C 1 2 1")), primitive_symbol(point_rotations("R 3:R"))
    ('P 1 2 1', 'R 3:R')
    """
    operations = []
    for rotation in rotations:
        operation = gemmi.Op()
        operation.rot = (rotation * gemmi.Op.DEN).tolist()
        operations.append(operation)
    found = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(operations))
    return None if found is None else str(found.xhm())


def rotate_hkl(hkl: NDArray[np.number], rotation: IntArray) -> NDArray[np.number]:
    """Apply an operation to Miller indices (..., 3) as row vectors, ``h' = h R``.

    >>> rotate_hkl(np.array([1, 2, 3]), np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])).tolist()
    [2, -1, 3]
    """
    return hkl @ rotation


def fits_sampling(rotations: IntArray, sampling: tuple[int, int, int]) -> bool:
    """Tell whether operations (n, 3, 3) map a sampled reciprocal lattice onto itself."""
    n = np.array(sampling)
    # h' = h R on the lattice h = m / n: every n_j R_ij / n_i must be an integer.
    return not np.any((rotations * n[None, None, :]) % n[None, :, None])


def check_sampling_fits(
    rotations: IntArray, sampling: tuple[int, int, int], name: str = "sampling"
) -> None:
    """Check that operations map a sampled reciprocal lattice onto itself.

    Raises
    ------
    InputError
        If axes that the group mixes are sampled differently.
    """
    if not fits_sampling(rotations, sampling):
        raise InputError(
            f"{name} must be equal on axes that the symmetry mixes, got {tuple(sampling)}"
        )


def lattice_matrices(rotations: IntArray, sampling: tuple[int, int, int]) -> IntArray:
    """Operations (n, 3, 3) on the integer nodes m = hkl · sampling, as row vectors m' = m M.

    Raises
    ------
    InputError
        If axes that the operations mix are sampled differently.
    """
    check_sampling_fits(rotations, sampling)
    n = np.array(sampling)
    matrices: IntArray = rotations * n[None, None, :] // n[None, :, None]
    return matrices


def check_group_fits_cell(cell: Cell, rotations: IntArray, group: str) -> None:
    """Check that operations keep the reciprocal cell within 3 %.

    Raises
    ------
    InputError
        If an operation changes an edge by more than 3 % or a cosine by more than 0.03.
    """
    if np.max(_change_of_cell(cell, rotations)) > CELL_REFUSE_FRACTION:
        raise InputError(f"{group} does not fit the cell {cell}")


def lattice_rotations(cell: Cell) -> IntArray:
    """Operations (n, 3, 3) that keep the reciprocal lattice within 3 %, the closest first.

    Those of elements −1, 0 and 1: all where the cell's edges are shortest.

    >>> [len(lattice_rotations(Cell(10, 10, c, 90, 90, 90))) for c in (9, 10)]
    [16, 48]
    """
    digits = np.stack(np.unravel_index(np.arange(3**9), (3,) * 9), axis=1) - 1
    matrices = digits.reshape(-1, 3, 3)
    matrices = matrices[np.abs(np.rint(np.linalg.det(matrices))) == 1]
    change = _change_of_cell(cell, matrices)
    kept = change <= CELL_REFUSE_FRACTION
    # To 1e-6: what differs by rounding alone keeps the order of the elements.
    order = np.argsort(np.round(change[kept], 6), kind="stable")
    rotations: IntArray = matrices[kept][order].astype(np.int64)
    return rotations


def _change_of_cell(cell: Cell, rotations: IntArray) -> FloatArray:
    """Largest change (n,) of an edge, as a fraction, or of a cosine of the reciprocal cell."""
    metric = cell.frac_matrix @ cell.frac_matrix.T
    moved = rotations @ metric @ rotations.transpose(0, 2, 1)
    edges = np.sqrt(np.diagonal(moved, axis1=1, axis2=2))
    lengths = np.sqrt(np.diagonal(metric))
    cosines = moved / (edges[:, :, None] * edges[:, None, :])
    of_edges = np.abs(edges / lengths - 1).max(axis=1)
    of_cosines = np.abs(cosines - metric / np.outer(lengths, lengths)).max(axis=(1, 2))
    change: FloatArray = np.maximum(of_edges, of_cosines)
    return change
