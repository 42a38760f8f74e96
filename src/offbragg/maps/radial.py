"""Means of a map in shells of resolution, a slab of h at a time, so that large maps fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import ISOTROPIC_SHELL_WIDTH, FloatArray, IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import ROUNDING, divide, isotropic_shells
from offbragg.runtime import SILENT, Progress, iter_chunks

Block = tuple[NDArray[np.floating], FloatArray, NDArray[np.floating] | None]

_VOXELS = 1 << 22  # of a slab


@dataclass(frozen=True, eq=False)
class RadialProfile:
    """Means of a map in shells of equal width in 1/d, from 0 at the origin.

    Attributes
    ----------
    inv_d : ndarray, shape (n_shells,), float64
        Mean 1/d [Å⁻¹] of the measured voxels; NaN where a shell has none.
    n : ndarray, shape (n_shells,), int64
        Measured voxels.
    mean : ndarray, shape (n_shells,), float64
        Mean intensity.
    variation : ndarray, shape (n_shells,), float64
        Root mean square of the intensity less its mean.
    sigma : ndarray, shape (n_shells,), float64, or None
        Root mean square of the voxels' standard errors; None where the map has none.
    width : float
        Of a shell [Å⁻¹, in 1/d].
    """

    inv_d: FloatArray
    n: IntArray
    mean: FloatArray
    variation: FloatArray
    sigma: FloatArray | None
    width: float

    def varying(self, intensity: NDArray[np.floating], inv_d: FloatArray) -> FloatArray:
        """Intensity less the mean of its shell: `offbragg.maps.shells.anisotropic_part`.

        Parameters
        ----------
        intensity : ndarray, any shape
            Voxels of the map, NaN where not measured.
        inv_d : ndarray, same shape
            [Å⁻¹].
        """
        if not len(self.mean):
            return np.full(np.shape(intensity), np.nan)
        shell = np.minimum(isotropic_shells(inv_d, self.width), len(self.mean) - 1)
        residual = intensity.astype(np.float64) - self.mean[shell]
        level = np.sqrt(self.mean**2 + self.variation**2)[shell]
        residual[np.abs(residual) <= ROUNDING * level] = 0.0
        return residual


def radial_profile(
    diffuse_map: DiffuseMap, width: float = ISOTROPIC_SHELL_WIDTH, progress: Progress = SILENT
) -> RadialProfile:
    """Average a map in shells of equal width in 1/d.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    width : float
        [Å⁻¹, in 1/d]; default 0.01.
    progress : Progress, optional
        Told of each slab.

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [-1, 0, 1], [0, 1], [0])
    >>> found = radial_profile(DiffuseMap(grid, np.arange(6.0).reshape(3, 2, 1)), width=0.1)
    >>> found.n.tolist(), found.mean.tolist()
    ([1, 5], [2.0, 2.6])
    """
    sigma = diffuse_map.sigma
    blocks = (
        (diffuse_map.intensity[slab], inv_d, None if sigma is None else sigma[slab])
        for slab, inv_d in slabs(diffuse_map.grid, progress, "radial profile")
    )
    return average_shells(blocks, float(np.max(_corners(diffuse_map.grid), initial=0.0)), width)


def average_shells(
    blocks: Iterable[Block], farthest: float, width: float = ISOTROPIC_SHELL_WIDTH
) -> RadialProfile:
    """Average a map that comes in blocks of voxels, in shells of equal width in 1/d.

    Parameters
    ----------
    blocks : iterable of (intensity, inv_d, sigma or None)
        Arrays of one shape each; NaN where not measured.
    farthest : float
        1/d that no voxel is beyond [Å⁻¹].
    width : float
        [Å⁻¹, in 1/d]
    """
    n_shells = int(isotropic_shells(np.array(farthest), width)) + 1
    n, n_known = np.zeros((2, n_shells), dtype=np.int64)
    sums = np.zeros((4, n_shells))  # of 1/d, I, I², σ²
    has_sigma = False
    for intensity, inv_d, errors in blocks:
        measured = np.isfinite(intensity)
        shell = isotropic_shells(inv_d[measured], width)
        values = intensity[measured].astype(np.float64)
        n += np.bincount(shell, minlength=n_shells)
        for row, column in enumerate((inv_d[measured], values, values**2)):
            sums[row] += np.bincount(shell, column, n_shells)
        if errors is not None:
            has_sigma = True
            sigma = errors[measured].astype(np.float64)
            known = np.isfinite(sigma)
            sums[3] += np.bincount(shell[known], sigma[known] ** 2, n_shells)
            n_known += np.bincount(shell[known], minlength=n_shells)
    last = int(np.max(np.flatnonzero(n), initial=-1)) + 1
    mean = divide(sums[1], n)
    spread = np.maximum(divide(sums[2], n) - mean**2, 0.0)
    return RadialProfile(
        inv_d=divide(sums[0], n)[:last],
        n=n[:last],
        mean=mean[:last],
        variation=np.sqrt(spread)[:last],
        sigma=np.sqrt(divide(sums[3], n_known))[:last] if has_sigma else None,
        width=width,
    )


def slabs(
    grid: HklGrid, progress: Progress = SILENT, what: str = "voxels"
) -> Iterator[tuple[slice, FloatArray]]:
    """Cut a grid into slabs of whole h: where each is, and the 1/d [Å⁻¹] of its voxels."""
    plane = max(1, len(grid.k) * len(grid.l))
    chunks = list(iter_chunks(len(grid.h), max(1, _VOXELS // plane)))
    progress.start(what, len(chunks))
    for chunk in chunks:
        yield chunk, replace(grid, h=grid.h[chunk]).inv_d()
        progress.step()


def _corners(grid: HklGrid) -> FloatArray:
    """1/d [Å⁻¹] of the corners of a grid, where it is largest."""
    ends = [np.unique(axis[[0, -1]]) for axis in (grid.h, grid.k, grid.l)]
    hkl = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1)
    return np.asarray(np.linalg.norm(hkl @ grid.cell.frac_matrix, axis=-1))
