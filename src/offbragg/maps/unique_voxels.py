"""One entry for each set of equivalent voxels of a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.symmetry import laue_rotations, point_rotations
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import gather_observations
from offbragg.maps.sphere import grid_nodes


@dataclass(frozen=True)
class UniqueVoxels:
    """One entry an orbit of equivalent measured voxels.

    Attributes
    ----------
    index : ndarray, shape (n,), int64
        Index, in the map's flattened grid, of the orbit's first measured voxel.
    hkl : ndarray, shape (n, 3), float64
        Miller indices of that voxel, fractional between nodes.
    intensity : ndarray, shape (n,), float64
    sigma : ndarray, shape (n,), float64, or None
    n_equivalents : ndarray, shape (n,), int64
        Measured voxels of the orbit in the map.
    """

    index: IntArray
    hkl: FloatArray
    intensity: FloatArray
    sigma: FloatArray | None
    n_equivalents: IntArray

    def __len__(self) -> int:
        return len(self.index)


def unique_voxels(diffuse_map: DiffuseMap) -> UniqueVoxels:
    """Give each set of equivalent measured voxels once.

    Where the map is not merged, the equivalents under the Laue group of its space group are
    averaged as `merge` does; the values of a merged map are taken once, as they are: where its
    Friedel mates are apart, h and −h are two.

    Raises
    ------
    InputError
        If no voxel is measured, or the group does not fit the cell or the sampling.

    Examples
    --------
    >>> from offbragg.crystal.grid import HklGrid
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [-1, 0, 1], [0], [0])
    >>> voxels = unique_voxels(DiffuseMap(grid, np.array([2.0, 9.0, 4.0]).reshape(3, 1, 1)))
    >>> voxels.intensity.tolist(), voxels.n_equivalents.tolist(), voxels.hkl[0].tolist()
    ([3.0, 9.0], [2, 1], [-1.0, 0.0, 0.0])
    """
    merged = diffuse_map.laue_group is not None
    laue_group = diffuse_map.laue_group or diffuse_map.space_group
    rotations = point_rotations(laue_group) if merged else laue_rotations(laue_group)
    observations = gather_observations(
        [diffuse_map], laue_group, rotations=rotations, thin_merged=False
    )
    first = observations.first()
    variance: FloatArray | None
    if merged:
        intensity = observations.intensity[first]
        variance = None if observations.variance is None else observations.variance[first]
    else:
        intensity = observations.mean(observations.intensity)
        variance = observations.mean_variance()
    index = observations.flat[first]
    return UniqueVoxels(
        index=index,
        hkl=grid_nodes(observations.grid, index) / np.array(observations.grid.sampling),
        intensity=intensity,
        sigma=None if variance is None else np.sqrt(variance),
        n_equivalents=observations.members(),
    )
