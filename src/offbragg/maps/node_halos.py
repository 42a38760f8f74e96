"""Halos: the mean intensity of a map around its Bragg nodes, by distance from the nearest one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import TWO_PI, BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.centring import allowed_nodes
from offbragg.crystal.symmetry import point_rotations
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.radial import RadialProfile, slabs
from offbragg.maps.shells import divide, shell_of
from offbragg.runtime import SILENT, Progress

# Distances this close, as a share of the longest, are the same but for rounding.
_SAME_DISTANCE = 1e-6


@dataclass(frozen=True, eq=False)
class NodeHalo:
    """The mean intensity around Bragg nodes between two limits of resolution.

    Attributes
    ----------
    d_max, d_min : float
        Limits [Å].
    distance : ndarray, shape (n,), float64
        From the nearest node, |q − q_H| [Å⁻¹], 2π included.
    mean : ndarray, shape (n,), float64
        NaN where no voxel is measured.
    error : ndarray, shape (n,), float64
        Standard error of the mean by the scatter of the voxels; copies, in a merged map, count
        once.
    n : ndarray, shape (n,), int64
        Measured voxels.
    """

    d_max: float
    d_min: float
    distance: FloatArray
    mean: FloatArray
    error: FloatArray
    n: IntArray


def node_halos(
    diffuse_map: DiffuseMap,
    d_max: float | None = None,
    d_min: float | None = None,
    n_shells: int = 1,
    *,
    width: float | None = None,
    profile: RadialProfile | None = None,
    progress: Progress = SILENT,
) -> tuple[NodeHalo, ...]:
    """Average a map around its Bragg nodes.

    Every voxel counts for the node that is nearest to it, of those that the centring leaves. The
    sampling gives few different distances; without ``width`` each is a point.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    d_max, d_min : float, optional
        Limits of resolution [Å]; those of the measured voxels, the origin left out.
    n_shells : int
        Shells of equal volume between them, each averaged by itself.
    width : float, optional
        Of bins of distance [Å⁻¹], 2π included.
    profile : RadialProfile, optional
        The map's. Given, its means are taken off first: the anisotropic part.
    progress : Progress, optional

    Raises
    ------
    InputError
        If no voxel is measured between the limits, or a number is out of its range.

    Examples
    --------
    >>> from offbragg.crystal.grid import HklGrid
    >>> grid = HklGrid((2 * np.pi,) * 3 + (90, 90, 90), np.arange(5) / 2, [0.0], [0.0])
    >>> values = np.array([9.0, 1.0, 5.0, 2.0, 7.0]).reshape(5, 1, 1)
    >>> (halo,) = node_halos(DiffuseMap(grid, values), d_max=20)
    >>> halo.distance.round(6).tolist(), halo.mean.tolist(), halo.n.tolist()
    ([0.0, 0.5], [6.0, 1.5], [2, 2])
    """
    if n_shells < 1:
        raise InputError(f"n_shells must be >= 1, got {n_shells}")
    if width is not None and not (np.isfinite(width) and width > 0):
        raise InputError(f"width must be > 0 Å⁻¹, got {width}")
    grid = diffuse_map.grid
    allowed = allowed_nodes(diffuse_map.space_group)
    low, high = _limits(diffuse_map, d_max, d_min)
    sizes = [len(allowed) * n for n in grid.sampling]
    n_classes = int(np.prod(sizes))
    counts = np.zeros((n_shells, n_classes), dtype=np.int64)
    sums = np.zeros((2, n_shells, n_classes))
    first, last = grid.first_index, grid.first_index + np.array(grid.shape)
    h, k, l = (np.arange(a, b) % n for a, b, n in zip(first, last, sizes, strict=True))  # noqa: E741
    in_plane = (k[:, None] * sizes[2] + l[None, :])[None]
    for slab, inv_d in slabs(grid, progress, "halos"):
        values = diffuse_map.intensity[slab]
        used = np.isfinite(values) & (inv_d >= low) & (inv_d <= high)
        number = (h[slab, None, None] * (sizes[1] * sizes[2]) + in_plane)[used]
        number += n_classes * shell_of(inv_d[used], low, high, n_shells)
        x = (values if profile is None else profile.varying(values, inv_d))[used]
        x = x.astype(np.float64)
        counts += np.bincount(number, minlength=counts.size).reshape(counts.shape)
        for row, column in enumerate((x, x**2)):
            sums[row] += np.bincount(number, column, counts.size).reshape(counts.shape)
    copies = 1 if diffuse_map.laue_group is None else len(point_rotations(diffuse_map.laue_group))
    distance = _distances(grid.sampling, allowed, grid.cell)
    edges = 1 / np.cbrt(np.linspace(low**3, high**3, n_shells + 1))
    return tuple(
        _halo(distance, counts[i], sums[:, i], (edges[i], edges[i + 1]), copies, width)
        for i in range(n_shells)
    )


def _limits(
    diffuse_map: DiffuseMap, d_max: float | None, d_min: float | None
) -> tuple[float, float]:
    """Lowest and highest 1/d [Å⁻¹] that count, from the measured voxels within the limits."""
    for name, limit in (("d_max", d_max), ("d_min", d_min)):
        if limit is not None and not limit > 0:
            raise InputError(f"{name} must be > 0 Å, got {limit}")
    least = 0.0 if d_max is None else (1 - 1e-9) / d_max
    most = np.inf if d_min is None else (1 + 1e-9) / d_min
    low, high = np.inf, 0.0
    for slab, inv_d in slabs(diffuse_map.grid):
        measured = np.isfinite(diffuse_map.intensity[slab])
        found = inv_d[measured & (inv_d > 0) & (inv_d >= least) & (inv_d <= most)]
        low = min(low, float(found.min(initial=np.inf)))
        high = max(high, float(found.max(initial=0.0)))
    if not high:
        raise InputError(f"halos: expected voxels measured between {d_max} and {d_min} Å, got none")
    return low * (1 - 1e-12), high * (1 + 1e-12)


def _distances(sampling: tuple[int, int, int], allowed: BoolArray, cell: Cell) -> FloatArray:
    """Distance [Å⁻¹] of each class of voxels, by their place in the lattice, from its node."""
    period = len(allowed)
    axes = [np.arange(period * n) / n for n in sampling]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    nearest = np.full(len(places), np.inf)
    for node in itertools.product(range(-2, period + 3), repeat=3):
        if allowed[tuple(np.array(node) % period)]:
            square = np.sum(((places - node) @ cell.frac_matrix) ** 2, axis=1)
            nearest = np.minimum(nearest, square)
    return np.asarray(TWO_PI * np.sqrt(nearest))


def _halo(
    distance: FloatArray,
    counts: IntArray,
    sums: FloatArray,
    limits: tuple[float, float],
    copies: int,
    width: float | None,
) -> NodeHalo:
    """Average classes of one distance, or of one bin."""
    step = _SAME_DISTANCE * float(distance.max(initial=1.0)) if width is None else width
    binned = np.rint(distance / step) if width is None else np.floor(distance / step + 1e-9)
    _, group = np.unique(binned.astype(np.int64), return_inverse=True)
    size = int(group.max()) + 1
    n = np.bincount(group, counts, size).astype(np.int64)
    total, square = (np.bincount(group, row, size) for row in sums)
    mean = divide(total, n)
    spread = np.maximum(divide(square, n) - mean**2, 0.0)
    classes = np.bincount(group, minlength=size)
    return NodeHalo(
        d_max=float(limits[0]),
        d_min=float(limits[1]),
        distance=np.bincount(group, distance, size) / classes,
        mean=mean,
        error=np.sqrt(spread / np.maximum(n / copies - 1, 1)),
        n=n,
    )
