"""A map from observations: means of what every wedge measured in a voxel, on a common scale."""

from __future__ import annotations

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.symmetry import laue_rotations
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import symmetry_orbits
from offbragg.reduction.observations import Observations
from offbragg.reduction.scaled import ScaledObservations
from offbragg.reduction.scaling import ScalingData


def scaling_data(observations: Observations, laue_group: str | None = None) -> ScalingData:
    """Observations as scaling takes them, with their orbits under a Laue group.

    Columns that corrections may depend on: ``angle`` [degrees] and ``sweep`` of the wedge, the
    directions ``x`` and ``y``, and ``inv_d`` [Å⁻¹] of the voxel.
    """
    columns, grid, wedges = observations.columns, observations.grid, observations.wedges
    voxel, wedge = columns["voxel"], columns["wedge"]
    rotations = laue_rotations(laue_group or observations.space_group)
    representative = symmetry_orbits(grid, rotations).ravel()[voxel]
    orbit = np.unique(representative, return_inverse=True)[1].astype(np.int64)
    return ScalingData(
        intensity=columns["intensity"].astype(np.float64),
        per_intensity=columns["per_intensity"].astype(np.float64),
        own_variance=np.zeros(len(voxel)),
        orbit=orbit,
        columns={
            "angle": wedges.angle[wedge],
            "sweep": wedges.sweep[wedge].astype(np.float64),
            "x": columns["x"].astype(np.float64),
            "y": columns["y"].astype(np.float64),
            "inv_d": grid.inv_d().ravel()[voxel],
        },
    )


def map_of(observations: Observations, scaled: ScaledObservations) -> DiffuseMap:
    """Average scaled observations in voxels; outliers are left out.

    ``I = Σ W I / Σ W`` with W one over the expected variance of counting, and
    ``σ² = Σ W² v / (Σ W)²`` with v the error model's variance of each.

    Returns
    -------
    DiffuseMap
        Unmerged; float32.
    """
    grid, columns = observations.grid, observations.columns
    used = ~scaled.is_outlier
    voxel = columns["voxel"][used]
    half = observations.wedges.half[columns["wedge"][used]]
    weight, values = scaled.weight[used], scaled.intensity[used]
    variance = scaled.error_model.variance(scaled.expected_variance, scaled.intensity)[used]
    inside = grid.within().ravel()

    def summed(amounts: FloatArray, chosen: IntArray | slice = slice(None)) -> FloatArray:
        return np.asarray(np.bincount(voxel[chosen], amounts[chosen], grid.size))

    total = summed(weight)
    measured = inside & (total > 0)

    def mean(chosen: IntArray | slice = slice(None)) -> FloatArray:
        return _ratio(summed(weight * values, chosen), summed(weight, chosen), measured)

    sigma = np.sqrt(_ratio(summed(weight**2 * variance), total**2, measured))
    count = np.where(measured, summed(columns["count"][used].astype(np.float64)), 0)
    halves = [mean(np.flatnonzero(half == number)) for number in (0, 1)]
    has_halves = len(np.unique(observations.wedges.half)) > 1
    shape = grid.shape
    return DiffuseMap(
        grid=grid,
        intensity=mean().reshape(shape).astype(np.float32),
        space_group=observations.space_group,
        sigma=sigma.reshape(shape).astype(np.float32),
        count=count.reshape(shape).astype(np.int32),
        half_1=halves[0].reshape(shape).astype(np.float32) if has_halves else None,
        half_2=halves[1].reshape(shape).astype(np.float32) if has_halves else None,
        provenance=observations.provenance,
    )


def _ratio(above: FloatArray, below: FloatArray, wanted: BoolArray) -> FloatArray:
    """Quotients where they are wanted and there is something below, else NaN."""
    known = wanted & (below > 0)
    return np.where(known, above / np.where(known, below, 1.0), np.nan)
