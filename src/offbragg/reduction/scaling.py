r"""Scaling: smooth corrections that make equivalent observations agree.

.. math:: I_o = \prod_m m(x_o) \Big[\prod_b b(x_o)\, I_{h(o)} + \sum_c c(x_o)\Big] + \text{noise}

with I_h one number for each orbit of equivalent voxels; m multiplies all that is counted
(absorption, the detector), b only what the crystal scatters (beam, illuminated volume), c is added
to it (air, loop, mother liquor). Factors are exponentials of smooth functions, so they stay
positive, and absorption is linear in its path. Levenberg–Marquardt on the coefficients of all of
them together; at each step the I_h of least squares follow (variable projection), so their number
costs nothing. Weights are those of the counts that the model *expects*, never of an observation's
own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy import sparse

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.reduction.smooth_function import SmoothFunction
from offbragg.runtime import SILENT, Progress, iter_chunks, say

logger = logging.getLogger(__name__)

KINDS = ("all", "crystal", "offset")
# Steps at most, and the change of the misfit, as a fraction, that ends them.
_MOST_STEPS, _SMALL_CHANGE = 12, 5e-4
# Residuals count fully up to so many standard deviations, beyond it as their inverse (Huber).
_HUBER = 2.0
# What an expected intensity is at least for its variance, of the mean of all.
_LEAST_EXPECTED = 0.05
# The median of a squared normal deviate.
_MEDIAN_SQUARE = 0.4549
# Coefficients that no observation shows stay near 0: departure that is expected.
_DEPARTURE = 0.5
# Damping, in units of the equations' diagonal: at first, what it is multiplied with where a step
# fails, and where none is found any more.
_DAMPING, _MORE, _MOST_DAMPING = 1e-3, 10.0, 1e4
_ORBITS_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Correction:
    """One smooth function and what it does.

    Attributes
    ----------
    function : SmoothFunction
    variables : tuple of str
        Names of the observations' columns that its axes are.
    kind : {"all", "crystal", "offset"}
        Multiplies all that is counted, or what the crystal scatters; or is added to that.
    roughness : float
        Second difference between neighbouring coefficients that is expected: of a factor's
        logarithm, or of an offset, in units of the mean intensity.
    """

    function: SmoothFunction
    variables: tuple[str, ...]
    kind: str
    roughness: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not self.roughness > 0:
            raise InputError(f"roughness must be > 0, got {self.roughness}")

    def values(self, design: sparse.csr_array, coefficients: FloatArray) -> FloatArray:
        """What it is where the observations of a design (n, n_coefficients) lie, (n,)."""
        smooth: FloatArray = design @ coefficients
        return smooth if self.kind == "offset" else np.exp(smooth)

    def points(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """Where the observations lie on its axes, (n, n_axes)."""
        return np.column_stack([columns[name] for name in self.variables])


@dataclass(frozen=True, eq=False)
class Scaling:
    """Corrections with their coefficients.

    Attributes
    ----------
    corrections : tuple of Correction
    coefficients : tuple of ndarray
    converged : bool
    misfit : ndarray, shape (n_steps + 1,)
        Robust mean square of the weighted residuals before the first step and after each.
    """

    corrections: tuple[Correction, ...]
    coefficients: tuple[FloatArray, ...]
    converged: bool
    misfit: FloatArray

    @classmethod
    def none(cls) -> Scaling:
        """No corrections: observations stay as they are."""
        return cls((), (), True, np.empty(0))

    def value(self, name: str, points: FloatArray) -> FloatArray:
        """Value of the correction of a name at points (n, n_axes)."""
        for correction, c in zip(self.corrections, self.coefficients, strict=True):
            if correction.function.name == name:
                return correction.values(correction.function.design(points), c)
        names = ", ".join(x.function.name for x in self.corrections)
        raise InputError(f"scaling has no correction {name!r}, expected one of {names}")

    def factor_and_offset(self, columns: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """What observations are: factor · I_h + offset, both (n,)."""
        n = len(next(iter(columns.values())))
        values = [
            x.values(x.function.design(x.points(columns)), c)
            for x, c in zip(self.corrections, self.coefficients, strict=True)
        ]
        both, crystal, added = _terms(self.corrections, values, n)
        return both * crystal, both * added


def _terms(
    corrections: Sequence[Correction], values: Sequence[FloatArray], n: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What multiplies all, what multiplies the crystal's part, and what is added; (n,)."""
    both, crystal, added = np.ones(n), np.ones(n), np.zeros(n)
    for x, value in zip(corrections, values, strict=True):
        if x.kind == "offset":
            added += value
        elif x.kind == "all":
            both *= value
        else:
            crystal *= value
    return both, crystal, added


