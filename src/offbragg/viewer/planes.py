"""Planes through a map: along its axes, anywhere, their symmetry mates; and a small volume of it.

A plane is points ``origin + i u + j v``; the value of a point is that of the nearest voxel, so
that nothing is shown that is not in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.crystal.symmetry import point_rotations, rotate_hkl
from offbragg.errors import InputError
from offbragg.maps.shells import divide
from offbragg.viewer.chunks import Values
from offbragg.viewer.viewed import ViewedMap

#: Points along an edge of a plane, and of a volume, at most.
LARGEST_EDGE, LARGEST_VOLUME = 2048, 128

_ON_GRID = 1e-6  # of a voxel
_PARALLEL = 1e-6  # sine of the angle between two directions that are one


@dataclass(frozen=True)
class Plane:
    """Points of a plane, in coordinates of a map (h, k, l or x, y, z).

    Attributes
    ----------
    origin, u, v : ndarray, shape (3,), float64
        First point, and the steps along the two edges.
    shape : tuple of 2 int
        Points along u and v.
    """

    origin: FloatArray
    u: FloatArray
    v: FloatArray
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("origin", "u", "v"):
            given = np.asarray(getattr(self, name), dtype=np.float64)
            if given.shape != (3,) or not np.all(np.isfinite(given)):
                raise InputError(f"plane: {name} must be three finite numbers, got {given}")
            object.__setattr__(self, name, given)
        if not all(1 <= n <= LARGEST_EDGE for n in self.shape):
            raise InputError(f"plane: edges must be 1 to {LARGEST_EDGE} points, got {self.shape}")

    def points(self) -> FloatArray:
        """Coordinates (n_u, n_v, 3)."""
        i, j = np.arange(self.shape[0]), np.arange(self.shape[1])
        return self.origin + i[:, None, None] * self.u + j[None, :, None] * self.v


def axis_plane(viewed: ViewedMap, normal: int, level: float) -> Plane:
    """The plane of voxels where one coordinate is nearest to a level.

    Raises
    ------
    InputError
        If the level is outside the map.
    """
    index = round((level - viewed.first[normal]) / viewed.step[normal])
    if not 0 <= index < viewed.shape[normal]:
        last = viewed.first[normal] + (viewed.shape[normal] - 1) * viewed.step[normal]
        raise InputError(
            f"{viewed.axes[normal]} must be {viewed.first[normal]:.6g} to {last:.6g}, got {level}"
        )
    first, second = (i for i in range(3) if i != normal)
    origin = viewed.first.copy()
    origin[normal] += index * viewed.step[normal]
    u, v = np.zeros(3), np.zeros(3)
    u[first], v[second] = viewed.step[first], viewed.step[second]
    return Plane(origin, u, v, (viewed.shape[first], viewed.shape[second]))


def general_plane(
    viewed: ViewedMap, through: Sequence[float], along: Sequence[float], towards: Sequence[float]
) -> Plane:
    """The plane through a point, along two directions, that covers the map.

    Its edges are at right angles: the first along the first direction. Points are as far apart as
    the closest voxels are.

    Raises
    ------
    InputError
        If the directions are parallel or zero.
    """
    point = np.asarray(through, dtype=np.float64)
    first = np.asarray(along, dtype=np.float64) @ viewed.vectors
    second = np.asarray(towards, dtype=np.float64) @ viewed.vectors
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    if not (np.all(np.isfinite([*point, *first, *second])) and min(lengths) > 0):
        raise InputError(f"plane: directions must not be zero, got {along} and {towards}")
    first = first / lengths[0]
    across = second - (second @ first) * first
    if np.linalg.norm(across) < _PARALLEL * lengths[1]:
        raise InputError(f"plane: directions must not be parallel, got {along} and {towards}")
    across = across / np.linalg.norm(across)
    step = float(np.min(np.linalg.norm(viewed.vectors * viewed.step[:, None], axis=1)))
    half = int(np.ceil(_reach(viewed) / step))
    if 2 * half + 1 > LARGEST_EDGE:
        half = (LARGEST_EDGE - 1) // 2
        step = _reach(viewed) / half
    back = np.linalg.inv(viewed.vectors)
    u, v = step * first @ back, step * across @ back
    # The foot of the perpendicular from the origin is in the middle.
    cartesian = point @ viewed.vectors
    foot = cartesian - (cartesian @ first) * first - (cartesian @ across) * across
    return Plane(foot @ back - half * (u + v), u, v, (2 * half + 1, 2 * half + 1))


def sample(viewed: ViewedMap, plane: Plane, array: str) -> Values:
    """Values on a plane, float32 of its shape; NaN where the map has none.

    Parameters
    ----------
    viewed : ViewedMap
    plane : Plane
    array : str
        One of the map's arrays, or ``"anisotropic"``: the intensity less the mean of its shell.

    Raises
    ------
    InputError
        If the map has no such array.
    """
    if array == "anisotropic":
        values = sample(viewed, plane, "intensity")
        return viewed.less_isotropic(values, viewed.inv_d(plane.points()))
    if array not in viewed.arrays:
        raise InputError(f"{viewed.name}: array must be one of {', '.join(viewed.arrays)}")
    voxels = viewed.arrays[array]
    whole = _whole_section(viewed, plane)
    if whole is not None:
        return voxels.section(*whole)
    index, inside = viewed.index_of(plane.points().reshape(-1, 3))
    values = np.full(len(index), np.nan, dtype=np.float32)
    values[inside] = voxels.at(index[inside])
    return values.reshape(plane.shape)


def mates(viewed: ViewedMap, plane: Plane) -> list[Plane]:
    """The planes that symmetry makes of a plane, itself first; a point stays a point of each."""
    found = [plane]
    for rotation in point_rotations(viewed.group):
        if viewed.space == "real":
            # x' = R x, where indices are h' = h R.
            rotation = rotation.T
        origin, u, v = (
            rotate_hkl(x, rotation).astype(np.float64) for x in (plane.origin, plane.u, plane.v)
        )
        if not any(
            np.allclose(origin, p.origin) and np.allclose(u, p.u) and np.allclose(v, p.v)
            for p in found
        ):
            found.append(Plane(origin, u, v, plane.shape))
    return found


def cartesian_volume(viewed: ViewedMap, array: str, edge: int) -> tuple[Values, float]:
    """Means of voxels in a cube of ``edge``³ cells about the origin, and half the cube's edge.

    The cube's edges are along x, y, z of the Cartesian frame [Å⁻¹ or Å]; NaN where there are no
    voxels. Reads the whole map once, block by block.
    """
    if not 2 <= edge <= LARGEST_VOLUME:
        raise InputError(f"edge must be 2 to {LARGEST_VOLUME}, got {edge}")
    source = "intensity" if array == "anisotropic" else array
    if source not in viewed.arrays:
        raise InputError(f"{viewed.name}: array must be one of {', '.join(viewed.arrays)}")
    reach = _reach(viewed)
    total, count = np.zeros(edge**3), np.zeros(edge**3)
    for first, values in viewed.arrays[source].blocks():
        measured = np.isfinite(values)
        if not measured.any():
            continue
        used = values[measured]
        index = np.argwhere(measured) + np.array(first)
        points = (viewed.first + index * viewed.step) @ viewed.vectors
        if array == "anisotropic":
            used = viewed.less_isotropic(used, np.linalg.norm(points, axis=-1))
        cell = np.floor((points / reach + 1) / 2 * edge).astype(np.int64)
        inside = np.all((cell >= 0) & (cell < edge), axis=1)
        flat = np.ravel_multi_index(tuple(cell[inside].T), (edge,) * 3)
        total += np.bincount(flat, used[inside], edge**3)
        count += np.bincount(flat, minlength=edge**3)
    return divide(total, count).reshape((edge,) * 3).astype(np.float32), reach


def _reach(viewed: ViewedMap) -> float:
    """How far from the origin a map goes [Å⁻¹ or Å]."""
    if viewed.d_min is not None:
        return 1.0 / viewed.d_min
    last = viewed.first + (np.array(viewed.shape) - 1) * viewed.step
    corners = np.array(np.meshgrid(*zip(viewed.first, last, strict=True))).reshape(3, -1).T
    return float(viewed.inv_d(corners).max())


def _whole_section(viewed: ViewedMap, plane: Plane) -> tuple[int, int] | None:
    """Axis and index where a plane is a whole section of the map's own voxels."""
    for normal in range(3):
        first, second = (i for i in range(3) if i != normal)
        index = (plane.origin - viewed.first) / viewed.step
        there = round(index[normal])
        if (
            0 <= there < viewed.shape[normal]
            and plane.shape == (viewed.shape[first], viewed.shape[second])
            and abs(index[normal] - there) < _ON_GRID
            and max(abs(index[first]), abs(index[second])) < _ON_GRID
            and np.allclose(plane.u / viewed.step, np.eye(3)[first], atol=_ON_GRID)
            and np.allclose(plane.v / viewed.step, np.eye(3)[second], atol=_ON_GRID)
        ):
            return normal, there
    return None
