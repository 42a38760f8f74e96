"""How well equivalents and half maps agree: columns of a table, from sums over orbits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.maps.equivalents import Observations
from offbragg.maps.shells import (
    ROUNDING,
    anisotropic_part,
    divide,
    shell_correlation,
    shell_mean,
)


@dataclass(frozen=True)
class _OrbitSums:
    """What the voxels of each orbit say together; arrays (n_orbits,), 0 for single voxels.

    ``deviation`` Σ|I − ⟨I⟩|, ``unbiased`` the same times √(m/(m − 1)), ``magnitude`` Σ|I|,
    ``mean`` plain mean, ``scatter`` Σ(I − mean)².
    """

    deviation: FloatArray
    unbiased: FloatArray
    magnitude: FloatArray
    mean: FloatArray
    scatter: FloatArray


def _orbit_sums(observations: Observations, values: FloatArray, members: IntArray) -> _OrbitSums:
    orbit = observations.orbit
    used = members[orbit] > 1
    kept = np.where(used, values, 0.0)
    merged = np.where(members > 1, observations.mean(kept), 0.0)
    mean = observations.sum(kept) / members
    deviation = observations.sum(np.abs(kept - merged[orbit]))
    return _OrbitSums(
        deviation=deviation,
        unbiased=deviation * np.sqrt(members / np.maximum(members - 1.0, 1.0)),
        magnitude=observations.sum(np.abs(kept)),
        mean=mean,
        scatter=observations.sum((kept - mean[orbit]) ** 2),
    )


class SelfAgreement:
    """Sums over orbits, of intensities and their anisotropic parts: the columns of a table."""

    def __init__(self, observations: Observations, orbit_inv_d: FloatArray) -> None:
        self.members = observations.members()
        self.mean = observations.mean(observations.intensity)
        self.variance = observations.mean_variance()
        self.varying = anisotropic_part(self.mean, orbit_inv_d, np.ones(len(self.mean), dtype=bool))
        anisotropic = anisotropic_part(
            observations.intensity, observations.inv_d, self.members[observations.orbit] > 1
        )
        self.sums = {
            "": _orbit_sums(observations, observations.intensity, self.members),
            "_anisotropic": _orbit_sums(observations, anisotropic, self.members),
        }
        self.halves: dict[str, tuple[FloatArray, FloatArray]] = {}
        if observations.half_1 is not None and observations.half_2 is not None:
            half_1 = observations.mean(observations.half_1)
            half_2 = observations.mean(observations.half_2)
            both = np.isfinite(half_1) & np.isfinite(half_2)
            self.halves = {
                "": (np.where(both, half_1, np.nan), np.where(both, half_2, np.nan)),
                "_anisotropic": (
                    anisotropic_part(half_1, orbit_inv_d, both),
                    anisotropic_part(half_2, orbit_inv_d, both),
                ),
            }

    def columns(
        self, shell: IntArray, n_shells: int, possible: IntArray
    ) -> dict[str, FloatArray | IntArray]:
        """Columns (n_shells,) by name; ``shell`` (n_orbits,)."""
        n_voxels = np.bincount(shell, self.members, n_shells).astype(np.int64)
        n_unique = np.bincount(shell, minlength=n_shells)
        columns: dict[str, FloatArray | IntArray] = {
            "n_voxels": n_voxels,
            "n_unique": n_unique,
            "completeness": divide(n_unique, possible),
            "multiplicity": divide(n_voxels, n_unique),
            "mean_intensity": shell_mean(self.mean, shell, n_shells),
        }
        if self.variance is not None:
            ratio = divide(self.mean, np.sqrt(self.variance))
            known = np.isfinite(ratio)
            columns["mean_i_over_sigma"] = shell_mean(ratio[known], shell[known], n_shells)
            known = np.isfinite(self.variance)
            noise = shell_mean(self.variance[known], shell[known], n_shells)
            square = shell_mean(self.varying[known] ** 2, shell[known], n_shells)
            # What the noise itself makes vary is no signal.
            columns["variation_over_sigma"] = np.sqrt(np.maximum(divide(square, noise) - 1.0, 0.0))
        pairs = self.members * (self.members - 1)
        columns["n_pairs"] = np.bincount(shell, pairs, n_shells).astype(np.int64)
        for part, sums in self.sums.items():
            columns[f"r_int{part}"] = divide(
                np.bincount(shell, sums.deviation, n_shells),
                np.bincount(shell, sums.magnitude, n_shells),
            )
            columns[f"r_meas{part}"] = divide(
                np.bincount(shell, sums.unbiased, n_shells),
                np.bincount(shell, sums.magnitude, n_shells),
            )
            columns[f"cc_equivalents{part}"] = self._pair_correlation(sums, shell, n_shells)
        for part, (half_1, half_2) in self.halves.items():
            both = np.isfinite(half_1)
            cc_half = shell_correlation(half_1[both], half_2[both], shell[both], n_shells)
            columns[f"cc_half{part}"] = cc_half
            n = np.bincount(shell[both], minlength=n_shells)
            columns[f"cc_half_error{part}"] = divide(
                1.0 - cc_half**2, np.sqrt(np.maximum(n - 1, 0))
            )
            columns[f"cc_star{part}"] = cc_star(cc_half)
        return columns

    def _pair_correlation(self, sums: _OrbitSums, shell: IntArray, n_shells: int) -> FloatArray:
        """Pearson over ordered pairs of equivalents, from sums: the pairs are not listed."""
        partners = self.members - 1.0
        pairs = self.members * partners
        centre = divide(
            np.bincount(shell, pairs * sums.mean, n_shells), np.bincount(shell, pairs, n_shells)
        )
        # For m values x of mean μ and scatter W about μ, and any c:
        # Σ_{i≠j} (x_i − c)(x_j − c) = m(m−1)(μ−c)² − W;  (m−1) Σ (x_i − c)² = (m−1)(W + m(μ−c)²)
        between = np.where(pairs > 0, pairs * (sums.mean - centre[shell]) ** 2, 0.0)
        product = np.bincount(shell, between - sums.scatter, n_shells)
        spread = np.bincount(shell, between + partners * sums.scatter, n_shells)
        level = np.bincount(shell, pairs * sums.mean**2 + partners * sums.scatter, n_shells)
        return divide(product, np.where(spread > ROUNDING**2 * level, spread, 0.0))


def cc_star(cc_half: FloatArray) -> FloatArray:
    """Correlation with the true signal, √(2 CC½ / (1 + CC½)); NaN where CC½ < 0.

    >>> cc_star(np.array([1.0, 0.6])).round(4).tolist()
    [1.0, 0.866]
    """
    usable = cc_half >= 0
    return np.sqrt(divide(np.where(usable, 2 * cc_half, np.nan), 1 + np.where(usable, cc_half, 0)))