@dataclass(frozen=True, eq=False)
class ScalingData:
    """Observations to scale.

    Attributes
    ----------
    intensity : ndarray, shape (n,), float64
    per_intensity : ndarray, shape (n,), float64
        Poisson variance over expected intensity, ``Σ w² κ / (Σ w)²``.
    own_variance : ndarray, shape (n,), float64
        Variance beside it: of a background, of read-out.
    orbit : ndarray, shape (n,), int64
        0 … n_orbits − 1.
    columns : mapping of str to ndarray, shape (n,)
        What corrections may depend on.
    """

    intensity: FloatArray
    per_intensity: FloatArray
    own_variance: FloatArray
    orbit: IntArray
    columns: Mapping[str, FloatArray]

    @property
    def n_orbits(self) -> int:
        """Orbits that the observations belong to."""
        return int(self.orbit.max()) + 1

    def take(self, chosen: IntArray) -> ScalingData:
        """Some of the observations, their orbits numbered anew."""
        orbit = np.unique(self.orbit[chosen], return_inverse=True)[1].astype(np.int64)
        return ScalingData(
            self.intensity[chosen], self.per_intensity[chosen], self.own_variance[chosen], orbit,
            {name: column[chosen] for name, column in self.columns.items()},
        )  # fmt: skip

    def by_orbit(self, values: FloatArray) -> FloatArray:
        """Sums (n_orbits,) of values (n,)."""
        return np.asarray(np.bincount(self.orbit, values, self.n_orbits))

    def expected_variance(self, expected: FloatArray) -> FloatArray:
        """Variance (n,) of observations whose expected intensity is given."""
        least = _LEAST_EXPECTED * float(np.mean(self.intensity))
        return np.maximum(expected, least) * self.per_intensity + self.own_variance

    def drawn(self, most: int, rng: np.random.Generator) -> ScalingData:
        """Observations of orbits that have several, of so many at most, whole orbits at random."""
        members = np.bincount(self.orbit, minlength=self.n_orbits)
        orbits = rng.permutation(np.flatnonzero(members > 1))
        kept = orbits[np.cumsum(members[orbits]) <= max(most, 2)]
        wanted = np.zeros(self.n_orbits, dtype=bool)
        wanted[kept] = True
        return self.take(np.flatnonzero(wanted[self.orbit]))


def fit_scaling(
    data: ScalingData,
    corrections: Sequence[Correction],
    *,
    most_observations: int = 500_000,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
) -> Scaling:
    """Find the corrections that make equivalent observations agree.

    Parameters
    ----------
    data : ScalingData
    corrections : sequence of Correction
    most_observations : int
        Orbits are drawn at random until they have so many: some thousand coefficients need no
        more, and what is left over judges them.
    rng : numpy.random.Generator, optional
        Draws the orbits; seeded with 0 where not given.
    progress : Progress

    Returns
    -------
    Scaling
        Factors of mean 1 over the observations, offsets of which the least along the first axis
        that is no category is 0.

    Raises
    ------
    InputError
        If there is no orbit with two observations.

    Notes
    -----
    Time goes with observations × splines at a point (3 an axis): half a million, four corrections,
    about a minute.
    """
    used = data.drawn(most_observations, rng or np.random.default_rng(0))
    if not len(used.intensity):
        raise InputError("scaling: expected orbits with two observations or more, found none")
    problem = _Problem(used, tuple(corrections))
    state = np.zeros(problem.n_coefficients)
    misfit = [problem.misfit(state)]
    converged, damping = False, _DAMPING
    for step in range(_MOST_STEPS):
        problem.learn_errors(state)
        misfit[-1] = problem.misfit(state)
        state, damping = problem.improved(state, damping)
        misfit.append(problem.misfit(state))
        say(progress, f"scaling, step {step + 1}: misfit {misfit[-1]:.4f}")
        if abs(misfit[-2] - misfit[-1]) <= _SMALL_CHANGE * misfit[-1]:
            converged = True
            break
    logger.info("scaling: misfit %s", " ".join(f"{x:.4f}" for x in misfit))
    coefficients = tuple(problem.normalised(state))
    return Scaling(tuple(corrections), coefficients, converged, np.array(misfit))


