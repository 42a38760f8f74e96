"""Planes of a map: their values, and where their voxels lie in true angle and length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.centring import allowed_nodes
from offbragg.crystal.grid import STEP_TOLERANCE, HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.radial import RadialProfile

#: Planes by name: the index along x, the one towards y, and the constant one.
PLANES = {"hk": "hkl", "hl": "hlk", "kl": "klh"}


@dataclass(frozen=True, eq=False)
class Section:
    """A plane of a map at a level of the third index.

    Attributes
    ----------
    plane : {"hk", "hl", "kl"}
    level : float
        Of the plane that was taken: the map's nearest to the one that was asked for.
    cell : Cell
    across, up : ndarray, shape (n_across,), (n_up,)
        The two indices, in reciprocal-lattice units.
    values : ndarray, shape (n_up, n_across)
        NaN where not measured.
    """

    plane: str
    level: float
    cell: Cell
    across: FloatArray
    up: FloatArray
    values: NDArray[np.floating]

    @property
    def normal(self) -> str:
        """Name of the index that is constant."""
        return PLANES[self.plane][2]

    @property
    def vectors(self) -> FloatArray:
        """Reciprocal vectors (3, 3) [Å⁻¹, 1/d]: of x, y and the third index, as (x, y, out).

        The first lies along x, the second has y > 0.
        """
        a, b, c = self.cell.frac_matrix[["hkl".index(name) for name in PLANES[self.plane]]]
        x = a / np.linalg.norm(a)
        out = np.cross(a, b) / np.linalg.norm(np.cross(a, b))
        frame = np.stack([x, np.cross(out, x), out])
        vectors: FloatArray = np.stack([a, b, c]) @ frame.T
        return vectors

    def place(self, across: FloatArray, up: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cartesian coordinates [Å⁻¹, 1/d] of indices, within the plane; they broadcast.

        The origin is the point where both are 0.
        """
        a, b, _ = self.vectors
        return across * a[0] + up * b[0], across * a[1] + up * b[1]

    def coordinates(self) -> tuple[FloatArray, FloatArray]:
        """Cartesian coordinates [Å⁻¹, 1/d] of the voxels, each (n_up, n_across)."""
        return self.place(self.across[None, :], self.up[:, None])

    def inv_d(self) -> FloatArray:
        """1/d (n_up, n_across) [Å⁻¹] of the voxels."""
        return self.inv_d_at(*self.coordinates())

    def inv_d_at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """1/d [Å⁻¹] of points of the plane."""
        offset = self.level * self.vectors[2]
        return np.asarray(np.sqrt((x + offset[0]) ** 2 + (y + offset[1]) ** 2 + offset[2] ** 2))

    def ring(self, d: float) -> tuple[float, float, float] | None:
        """Centre x, y and radius [Å⁻¹] of the circle of a resolution [Å]; None: not in the plane.

        Raises
        ------
        InputError
            If it is not above 0.
        """
        if not (np.isfinite(d) and d > 0):
            raise InputError(f"rings must be at d > 0 Å, got {d}")
        x, y, out = self.level * self.vectors[2]
        square = 1 / d**2 - out**2
        return None if square <= 0 else (float(-x), float(-y), float(np.sqrt(square)))

    def nodes(self, space_group: object) -> FloatArray:
        """Indices (n, 2) of the Bragg nodes among the extent of the plane that centring leaves."""
        third = round(self.level)
        if abs(self.level - third) > STEP_TOLERANCE:
            return np.empty((0, 2))
        ranges = [np.arange(np.ceil(a[0]), np.floor(a[-1]) + 1) for a in (self.across, self.up)]
        flat = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 2)
        hkl = np.empty((len(flat), 3), dtype=np.int64)
        first, second, normal = ("hkl".index(name) for name in PLANES[self.plane])
        hkl[:, first], hkl[:, second], hkl[:, normal] = flat[:, 0], flat[:, 1], third
        allowed = allowed_nodes(space_group)
        return flat[allowed[tuple((hkl % len(allowed)).T)]]


def take_section(
    diffuse_map: DiffuseMap,
    plane: str = "hk",
    level: float = 0.0,
    profile: RadialProfile | None = None,
) -> Section:
    """Take the plane of a map that is nearest to a level.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    plane : {"hk", "hl", "kl"}
    level : float
        Of the third index.
    profile : RadialProfile, optional
        The map's. Given, its means are taken off: the anisotropic part.

    Raises
    ------
    InputError
        If the plane is none of these.

    Examples
    --------
    >>> grid = HklGrid((10, 20, 30, 90, 90, 90), [0, 1, 2], [0, 1], [0, 1])
    >>> made = take_section(DiffuseMap(grid, np.arange(12.0).reshape(3, 2, 2)), "hk", 0.9)
    >>> made.level, made.values.tolist()
    (1.0, [[1.0, 5.0, 9.0], [3.0, 7.0, 11.0]])
    """
    if plane not in PLANES:
        raise InputError(f"plane must be one of {' '.join(PLANES)}, got {plane!r}")
    across, up, normal = (_axis(diffuse_map.grid, name) for name in PLANES[plane])
    index = int(np.argmin(np.abs(normal - level)))
    values: NDArray[np.floating] = np.take(
        diffuse_map.intensity, index, axis="hkl".index(PLANES[plane][2])
    ).T
    found = Section(plane, float(normal[index]), diffuse_map.cell, across, up, values)
    if profile is None:
        return found
    varying = profile.varying(values, found.inv_d())
    return Section(plane, found.level, found.cell, across, up, varying)


def _axis(grid: HklGrid, name: str) -> FloatArray:
    return {"h": grid.h, "k": grid.k, "l": grid.l}[name]
