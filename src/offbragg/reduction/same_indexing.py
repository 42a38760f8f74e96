"""Sweeps of several crystals brought to one indexing, before they are scaled together."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from offbragg.conventions import IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import lattice_matrices
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.indexing import IndexingMatch, agree_on_indexing, indexing_choices
from offbragg.reduction.observations import Observations
from offbragg.reduction.scaled import scale_observations
from offbragg.reduction.scaled_map import map_of, scaling_data
from offbragg.reduction.scaling_model import Scaling

logger = logging.getLogger(__name__)


def index_alike(observations: Observations) -> tuple[Observations, list[IndexingMatch]]:
    """Give every sweep the indexing of the first, where the lattice allows several.

    The first keeps its own, and so does each that is not surely better off with another.

    Each sweep's own map, as it is measured, is compared with those of the others in each of the
    ways it may be indexed, see `agree_on_indexing`.

    Parameters
    ----------
    observations : Observations

    Returns
    -------
    observations : Observations
        Voxels renamed; those that leave the grid by that are left out.
    matches : list of IndexingMatch
        One a sweep; empty where there is one sweep, or one way.
    """
    grid, group = observations.grid, observations.space_group
    sweeps = np.unique(observations.wedges.sweep)
    if len(sweeps) < 2 or len(indexing_choices(grid.cell, group)) < 2:
        return observations, []
    sweep_of = observations.wedges.sweep[observations.columns["wedge"]]
    matches = agree_on_indexing([_map_of_sweep(observations, sweep_of == s) for s in sweeps])
    voxel = observations.columns["voxel"].copy()
    kept = np.ones(len(voxel), dtype=bool)
    for sweep, match in zip(sweeps[1:], matches[1:], strict=True):
        if match.sure:
            mine = sweep_of == sweep
            voxel[mine], kept[mine] = _renamed(voxel[mine], grid, match.rotations[match.sure])
            logger.warning("sweep %d is indexed anew, as %s", sweep, match.operations[match.sure])
    columns = {name: column[kept] for name, column in observations.columns.items()}
    return replace(observations, columns=columns | {"voxel": voxel[kept]}), matches


def _map_of_sweep(observations: Observations, mine: np.ndarray) -> DiffuseMap:
    columns = {name: column[mine] for name, column in observations.columns.items()}
    part = replace(observations, columns=columns)
    unscaled = scale_observations(scaling_data(part), Scaling.none(), outlier_probability=0.0)
    return map_of(part, unscaled)


def _renamed(voxel: IntArray, grid: HklGrid, rotation: IntArray) -> tuple[IntArray, np.ndarray]:
    """Voxels (n,) whose indices h' make h' R what they were, and which lie in the grid."""
    inverse = np.rint(np.linalg.inv(rotation)).astype(np.int64)
    matrix = lattice_matrices(inverse[None], grid.sampling)[0]
    nodes = np.stack(np.unravel_index(voxel, grid.shape), axis=1) + grid.first_index
    place = nodes @ matrix - grid.first_index
    inside = np.all((place >= 0) & (place < np.array(grid.shape)), axis=1)
    safe = np.where(inside[:, None], place, 0)
    return np.ravel_multi_index(tuple(safe.T), grid.shape), inside
