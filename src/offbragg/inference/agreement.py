"""How well a fitted map agrees with the measured one, apart for working and held-out voxels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from offbragg.conventions import TWO_PI, BoolArray, FloatArray
from offbragg.crystal.symmetry import laue_rotations
from offbragg.inference.data import FitData
from offbragg.maps.comparison import ComparisonRow, compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import symmetry_orbits


def agreement_of(
    observed: DiffuseMap,
    model_map: DiffuseMap,
    data: FitData,
    working: BoolArray,
    calculated: FloatArray,
) -> dict[str, Any]:
    """Agreement of map and model, overall and by shell, as `FitResult.statistics` has it.

    Parameters
    ----------
    observed, model_map : DiffuseMap
    data : FitData
    working : ndarray, shape (n_unique,), bool
        The others are held out.
    calculated : ndarray, shape (n_unique,), float64
        Model and background at the unique voxels.
    """
    laue = laue_rotations(observed.laue_group or observed.space_group)
    orbits = symmetry_orbits(observed.grid, laue).reshape(-1)
    inv_d = data.q_length / TWO_PI
    # One set of shells for both, so that rows can be read side by side.
    limits = (float(inv_d.min()), float(inv_d.max()))
    result: dict[str, Any] = {}
    for name, chosen in (("working", working), ("held_out", ~working)):
        if not chosen.any():
            result[name] = None
            continue
        is_chosen = np.zeros(observed.grid.size, dtype=bool)
        is_chosen[orbits[data.voxels.index[chosen]]] = True
        mask = is_chosen[orbits].reshape(observed.grid.shape)
        part = replace(observed, intensity=np.where(mask, observed.intensity, np.nan))
        whole = compare(part, model_map, anisotropic=False, shell_limits=limits)
        varying = compare(part, model_map, shell_limits=limits)
        intensity, sigma = data.take(chosen)
        chi2 = None
        if sigma is not None:
            chi2 = float(np.mean(((intensity - calculated[chosen]) / sigma) ** 2))
        result[name] = {
            "n_unique": int(chosen.sum()),
            "n": whole.overall.n,
            "cc": whole.overall.cc,
            "r": whole.overall.r,
            "cc_anisotropic": varying.overall.cc,
            "r_anisotropic": varying.overall.r,
            "chi2_reduced": chi2,
            "shells": _columns(whole.shells, varying.shells),
        }
    return result


def _columns(
    whole: Iterable[ComparisonRow], varying: Iterable[ComparisonRow]
) -> dict[str, list[float | int | None]]:
    """Rows of two tables as columns; None for what is not defined."""
    columns: dict[str, list[float | int | None]] = {}
    for row, other in zip(whole, varying, strict=True):
        values = {
            "d_max": row.d_max, "d_min": row.d_min, "n": row.n, "cc": row.cc, "r": row.r,
            "cc_anisotropic": other.cc, "r_anisotropic": other.r,
        }  # fmt: skip
        for name, value in values.items():
            columns.setdefault(name, []).append(value if np.isfinite(value) else None)
    return columns
