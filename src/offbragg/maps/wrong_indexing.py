"""A control beside every figure: the map as if its crystal had been indexed wrongly.

Such a map has the noise, the smoothness and the symmetry of the measured one, and nothing to do
with the structure: what a model explains of it is worth nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.symmetry import lattice_rotations, laue_rotations, laue_symbol
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import symmetry_orbits
from offbragg.maps.symmetrize import apply_operation, merge, take_voxels

# Turns that are tried where the lattice has no symmetry to spare [degrees].
_TURNS = (90.0, 45.0, 30.0)
# Of elements of rotation matrices in a cell that is not quite of its own symmetry.
_SAME_ROTATION = 0.03
# Of Miller indices, which are multiples of 1/sampling.
_SAME_HKL = 1e-6


def wrongly_indexed(diffuse_map: DiffuseMap) -> DiffuseMap:
    """Return the map, merged, as seen with a wrong indexing.

    Where the lattice has more symmetry than the intensities (4/m in a tetragonal cell, -3, -3m,
    6/m, m-3; cells that happen to be nearly so), I'(h) = I(h R) with a rotation R of the lattice
    that is none of the Laue group's: (h, -k, -l) for 4/m, which is (k, h, l). Otherwise a quarter
    turn of reciprocal space, or 45° or 30°, about an axis of the Laue group (about c* in a
    triclinic cell), each voxel taking the value of the one nearest to where it comes from.

    Parameters
    ----------
    diffuse_map : DiffuseMap

    Returns
    -------
    DiffuseMap
        With the same cell and symmetry. Not measured: where the voxel that it comes from was not,
        and where that is an equivalent of the voxel itself, so that the right value would come.

    Raises
    ------
    InputError
        If no other orientation keeps the Laue group: m-3m.

    Examples
    --------
    >>> from offbragg.crystal.grid import HklGrid
    >>> grid = HklGrid((10, 10, 9, 90, 90, 90), [1, 2], [1, 2], [0])
    >>> observed = DiffuseMap(grid, np.arange(4.0).reshape(2, 2, 1), "P 4")
    >>> wrong = wrongly_indexed(observed)
    >>> place, _ = wrong.grid.index_of([[1, 1, 0], [1, 2, 0], [2, 1, 0]])
    >>> wrong.intensity[tuple(place.T)].tolist()
    [nan, 2.0, 1.0]
    """
    merged = merge(diffuse_map).map
    laue = laue_rotations(merged.laue_group)
    operation = _spare_rotation(merged, laue)
    if operation is not None:
        turned = apply_operation(merged, operation)
        hkl = turned.grid.hkl()
        is_right = np.zeros(turned.grid.shape, dtype=bool)
        for rotation in laue:
            is_right |= np.all(np.abs(hkl @ (operation - rotation)) < _SAME_HKL, axis=-1)
    else:
        turned, is_right = _turned(merged, laue)
    intensity = np.where(is_right, np.nan, turned.intensity)
    return replace(turned, intensity=intensity, laue_group=merged.laue_group)


def _spare_rotation(diffuse_map: DiffuseMap, laue: IntArray) -> IntArray | None:
    """A rotation of the lattice (3, 3) that keeps the Laue group without being of it."""
    own = {tuple(r.ravel()) for r in laue}
    sampling = np.array(diffuse_map.grid.sampling)
    every = lattice_rotations(diffuse_map.cell)
    for rotation in every[np.linalg.det(every) > 0]:
        inverse = np.rint(np.linalg.inv(rotation)).astype(np.int64)
        is_normal = {tuple((inverse @ r @ rotation).ravel()) for r in laue} == own
        fits = not np.any((rotation * sampling[None, :]) % sampling[:, None])
        if tuple(rotation.ravel()) not in own and is_normal and fits:
            found: IntArray = rotation
            return found
    return None


def _turned(diffuse_map: DiffuseMap, laue: IntArray) -> tuple[DiffuseMap, BoolArray]:
    """The map turned in space, and the voxels that got what an equivalent has."""
    grid = diffuse_map.grid
    turn = _spare_turn(diffuse_map.cell, laue)
    if turn is None:
        raise InputError(
            f"no wrong indexing keeps the Laue group {laue_symbol(diffuse_map.space_group)}: "
            "there is no null map to compare with"
        )
    hkl = grid.hkl().reshape(-1, 3) @ grid.cell.frac_matrix @ turn @ grid.cell.orth_matrix
    place, inside = grid.index_of(hkl)
    index = np.ravel_multi_index(tuple(np.where(inside[:, None], place, 0).T), grid.shape)
    # Equivalents take what one of them does: two of them may not round alike.
    first = symmetry_orbits(grid, laue).ravel()
    index, inside = index[first], inside[first]
    is_right = (first[index] == first).reshape(grid.shape)
    return take_voxels(diffuse_map, grid, inside, index[inside]), is_right


def _spare_turn(cell: Cell, laue: IntArray) -> FloatArray | None:
    """A turn (3, 3) of space, q' = q N, that keeps the Laue group without being of it."""
    own = cell.orth_matrix @ laue @ cell.frac_matrix  # q' = q M
    proper = own[np.linalg.det(own) > 0]
    angles = np.arccos(np.clip((np.trace(proper, axis1=1, axis2=2) - 1) / 2, -1, 1))
    axes = [_axis_of(m) for m in proper[angles > 0.1]] or [cell.frac_matrix[2]]
    for degrees in _TURNS:
        for axis in axes:
            unit = axis / np.linalg.norm(axis)
            turn: FloatArray = Rotation.from_rotvec(np.radians(degrees) * unit).as_matrix()
            moved = turn.T @ own @ turn
            if not _is_among(turn, own) and all(_is_among(m, own) for m in moved):
                return turn
    return None


def _axis_of(rotation: FloatArray) -> FloatArray:
    """The vector (3,) that a rotation leaves as it is."""
    axis: FloatArray = np.linalg.svd(rotation - np.eye(3))[2][-1]
    return axis


def _is_among(matrix: FloatArray, group: FloatArray) -> bool:
    return bool(np.any(np.all(np.abs(group - matrix) < _SAME_ROTATION, axis=(1, 2))))
