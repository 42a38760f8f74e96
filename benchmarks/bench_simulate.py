"""Maps of lysozyme and crambin: time and memory, in FFTs of the same box; a process for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from benchmarks.lysozyme import lysozyme, random_covariance
from benchmarks.measure import best_of, peak_memory_gb, run_cases
from benchmarks.results import SHARED_DATA, Limit, finish, size_asked
from offbragg import AtomicStructure, Covariance, HklGrid, LiquidLike, read_structure, simulate
from offbragg.disorder.base import DisorderModel
from offbragg.scattering.engine import DEFAULT_RTOL
from offbragg.scattering.splat import SplatPlan
from offbragg.simulation import lattice_for

N_ATOMS = 1001
N_SMALL = 200  # in reduced forms


@dataclass(frozen=True)
class Case:
    """A map to make, and what it may take."""

    text: str
    protein: str
    model: str
    d_min: float
    sampling: tuple[int, int, int]
    most_seconds: float = float("inf")
    most_gb: float = float("inf")


CASES = {
    "general": Case("lysozyme, general anisotropic covariance", "lysozyme", "general",
                    2.0, (3, 3, 3), 12.0, 3.0),
    "isotropic": Case("lysozyme, isotropic covariance", "lysozyme", "isotropic",
                      2.0, (3, 3, 3), 6.0),
    "liquid": Case("lysozyme, liquid-like, exact", "lysozyme", "liquid", 2.0, (3, 3, 3), 6.0),
    "crambin": Case("crambin, general anisotropic covariance", "crambin", "general",
                    1.0, (2, 2, 2)),
}  # fmt: skip


def structure_of(protein: str) -> AtomicStructure:
    """1001 atoms of lysozyme; crambin with hydrogens and altlocs, or as many made atoms."""
    found, _ = lysozyme()
    path = SHARED_DATA / "structures" / "1ejg.pdb"
    if protein == "crambin" and path.is_file():
        return read_structure(path)
    if protein == "crambin":
        return AtomicStructure(
            (40.82, 18.5, 22.37, 90.0, 90.47, 90.0), "P 1 21 1", 0.7 * found.positions[:831],
            found.elements[:831], found.occupancies[:831], found.u_aniso[:831],
        )  # fmt: skip
    return found.take(np.arange(min(N_ATOMS, found.n_atoms)))


def model_of(name: str, n_atoms: int) -> DisorderModel:
    """A random covariance (n, n, 3, 3) or (n, n), or liquid-like motions."""
    if name == "liquid":
        return LiquidLike(0.4, 7.0)
    if name == "general":
        return Covariance(random_covariance(n_atoms, 0.3))
    factor = np.random.default_rng(0).normal(size=(n_atoms, 60))
    v = factor @ factor.T
    return Covariance(v * (0.3 * n_atoms / np.trace(v)))


def run_case(name: str, *, small: bool) -> dict[str, float]:
    """Compile on a few atoms, then time the real map and the FFT of its box."""
    case = CASES[name]
    structure = structure_of(case.protein)
    structure = structure.take(np.arange(N_SMALL)) if small else structure
    d_min, sampling = (2 * case.d_min, (1, 1, 1)) if small else (case.d_min, case.sampling)
    grid = HklGrid.from_resolution(structure.require_cell(), d_min, sampling)
    few = structure.take(np.arange(12))
    coarse = HklGrid.from_resolution(few.require_cell(), 8.0)
    simulate(few, model_of(case.model, 12), coarse, method="splat")
    if case.model != "general":
        simulate(few, model_of(case.model, 12), coarse, method="pair-nufft")
    model = model_of(case.model, structure.n_atoms)
    seconds = best_of(1 if small else 2, lambda: simulate(structure, model, grid))
    memory = peak_memory_gb()
    identity = np.eye(3, dtype=np.int64)[None]
    plan = SplatPlan.for_tolerance(lattice_for(grid, identity, 2 * np.pi / d_min), DEFAULT_RTOL)
    box = np.random.default_rng(0).normal(size=plan.shape)
    fft = best_of(3, lambda: scipy.fft.rfftn(box, workers=-1))
    return {
        "seconds": seconds, "memory_gb": memory, "fft_s": fft, "n_atoms": structure.n_atoms,
        "n_voxels": grid.size, "n_points": box.size,
    }  # fmt: skip


def main() -> None:
    """Each case in a process of its own."""
    small = size_asked() == "small"
    figures = run_cases(
        "benchmarks.bench_simulate", CASES, lambda name: run_case(name, small=small), size_asked()
    )
    limits, notes = [], []
    for name, case in CASES.items():
        got = figures[name]
        for what, key, most in (
            ("seconds", "seconds", case.most_seconds),
            ("peak memory, GB", "memory_gb", case.most_gb),
        ):
            if not small and most < float("inf"):
                limits.append(Limit(f"{case.text}: {what}", got[key], at_most=most))
        n_pairs = got["n_atoms"] * (got["n_atoms"] - 1) / 2
        notes.append(
            f"{case.text}, {got['n_atoms']} atoms, {got['n_voxels']} voxels: "
            f"{got['seconds']:.2f} s = {got['seconds'] / got['fft_s']:.1f} FFTs of a box of "
            f"{got['n_points']:.3g} points ({got['fft_s']:.3f} s), "
            f"{1e6 * got['seconds'] / n_pairs:.1f} µs a pair; peak {got['memory_gb']:.2f} GB"
        )
    finish(limits, notes, cases=figures)


if __name__ == "__main__":
    main()