class _Problem:
    """The least squares of one set of observations."""

    def __init__(self, data: ScalingData, corrections: tuple[Correction, ...]) -> None:
        self.data, self.corrections = data, corrections
        self.level = float(np.mean(data.intensity))
        self.fraction = 0.0
        self.designs = [x.function.design(x.points(data.columns)) for x in corrections]
        sizes = [design.shape[1] for design in self.designs]
        ends = np.cumsum(sizes)
        self.parts = [slice(end - n, end) for end, n in zip(ends, sizes, strict=True)]
        self.n_coefficients = int(ends[-1])
        # Restraints: rows · p = 0, in units of what is expected.
        units = [self.level if x.kind == "offset" else 1.0 for x in corrections]
        blocks = [
            sparse.vstack(
                [
                    x.function.roughness() / (x.roughness * unit),
                    sparse.eye_array(n) / (_DEPARTURE * unit),
                ]
            )
            for x, n, unit in zip(corrections, sizes, units, strict=True)
        ]
        self.restraints = sparse.csr_array(sparse.block_diag(blocks))

    def _values(self, p: FloatArray) -> list[FloatArray]:
        return [
            x.values(design, p[part])
            for x, design, part in zip(self.corrections, self.designs, self.parts, strict=True)
        ]

    def _terms(self, p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return _terms(self.corrections, self._values(p), len(self.data.intensity))

    def _fitted(self, p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Merged intensity by observation, residuals, variances and trust, in three rounds.

        Variances follow the merged intensities, trust the residuals: both are refined together.
        """
        data = self.data
        both, crystal, added = self._terms(p)
        g, y = both * crystal, data.intensity - both * added
        trust = np.ones(len(y))
        variance = self._variance(np.full(len(y), self.level))
        for _ in range(3):
            weight = trust / variance
            merged = data.by_orbit(weight * g * y) / data.by_orbit(weight * g * g)
            residual = y - g * merged[data.orbit]
            variance = self._variance(data.intensity - residual)
            size = np.abs(residual) / np.sqrt(variance)
            trust = 1.0 / np.maximum(size / _HUBER, 1.0)
        return merged[data.orbit], residual, variance, trust

    def _variance(self, expected: FloatArray) -> FloatArray:
        """Of counts, and of what no correction describes, in proportion to the intensity."""
        out: FloatArray = self.data.expected_variance(expected) + (self.fraction * expected) ** 2
        return out

    def learn_errors(self, p: FloatArray) -> None:
        """Set the fraction that makes the residuals as large as their variances, at the median.

        Where counts are many, weights of counts alone would let a few bright observations decide.
        """
        _, residual, _, _ = self._fitted(p)
        expected = self.data.intensity - residual
        counted = self.data.expected_variance(expected)
        members = np.bincount(self.data.orbit)[self.data.orbit]
        seen = residual**2 * members / (members - 1.0) / _MEDIAN_SQUARE
        excess = float(np.median((seen - counted) / np.maximum(expected, self.level * 0.1) ** 2))
        self.fraction = float(np.sqrt(max(excess, 0.0)))

    def misfit(self, p: FloatArray) -> float:
        """Huber's loss per observation, twice; the restraints' squares are small beside it."""
        _, residual, variance, _ = self._fitted(p)
        z = np.abs(residual) / np.sqrt(variance)
        loss = np.where(z <= _HUBER, z * z, _HUBER * (2.0 * z - _HUBER))
        freedom = max(len(z) - self.data.n_orbits, 1)
        return float((np.sum(loss) + float(np.sum(np.asarray(self.restraints @ p) ** 2))) / freedom)

    def improved(self, p: FloatArray, damping: float) -> tuple[FloatArray, float]:
        """One step of Levenberg and Marquardt, and the damping for the next."""
        merged, residual, variance, trust = self._fitted(p)
        both, crystal, added = self._terms(p)
        root = np.sqrt(trust / variance)
        # A factor's logarithm changes what it multiplies by as much of itself.
        slopes = {
            "offset": both,
            "crystal": both * crystal * merged,
            "all": both * (crystal * merged + added),
        }
        jacobian = sparse.csr_array(
            sparse.hstack(
                [
                    design.multiply((root * slopes[x.kind])[:, None])
                    for x, design in zip(self.corrections, self.designs, strict=True)
                ]
            )
        )
        normal, right = self._equations(jacobian, root * both * crystal, root * residual)
        restraints = self.restraints
        normal = normal + np.asarray((restraints.T @ restraints).toarray(), dtype=np.float64)
        right = right - np.asarray(restraints.T @ (restraints @ p))
        before, diagonal = self.misfit(p), np.diag(np.diag(normal))
        while damping < _MOST_DAMPING:
            step = scipy.linalg.solve(normal + damping * diagonal, right, assume_a="pos")
            if self.misfit(p + step) < before:
                return p + step, damping / _MORE
            damping *= _MORE
        return p, damping

    def _equations(
        self, jacobian: sparse.csr_array, along: FloatArray, residual: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Normal equations less what a change of the merged intensities makes up for.

        ``along`` (n,) are the weighted slopes by those: with D = Σ along² of each orbit,
        ``JᵀJ − Bᵀ D⁻¹ B``, B the sums over orbits of along · J.
        """
        orbit = self.data.orbit
        squares = np.maximum(self.data.by_orbit(along * along), np.finfo(float).tiny)
        n = len(orbit)
        gather = sparse.csr_array(
            (along / np.sqrt(squares)[orbit], (orbit, np.arange(n))), shape=(len(squares), n)
        )
        shared = sparse.csr_array(gather @ jacobian)
        normal = (jacobian.T @ jacobian).toarray()
        for part in iter_chunks(len(squares), _ORBITS_AT_ONCE):
            rows = shared[part].toarray()
            normal -= rows.T @ rows
        right = jacobian.T @ residual - shared.T @ (gather @ residual)
        return normal, right

    def normalised(self, p: FloatArray) -> list[FloatArray]:
        """Factors of mean 1; offsets not below 0, as far as equivalents do not tell.

        A factor's size is the merged intensities', and so is an offset that does not vary with
        what only observations have.
        """
        weight = 1.0 / self.data.expected_variance(np.full(len(self.data.intensity), self.level))
        parts = [p[part].copy() for part in self.parts]
        for x, design, part in zip(self.corrections, self.designs, parts, strict=True):
            if x.kind == "offset":
                continue
            mean = float(np.average(x.values(design, part), weights=weight))
            part -= np.log(mean)  # the splines sum to 1
            if x.kind == "all":
                for other, values in zip(self.corrections, parts, strict=True):
                    if other.kind == "offset":
                        values *= mean
        for x, part in zip(self.corrections, parts, strict=True):
            if x.kind == "offset" and len(x.function.axes) > 1:
                part -= _least(x.function, part)
        return parts


def _least(function: SmoothFunction, coefficients: FloatArray) -> FloatArray:
    """What an offset is at least along all axes but the first, by coefficient.

    Of its values, not its coefficients: those at the ends reach beyond what is observed.
    """
    first, *others = function.axes
    rest = SmoothFunction(function.name, tuple(others))
    places = [axis.places() for axis in others]
    points = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, len(others))
    by_first = coefficients.reshape(first.n_splines, -1)
    values = rest.design(points) @ by_first.T  # (n_points, n_first)
    lowest: FloatArray = np.repeat(values.min(axis=0), by_first.shape[1])
    return lowest
