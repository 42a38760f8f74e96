"""How well Friedel mates agree, beside how well other equivalents do: columns of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.maps.equivalents import Observations
from offbragg.maps.shells import (
    ROUNDING,
    ResolutionShells,
    anisotropic_part,
    divide,
    shell_correlation,
    shell_of,
)


@dataclass(frozen=True, eq=False)
class FriedelPairs:
    """Observations with Friedel mates apart, and which of their orbits are mates.

    Attributes
    ----------
    apart : Observations
        Orbits are those of the point group.
    plus, minus : ndarray, shape (n_pairs,), int64
        Numbers of the orbits of h and of -h, both measured. None of h equivalent to -h.
    inv_d : ndarray, shape (apart.n_orbits,), float64
        1/d [Å⁻¹] of each orbit.
    """

    apart: Observations
    plus: IntArray
    minus: IntArray
    inv_d: FloatArray

    @classmethod
    def of(cls, apart: Observations, merged: Observations) -> FriedelPairs:
        """Find the mates.

        Parameters
        ----------
        apart, merged : Observations
            The same ones, with the orbits of a point group and of its Laue group.
        """
        first = apart.first()
        # A Laue group is its point group twice over: an orbit of it is one of these, or two.
        of_laue = merged.orbit[first]
        order = np.argsort(of_laue, kind="stable")
        is_pair = of_laue[order[1:]] == of_laue[order[:-1]]
        return cls(apart, order[:-1][is_pair], order[1:][is_pair], apart.inv_d[first])

    def means(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Means (n_pairs,) of values (n_observations,) at h and at -h."""
        mean = self.apart.mean(values)
        return mean[self.plus], mean[self.minus]


class FriedelAgreement:
    """Sums over pairs of mates, and over other equivalents."""

    def __init__(self, pairs: FriedelPairs) -> None:
        self.inv_d, self.orbit_inv_d = pairs.inv_d[pairs.plus], pairs.inv_d
        plus, minus = pairs.means(pairs.apart.intensity)
        both = np.concatenate([plus, minus])
        n = len(plus)
        varying = anisotropic_part(both, np.concatenate([self.inv_d, self.inv_d]))
        self.means = {"": (plus, minus), "_anisotropic": (varying[:n], varying[n:])}
        self.difference = _difference(plus, minus)
        self.halves = None
        if pairs.apart.half_1 is not None and pairs.apart.half_2 is not None:
            halves = (pairs.means(pairs.apart.half_1), pairs.means(pairs.apart.half_2))
            self.halves = tuple(_difference(*half) for half in halves)
        self.noise = None
        variance = pairs.apart.mean_variance()
        if variance is not None and pairs.apart.variance is not None:
            self.noise = variance[pairs.plus] + variance[pairs.minus]
            self.scatter, self.expected = _scatter(pairs.apart, pairs.apart.variance)

    def columns(
        self, shells: ResolutionShells, *, overall: bool = False
    ) -> dict[str, FloatArray | IntArray]:
        """Columns (n_shells,) by name, or of all shells together (1,)."""
        n_shells = 1 if overall else shells.n_shells
        limits = (float(1 / shells.d_max[0]), float(1 / shells.d_min[-1]))
        shell = shell_of(self.inv_d, *limits, n_shells)
        columns: dict[str, FloatArray | IntArray] = {
            "n_friedel": np.bincount(shell, minlength=n_shells)
        }
        for part, (plus, minus) in self.means.items():
            magnitude = np.abs(plus) + np.abs(minus)
            columns[f"r_friedel{part}"] = divide(
                np.bincount(shell, np.abs(plus - minus), n_shells),
                np.bincount(shell, magnitude, n_shells),
            )
            # Which mate is h and which is -h is arbitrary: each pair in both orders.
            columns[f"cc_friedel{part}"] = shell_correlation(
                np.concatenate([plus, minus]), np.concatenate([minus, plus]),
                np.concatenate([shell, shell]), n_shells,
            )  # fmt: skip
        if self.noise is not None:
            columns["anomalous_over_sigma"] = _root_ratio(
                self.difference**2, self.noise, shell, n_shells
            )
            of_orbit = shell_of(self.orbit_inv_d, *limits, n_shells)
            columns["equivalents_over_sigma"] = _root_ratio(
                self.scatter, self.expected, of_orbit, n_shells
            )
        if self.halves is not None:
            first, second = self.halves
            known = np.isfinite(first) & np.isfinite(second)
            x, y, of_known = first[known], second[known], shell[known]
            spread = np.bincount(of_known, x**2, n_shells) * np.bincount(of_known, y**2, n_shells)
            columns["cc_half_anomalous"] = divide(
                np.bincount(of_known, x * y, n_shells), np.sqrt(spread)
            )
        return columns


def _difference(plus: FloatArray, minus: FloatArray) -> FloatArray:
    """I(h) - I(-h), 0 where it is rounding."""
    difference: FloatArray = plus - minus
    return np.where(np.abs(difference) <= ROUNDING * (np.abs(plus) + np.abs(minus)), 0, difference)


def _scatter(apart: Observations, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Σ (I - mean)² of each orbit (n_orbits,), and what its noise makes it expected to be."""
    members = apart.members()
    mean = apart.sum(apart.intensity) / members
    scatter = apart.sum((apart.intensity - mean[apart.orbit]) ** 2)
    return scatter, (1.0 - 1.0 / members) * apart.sum(variance)


def _root_ratio(
    square: FloatArray, noise: FloatArray, shell: IntArray, n_shells: int
) -> FloatArray:
    known = np.isfinite(noise) & np.isfinite(square)
    sums = [np.bincount(shell[known], x[known], n_shells) for x in (square, noise)]
    return np.sqrt(divide(sums[0], sums[1]))
