"""What Friedel mates have in common, and what they differ by: the even and odd parts of a map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import lattice_matrices, laue_symbol, point_rotations
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import make_step
from offbragg.maps.symmetrize import merge
from offbragg.runtime import iter_chunks

_CHUNK_VOXELS = 1 << 18


@dataclass(frozen=True, eq=False)
class FriedelSplit:
    """A map in two parts; I(±h) = mean(h) ± difference(h) / 2 where both mates are measured.

    Attributes
    ----------
    mean : DiffuseMap
        Even: the same at h and -h. Merged by the Laue group.
    difference : DiffuseMap
        Odd, I(h) - I(-h). Merged by the point group: Friedel mates are apart.
    """

    mean: DiffuseMap
    difference: DiffuseMap


def split_friedel(diffuse_map: DiffuseMap) -> FriedelSplit:
    r"""Split a map into the mean of Friedel mates and their difference.

    .. math:: M = \frac{I(h) + I(-h)}{2}, \quad D = I(h) - I(-h), \qquad
              \sigma_D^2 = 4 \sigma_M^2 = \sigma^2(h) + \sigma^2(-h)

    with I(h) the mean over the equivalents of h by the point group. Mates have equal weights,
    whatever they were measured with, so that M has no part of what is odd; where one of them is
    not measured, M is the other, and D is not measured. Nor is D where h and -h are equivalent:
    it is 0 by symmetry. ``count`` is that of both mates; the half maps are split as well.

    Parameters
    ----------
    diffuse_map : DiffuseMap
        Not merged, or merged with Friedel mates apart.

    Raises
    ------
    InputError
        If Friedel mates are averaged already, or as `merge`.

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [-1, 0, 1], [0], [0])
    >>> split = split_friedel(DiffuseMap(grid, np.array([2.0, 9.0, 5.0]).reshape(3, 1, 1), "P 1"))
    >>> split.mean.intensity.ravel().tolist(), split.difference.intensity.ravel().tolist()
    ([3.5, 9.0, 3.5], [-3.0, nan, 3.0])
    """
    apart = _centred(merge(diffuse_map, friedel="apart").map)
    is_centric = centric_voxels(apart.grid, point_rotations(apart.laue_group))
    mean: dict[str, Any] = {}
    difference: dict[str, Any] = {}
    for name in ("intensity", "half_1", "half_2"):
        if (values := getattr(apart, name)) is not None:
            mean[name], difference[name] = _even_and_odd(values, is_centric)
    if apart.sigma is not None:
        mean["sigma"], difference["sigma"] = _sigmas(apart.sigma, is_centric)
    if apart.count is not None:
        both = np.where(is_centric, apart.count, apart.count + _mates(apart.count))
        mean["count"] = both.astype(apart.count.dtype)
        difference["count"] = np.where(np.isfinite(difference["intensity"]), both, 0).astype(
            apart.count.dtype
        )
    laue_group = laue_symbol(apart.laue_group)

    def part(name: str, group: str | None, arrays: dict[str, Any]) -> DiffuseMap:
        step = make_step("split-friedel", {"part": name, "laue_group": group})
        provenance = (*apart.provenance, step)
        return replace(apart, laue_group=group, provenance=provenance, **arrays)

    return FriedelSplit(
        part("mean", laue_group, mean), part("difference", apart.laue_group, difference)
    )


def centric_voxels(grid: HklGrid, rotations: IntArray) -> BoolArray:
    """Voxels whose Friedel mate is equivalent to them, h R = -h for one of the rotations.

    >>> grid = HklGrid((10, 10, 12, 90, 90, 90), [1, 2], [3], [0, 1])
    >>> centric_voxels(grid, point_rotations("P 4")).tolist()
    [[[True, False]], [[True, False]]]
    """
    matrices = lattice_matrices(rotations, grid.sampling) + np.eye(3, dtype=np.int64)
    h, k, l = (  # noqa: E741
        first + np.arange(n) for first, n in zip(grid.first_index, grid.shape, strict=True)
    )
    found = np.zeros(grid.shape, dtype=bool)
    for rows in iter_chunks(len(h), max(1, _CHUNK_VOXELS // (len(k) * len(l)))):
        for matrix in matrices:
            is_own = np.ones((1, 1, 1), dtype=bool)
            for of_h, of_k, of_l in matrix.T:
                sums = of_h * h[rows, None, None] + of_k * k[:, None] + of_l * l
                is_own = is_own & (sums == 0)
            found[rows] |= is_own
    return found


def _mates(values: NDArray[Any]) -> NDArray[Any]:
    """Values at -h, of a centred grid."""
    return values[::-1, ::-1, ::-1]


def _even_and_odd(
    values: NDArray[np.floating], is_centric: BoolArray
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    here = values.astype(np.float64)
    there = _mates(here)
    mean = _either((here + there) / 2, here, there)
    difference = np.where(is_centric, np.nan, here - there)
    return mean.astype(values.dtype), difference.astype(values.dtype)


def _sigmas(
    sigma: NDArray[np.floating], is_centric: BoolArray
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Standard errors of means and differences; equivalents of each other are one measurement."""
    here = sigma.astype(np.float64)
    of_difference = np.where(is_centric, np.nan, np.hypot(here, _mates(here)))
    of_mean = np.where(is_centric, here, _either(of_difference / 2, here, _mates(here)))
    return of_mean.astype(sigma.dtype), of_difference.astype(sigma.dtype)


def _either(both: FloatArray, here: FloatArray, there: FloatArray) -> FloatArray:
    """What both say, or the one that is a number."""
    return np.where(np.isfinite(both), both, np.where(np.isfinite(here), here, there))


def _centred(diffuse_map: DiffuseMap) -> DiffuseMap:
    """The map on a grid that holds -h for every h, what is added not measured."""
    grid = diffuse_map.grid
    last = grid.first_index + np.array(grid.shape) - 1
    half = np.maximum(np.abs(grid.first_index), np.abs(last))
    around = list(zip(grid.first_index + half, half - last, strict=True))
    if not np.any(around):
        return diffuse_map
    axes = [np.arange(-n, n + 1) / s for n, s in zip(half, grid.sampling, strict=True)]
    arrays: dict[str, Any] = {
        name: np.pad(values, around, constant_values=0 if name == "count" else np.nan)
        for name in ("intensity", "sigma", "count", "half_1", "half_2")
        if (values := getattr(diffuse_map, name)) is not None
    }
    target = HklGrid(grid.cell, axes[0], axes[1], axes[2], grid.sampling, grid.d_min)
    return replace(diffuse_map, grid=target, **arrays)
