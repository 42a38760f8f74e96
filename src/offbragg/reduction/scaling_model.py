"""What a scaling is made of: observations, corrections of them, and coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.reduction.smooth_function import SmoothFunction
from offbragg.runtime import iter_chunks, map_in_order

KINDS = ("all", "crystal", "offset")
#: The median of a squared normal deviate.
MEDIAN_SQUARE = 0.4549
# What an expected intensity is at least for its variance, of the mean of all.
_LEAST_EXPECTED = 0.05
# Splines of so many are evaluated together: some 30 of them each, 12 bytes a number.
_OBSERVATIONS_AT_ONCE = 1 << 16


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
        factor, offset = np.ones(n), np.zeros(n)
        if not self.corrections:
            return factor, offset

        def evaluate(part: slice) -> None:
            some = {name: column[part] for name, column in columns.items()}
            values = [
                x.values(x.function.design(x.points(some)), c)
                for x, c in zip(self.corrections, self.coefficients, strict=True)
            ]
            both, crystal, added = multiplied_and_added(
                self.corrections, values, part.stop - part.start
            )
            factor[part], offset[part] = both * crystal, both * added

        for _ in map_in_order(evaluate, iter_chunks(n, _OBSERVATIONS_AT_ONCE)):
            pass
        return factor, offset


def multiplied_and_added(
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
