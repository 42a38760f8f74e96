"""Splatting against the direct sum: any covariance, random and low-resolution voxels."""

from __future__ import annotations

import numpy as np

from benchmarks.lysozyme import lysozyme, random_covariance
from benchmarks.results import SHARED_DATA, Limit, finish, size_asked
from offbragg import AtomicStructure, Covariance, HklGrid, read_structure, simulate
from offbragg.scattering import compute_form_factors, diffuse_intensity

LARGEST_ERROR = 1e-3  # of the map's mean


def errors(
    structure: AtomicStructure, grid: HklGrid, n_random: int, n_low: int
) -> dict[str, float]:
    """Largest and median error of a map of one copy, as fractions of its mean."""
    alone = AtomicStructure(
        structure.cell, "P 1", structure.positions, structure.elements,
        structure.occupancies, structure.u_aniso,
    )  # fmt: skip
    v = random_covariance(alone.n_atoms, 0.3)
    computed = simulate(alone, Covariance(v), grid)
    q, values = grid.q().reshape(-1, 3), computed.intensity.reshape(-1)
    mean = float(np.nanmean(values))
    rng = np.random.default_rng(0)
    half = np.flatnonzero(np.isfinite(values) & (q[:, 2] >= 0))  # the rest are Friedel mates
    low = half[np.linalg.norm(q[half], axis=1) < 2 * np.pi / 10]
    result = {"n_atoms": float(alone.n_atoms), "n_voxels": float(np.isfinite(values).sum())}
    for name, chosen, n in (("random", half, n_random), ("below 1/10 Å", low, n_low)):
        picked = rng.choice(chosen, min(n, len(chosen)), replace=False)
        f = compute_form_factors(alone.elements, q[picked], alone.occupancies)
        exact = diffuse_intensity(q[picked], alone.positions, f, v)
        error = np.abs(values[picked] - exact) / mean
        result |= {
            f"{name}: largest": float(error.max()),
            f"{name}: median": float(np.median(error)),
        }
    centre = np.flatnonzero(np.all(np.abs(q) < 1e-12, axis=1))
    result["I(0)"] = float(np.abs(values[centre]).max() / mean)
    return result


def main() -> None:
    """Peptide 2OL9 (or a made one), lysozyme, and a box smaller than the molecule."""
    small = size_asked() == "small"
    cases = {}
    path = SHARED_DATA / "structures" / "2ol9.pdb"
    if path.is_file():
        peptide = read_structure(path)
        cases["2OL9, 1.2 Å, 3×2×1"] = (
            peptide, HklGrid.from_resolution(peptide.cell, 1.2, (3, 2, 1)), 400, 10**6,
        )  # fmt: skip
    protein, name = lysozyme()
    sampling, d_min = ((1, 1, 1), 4.0) if small else ((3, 3, 3), 2.0)
    cases[f"{name}, {d_min:g} Å, {sampling}"] = (
        protein, HklGrid.from_resolution(protein.cell, d_min, sampling),
        50 if small else 1000, 50 if small else 10**6,
    )  # fmt: skip
    tight = (30.0, 33.0, 20.0, 80.0, 95.0, 105.0)
    crowded = AtomicStructure(
        tight, "P 1", protein.positions, protein.elements, protein.occupancies, protein.u_aniso
    )
    cases[f"{name} in a cell of 30 × 33 × 20 Å, triclinic"] = (
        crowded, HklGrid.from_resolution(tight, 3.0 if small else 2.0), 50 if small else 1000,
        50 if small else 10**6,
    )  # fmt: skip
    limits, figures = [], {}
    for label, (structure, grid, n_random, n_low) in cases.items():
        figures[label] = errors(structure, grid, n_random, n_low)
        limits += [
            Limit(f"{label}: {key}", figures[label][key], at_most=LARGEST_ERROR)
            for key in ("random: largest", "below 1/10 Å: largest", "I(0)")
        ]
    finish(limits, [], errors=figures)


if __name__ == "__main__":
    main()
