"""What a fit sees of a map: its unique voxels within the limits, and which are held out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import TWO_PI, BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import laue_rotations
from offbragg.errors import InputError
from offbragg.inference.smooth import SmoothFunctions
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.unique_voxels import UniqueVoxels, unique_voxels


@dataclass(frozen=True, eq=False)
class FitData:
    """Unique voxels of a map, for a structure's cell.

    Attributes
    ----------
    grid : HklGrid
        The map's, limited to the fit's resolution.
    own_grid : HklGrid
        The same voxels, with the structure's cell and its limit.
    voxels : UniqueVoxels
    q_length : ndarray, shape (n,)
        [Å⁻¹], by the map's cell.
    laue : ndarray, shape (n_operations, 3, 3), int64
        Rotations of the map's Laue group.
    """

    grid: HklGrid
    own_grid: HklGrid
    voxels: UniqueVoxels
    q_length: FloatArray
    laue: IntArray

    @classmethod
    def of(
        cls, observed: DiffuseMap, cell: Cell, d_min: float | None, d_max: float | None
    ) -> FitData:
        """Average equivalent voxels and keep those within limits of resolution [Å].

        Raises
        ------
        InputError
            If none is measured there.
        """
        voxels = unique_voxels(observed)
        q_length = TWO_PI * np.linalg.norm(voxels.hkl @ observed.cell.frac_matrix, axis=1)
        inside = q_length > 1e-9  # the forward beam has no diffuse scattering
        if d_min is not None:
            inside &= q_length <= TWO_PI / d_min * (1 + 1e-9)
        if d_max is not None:
            inside &= q_length >= TWO_PI / d_max * (1 - 1e-9)
        if voxels.sigma is not None:
            inside &= np.isfinite(voxels.sigma) & (voxels.sigma > 0)
        if not inside.any():
            raise InputError(
                f"fit: expected measured voxels between {d_max} and {d_min} Å, found none"
            )
        chosen = UniqueVoxels(
            index=voxels.index[inside],
            hkl=voxels.hkl[inside],
            intensity=voxels.intensity[inside].astype(np.float64),
            sigma=None if voxels.sigma is None else voxels.sigma[inside].astype(np.float64),
            n_equivalents=voxels.n_equivalents[inside],
        )
        q_length = q_length[inside]
        # Just beyond the outermost voxel: nothing further out need be simulated.
        highest = TWO_PI / float(q_length.max()) * (1 - 1e-7)
        inv_d = np.linalg.norm(chosen.hkl @ cell.frac_matrix, axis=1)
        return cls(
            grid=replace(observed.grid, d_min=highest),
            own_grid=replace(observed.grid, cell=cell, d_min=(1 - 1e-7) / float(inv_d.max())),
            voxels=chosen,
            q_length=q_length,
            laue=laue_rotations(observed.laue_group or observed.space_group),
        )

    def take(self, chosen: BoolArray) -> tuple[FloatArray, FloatArray | None]:
        """Intensities, and σ where there are, of some voxels."""
        sigma = self.voxels.sigma
        return self.voxels.intensity[chosen], None if sigma is None else sigma[chosen]

    @property
    def q(self) -> FloatArray:
        """Scattering vectors (n, 3) [Å⁻¹], by the map's cell."""
        return np.asarray(TWO_PI * self.voxels.hkl @ self.grid.cell.frac_matrix)

    def smooth(self, kind: str, degree: int, working: BoolArray | None = None) -> SmoothFunctions:
        """Functions over working voxels, so that none hangs on held-out ones alone."""
        q = self.q if working is None else self.q[working]
        return SmoothFunctions.over(q, self.grid.cell, self.laue, kind, degree)


def without_masked(observed: DiffuseMap, mask: ArrayLike | None) -> DiffuseMap:
    """Return a map without the voxels of a mask; their equivalents stay.

    Parameters
    ----------
    observed : DiffuseMap
    mask : array of bool, of the map's shape, or None
        True: excluded.

    Raises
    ------
    InputError
        If it is of another shape or type.
    """
    if mask is None:
        return observed
    excluded = np.asarray(mask)
    if excluded.dtype != bool or excluded.shape != observed.grid.shape:
        raise InputError(
            f"mask must be boolean {observed.grid.shape}, got {excluded.dtype} {excluded.shape}"
        )
    return replace(observed, intensity=np.where(excluded, np.nan, observed.intensity))
