"""Variances to weight a fit by: expected ones, not those of each voxel's own counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import divide, isotropic_shells
from offbragg.maps.symmetrize import merge


def with_expected_sigma(observed: DiffuseMap) -> DiffuseMap:
    """Return a map merged, with σ from the mean variance of a pixel at its resolution.

    A voxel that came out low by chance has a low σ from its own counts: weights from it pull a
    fit down. Here ``σ² = v(1/d) / n``, v the mean of σ² n in shells of 0.01 Å⁻¹, n the pixels
    averaged. Maps without σ or without counts of pixels are returned as they are.

    Parameters
    ----------
    observed : DiffuseMap

    Returns
    -------
    DiffuseMap
    """
    if observed.sigma is None or observed.count is None:
        return observed
    merged = observed if observed.laue_group is not None else merge(observed).map
    sigma, count = merged.sigma, merged.count
    if sigma is None or count is None:
        return merged
    used = merged.measured & np.isfinite(sigma) & (count > 0)
    shell = isotropic_shells(merged.grid.inv_d())
    n_shells = int(shell.max()) + 1
    of_pixel = sigma[used].astype(np.float64) ** 2 * count[used]
    sums = np.bincount(shell[used], of_pixel, n_shells)
    means = divide(sums, np.bincount(shell[used], minlength=n_shells))
    expected = np.full(merged.grid.shape, np.nan)
    expected[used] = np.sqrt(means[shell[used]] / count[used])
    return replace(merged, sigma=expected)
