"""The least squares of a scaling: residuals of the observations, and a step that lowers them."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy import sparse

from offbragg.conventions import FloatArray
from offbragg.reduction.scaling_model import (
    MEDIAN_SQUARE,
    Correction,
    ScalingData,
    multiplied_and_added,
)
from offbragg.reduction.smoothness import Penalty, Smoothness
from offbragg.reduction.undetermined import least, least_rows, mean_rows
from offbragg.runtime import iter_chunks

# Residuals count fully up to so many standard deviations, beyond it as their inverse (Huber).
_HUBER = 2.0
# How far from none corrections are expected to be, at first.
_DEPARTURE = 0.5
# How many times their roughness corrections may have, and how many neighbours share an error that
# is not of counts: about what lies between two knots.
_ROUGHER, _NEIGHBOURS = 10.0, 30.0
# What damping is multiplied with where a step fails, in units of the equations' diagonal, and where
# no step is found any more.
_MORE, _MOST_DAMPING = 10.0, 1e4
_ORBITS_AT_ONCE = 8192
# Few of them in order of angle have but a few hundred splines.
_ROWS_AT_ONCE = 2048


class ScalingProblem:
    """The least squares of one set of observations."""

    def __init__(self, data: ScalingData, corrections: tuple[Correction, ...]) -> None:
        # In order of the sweeps and their angles, neighbours have the same splines.
        keys = [data.columns[name] for name in ("angle", "sweep") if name in data.columns]
        data = data.take(np.lexsort(keys)) if keys else data
        self.data, self.corrections = data, corrections
        self.level = float(np.mean(data.intensity))
        self.fraction = 0.0
        self.designs = [x.function.design(x.points(data.columns)) for x in corrections]
        sizes = [design.shape[1] for design in self.designs]
        ends = np.cumsum(sizes)
        self.parts = [slice(end - n, end) for end, n in zip(ends, sizes, strict=True)]
        self.n_coefficients = int(ends[-1])
        self.smoothness = Smoothness(self._penalties(), _ROUGHER)
        self.restraint = self.smoothness.matrix() + self._conventions(np.zeros(self.n_coefficients))

    def _penalties(self) -> list[Penalty]:
        """Of every correction along every axis, and of its departure from none."""
        found = []
        for x, part in zip(self.corrections, self.parts, strict=True):
            unit = self.level if x.kind == "offset" else 1.0
            found += [
                Penalty(part, rows, x.roughness * unit)
                for rows in (x.function.roughness_along(a) for a in range(len(x.function.axes)))
                if rows.shape[0]
            ]
            whole = sparse.csr_array(sparse.eye_array(x.function.n_coefficients))
            found.append(Penalty(part, whole, _DEPARTURE * unit))
        return found

    def _conventions(self, p: FloatArray) -> FloatArray:
        """Squares of the rows that are to be 0 where equivalents do not tell."""
        out = np.zeros((self.n_coefficients, self.n_coefficients))
        for x, design, part in zip(self.corrections, self.designs, self.parts, strict=True):
            if x.kind != "offset":
                rows = mean_rows(x, design, self.data)
            elif len(x.function.axes) > 1:
                rows = least_rows(x.function, p[part], self.level)
            else:
                continue
            out[part, part] += (rows.T @ rows).toarray()
        return out

    def _values(self, p: FloatArray) -> list[FloatArray]:
        return [
            x.values(design, p[part])
            for x, design, part in zip(self.corrections, self.designs, self.parts, strict=True)
        ]

    def _terms(self, p: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return multiplied_and_added(self.corrections, self._values(p), len(self.data.intensity))

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
        seen = residual**2 * members / (members - 1.0) / MEDIAN_SQUARE
        excess = float(np.median((seen - counted) / np.maximum(expected, self.level * 0.1) ** 2))
        self.fraction = float(np.sqrt(max(excess, 0.0)))

    def _alike(self, residual: FloatArray, variance: FloatArray) -> float:
        """How many observations are worth one that is independent, 1 or more.

        Errors of counts are independent. What there is beside them neighbours share, as the slopes
        of the map within voxels: corrections could describe it, and should not.
        """
        shared = (self.fraction * (self.data.intensity - residual)) ** 2
        return 1.0 + (_NEIGHBOURS - 1.0) * float(np.mean(shared / variance))

    def misfit(self, p: FloatArray) -> float:
        """Huber's loss per observation, twice; the restraints' squares are small beside it."""
        _, residual, variance, _ = self._fitted(p)
        z = np.abs(residual) / np.sqrt(variance)
        loss = np.where(z <= _HUBER, z * z, _HUBER * (2.0 * z - _HUBER))
        freedom = max(len(z) - self.data.n_orbits, 1)
        return float((np.sum(loss) + float(p @ (self.restraint @ p))) / freedom)

    def improved(self, p: FloatArray, damping: float) -> tuple[FloatArray, float]:
        """One step of Levenberg and Marquardt, and the damping for the next.

        How smooth the corrections are is learned on the way, from the equations of the step.
        """
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
        conventions = self._conventions(p)
        # Equations of as many observations as are independent of each other.
        one_of = self._alike(residual, variance)
        self.smoothness.learn((normal + conventions) / one_of, (right + normal @ p) / one_of)
        self.restraint = one_of * self.smoothness.matrix() + conventions
        normal, right = normal + self.restraint, right - self.restraint @ p
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
        normal = _square(jacobian)
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
                part -= least(x.function, part)
        return parts


def _square(matrix: sparse.csr_array) -> FloatArray:
    """MᵀM, dense, by blocks of rows and of the columns that these have."""
    out = np.zeros((matrix.shape[1], matrix.shape[1]))
    for part in iter_chunks(matrix.shape[0], _ROWS_AT_ONCE):
        begin, end = matrix.indptr[part.start], matrix.indptr[part.stop]
        columns, place = np.unique(matrix.indices[begin:end], return_inverse=True)
        block = np.zeros((part.stop - part.start, len(columns)))
        rows = np.repeat(np.arange(len(block)), np.diff(matrix.indptr[part.start : part.stop + 1]))
        block[rows, place] = matrix.data[begin:end]
        out[np.ix_(columns, columns)] += block.T @ block
    return out
