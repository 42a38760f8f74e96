"""What a scaling did, as curves to look at: each correction where it was observed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from offbragg.conventions import BoolArray, FloatArray
from offbragg.maps.shells import N_SHELLS, resolution_shells
from offbragg.reduction.scaled import ScaledObservations
from offbragg.reduction.scaling_model import Correction, Scaling, ScalingData

_MOST = 200_000  # observations that curves are drawn through
_BINS, _SQUARES = 40, 24  # along an angle or 1/d; along each direction across the beam
_LOW, _HIGH = 5.0, 95.0  # percentiles


def scaling_curves(scaling: Scaling, data: ScalingData) -> list[dict[str, Any]]:
    """Give the values of each correction over the observations, in bins.

    Parameters
    ----------
    scaling : Scaling
    data : ScalingData
        What it was fitted to or is applied to.

    Returns
    -------
    list of dict
        ``name``, ``kind`` (see `Correction`) and ``sweep``; then ``by``, "angle" [degrees from
        where the sweep begins], "inv_d" [Å⁻¹] or "chip" with ``at``, ``mean``, ``low`` and
        ``high`` (5th and 95th percentile over whatever else the correction depends on) of each
        bin; or ``by``
        "direction" with ``x`` and ``y`` (centres of squares of direction [rad]) and ``mean``
        (n_x, n_y), NaN where nothing was observed. An offset is in units of the mean intensity.
    """
    step = max(1, len(data.intensity) // _MOST)
    columns = {name: column[::step] for name, column in data.columns.items()}
    sweeps = columns.get("sweep", np.zeros(len(data.intensity[::step])))
    level = float(np.mean(data.intensity)) or 1.0
    curves = []
    for correction, coefficients in zip(scaling.corrections, scaling.coefficients, strict=True):
        design = correction.function.design(correction.points(columns))
        values = correction.values(design, coefficients)
        values = values / level if correction.kind == "offset" else values
        for sweep in np.unique(sweeps if "sweep" in correction.variables else sweeps[:1]):
            own = sweeps == sweep if "sweep" in correction.variables else np.isfinite(values)
            curves += _curves_of(correction, columns, values, own, int(sweep))
    return curves


def _curves_of(
    correction: Correction,
    columns: Mapping[str, FloatArray],
    values: FloatArray,
    own: BoolArray,
    sweep: int,
) -> list[dict[str, Any]]:
    """Curves of one correction in one sweep; none along what has no range."""
    name = correction.function.name
    head = {"name": name, "kind": correction.kind, "sweep": sweep}
    ranges = {v for v in correction.variables if np.ptp(columns[v][own]) > 0}
    if "angle" not in ranges and {"x", "y"} <= ranges:
        return [{**head, "by": "direction", **_over_squares(columns, values, own)}]
    if "chip" in ranges:
        return [{**head, "by": "chip", **_of_each(columns["chip"][own], values[own])}]
    return [
        {**head, "by": variable, **_along(columns[variable][own], values[own])}
        for variable in ("angle", "inv_d")
        if variable in ranges
    ]


def _of_each(number: FloatArray, values: FloatArray) -> dict[str, list[float]]:
    """Values of what has a number each."""
    at, first = np.unique(number, return_index=True)
    mean = values[first].tolist()
    return {"at": at.tolist(), "mean": mean, "low": mean, "high": mean}


def _along(x: FloatArray, values: FloatArray) -> dict[str, list[float]]:
    low, high = float(x.min()), float(x.max())
    index = np.minimum(((x - low) / (high - low) * _BINS).astype(np.int64), _BINS - 1)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(_BINS + 1))
    curve: dict[str, list[float]] = {"at": [], "mean": [], "low": [], "high": []}
    for first, last in pairwise(starts):
        if last == first:
            continue
        some = order[first:last]
        curve["at"].append(float(np.mean(x[some])))
        curve["mean"].append(float(np.mean(values[some])))
        ends = np.percentile(values[some], [_LOW, _HIGH])
        curve["low"].append(float(ends[0]))
        curve["high"].append(float(ends[1]))
    return curve


def _over_squares(
    columns: Mapping[str, FloatArray], values: FloatArray, own: BoolArray
) -> dict[str, Any]:
    x, y = columns["x"][own], columns["y"][own]
    total, x_edges, y_edges = np.histogram2d(x, y, _SQUARES, weights=values[own])
    n = np.histogram2d(x, y, [x_edges, y_edges])[0]
    mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    centres = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    return {"x": centres[0].tolist(), "y": centres[1].tolist(), "mean": mean.tolist()}


def scaling_shells(
    before: ScaledObservations, after: ScaledObservations, inv_d: FloatArray
) -> dict[str, list[float]]:
    """R_meas of unmerged observations before and after scaling, in shells of equal volume.

    Parameters
    ----------
    before, after : ScaledObservations
    inv_d : ndarray, shape (n,), float64
        1/d of the observations [Å⁻¹].
    """
    shells = resolution_shells(inv_d, N_SHELLS)
    index, n_shells = shells.index, shells.n_shells
    return {
        "d_max": shells.d_max.tolist(),
        "d_min": shells.d_min.tolist(),
        "n": np.bincount(index, minlength=n_shells).tolist(),
        "r_meas_before": before.r_meas_by(index, n_shells).tolist(),
        "r_meas_after": after.r_meas_by(index, n_shells).tolist(),
    }
