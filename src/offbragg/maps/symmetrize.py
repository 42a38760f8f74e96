"""Averaging over symmetry, and a map as an operation sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import BoolArray, IntArray
from offbragg.crystal.friedel import equivalence_group, has_inversion
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import lattice_matrices, point_rotations
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import gather_observations
from offbragg.maps.provenance import make_step
from offbragg.maps.sphere import fill_sphere, grid_nodes
from offbragg.maps.statistics import friedel_pairs, kind_of, tabulate
from offbragg.runtime import SILENT, Progress


@dataclass(frozen=True)
class MergeResult:
    """A merged map and how well its observations agreed.

    Attributes
    ----------
    map : DiffuseMap
        The full sphere filled with the merged values; with Friedel mates apart, what equivalents
        fill of it.
    statistics : mapping
        The tables of `offbragg.maps.statistics.statistics`, of the observations before merging.
    """

    map: DiffuseMap
    statistics: Any


def merge(
    maps: DiffuseMap | Sequence[DiffuseMap],
    laue_group: str | None = None,
    friedel: str = "merged",
    progress: Progress = SILENT,
) -> MergeResult:
    r"""Average equivalent voxels of one or more maps and fill the full sphere with the means.

    .. math:: I = \frac{\sum n_i I_i}{\sum n_i}, \qquad
              \sigma^2 = \frac{\sum n_i^2 \sigma_i^2}{(\sum n_i)^2}

    over the voxels i of an orbit, with n the pixels that each averages: the result is the plain
    mean of all pixels of the orbit, whichever voxel or map they fell in, so that merging maps of
    parts of an experiment is the same as mapping it whole. The weights do not depend on what was
    counted (weights 1/σ², from a voxel's own counts, pull means low), and for pixels that expect
    like counts they are the best ones. Equal weights would count a voxel cut by the edge of the
    scan, of one pixel, like one of fifty; they are used (n = 1) where a map has no ``count``.
    The σ hold counting statistics only, not errors of scale, which more pixels do not reduce.

    Parameters
    ----------
    maps : DiffuseMap or sequence of them
        On one sampling; voxels are matched by hkl, and the same voxel in two maps is two
        observations. A merged map counts as one observation an
        orbit, so that its σ do not shrink; one merged by this group already comes back unchanged.
    laue_group : str, optional
        A Laue symbol ("4/m") or a space group (its Laue group is meant). Default: the group the
        maps are merged by, else the Laue group of the first map's space group.
    friedel : str
        merged: I(h) and I(−h) are averaged, as equivalents of the Laue group. apart: they are not;
        equivalents are those of the point group, which is that of a given space group without
        inversion, else that of the first map's space group where its Laue group is the one given,
        else the proper rotations of the group.
    progress : Progress, optional
        Told of each of four stages.

    Returns
    -------
    MergeResult
        Its map lies on the smallest centred grid that holds the given grids and every equivalent
        of a measured voxel. ``sigma``, ``count`` (all pixels of the orbit), ``half_1`` and
        ``half_2`` (averaged like the intensity) are there where every map has them.

    Raises
    ------
    InputError
        If samplings differ or do not fit the group, cells differ by more than 3 %, the group does
        not fit the cell or does not contain one that a map is merged by, Friedel mates are to be
        apart that are averaged already, or nothing is measured.

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [-1, 0, 1], [0], [0])
    >>> observed = DiffuseMap(grid, np.array([2.0, 9.0, 4.0]).reshape(3, 1, 1), "P 1")
    >>> merge(observed).map.intensity.ravel().tolist()
    [3.0, 9.0, 3.0]
    """
    listed = [maps] if isinstance(maps, DiffuseMap) else list(maps)
    if not listed:
        raise InputError("merge: expected at least one map, got none")
    merged_by = [x.laue_group for x in listed if x.laue_group is not None]
    wanted = laue_group or (merged_by[0] if merged_by else listed[0].space_group)
    group = equivalence_group(wanted, friedel, listed[0].space_group)
    for own in merged_by:
        _check_contains(group.rotations, wanted, own)
    if (
        len(listed) == 1
        and merged_by
        and len(point_rotations(merged_by[0])) == len(group.rotations)
    ):
        return MergeResult(listed[0], listed[0].statistics)
    progress.start("merging", 4)
    observations = gather_observations(listed, wanted, rotations=group.rotations)
    progress.step()
    pairs = friedel_pairs(observations, group.symbol, listed[0].space_group)
    progress.step()
    d_min = _common_d_min(listed)
    kind = "computed" if all(kind_of(x) == "computed" for x in listed) else "observed"
    tables = tabulate(observations, pairs, group.symbol, d_min, kind)
    progress.step()
    kept = dict(listed[0].statistics) if len(listed) == 1 else {}
    result = fill_sphere(observations, group.rotations, d_min, np.result_type(*_dtypes(listed)))
    progress.step()
    step = make_step(
        "merge",
        {
            "laue_group": group.symbol,
            "friedel": friedel,
            "weights": tables["about"]["weights"],
            "n_maps": len(listed),
        },
    )
    merged = replace(
        result,
        space_group=listed[0].space_group,
        laue_group=group.symbol,
        statistics=kept | tables,
        provenance=(*(entry for x in listed for entry in x.provenance), step),
    )
    return MergeResult(merged, tables)


def _dtypes(maps: Sequence[DiffuseMap]) -> list[np.dtype[Any]]:
    return [x.intensity.dtype for x in maps]


def _common_d_min(maps: Sequence[DiffuseMap]) -> float | None:
    """Finest limit, where every map has one."""
    limits = [x.grid.d_min for x in maps]
    known = [x for x in limits if x is not None]
    return min(known) if len(known) == len(limits) else None


def _check_contains(rotations: IntArray, wanted: str, own: str) -> None:
    """Refuse a group without an operation that a map is merged by already."""
    merged_by = point_rotations(own)
    if has_inversion(merged_by) and not has_inversion(rotations):
        raise InputError(
            f"friedel apart: expected maps whose Friedel mates are apart, got one merged by {own}"
        )
    have = {tuple(r.ravel()) for r in rotations}
    if not {tuple(r.ravel()) for r in merged_by} <= have:
        raise InputError(f"laue_group must contain {own}, which the map is merged by, got {wanted}")


def apply_operation(diffuse_map: DiffuseMap, operation: str | ArrayLike) -> DiffuseMap:
    """Give the map as an operation sees it, I'(h) = I(h R), to be compared with the map itself.

    With a symmetry operation that is how well equivalents agree; with any other it is the control
    beside a figure (a wrong indexing). The cell and space group are kept as they are.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    operation : str or array_like of int, shape (3, 3)
        ``"h,k,-l"``, or R acting on row vectors.

    Raises
    ------
    InputError
        If it is no operation with determinant ±1, or the sampling does not fit it.

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [0, 1], [0], [0, 1, 2])
    >>> turned = apply_operation(DiffuseMap(grid, np.arange(6.0).reshape(2, 1, 3)), "l,k,-h")
    >>> turned.grid.h.tolist(), turned.grid.l.tolist(), turned.intensity[:, 0, 0].tolist()
    ([-2.0, -1.0, 0.0], [0.0, 1.0], [2.0, 1.0, 0.0])
    """
    rotation = _as_rotation(operation)
    inverse = np.rint(np.linalg.inv(rotation)).astype(np.int64)
    source = diffuse_map.grid
    forward, backward = (lattice_matrices(r[None], source.sampling)[0] for r in (rotation, inverse))
    last = source.first_index + np.array(source.shape) - 1
    corners = np.array(np.meshgrid(*zip(source.first_index, last, strict=True))).reshape(3, -1).T
    moved = corners @ backward
    low, high = moved.min(axis=0), moved.max(axis=0)
    axes = [np.arange(a, b + 1) / n for a, b, n in zip(low, high, source.sampling, strict=True)]
    target = HklGrid(source.cell, axes[0], axes[1], axes[2], source.sampling, source.d_min)
    place = grid_nodes(target, np.arange(target.size)) @ forward - source.first_index
    inside = np.all((place >= 0) & (place < np.array(source.shape)), axis=1)
    index = np.ravel_multi_index(tuple(place[inside].T), source.shape)
    return take_voxels(diffuse_map, target, inside, index)


def take_voxels(
    diffuse_map: DiffuseMap, target: HklGrid, inside: BoolArray, index: IntArray
) -> DiffuseMap:
    """Make a map on another grid whose voxels take the values of voxels of this one.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    target : HklGrid
    inside : ndarray, shape (target.size,), bool
        Voxels of the target that take a value; the others are not measured.
    index : ndarray, shape (count of inside,), int64
        Where from, in the map's flattened arrays.
    """

    def move(values: NDArray[Any]) -> NDArray[Any]:
        out = np.full(target.size, 0 if values.dtype.kind in "iu" else np.nan, dtype=values.dtype)
        out[inside] = values.ravel()[index]
        return out.reshape(target.shape)

    optional: dict[str, Any] = {
        name: move(values)
        for name in ("sigma", "count", "half_1", "half_2")
        if (values := getattr(diffuse_map, name)) is not None
    }
    return DiffuseMap(
        grid=target,
        intensity=move(diffuse_map.intensity),
        space_group=diffuse_map.space_group,
        provenance=diffuse_map.provenance,
        **optional,
    )


def _as_rotation(operation: str | ArrayLike) -> IntArray:
    """Rotation (3, 3) from a triplet in h, k, l or from a matrix."""
    if isinstance(operation, str):
        try:
            rotation = np.array(gemmi.Op(operation).rot) / gemmi.Op.DEN
        except (RuntimeError, ValueError):
            raise InputError(
                f'operation must be a triplet such as "h,k,-l", got {operation!r}'
            ) from None
    else:
        rotation = np.asarray(operation, dtype=np.float64)
    whole = np.rint(rotation).astype(np.int64)
    if rotation.shape != (3, 3) or np.any(whole != rotation) or abs(np.linalg.det(whole)) != 1:
        raise InputError(
            f"operation must be a 3x3 matrix of determinant 1 or -1, got {operation!r}"
        )
    return whole
