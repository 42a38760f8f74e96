"""How well a map agrees with itself: completeness, R_int, CC of equivalents, CC½, by shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import laue_rotations, laue_symbol
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import Observations, gather_observations, symmetry_orbits
from offbragg.maps.shells import (
    N_SHELLS,
    ROUNDING,
    ResolutionShells,
    anisotropic_part,
    divide,
    resolution_shells,
    shell_correlation,
    shell_mean,
    shell_of,
)

Tables = dict[str, dict[str, Any]]

_NOTES = {
    "computed": "no standard errors, pixel counts or half maps (computed or imported): R_int and "
    "CC of equivalents tell how symmetric it is, not how well it was measured",
    "merged": "merged before, and no statistics were stored: equivalents are copies",
    "observed": "",
}


def statistics(diffuse_map: DiffuseMap, n_shells: int = N_SHELLS) -> Mapping[str, Any]:
    r"""Tell how well a map agrees with itself under its Laue group, overall and by shell.

    ``n_voxels`` measured, ``n_unique`` orbits of equivalents among them, ``completeness`` (those
    over all orbits of the sampled lattice between the origin and the map's ``d_min``, or its
    outermost measured voxel), ``multiplicity`` (n_voxels / n_unique), ``mean_intensity`` of the
    orbits, ``mean_i_over_sigma``, and

    .. math:: R_{int} = \frac{\sum |I - \langle I \rangle|}{\sum |I|}, \qquad
              CC^* = \sqrt{\frac{2\,CC_{1/2}}{1 + CC_{1/2}}}

    ``r_int`` over voxels with a measured equivalent, ⟨I⟩ the mean that `merge` gives (weighted by
    pixels); ``r_meas`` the same with every |I − ⟨I⟩| times √(m/(m − 1)), m the voxels of its orbit,
    which does not fall with the multiplicity by itself (Diederichs & Karplus 1997);
    ``cc_equivalents`` Pearson over all ordered pairs of distinct voxels of an orbit
    (``n_pairs``: an orbit of m gives m(m − 1)); ``cc_half`` between the two half maps, each
    averaged over equivalents first, one entry an orbit, ``cc_half_error`` its standard error for
    independent orbits, (1 − CC²)/√(n − 1); ``variation_over_sigma`` what the means of orbits vary
    by in shells of 0.01 Å⁻¹, the noise's part taken off, over their σ: root mean squares. Names
    that end in ``_anisotropic`` are the same of the intensity minus its mean in shells of
    0.01 Å⁻¹ in 1/d, taken over the voxels with a measured equivalent (orbits with both halves, for
    ``cc_half``).

    Parameters
    ----------
    diffuse_map : DiffuseMap
    n_shells : int
        Shells of equal volume. A merged map's stored table keeps its own.

    Returns
    -------
    mapping
        ``about`` (kind, laue_group, d_min [Å], weights, note), ``overall`` (column → number) and
        ``shells`` (column → list, d_max and d_min [Å] first). A merged map gives the tables stored
        when it was merged. Columns that a map cannot give (no σ, no halves) are left out; NaN is
        a figure that is not defined. A computed map gets a note that says what its figures mean.

    Raises
    ------
    InputError
        If no voxel is measured, or the group does not fit the cell or the sampling.

    Examples
    --------
    >>> grid = HklGrid((10, 10, 10, 90, 90, 90), [-1, 0, 1], [0, 1], [0])
    >>> table = statistics(DiffuseMap(grid, np.ones((3, 2, 1)), "P 1"), n_shells=1)
    >>> table["overall"]["n_voxels"], table["overall"]["n_unique"], table["overall"]["r_int"]
    (6, 5, 0.0)
    """
    merged = diffuse_map.laue_group is not None
    if merged and "overall" in diffuse_map.statistics:
        return dict(diffuse_map.statistics)
    laue_group = diffuse_map.laue_group or laue_symbol(diffuse_map.space_group)
    observations = gather_observations([diffuse_map], laue_group)
    kind = "merged" if merged else kind_of(diffuse_map)
    return tabulate(observations, laue_group, diffuse_map.grid.d_min, kind, n_shells)


def kind_of(diffuse_map: DiffuseMap) -> str:
    """``"observed"`` where a map has σ, counts or halves, else ``"computed"``."""
    given = (diffuse_map.sigma, diffuse_map.count, diffuse_map.half_1, diffuse_map.half_2)
    return "computed" if all(x is None for x in given) else "observed"


def tabulate(
    observations: Observations,
    laue_group: str,
    d_min: float | None,
    kind: str,
    n_shells: int = N_SHELLS,
) -> Tables:
    """Make the tables of `statistics` from observations whose orbits are known."""
    orbit_inv_d = observations.inv_d[observations.first()]
    shells = resolution_shells(orbit_inv_d, n_shells)
    highest = orbit_inv_d.max() if d_min is None else max(orbit_inv_d.max(), 1 / d_min)
    possible = _possible_orbits(observations.grid, laue_group, float(highest), shells)
    agreement = _SelfAgreement(observations, orbit_inv_d)
    table: dict[str, Any] = {"d_max": shells.d_max.tolist(), "d_min": shells.d_min.tolist()}
    for name, column in agreement.columns(shells.index, shells.n_shells, possible).items():
        table[name] = column.tolist()
    everything = np.zeros_like(shells.index)
    total = agreement.columns(everything, 1, possible.sum(keepdims=True))
    overall: dict[str, Any] = {"d_max": table["d_max"][0], "d_min": table["d_min"][-1]}
    overall |= {name: column.tolist()[0] for name, column in total.items()}
    about: dict[str, Any] = {
        "kind": kind,
        "laue_group": laue_group,
        "d_min": float(1 / highest) if highest > 0 else np.inf,
        "weights": "pixels" if observations.is_counted else "equal",
    }
    if _NOTES[kind]:
        about["note"] = _NOTES[kind]
    return {"about": about, "overall": overall, "shells": table}


def _possible_orbits(
    grid: HklGrid, laue_group: str, highest: float, shells: ResolutionShells
) -> IntArray:
    """Orbits of the whole sampled sphere in each shell; beyond the shells: in the last one."""
    if highest <= 0:  # the origin alone, in the first shell
        return np.array([1] + [0] * (shells.n_shells - 1))
    # One part in 1e9 more, so that the outermost voxels themselves are inside.
    sphere = HklGrid.from_resolution(grid.cell, (1 - 1e-9) / highest, grid.sampling)
    representative = symmetry_orbits(sphere, laue_rotations(laue_group)).ravel()
    inv_d = sphere.inv_d().ravel()
    unique = (representative == np.arange(sphere.size)) & (inv_d <= (1 + 1e-9) * highest)
    index = shell_of(inv_d[unique], 1 / shells.d_max[0], 1 / shells.d_min[-1], shells.n_shells)
    return np.bincount(index, minlength=shells.n_shells)


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


class _SelfAgreement:
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
