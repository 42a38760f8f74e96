"""How cost grows with pairs and with voxels, and a cell of ten thousand atoms in 2 GB."""

from __future__ import annotations

import numpy as np

from benchmarks.bench_simulate import model_of
from benchmarks.lysozyme import CELL
from benchmarks.measure import best_of, measured, peak_memory_gb, run_cases
from benchmarks.results import Limit, finish, size_asked
from offbragg import AtomicStructure, HklGrid, LiquidLike, simulate

# Linear: the slope of log time against log size, over a decade of sizes.
LEAST_SLOPE, LARGEST_SLOPE = 0.8, 1.2
MOST_MEMORY = 2e9
LARGE_CELL, N_LARGE = (64.0, 64.0, 64.0, 90.0, 90.0, 90.0), 10_000

# Sizes where what grows dominates: many pairs on few voxels, few pairs on many voxels.
ATOMS = {"splat": (700, 1030, 1510, 2215), "pair-nufft": (1500, 2200, 3240, 4750)}
SAMPLINGS = ((2, 2, 2), (3, 3, 2), (3, 3, 4), (4, 4, 5))
N_FEW = 40
CASES = ("splat pairs", "splat voxels", "pair-nufft pairs", "pair-nufft voxels", "large cell")


def made_structure(
    n_atoms: int, cell: tuple[float, ...], edge: float, seed: int = 8
) -> AtomicStructure:
    """Atoms of a protein's composition on a shaken cubic lattice in a cube."""
    rng = np.random.default_rng(seed)
    per_edge = int(np.ceil(n_atoms ** (1 / 3)))
    sites = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3), axis=-1).reshape(-1, 3)
    sites = sites[rng.permutation(len(sites))[:n_atoms]] + rng.uniform(0.1, 0.9, (n_atoms, 3))
    return AtomicStructure(
        cell=cell,
        space_group="P 1",
        positions=sites * (edge / per_edge),
        elements=rng.choice(["C", "N", "O", "S"], n_atoms, p=[0.63, 0.17, 0.19, 0.01]),
        occupancies=np.ones(n_atoms),
        u_aniso=np.tile(0.16 * np.eye(3), (n_atoms, 1, 1)),
    )


def time_of(method: str, n_atoms: int, d_min: float, sampling: tuple[int, int, int]) -> float:
    """Best of two maps: a general covariance by splatting, liquid-like motions by NUFFT."""
    structure = made_structure(n_atoms, CELL, 2.7 * n_atoms ** (1 / 3))
    model = model_of("general", n_atoms) if method == "splat" else LiquidLike(0.4, 7.0)
    grid = HklGrid.from_resolution(CELL, d_min, sampling)
    return best_of(2, lambda: simulate(structure, model, grid, method=method))


def run_growth(name: str, *, small: bool) -> dict[str, float]:
    """Slope of log time against log size."""
    method, what = name.split()
    time_of(method, 12, 8.0, (1, 1, 1))
    if what == "pairs":
        atoms = (50, 100) if small else ATOMS[method]
        sizes = [n * (n - 1) / 2 for n in atoms]
        times = [time_of(method, n, 3.0, (1, 1, 1)) for n in atoms]
    else:
        samplings = ((1, 1, 1), (2, 1, 1)) if small else SAMPLINGS
        sizes = [float(np.prod(s)) for s in samplings]
        times = [time_of(method, N_FEW, 2.5, s) for s in samplings]
    slope = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
    return {
        "slope": slope, "smallest": sizes[0], "largest": sizes[-1], "first": times[0],
        "last": times[-1],
    }  # fmt: skip


def run_large_cell(*, small: bool) -> dict[str, float]:
    """10 000 atoms, correlated up to 20 Å, beside a yardstick of exponentials."""
    n, edge = (300, 20.0) if small else (N_LARGE, LARGE_CELL[0])
    cell = (edge, edge, edge, 90.0, 90.0, 90.0)
    structure = made_structure(n, cell, edge)
    sampling, d_min = ((1, 1, 1), 4.0) if small else ((2, 2, 2), 2.5)
    grid = HklGrid.from_resolution(structure.require_cell(), d_min, sampling)
    model = LiquidLike(0.4, 7.0, cutoff=10.0 if small else 20.0)
    coarse = HklGrid.from_resolution(structure.require_cell(), 12.0)
    simulate(structure.take(np.arange(12)), model, coarse, method="pair-nufft")
    got = measured(lambda: simulate(structure, model, grid, max_memory=MOST_MEMORY))
    exponents = np.random.default_rng(0).normal(size=10**6)
    pairs = model.displacements(structure).pairs
    return {
        "seconds": got.seconds,
        "rise_gb": got.memory_mib * 2**20 / 1e9,
        "memory_gb": peak_memory_gb(),
        "n_voxels": grid.size,
        "n_atoms": n,
        "n_pairs": float(sum(len(block.first) for block in pairs.blocks())),
        "exp_s": best_of(5, lambda: np.exp(exponents)) / 1e6,
    }


def run_case(name: str, *, small: bool) -> dict[str, float]:
    """Figures of one case."""
    return run_large_cell(small=small) if name == "large cell" else run_growth(name, small=small)


def main() -> None:
    """Each case in a process of its own."""
    small = size_asked() == "small"
    figures = run_cases(
        "benchmarks.bench_scaling", CASES, lambda name: run_case(name, small=small), size_asked()
    )
    limits, notes = [], []
    for name, got in figures.items():
        if name == "large cell":
            if not small:
                limits.append(
                    Limit("10 000 atoms: memory beside structure and result, GB", got["rise_gb"],
                          at_most=MOST_MEMORY / 1e9)
                )  # fmt: skip
            exps = got["seconds"] / got["exp_s"] / got["n_pairs"]
            notes.append(
                f"{got['n_atoms']} atoms, {got['n_pairs']:.3g} ordered pairs, {got['n_voxels']} "
                f"voxels: {got['seconds']:.1f} s = {exps:.0f} exponentials a pair "
                f"({1e9 * got['exp_s']:.2f} ns each); memory rose by {got['rise_gb']:.2f} GB to "
                f"{got['memory_gb']:.2f} GB"
            )
            continue
        if not small:
            limits.append(
                Limit(f"{name}: slope of log time", got["slope"], LEAST_SLOPE, LARGEST_SLOPE)
            )
        notes.append(
            f"{name}: {got['first']:.2f} s to {got['last']:.2f} s over a factor of "
            f"{got['largest'] / got['smallest']:.1f}, slope {got['slope']:.2f}"
        )
    finish(limits, notes, cases=figures)


if __name__ == "__main__":
    main()
