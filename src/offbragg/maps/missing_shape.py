"""Whether the directions that a map lacks are a wedge about an axis, or a cone along one.

A crystal that did not turn far enough leaves a wedge about the rotation axis; one that turned
about a single axis leaves a cone along it, the blind region, wider at higher resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.maps.shells import divide

# Directions are gathered in so many parts of the sphere, about 4° wide.
_N_PARTS = 2500
# Axes that are tried first, on half a sphere: some 6° apart; then nearer and nearer to the best.
_N_AXES = 600
_CLOSER = (4.0, 1.5, 0.5)
_AROUND, _ALONG = 36, 30  # bins by azimuth, and by angle with the axis
# A shape is one where it explains this much of the variance of what is missing by direction.
_LEAST_EXPLAINED = 0.6


@dataclass(frozen=True, eq=False)
class MissingShape:
    """A wedge or a cone of directions.

    Attributes
    ----------
    kind : {"wedge", "cone"}
    axis : ndarray, shape (3,)
        Unit vector in the Cartesian frame of positions; its sign means nothing.
    angle : float
        Of one wedge, or between a cone's axis and its edge [degrees].
    n : int
        Wedges about the axis; a wedge and its Friedel mate are two. 1 for a cone, which has two
        ends.
    explained : float
        Share of the variance by direction that the shape explains.
    """

    kind: str
    axis: FloatArray
    angle: float
    n: int
    explained: float


def missing_shape(directions: FloatArray, missing: BoolArray) -> MissingShape | None:
    """Find the wedge or the cone that tells best which directions are missing.

    Parameters
    ----------
    directions : ndarray, shape (n, 3), float64
        Unit vectors, all over the sphere.
    missing : ndarray, shape (n,), bool

    Returns
    -------
    MissingShape or None
        None where neither explains 60 % of the variance.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> u = rng.normal(size=(20000, 3))
    >>> u /= np.linalg.norm(u, axis=1, keepdims=True)
    >>> found = missing_shape(u, np.abs(u[:, 1]) > np.cos(np.radians(25)))
    >>> found.kind, bool(abs(found.axis[1]) > 0.999), bool(abs(found.angle - 25) < 2)
    ('cone', True, True)
    """
    centres = _even_points(_N_PARTS)
    part = KDTree(centres).query(directions)[1]
    n = np.bincount(part, minlength=_N_PARTS).astype(np.float64)
    share = divide(np.bincount(part, missing, _N_PARTS), n)
    seen = n > 0
    centres, share, n = centres[seen], share[seen], n[seen]
    total = float(np.sum(n * (share - np.average(share, weights=n)) ** 2))
    if total <= 0:
        return None
    axes = _even_points(2 * _N_AXES)[:_N_AXES]
    best = {}
    for kind in ("wedge", "cone"):
        axis = _best(kind, axes, centres, share, n)
        for reach in _CLOSER:
            axis = _best(kind, _near(axis, reach), centres, share, n)
        explained = _between(kind, axis, centres, share, n) / total
        best[kind] = (explained, axis)
    kind = max(best, key=lambda name: best[name][0])
    explained, axis = best[kind]
    if explained < _LEAST_EXPLAINED:
        return None
    angle, n_wedges = _size(kind, axis, centres, share, n)
    return MissingShape(kind, axis, angle, n_wedges, float(explained))


def _even_points(n: int) -> FloatArray:
    """Unit vectors (n, 3) spread evenly by the golden angle, from one pole to the other."""
    z = 1.0 - (2.0 * np.arange(n) + 1.0) / n
    turn = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(n)
    around = np.sqrt(1.0 - z**2)
    return np.stack([around * np.cos(turn), around * np.sin(turn), z], axis=1)


def _near(axis: FloatArray, reach: float) -> FloatArray:
    """Axes about one, up to an angle [degrees] from it, itself first."""
    first, second = _across(axis)
    steps = np.tan(np.radians(reach)) * np.linspace(-1, 1, 7)
    moved = axis + np.array([x * first + y * second for x in steps for y in steps])
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return np.concatenate([axis[None], moved])


def _across(axis: FloatArray) -> tuple[FloatArray, FloatArray]:
    first = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    first /= np.linalg.norm(first)
    return first, np.cross(axis, first)


def _bins(kind: str, axis: FloatArray, centres: FloatArray) -> tuple[IntArray, int]:
    """Bin of each direction by what the shape depends on."""
    if kind == "cone":
        along = np.arccos(np.minimum(np.abs(centres @ axis), 1.0)) / (np.pi / 2)
        return np.minimum((along * _ALONG).astype(np.int64), _ALONG - 1), _ALONG
    first, second = _across(axis)
    turn = np.arctan2(centres @ second, centres @ first) / (2 * np.pi) % 1.0
    return (turn * _AROUND).astype(np.int64) % _AROUND, _AROUND


def _means(
    kind: str, axis: FloatArray, centres: FloatArray, share: FloatArray, n: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Share missing in each bin, and how many voxels it has."""
    index, n_bins = _bins(kind, axis, centres)
    weight: FloatArray = np.bincount(index, n, n_bins).astype(np.float64)
    return divide(np.bincount(index, n * share, n_bins), weight), weight


def _between(
    kind: str, axis: FloatArray, centres: FloatArray, share: FloatArray, n: FloatArray
) -> float:
    """Sum of squares between bins."""
    mean, weight = _means(kind, axis, centres, share, n)
    return float(np.nansum(weight * (mean - np.average(share, weights=n)) ** 2))


def _best(
    kind: str, axes: FloatArray, centres: FloatArray, share: FloatArray, n: FloatArray
) -> FloatArray:
    scores = [_between(kind, axis, centres, share, n) for axis in axes]
    return np.asarray(axes[int(np.argmax(scores))])


def _size(
    kind: str, axis: FloatArray, centres: FloatArray, share: FloatArray, n: FloatArray
) -> tuple[float, int]:
    """Angle [degrees] and number of the shape, by the share of the sphere that is missing."""
    mean, _ = _means(kind, axis, centres, share, n)
    mean = np.nan_to_num(mean)
    if kind == "cone":
        return float(np.degrees(np.arccos(1.0 - np.average(share, weights=n)))), 1
    gone = mean > 0.5
    n_runs = max(1, int(np.count_nonzero(gone & ~np.roll(gone, 1))))
    return float(mean.sum() * 360.0 / _AROUND / n_runs), n_runs
