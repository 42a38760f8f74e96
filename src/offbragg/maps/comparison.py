"""How well two maps agree: correlations and R by shell, voxels matched by hkl."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import (
    N_SHELLS,
    anisotropic_part,
    divide,
    resolution_shells,
    shell_correlation,
)
from offbragg.runtime import SILENT, Progress


@dataclass(frozen=True)
class ComparisonRow:
    r"""Agreement of two maps in one shell, or overall.

    Attributes
    ----------
    d_max, d_min : float
        Limits of the shell [Å].
    n : int
        Voxels measured in both maps.
    cc : float
        Pearson correlation; NaN where a map does not vary.
    weighted_cc : float or None
        Pearson correlation with weights 1/(σ_a² + k² σ_b²), k the scale (a map without σ counts
        as exact; voxels without a finite σ > 0 are left out). None where neither map has σ. The
        σ come from the voxels' own counts, which favours voxels that came out low: a guide only.
    r : float
        Σ \|a − k b\| / Σ \|a\|.
    """

    d_max: float
    d_min: float
    n: int
    cc: float
    weighted_cc: float | None
    r: float


@dataclass(frozen=True)
class Comparison:
    """Agreement of two maps; `dataclasses.asdict` gives plain values.

    Attributes
    ----------
    overall : ComparisonRow
    shells : tuple of ComparisonRow
        Shells of equal volume, from low to high resolution.
    scale : float
        k of the least-squares fit of k b to a, one for all shells.
    is_anisotropic : bool
        Whether the isotropic parts were taken off.
    """

    overall: ComparisonRow
    shells: tuple[ComparisonRow, ...]
    scale: float
    is_anisotropic: bool


def compare(
    a: DiffuseMap,
    b: DiffuseMap,
    d_max: float | None = None,
    d_min: float | None = None,
    anisotropic: bool = True,
    n_shells: int = N_SHELLS,
    shell_limits: tuple[float, float] | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare two maps at the hkl that both have, whatever their extents and samplings.

    Parameters
    ----------
    a, b : DiffuseMap
        Voxels are matched by hkl; resolution is by the cell of ``a``.
    d_max, d_min : float, optional
        Limits of resolution [Å], both included.
    anisotropic : bool
        Take off each map's mean in shells of 0.01 Å⁻¹ in 1/d first, over all voxels measured in
        both maps (before the limits apply).
    n_shells : int
        Rows of the table.
    shell_limits : tuple of 2 float, optional
        Lowest and highest 1/d [Å⁻¹] that shells are cut between, so that tables of different
        voxels have the same rows; those of the voxels themselves where not given.
    progress : Progress, optional
        Told of each stage.

    Raises
    ------
    InputError
        If the maps have no measured voxel in common within the limits, or their cells differ by
        more than 3 %.

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [0, 1, 2], [0, 1], [0])
    >>> values = np.arange(6.0).reshape(3, 2, 1)
    >>> table = compare(
    ...     DiffuseMap(grid, values), DiffuseMap(grid, 2 * values), anisotropic=False, n_shells=1
    ... )
    >>> table.overall.n, round(table.overall.cc, 6), table.scale
    (6, 1.0, 0.5)
    """
    progress.start("comparing", 4 if anisotropic else 2)
    check_cells_agree(a.cell, b.cell, "compare")
    grid, at_a, at_b = common_voxels(a.grid, b.grid)
    value_a, value_b = a.intensity[at_a], b.intensity[at_b]
    both = np.isfinite(value_a) & np.isfinite(value_b)
    used = both & grid.within(d_min, d_max)
    if not used.any():
        limits = "" if d_min is None and d_max is None else f" between {d_max} and {d_min} Å"
        raise InputError(f"compare: expected voxels measured in both maps{limits}, found none")
    inv_d = grid.inv_d()
    progress.step()
    if anisotropic:
        value_a = anisotropic_part(value_a, inv_d, both)
        progress.step()
        value_b = anisotropic_part(value_b, inv_d, both)
        progress.step()
    x = value_a[used].astype(np.float64)
    y = value_b[used].astype(np.float64)
    scale = float(divide(np.array(x @ y), np.array(y @ y)))
    weights = _weights(
        None if a.sigma is None else a.sigma[at_a][used],
        None if b.sigma is None else b.sigma[at_b][used],
        scale,
        len(x),
    )
    shells = resolution_shells(inv_d[used], n_shells, shell_limits)
    everything = np.zeros_like(shells.index)
    overall = _rows(x, y, scale, weights, everything, shells.d_max[:1], shells.d_min[-1:])
    rows = _rows(x, y, scale, weights, shells.index, shells.d_max, shells.d_min)
    progress.step()
    return Comparison(overall[0], rows, scale, anisotropic)


