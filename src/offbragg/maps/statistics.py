"""How well a map agrees with itself: completeness, R_int, CC of equivalents, CC½, by shell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from offbragg.conventions import IntArray
from offbragg.crystal.friedel import equivalence_group, has_inversion
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.symmetry import laue_rotations, laue_symbol, point_rotations
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import (
    Observations,
    gather_observations,
    regroup,
    symmetry_orbits,
)
from offbragg.maps.friedel_agreement import FriedelAgreement, FriedelPairs
from offbragg.maps.self_agreement import SelfAgreement
from offbragg.maps.shells import (
    N_SHELLS,
    ResolutionShells,
    resolution_shells,
    shell_of,
)
from offbragg.runtime import SILENT, Progress

Tables = dict[str, dict[str, Any]]

_NOTES = {
    "computed": "no standard errors, pixel counts or half maps (computed or imported): R_int and "
    "CC of equivalents tell how symmetric it is, not how well it was measured",
    "merged": "merged before, and no statistics were stored: equivalents are copies",
    "observed": "",
}


def statistics(
    diffuse_map: DiffuseMap, n_shells: int = N_SHELLS, progress: Progress = SILENT
) -> Mapping[str, Any]:
    r"""Tell how well a map agrees with itself under its group, overall and by shell.

    That is the Laue group, or the point group where a map is merged with Friedel mates apart.

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

    Friedel mates, the means I₊ and I₋ over the equivalents of h and of −h by the point group, in
    orbits where both are measured and h and −h are not equivalent (``n_friedel`` pairs):

    .. math:: r_{friedel} = \frac{\sum |I_+ - I_-|}{\sum (|I_+| + |I_-|)}, \qquad
              \text{anomalous\_over\_sigma} = \sqrt{\frac{\sum (I_+ - I_-)^2}
              {\sum (\sigma_+^2 + \sigma_-^2)}}

    ``cc_friedel`` Pearson of I₊ and I₋, each pair in both orders; ``equivalents_over_sigma`` the
    like of the other equivalents, √(Σ (I − Ī)² / Σ (1 − 1/m) σ²) over the m voxels of each orbit
    by the point group, Ī their plain mean: both are 1 where differences are counting noise, an
    anomalous signal raises the first alone, errors of scale or absorption raise both.
    ``cc_half_anomalous`` Σ D₁D₂ / √(ΣD₁² ΣD₂²) of the differences D = I₊ − I₋ of the two half
    maps: 0 where there is nothing but noise.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    n_shells : int
        Shells of equal volume. A merged map's stored table keeps its own.
    progress : Progress, optional
        Told of each of three stages.

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
    progress.start("statistics", 3)
    laue_group = diffuse_map.laue_group or laue_symbol(diffuse_map.space_group)
    observations = gather_observations(
        [diffuse_map], laue_group, rotations=point_rotations(laue_group)
    )
    progress.step()
    pairs = friedel_pairs(observations, laue_group, diffuse_map.space_group)
    progress.step()
    kind = "merged" if merged else kind_of(diffuse_map)
    made = tabulate(observations, pairs, laue_group, diffuse_map.grid.d_min, kind, n_shells)
    progress.step()
    return made


def friedel_pairs(observations: Observations, group: str, space_group: str) -> FriedelPairs:
    """Find the Friedel mates among observations that have the orbits of a group."""
    if has_inversion(point_rotations(group)):
        apart = regroup(observations, equivalence_group(group, "apart", space_group).rotations)
        return FriedelPairs.of(apart, observations)
    return FriedelPairs.of(observations, regroup(observations, laue_rotations(group)))


def kind_of(diffuse_map: DiffuseMap) -> str:
    """``"observed"`` where a map has σ, counts or halves, else ``"computed"``."""
    given = (diffuse_map.sigma, diffuse_map.count, diffuse_map.half_1, diffuse_map.half_2)
    return "computed" if all(x is None for x in given) else "observed"


def tabulate(
    observations: Observations,
    pairs: FriedelPairs,
    laue_group: str,
    d_min: float | None,
    kind: str,
    n_shells: int = N_SHELLS,
) -> Tables:
    """Make the tables of `statistics` from observations whose orbits are known.

    Those are of `point_rotations` of ``laue_group``.
    """
    orbit_inv_d = observations.inv_d[observations.first()]
    shells = resolution_shells(orbit_inv_d, n_shells)
    highest = orbit_inv_d.max() if d_min is None else max(orbit_inv_d.max(), 1 / d_min)
    possible = _possible_orbits(observations.grid, laue_group, float(highest), shells)
    agreement = SelfAgreement(observations, orbit_inv_d)
    of_mates = FriedelAgreement(pairs)
    table: dict[str, Any] = {"d_max": shells.d_max.tolist(), "d_min": shells.d_min.tolist()}
    columns = agreement.columns(shells.index, shells.n_shells, possible)
    for name, column in (columns | of_mates.columns(shells)).items():
        table[name] = column.tolist()
    everything = np.zeros_like(shells.index)
    total = agreement.columns(everything, 1, possible.sum(keepdims=True))
    total |= of_mates.columns(shells, overall=True)
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
    representative = symmetry_orbits(sphere, point_rotations(laue_group)).ravel()
    inv_d = sphere.inv_d().ravel()
    unique = (representative == np.arange(sphere.size)) & (inv_d <= (1 + 1e-9) * highest)
    index = shell_of(inv_d[unique], 1 / shells.d_max[0], 1 / shells.d_min[-1], shells.n_shells)
    return np.bincount(index, minlength=shells.n_shells)
