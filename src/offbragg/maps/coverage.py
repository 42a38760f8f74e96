"""What part of its sphere a map covers, after symmetry, and where the rest is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import ISOTROPIC_SHELL_WIDTH, BoolArray, FloatArray, IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import (
    check_group_fits_cell,
    fits_sampling,
    lattice_matrices,
    laue_symbol,
    point_rotations,
)
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.missing_shape import MissingShape, missing_shape
from offbragg.maps.shells import divide, isotropic_shells

#: Voxels that are looked at; of larger spheres so many at random, which tells 0.2 %.
MOST_VOXELS = 200_000
# A shell is empty, or short of what the others have, where it has less than half of that.
_SHORT = 0.5
# Below this share of the directions what is missing has no shape worth telling.
_WORTH_TELLING = 0.03
# Directions are looked at beyond this part of the highest 1/d: nearer in, voxels are coarse.
_INNER = 0.4


@dataclass(frozen=True, eq=False)
class Coverage:
    """What of a sphere is measured, equivalents filled in.

    Attributes
    ----------
    d_min : float
        The map's limit, or its outermost measured voxel [Å].
    between : float
        Share covered of the voxels that are not Bragg nodes, or of all where every one is.
    nodes : float or None
        Share covered of the voxels on Bragg nodes; None where every voxel is one.
    hole_d : float or None
        The map begins at this resolution [Å]: inside, less than half is covered.
    outer_d, outer_covered : float or None
        Beyond this resolution [Å] coverage is less than half of what it is before, and this.
    directions : float
        Share covered between the two, not at nodes.
    shape : MissingShape or None
        What the rest looks like; None where it is less than 3 %, or of no plain shape.
    """

    d_min: float
    between: float
    nodes: float | None
    hole_d: float | None
    outer_d: float | None
    outer_covered: float | None
    directions: float
    shape: MissingShape | None


def map_coverage(diffuse_map: DiffuseMap, rng: np.random.Generator | None = None) -> Coverage:
    """Tell what a map covers of the sphere to its resolution, and what shape is missing.

    A voxel is covered if it or an equivalent is measured: under the group that the map is merged
    by, else its Laue group. Memory and time are those of 200 000 voxels times the operations.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    rng : numpy.random.Generator, optional
        Draws the voxels of a larger sphere; one of seed 0 if not given.

    Raises
    ------
    InputError
        If no voxel but the origin is measured, or the group does not fit the cell or the sampling.

    Examples
    --------
    >>> grid = HklGrid.from_resolution((20, 20, 20, 90, 90, 90), 2.0, 2)
    >>> values = np.where(grid.within(d_max=8.0), 1.0, np.nan)
    >>> found = map_coverage(DiffuseMap(grid, values))
    >>> round(found.hole_d, 1), found.shape
    (8.0, None)
    """
    grid = diffuse_map.grid
    group = diffuse_map.laue_group or laue_symbol(diffuse_map.space_group)
    rotations = point_rotations(group)
    check_group_fits_cell(grid.cell, rotations, f"laue_group {group}")
    if not fits_sampling(rotations, grid.sampling):
        raise InputError(f"sampling {grid.sampling} does not fit the group {group}")
    measured = diffuse_map.measured
    highest = float(grid.inv_d().max(where=measured, initial=0.0))
    if highest <= 0:
        raise InputError("coverage: expected at least one measured voxel, got none")
    highest = highest if grid.d_min is None else max(highest, 1 / grid.d_min)
    nodes = _sphere_nodes(grid, highest, rng or np.random.default_rng(0))
    covered = np.zeros(len(nodes), dtype=bool)
    for matrix in lattice_matrices(rotations, grid.sampling):
        index = nodes @ matrix - grid.first_index
        inside = np.all((index >= 0) & (index < np.array(grid.shape)), axis=1)
        covered[inside] |= measured[tuple(index[inside].T)]
    sampling = np.array(grid.sampling)
    is_node = np.all(nodes % sampling == 0, axis=1)
    if np.all(sampling == 1):
        is_node[:] = False
    vectors = (nodes / sampling) @ grid.cell.frac_matrix
    return _tell(vectors, covered, is_node, highest)


def _sphere_nodes(grid: HklGrid, highest: float, rng: np.random.Generator) -> IntArray:
    """Voxels (n, 3) of the whole sphere, whole numbers hkl · sampling; some where they are many."""
    sphere = HklGrid.from_resolution(grid.cell, (1 - 1e-9) / highest, grid.sampling)
    inside = np.flatnonzero(sphere.inv_d().ravel() <= (1 + 1e-9) * highest)
    if len(inside) > MOST_VOXELS:
        inside = inside[rng.choice(len(inside), MOST_VOXELS, replace=False)]
    nodes: IntArray = np.stack(np.unravel_index(inside, sphere.shape), axis=1)
    return nodes + sphere.first_index


def _tell(vectors: FloatArray, covered: BoolArray, is_node: BoolArray, highest: float) -> Coverage:
    """Figures of voxels at vectors (n, 3) [Å⁻¹]."""
    inv_d = np.linalg.norm(vectors, axis=1)
    some = ~is_node
    shell = isotropic_shells(inv_d[some])
    n_shells = int(shell.max()) + 1
    share = divide(
        np.bincount(shell, covered[some], n_shells), np.bincount(shell, minlength=n_shells)
    )
    known = np.flatnonzero(np.isfinite(share))
    begun = known[share[known] >= _SHORT * np.nanmax(share)]
    usual = float(np.nanmedian(share[begun[0] : begun[-1] + 1]))
    full = known[share[known] >= _SHORT * usual]
    low, high = full[0] * ISOTROPIC_SHELL_WIDTH, (full[-1] + 1) * ISOTROPIC_SHELL_WIDTH
    # The voxel at the origin and its neighbours lie under any beam stop: that is no hole.
    inner = inv_d[some & covered].min() if low >= 2 * ISOTROPIC_SHELL_WIDTH else None
    has_outer = high < highest - ISOTROPIC_SHELL_WIDTH
    beyond = some & (inv_d >= high)
    chosen = some & (inv_d >= max(low, _INNER * highest)) & (inv_d < high)
    if not np.any(chosen):
        chosen = some & (inv_d >= low) & (inv_d > 0)
    directions = float(covered[chosen].mean())
    shape = None
    if 1 - directions > _WORTH_TELLING:
        shape = missing_shape(vectors[chosen] / inv_d[chosen, None], ~covered[chosen])
    return Coverage(
        d_min=1 / highest,
        between=float(covered[some].mean()),
        nodes=float(covered[is_node].mean()) if np.any(is_node) else None,
        hole_d=None if inner is None else float(1 / max(low, inner)),
        outer_d=float(1 / high) if has_outer else None,
        outer_covered=float(covered[beyond].mean()) if has_outer and np.any(beyond) else None,
        directions=directions,
        shape=shape,
    )