def common_voxels(
    a: HklGrid, b: HklGrid
) -> tuple[HklGrid, tuple[IntArray, ...], tuple[IntArray, ...]]:
    """Find the voxel centres that two grids share.

    Returns
    -------
    grid : HklGrid
        The shared voxels, with the cell of ``a``.
    at_a, at_b : tuple of 3 ndarray
        Open-mesh indices (`numpy.ix_`) of them in arrays on ``a`` and on ``b``.

    Raises
    ------
    InputError
        If the axes have no point in common.
    """
    axes, index_a, index_b, sampling = [], [], [], []
    for name, n_a, n_b in zip("hkl", a.sampling, b.sampling, strict=True):
        finest = int(np.lcm(n_a, n_b))
        nodes_a = np.rint(getattr(a, name) * finest).astype(np.int64)
        nodes_b = np.rint(getattr(b, name) * finest).astype(np.int64)
        shared, at_a, at_b = np.intersect1d(
            nodes_a, nodes_b, assume_unique=True, return_indices=True
        )
        if len(shared) == 0:
            raise InputError(f"compare: expected maps that overlap, found no common {name}")
        axes.append(shared / finest)
        index_a.append(at_a)
        index_b.append(at_b)
        sampling.append(int(np.gcd(n_a, n_b)))
    grid = HklGrid(a.cell, axes[0], axes[1], axes[2], (sampling[0], sampling[1], sampling[2]))
    return grid, np.ix_(*index_a), np.ix_(*index_b)


def _weights(
    sigma_a: NDArray[np.floating] | None,
    sigma_b: NDArray[np.floating] | None,
    scale: float,
    n: int,
) -> FloatArray | None:
    """Inverse variances of a − k b; 0 where a standard error is not a finite number > 0."""
    if sigma_a is None and sigma_b is None:
        return None
    variance, known = np.zeros(n), np.ones(n, dtype=bool)
    for sigma, factor in ((sigma_a, 1.0), (sigma_b, scale)):
        if sigma is not None:
            variance += (factor * sigma.astype(np.float64)) ** 2
            known &= np.isfinite(sigma) & (sigma > 0)
    return np.where(known, divide(np.ones(n), variance), 0.0)


def _rows(
    x: FloatArray,
    y: FloatArray,
    scale: float,
    weights: FloatArray | None,
    shell: IntArray,
    d_max: FloatArray,
    d_min: FloatArray,
) -> tuple[ComparisonRow, ...]:
    """One row a shell."""
    n_shells = len(d_min)
    number = np.bincount(shell, minlength=n_shells)
    cc = shell_correlation(x, y, shell, n_shells)
    residual = np.bincount(shell, np.abs(x - scale * y), n_shells)
    r = divide(residual, np.bincount(shell, np.abs(x), n_shells))
    weighted = None if weights is None else shell_correlation(x, y, shell, n_shells, weights)
    return tuple(
        ComparisonRow(
            d_max=float(d_max[i]),
            d_min=float(d_min[i]),
            n=int(number[i]),
            cc=float(cc[i]),
            weighted_cc=None if weighted is None else float(weighted[i]),
            r=float(r[i]),
        )
        for i in range(n_shells)
    )
