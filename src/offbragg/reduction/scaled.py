r"""From scaled observations to a map: outliers, the error model, and means over voxels.

With g and o of `Scaling.factor_and_offset` an observation says ``I = (I_o − o)/g`` of its voxel.
Means are weighted by ``g / per_intensity``, which is one over the variance that is *expected*, up
to what all observations of an orbit share; never by an observation's own counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import pdtr, pdtrc

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.reduction.ring_outliers import find_rings
from offbragg.reduction.scaling_model import MEDIAN_SQUARE, Scaling, ScalingData

# Residuals are put in so many bins of expected intensity for the error model.
_N_BINS = 20
# Squares of deviates count no more than this many times their variance: an outlier that is not yet
# found, not a tail.
_LARGEST_SQUARE = 36.0
# Rounds of rejection: an outlier pulls the mean that its equivalents are judged by. Of those that
# are improbable, only the ones go first that deviate at least so much as the worst of their orbit.
_ROUNDS, _WORST = 6, 0.5
# Standard deviations from the median of an orbit that make a suspect.
_FAR = 8.0
# Below so many expected photons the tails are Poisson's, above normal.
_MANY_PHOTONS = 200.0
# Counts within two standard deviations of the mean are all more probable than this.
_LIKELY = 1e-3


@dataclass(frozen=True)
class ErrorModel:
    r"""Variance of a scaled observation: ``K² (var + (m I)²)``.

    Attributes
    ----------
    inflation : float
        K; 1 where counting statistics explain what equivalents differ by. Never below 1.
    fraction : float
        m: errors that grow with the intensity.
    """

    inflation: float = 1.0
    fraction: float = 0.0

    def variance(self, counting: FloatArray, intensity: FloatArray) -> FloatArray:
        """Variance (n,) of observations from that of their counts."""
        out: FloatArray = self.inflation**2 * (counting + (self.fraction * intensity) ** 2)
        return out


@dataclass(frozen=True, eq=False)
class ScaledObservations:
    """Observations on a common scale.

    Attributes
    ----------
    intensity : ndarray, shape (n,), float64
        (I_o − o)/g.
    expected_variance : ndarray, shape (n,), float64
        Of counts that the orbit's mean makes expected, over g².
    weight : ndarray, shape (n,), float64
        One over what the variance is proportional to within an orbit.
    orbit : ndarray, shape (n,), int64
    is_outlier : ndarray, shape (n,), bool
    error_model : ErrorModel
    """

    intensity: FloatArray
    expected_variance: FloatArray
    weight: FloatArray
    orbit: IntArray
    is_outlier: BoolArray
    error_model: ErrorModel

    def r_meas(self) -> float:
        r"""Redundancy-independent R: ``Σ √(n/(n−1)) |I − ⟨I⟩| / Σ I``, outliers left out."""
        return float(self.r_meas_by(np.zeros(len(self.orbit), dtype=np.int64), 1)[0])

    def r_meas_by(self, group: IntArray, n_groups: int) -> FloatArray:
        """`r_meas` of groups of observations (n,), 0 … n_groups − 1; NaN of those without pairs."""
        used = ~self.is_outlier
        mean = orbit_means(self.intensity, self.weight, self.orbit, used)
        members = np.bincount(self.orbit, used, len(mean))[self.orbit]
        pairs = np.flatnonzero(used & (members > 1))
        values, n, own = self.intensity[pairs], members[pairs], group[pairs]
        away = np.sqrt(n / (n - 1)) * np.abs(values - mean[self.orbit[pairs]])
        above, below = (np.bincount(own, x, n_groups) for x in (away, np.abs(values)))
        return np.asarray(np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan))


def scale_observations(
    data: ScalingData,
    scaling: Scaling,
    *,
    outlier_probability: float = 1e-6,
) -> ScaledObservations:
    """Put observations on a common scale, find outliers, and fit the error model.

    Parameters
    ----------
    data : ScalingData
        Of all observations, those that the scaling was fitted to and the others.
    scaling : Scaling
    outlier_probability : float
        An observation is left out whose counts, few or many, have less than this probability by
        what its equivalents make expected; 0: none is.

    Returns
    -------
    ScaledObservations
    """
    if not 0 <= outlier_probability < 1:
        raise InputError(f"outlier_probability must be 0 to 1, got {outlier_probability}")
    factor, offset = scaling.factor_and_offset(data.columns)
    intensity = (data.intensity - offset) / factor
    # Where there is variance beside that of the counts, its share at the mean intensity counts too.
    level = np.maximum(float(np.mean(data.intensity)), np.finfo(float).tiny)
    weight = factor / (data.per_intensity + data.own_variance / level)
    is_outlier = np.zeros(len(intensity), dtype=bool)
    if outlier_probability > 0:
        is_outlier = _far_from_medians(data, factor, offset, intensity)
    model = ErrorModel()
    variance = np.ones_like(intensity)
    for _ in range(_ROUNDS):
        merged = orbit_means(intensity, weight, data.orbit, ~is_outlier)[data.orbit]
        merged = np.where(np.isfinite(merged), merged, intensity)
        expected = factor * merged + offset
        variance = data.expected_variance(expected) / factor**2
        model = _fit_error_model(intensity, variance, weight, data.orbit, ~is_outlier)
        if outlier_probability == 0:
            break
        found = _find_outliers(
            data, factor, offset, intensity, weight, is_outlier, model, outlier_probability
        )
        found |= _in_rings(data, intensity, variance, weight, found, model)
        if np.array_equal(found, is_outlier):
            break
        is_outlier = found
    return ScaledObservations(intensity, variance, weight, data.orbit, is_outlier, model)


def orbit_means(
    values: FloatArray, weight: FloatArray, orbit: IntArray, used: BoolArray
) -> FloatArray:
    """Weighted means (n_orbits,) of the used values (n,); NaN where there are none."""
    n = int(orbit.max()) + 1
    w = np.where(used, weight, 0.0)
    total = np.bincount(orbit, w, n)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(orbit, w * np.where(used, values, 0.0), n) / total)


def _others(
    values: FloatArray, weight: FloatArray, orbit: IntArray, used: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Mean (n,) of each observation's equivalents without itself, and that mean's weight."""
    n = int(orbit.max()) + 1
    w = np.where(used, weight, 0.0)
    total = np.bincount(orbit, w, n)[orbit] - w
    summed = np.bincount(orbit, w * values, n)[orbit] - w * values
    # What is left of a sum after rounding is not another observation.
    total = np.where(total > 1e-9 * weight, total, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: FloatArray = np.where(total > 0, summed / total, np.nan)
    return mean, np.asarray(total, dtype=np.float64)


def _far_from_medians(
    data: ScalingData, factor: FloatArray, offset: FloatArray, intensity: FloatArray
) -> BoolArray:
    """Suspects (n,) that are no part of the first means: far from the median of their orbit.

    Bright pixels in a few per cent of the observations spoil the means of most orbits, so that what
    equivalents differ by, and the errors learned from it, is theirs. Rounds of `_find_outliers`
    judge suspects again. Orbits of two have none: their median is their mean.
    """
    order = np.lexsort((intensity, data.orbit))
    members = np.bincount(data.orbit, minlength=data.n_orbits)
    first = np.cumsum(members) - members
    middle = [intensity[order[first + (members - 1 + n) // 2]] for n in (0, 1)]
    median = np.maximum(0.5 * (middle[0] + middle[1]), 0.0)[data.orbit]
    variance = data.expected_variance(factor * median + offset) / factor**2
    # Where nothing is expected, one photon is.
    variance = np.maximum(variance, (data.per_intensity / factor) ** 2)
    square = (intensity - median) ** 2 / variance
    several = members[data.orbit] > 2
    most = max(float(np.median(square[several])) / MEDIAN_SQUARE, 1.0) if several.any() else 1.0
    far: BoolArray = several & (square > _FAR**2 * most)
    return far


def _find_outliers(
    data: ScalingData,
    factor: FloatArray,
    offset: FloatArray,
    intensity: FloatArray,
    weight: FloatArray,
    is_outlier: BoolArray,
    model: ErrorModel,
    probability: float,
) -> BoolArray:
    """Two-sided: counts too many or too few for what the equivalents make expected.

    Where several of an orbit are too many, they make the others look too few until they are gone:
    so what is found is what was found before, and the worst of the rest. The expectation is
    uncertain itself: with that, and the error model's inflation, the number of photons is divided
    by what their variance exceeds Poisson's by, which keeps mean over standard deviation right.
    """
    others, total = _others(intensity, weight, data.orbit, ~is_outlier)
    known = np.isfinite(others)
    expected = np.where(known, factor * others + offset, 1.0)
    # An intensity over this is a number of photons.
    per_photon = data.per_intensity
    # Where the others have seen nothing: one photon among them all.
    least = np.where(total > 0, weight / np.maximum(total, 1e-300), 1.0)
    mean = np.maximum(expected / per_photon, least)
    counting = data.expected_variance(expected)
    own = model.variance(counting / factor**2, others) * factor**2
    of_mean = np.where(total > 0, own * weight / np.maximum(total, 1e-300), 0.0)
    excess = np.maximum((own + of_mean) / np.maximum(mean * per_photon**2, 1e-300), 1.0)
    seen = np.maximum(data.intensity, 0.0) / per_photon
    z = np.abs(seen - mean) / np.sqrt(np.maximum(mean * excess, 1e-300))
    # Within two standard deviations no count is so improbable.
    near = np.flatnonzero(known & ((z > 2.0) | (probability > _LIKELY)))
    n, mu = seen[near] / excess[near], mean[near] / excess[near]
    poisson = np.where(n >= mu, pdtrc(np.ceil(n) - 1.0, mu), pdtr(np.floor(n), mu))
    tail = np.where(mu > _MANY_PHOTONS, np.exp(-0.5 * z[near] ** 2), poisson)
    found = np.zeros(len(seen), dtype=bool)
    found[near[tail < probability]] = True
    new = np.flatnonzero(found & ~is_outlier)
    worst = np.zeros(data.n_orbits)
    np.maximum.at(worst, data.orbit[new], z[new])
    found[new] = z[new] >= _WORST * worst[data.orbit[new]]
    return found


def _in_rings(
    data: ScalingData,
    intensity: FloatArray,
    variance: FloatArray,
    weight: FloatArray,
    is_outlier: BoolArray,
    model: ErrorModel,
) -> BoolArray:
    """Observations (n,) in rings of resolution that are out as a whole, where wedges are known."""
    if not {"wedge", "inv_d"} <= set(data.columns):
        return np.zeros(len(intensity), dtype=bool)
    others, total = _others(intensity, weight, data.orbit, ~is_outlier)
    own = model.variance(variance, np.nan_to_num(others))
    own = own * (1.0 + weight / np.maximum(total, 1e-300))
    used = np.where(is_outlier, 0.0, weight)
    wedge = data.columns["wedge"].astype(np.int64)
    return find_rings(wedge, data.columns["inv_d"], intensity, others, own, used)


def _fit_error_model(
    intensity: FloatArray,
    variance: FloatArray,
    weight: FloatArray,
    orbit: IntArray,
    used: BoolArray,
) -> ErrorModel:
    """Inflation and fraction by variances of what equivalents differ by, in bins."""
    others, total = _others(intensity, weight, orbit, used)
    ok = used & np.isfinite(others) & (others > 0)
    if np.count_nonzero(ok) < 10 * _N_BINS:
        return ErrorModel()
    difference = (intensity - others)[ok]
    expected = (variance * (1.0 + weight / np.maximum(total, 1e-300)))[ok]
    level = others[ok]
    # By signal to noise: that is what tells the two kinds of error apart.
    order = np.argsort(level**2 / expected)
    rows, seen = [], []
    for part in np.array_split(order, _N_BINS):
        z2 = difference[part] ** 2 / expected[part]
        # A mean, as a variance is: of few photons no median says anything. Outliers are capped, by
        # what most deviates are where that is far more than counts explain.
        most = max(float(np.median(z2)) / MEDIAN_SQUARE, 1.0)
        seen.append(float(np.mean(np.minimum(z2, _LARGEST_SQUARE * most))))
        rows.append([1.0, float(np.median(level[part] ** 2 / expected[part]))])
    matrix, right = np.array(rows), np.array(seen)
    scale = np.maximum(right, 1.0)
    found, *_ = np.linalg.lstsq(matrix / scale[:, None], right / scale, rcond=None)
    k2, k2m2 = float(found[0]), float(found[1])
    if k2m2 <= 0 or k2 <= 0:
        k2, k2m2 = float(np.median(right)), 0.0
    inflation = float(np.sqrt(max(k2, 1.0)))
    return ErrorModel(inflation, float(np.sqrt(max(k2m2, 0.0))) / inflation)
