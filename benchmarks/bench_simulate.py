"""A lysozyme map with a general covariance: time and memory, against FFTs of the same grid."""

from __future__ import annotations

import time

import numpy as np
import scipy.fft

from benchmarks.lysozyme import lysozyme, random_covariance
from benchmarks.results import Limit, finish, peak_memory_gib, size_asked
from offbragg import Covariance, HklGrid, LiquidLike, simulate
from offbragg.scattering.splat import SplatPlan
from offbragg.simulation import lattice_for


def timed(run: object) -> float:
    start = time.perf_counter()
    run()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    """Compile on a coarse map, then time the real one."""
    small = size_asked() == "small"
    structure, name = lysozyme()
    d_min, sampling = (4.0, (1, 1, 1)) if small else (2.0, (3, 3, 3))
    grid = HklGrid.from_resolution(structure.cell, d_min, sampling)
    covariance = Covariance(random_covariance(structure.n_atoms, 0.3))
    warm_up = HklGrid.from_resolution(structure.cell, 12.0)
    for model in (covariance, LiquidLike(0.4, 7.0)):
        simulate(structure, model, warm_up)
    general = timed(lambda: simulate(structure, covariance, grid))
    liquid = timed(lambda: simulate(structure, LiquidLike(0.4, 7.0), grid))
    identity = np.eye(3, dtype=np.int64)[None]
    plan = SplatPlan.for_tolerance(lattice_for(grid, identity, 2 * np.pi / d_min), 1e-4)
    box = np.random.default_rng(0).normal(size=plan.shape)
    fft = min(timed(lambda: scipy.fft.rfftn(box, workers=-1)) for _ in range(3))
    n_pairs = structure.n_atoms * (structure.n_atoms - 1) / 2
    limits = []
    if not small:
        limits = [
            Limit("general anisotropic covariance, seconds", general, at_most=30.0),
            Limit("peak memory, GiB", peak_memory_gib(), at_most=4.0),
        ]
    notes = [
        f"{name}, {structure.n_atoms} atoms, {d_min:g} Å, {sampling}: {grid.size} voxels, "
        f"box {plan.shape}",
        f"general covariance {general:.2f} s = {general / fft:.1f} FFTs of the box "
        f"({1e6 * general / n_pairs:.1f} µs a pair)",
        f"liquid-like, exact {liquid:.2f} s = {liquid / fft:.1f} FFTs",
        f"yardstick: one FFT of the box {fft:.3f} s; peak memory {peak_memory_gib():.2f} GiB",
    ]
    finish(
        limits, notes, general_s=general, liquid_like_s=liquid, fft_s=fft, memory=peak_memory_gib()
    )


if __name__ == "__main__":
    main()
