"""How well a map agrees with itself under each operation of its group, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.symmetry import (
    check_group_fits_cell,
    lattice_matrices,
    laue_rotations,
    laue_symbol,
)
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import anisotropic_part, divide, shell_correlation

#: Voxels that are looked at; of larger maps so many at random.
MOST_VOXELS = 500_000
_ORDERS = {3: 1, 2: 6, 1: 4, 0: 3, -1: 2}
_IMPROPER = {1: "inversion (Friedel mates)", 2: "mirror", 3: "3-fold with inversion",
             4: "4-fold with inversion", 6: "6-fold with inversion"}  # fmt: skip


@dataclass(frozen=True)
class OperationAgreement:
    """How alike the voxels are that one operation takes into each other.

    Attributes
    ----------
    hkl : str
        Where it takes h, k, l.
    kind : str
        In words.
    is_friedel : bool
        It is −h, −k, −l, which needs no symmetry of the crystal.
    n_pairs : int
        Pairs of different voxels, both measured, counted in both orders.
    cc_anisotropic : float
        Pearson correlation of the anisotropic parts, see `anisotropic_part`.
    r : float
        Σ|I − I′| / Σ (|I| + |I′|).
    """

    hkl: str
    kind: str
    is_friedel: bool
    n_pairs: int
    cc_anisotropic: float
    r: float


def operation_agreement(
    diffuse_map: DiffuseMap, rng: np.random.Generator | None = None
) -> tuple[OperationAgreement, ...]:
    """Compare an unmerged map with itself, turned by each operation of its Laue group.

    Friedel mates agree whatever the symmetry, but for an anomalous signal: what their correlation
    is, that of every operation of the group should be.

    Parameters
    ----------
    diffuse_map : DiffuseMap
        Not merged: in a merged map equivalents are copies.
    rng : numpy.random.Generator, optional
        Draws the voxels of a larger map; one of seed 0 if not given.

    Returns
    -------
    tuple of OperationAgreement
        Of an operation and its inverse, which make the same pairs, the first. The inversion first.

    Raises
    ------
    InputError
        If the group does not fit the cell or the sampling.

    Examples
    --------
    >>> from offbragg.crystal.grid import HklGrid
    >>> grid = HklGrid.from_resolution((20, 20, 20, 90, 90, 90), 4.0)
    >>> values = np.broadcast_to(grid.h[:, None, None] ** 2, grid.shape).astype(float)
    >>> found = operation_agreement(DiffuseMap(grid, values, "P 1 2 1"))
    >>> [(row.hkl, row.kind, round(row.cc_anisotropic, 3)) for row in found]
    [('-h, -k, -l', 'inversion (Friedel mates)', 1.0), ('-h, k, -l', '2-fold axis', 1.0),
     ('h, -k, l', 'mirror', 1.0)]
    """
    grid = diffuse_map.grid
    group = laue_symbol(diffuse_map.laue_group or diffuse_map.space_group)
    rotations = laue_rotations(group)
    check_group_fits_cell(grid.cell, rotations, f"laue_group {group}")
    measured = diffuse_map.measured
    if diffuse_map.count is not None:
        measured = measured & (diffuse_map.count > 0)
    inv_d = grid.inv_d()
    varying = anisotropic_part(diffuse_map.intensity, inv_d, measured)
    flat = np.flatnonzero(measured)
    if len(flat) > MOST_VOXELS:
        flat = (rng or np.random.default_rng(0)).choice(flat, MOST_VOXELS, replace=False)
    nodes = np.stack(np.unravel_index(flat, grid.shape), axis=1) + grid.first_index
    found = []
    for rotation, matrix in zip(rotations, lattice_matrices(rotations, grid.sampling), strict=True):
        if np.array_equal(rotation, np.eye(3)) or not _comes_first(rotation):
            continue
        turned = nodes @ matrix
        index = turned - grid.first_index
        inside = np.all((index >= 0) & (index < np.array(grid.shape)), axis=1)
        inside &= np.any(turned != nodes, axis=1)
        here = flat[inside]
        there = np.ravel_multi_index(tuple(index[inside].T), grid.shape)
        both = measured.ravel()[there]
        found.append(_compare(rotation, diffuse_map, varying, here[both], there[both]))
    return tuple(sorted(found, key=lambda row: not row.is_friedel))


def _comes_first(rotation: IntArray) -> bool:
    """Of an operation and its inverse one."""
    inverse = np.rint(np.linalg.inv(rotation)).astype(np.int64)
    return bool(tuple(rotation.ravel()) >= tuple(inverse.ravel()))


def _compare(
    rotation: IntArray,
    diffuse_map: DiffuseMap,
    varying: FloatArray,
    here: IntArray,
    there: IntArray,
) -> OperationAgreement:
    """Agreement of voxels with others, both as places in the flattened map."""
    values = diffuse_map.intensity.ravel()
    one, other = (values[place].astype(np.float64) for place in (here, there))
    # Which voxel comes first means nothing: each pair in both orders.
    x = np.concatenate([varying.ravel()[here], varying.ravel()[there]])
    y = np.concatenate([varying.ravel()[there], varying.ravel()[here]])
    cc = shell_correlation(x, y, np.zeros(len(x), dtype=np.int64), 1)
    total = np.array([np.sum(np.abs(one) + np.abs(other))])
    r = divide(np.array([np.sum(np.abs(one - other))]), total)
    is_friedel = np.array_equal(rotation, -np.eye(3))
    return OperationAgreement(
        named_hkl(rotation), _kind(rotation), is_friedel, len(x), float(cc[0]), float(r[0])
    )


def named_hkl(rotation: IntArray) -> str:
    """Name where an operation takes h, k, l, as row vectors.

    >>> named_hkl(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    'k, -h, l'
    """
    parts = []
    for column in np.asarray(rotation).T:
        terms = [
            ("-" if factor < 0 else "+") + ("" if abs(factor) == 1 else str(abs(factor))) + name
            for factor, name in zip(column.tolist(), "hkl", strict=True)
            if factor
        ]
        parts.append("".join(terms).removeprefix("+"))
    return ", ".join(parts)


def _kind(rotation: IntArray) -> str:
    """Name an operation by its trace and determinant."""
    sign = round(float(np.linalg.det(rotation)))
    order = _ORDERS[sign * int(np.trace(rotation))]
    return _IMPROPER[order] if sign < 0 else f"{order}-fold axis"
