"""What equivalents do not tell is settled by convention: rows whose products with p are to be 0.

Factors have the logarithm 0 in the mean. Those of direction have it at each resolution too, as
equivalents are all at one: what depends on that alone is the map's. An offset that is the same
always could be the map's as well: it is 0 where it is least, at each resolution.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from offbragg.conventions import FloatArray, IntArray
from offbragg.reduction.scaling_model import Correction, ScalingData
from offbragg.reduction.smooth_function import SmoothFunction

# Width of the rings in which means are taken [Å⁻¹].
_RING = 0.02
# How nearly conventions hold: of a factor's logarithm, and of an offset over the mean intensity.
_NEARLY_FACTOR, _NEARLY_OFFSET = 0.003, 0.01


def mean_rows(
    correction: Correction, design: sparse.csr_array, data: ScalingData
) -> sparse.csr_array:
    """Means of a factor's logarithm, (n_rows, n_coefficients), in units of how nearly they hold.

    One over all observations; for factors of direction or chip, one a ring, less those of the
    sweeps that are seen there: what one sweep has over another is not a matter of resolution.
    """
    rows = [sparse.csr_array(np.asarray(design.mean(axis=0)).reshape(1, -1))]
    is_of_place = {"x", "y"} <= set(correction.variables) or "chip" in correction.variables
    if is_of_place and "inv_d" in data.columns:
        n = len(data.intensity)
        ring = (data.columns["inv_d"] / _RING).astype(np.int64)
        sweep = data.columns.get("sweep", np.zeros(n)).astype(np.int64)
        of_sweep = _means(sweep)
        seen = _means(ring) @ sparse.csr_array((np.ones(n), (np.arange(n), sweep)))
        rows.append(sparse.csr_array(_means(ring) @ design - seen @ (of_sweep @ design)))
    return sparse.csr_array(sparse.vstack(rows) / _NEARLY_FACTOR)


def least_rows(
    function: SmoothFunction, coefficients: FloatArray, level: float
) -> sparse.csr_array:
    """An offset where it is least along all axes but the first, at places along that.

    (n_places, n_coefficients), in units of how nearly they hold; ``level`` is the mean intensity.
    """
    first = function.axes[0].places()
    points, values = _along_others(function, coefficients, first)
    where = np.column_stack([first, points[np.argmin(values, axis=1)]])
    return sparse.csr_array(function.design(where) / (_NEARLY_OFFSET * level))


def least(function: SmoothFunction, coefficients: FloatArray) -> FloatArray:
    """What an offset is at least along all axes but the first, by coefficient.

    Of its values, not its coefficients: those at the ends reach beyond what is observed.
    """
    n = function.axes[0].n_splines
    _, values = _along_others(function, coefficients, None)
    return np.repeat(values.min(axis=1), len(coefficients) // n)


def _along_others(
    function: SmoothFunction, coefficients: FloatArray, places: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Points (n_points, n_axes − 1) of the axes but the first, and values (n, n_points) there.

    At places (n,) along the first, or, without these, of each of its splines by itself.
    """
    first, *others = function.axes
    grids = np.meshgrid(*[axis.places() for axis in others], indexing="ij")
    points = np.stack(grids, axis=-1).reshape(-1, len(others))
    design = SmoothFunction(function.name, tuple(others)).design(points)
    by_first = coefficients.reshape(first.n_splines, -1)
    along = by_first if places is None else first.design(places) @ by_first
    return points, np.asarray((design @ along.T).T)


def _means(group: IntArray) -> sparse.csr_array:
    """Matrix (n_groups, n) that takes the means of groups."""
    members = np.maximum(np.bincount(group), 1)
    n = len(group)
    return sparse.csr_array((1.0 / members[group], (group, np.arange(n))), shape=(len(members), n))
