"""A map from observations: means of what every wedge measured in a voxel, on a common scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.friedel import equivalence_group
from offbragg.crystal.symmetry import check_group_fits_cell
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import symmetry_orbits
from offbragg.maps.provenance import make_step
from offbragg.reduction.observations import OFFSETS, Observations, Wedges
from offbragg.reduction.passages import join_passages
from offbragg.reduction.scaled import ScaledObservations, scale_observations
from offbragg.reduction.scaling import fit_scaling
from offbragg.reduction.scaling_curves import scaling_curves, scaling_shells
from offbragg.reduction.scaling_model import Scaling, ScalingData
from offbragg.reduction.standard_scaling import ScalingOptions, standard_corrections
from offbragg.runtime import SILENT, Progress

# Where more than this part of the observations are outliers, corrections are fitted again without.
_MANY_OUTLIERS = 1e-3


@dataclass(frozen=True, eq=False)
class ScaledMap:
    """A scaled map, and how it came to be.

    Attributes
    ----------
    map : DiffuseMap
        Unmerged.
    scaling : Scaling
    figures : mapping
        ``n_observations``, ``n_outliers``, ``r_meas_before`` and ``r_meas_after`` (of unmerged
        observations), ``inflation`` and ``fraction`` of the error model, ``converged``.
    """

    map: DiffuseMap
    scaling: Scaling
    figures: Mapping[str, Any]


def scale_to_map(
    observations: Observations,
    options: ScalingOptions | None = None,
    progress: Progress = SILENT,
) -> ScaledMap:
    """Scale observations, leave outliers out, and average the rest in voxels.

    Raises
    ------
    InputError
        If there are no equivalents to scale by, or the group does not fit the cell.
    """
    settings = options or ScalingOptions()
    data = scaling_data(observations, settings.laue_group, settings.friedel)
    scaling, used = Scaling.none(), np.ones(len(data.intensity), dtype=bool)
    corrections = standard_corrections(data, settings)
    for _ in range(2 if corrections else 1):
        if corrections:
            scaling = fit_scaling(
                _passages(observations, data, used), corrections,
                most_observations=settings.most_observations,
                rng=np.random.default_rng(settings.seed), progress=progress,
            )  # fmt: skip
        scaled = scale_observations(data, scaling, outlier_probability=settings.outlier_probability)
        used = ~scaled.is_outlier
        if np.mean(scaled.is_outlier) < _MANY_OUTLIERS:
            break
    before = scale_observations(data, Scaling.none(), outlier_probability=0.0)
    figures = {
        "n_observations": len(observations),
        "n_outliers": int(np.count_nonzero(scaled.is_outlier)),
        "r_meas_before": before.r_meas(),
        "r_meas_after": scaled.r_meas(),
        "inflation": scaled.error_model.inflation,
        "fraction": scaled.error_model.fraction,
        "converged": scaling.converged,
    }
    made = map_of(observations, scaled)
    step = make_step(
        "scale", settings, figures=figures, curves=scaling_curves(scaling, data),
        shells=scaling_shells(before, scaled, data.columns["inv_d"]),
    )  # fmt: skip
    return ScaledMap(replace(made, provenance=(*made.provenance, step)), scaling, figures)


def _passages(observations: Observations, data: ScalingData, used: BoolArray) -> ScalingData:
    """What corrections are fitted to, of the observations that are used."""
    chosen = slice(None) if np.all(used) else np.flatnonzero(used)
    some = data if isinstance(chosen, slice) else data.take(chosen)
    columns = {
        name: observations.columns[name][chosen] for name in ("voxel", "weight", "wedge", *OFFSETS)
    }
    return join_passages(
        some, columns["voxel"], columns["weight"].astype(np.float64),
        observations.wedges.turn[columns["wedge"]],
        [columns[name].astype(np.float64) for name in OFFSETS],
    ).best()  # fmt: skip


def scaling_data(
    observations: Observations, laue_group: str | None = None, friedel: str = "merged"
) -> ScalingData:
    """Observations as scaling takes them, with their orbits under a Laue group.

    With ``friedel`` "apart" I(h) and I(−h) are different orbits, as `merge` has them.

    Columns that corrections may depend on: ``angle`` [degrees] of the wedge, from where its sweep
    begins (sweeps share knots, wherever they lie), ``sweep`` and ``wedge``, the directions ``x``
    and ``y``, the ``chip``, and ``inv_d`` [Å⁻¹] of the voxel.
    """
    columns, grid, wedges = observations.columns, observations.grid, observations.wedges
    voxel, wedge = columns["voxel"], columns["wedge"]
    space_group = observations.space_group
    name = laue_group or space_group
    rotations = equivalence_group(name, friedel, space_group).rotations
    check_group_fits_cell(grid.cell, rotations, f"laue_group {name}")
    representative = symmetry_orbits(grid, rotations).ravel()[voxel]
    orbit = np.unique(representative, return_inverse=True)[1].astype(np.int64)
    return ScalingData(
        intensity=columns["intensity"].astype(np.float64),
        per_intensity=columns["per_intensity"].astype(np.float64),
        own_variance=columns["own_variance"].astype(np.float64),
        orbit=orbit,
        columns={
            "angle": (wedges.angle - _first_angles(wedges))[wedge],
            "sweep": wedges.sweep[wedge].astype(np.float64),
            "wedge": wedge.astype(np.float64),
            "x": columns["x"].astype(np.float64),
            "y": columns["y"].astype(np.float64),
            "chip": columns["chip"].astype(np.float64),
            "inv_d": grid.inv_d().ravel()[voxel],
        },
    )


def _first_angles(wedges: Wedges) -> FloatArray:
    """Angle (n_wedges,) at which each wedge's sweep begins [degrees]."""
    _, number = np.unique(wedges.sweep, return_inverse=True)
    first = np.full(int(number.max()) + 1, np.inf)
    np.minimum.at(first, number, wedges.angle)
    return np.asarray(first[number], dtype=np.float64)


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
