"""What fits take: a gradient by all of V, a fit to a protein's map, a gradient at scattered q."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from benchmarks.bench_adjoint import sphere
from benchmarks.bench_simulate import N_SMALL, model_of, structure_of
from benchmarks.measure import best_of, peak_memory_gb, run_cases
from benchmarks.results import Limit, finish, size_asked
from offbragg import AtomicStructure, HklGrid, LiquidLike, fit, simulate
from offbragg.differentiable import MapOperator
from offbragg.inference import CovarianceObjective
from offbragg.inference.covariance_objective import _GEMM_RTOL
from offbragg.scattering import compute_form_factors
from offbragg.scattering.gemm_plan import GemmPlan

MOST_GRADIENT_S, MOST_GRADIENT_GB, MOST_FIT_S, LEAST_SHARE = 45.0, 5.0, 180.0, 0.5
# Of the mean intensity, for each voxel: as a few photons a pixel give.
NOISE = 0.1
TRUTH, START = LiquidLike(0.4, 7.0), LiquidLike(0.6, 12.0)


def protein(*, small: bool) -> AtomicStructure:
    """1001 atoms of lysozyme in P 43 21 2, fewer in reduced forms."""
    return structure_of("lysozyme").take(np.arange(N_SMALL if small else 1001))


def grid_of(structure: AtomicStructure, d_min: float, *, small: bool) -> HklGrid:
    """Three steps between nodes along each axis; reduced: only nodes, at twice the resolution."""
    d_min, sampling = (2.0 * d_min, (1, 1, 1)) if small else (d_min, (3, 3, 3))
    return HklGrid.from_resolution(structure.require_cell(), d_min, sampling)


def map_gradient(*, small: bool) -> dict[str, float]:
    """Value and gradient of a misfit to a map by a general anisotropic covariance."""
    structure = protein(small=small)
    grid = grid_of(structure, 1.97, small=small)
    few = structure.take(np.arange(12))
    coarse = HklGrid.from_resolution(few.require_cell(), 8.0)

    def value_and_gradient(atoms: AtomicStructure, on: HklGrid) -> float:
        moves = model_of("general", atoms.n_atoms).displacements(atoms)
        operator = MapOperator(atoms, moves, on)
        intensity = operator.intensity()
        within = on.within()
        rest = np.where(within, intensity - np.mean(intensity[within]), 0.0)
        operator.gradient(-2.0 * rest)
        return float(np.sum(rest**2))

    value_and_gradient(few, coarse)
    seconds = best_of(1 if small else 2, lambda: value_and_gradient(structure, grid))
    return {
        "seconds": seconds, "memory_gb": peak_memory_gb(), "n_atoms": structure.n_atoms,
        "n_voxels": grid.size,
    }  # fmt: skip


def liquid_fit(*, small: bool) -> dict[str, float]:
    """Liquid-like motions from a noisy map of all voxels within 2 Å."""
    structure = protein(small=small)
    grid = grid_of(structure, 2.0, small=small)
    made = simulate(structure, TRUTH, grid)
    few = grid_of(structure, 4.0, small=True)
    fit(simulate(structure, TRUTH, few), structure, START, max_evaluations=6)
    measured = np.isfinite(made.intensity)
    sigma = NOISE * float(np.mean(made.intensity[measured]))
    noise = sigma * np.random.default_rng(0).normal(size=grid.shape)
    observed = replace(
        made, intensity=made.intensity + noise, sigma=np.where(measured, sigma, np.nan)
    )
    start = time.perf_counter()
    found = fit(observed, structure, START)
    seconds = time.perf_counter() - start
    values = {
        key: float(getattr(found.parameters[name], of))
        for name, short in (("rms_displacement", "sigma"), ("correlation_length", "gamma"))
        for key, of in ((short, "value"), (f"{short}_error", "standard_error"))
    }
    return {
        "seconds": seconds, "memory_gb": peak_memory_gb(), "n_atoms": structure.n_atoms,
        "n_voxels": grid.size, "n_evaluations": found.n_evaluations,
        "converged": float(found.converged), **values,
    }  # fmt: skip


def scattered_gradient(*, small: bool) -> dict[str, float]:
    """`CovarianceObjective.gradient`, isotropic, beside matrix products of the same run."""
    structure = protein(small=small)
    n_q, n_blas = (2000, 1024) if small else (20000, 3000)
    q = sphere(n_q, 2.0, np.random.default_rng(7))
    f = compute_form_factors(structure.elements, q, structure.occupancies)
    v = np.asarray(model_of("isotropic", structure.n_atoms).displacements(structure).correlated)
    objective = CovarianceObjective(q, structure.positions, f, np.zeros(n_q))
    rng = np.random.default_rng(8)
    a, b = (rng.normal(size=(n_blas, n_blas)) for _ in range(2))
    out = np.empty((n_blas, n_blas))

    def blas_rate() -> float:
        return 2.0 * n_blas**3 / best_of(5, lambda: np.matmul(a, b, out=out))

    rates = [blas_rate()]
    objective.gradient(v)  # compiles
    seconds = best_of(1 if small else 3, lambda: objective.gradient(v))
    rates.append(blas_rate())
    # The intensities for the residuals, then the gradient: as many operations each.
    n_flops = 2.0 * GemmPlan.build(q, f, v, _GEMM_RTOL).n_flops
    return {
        "seconds": seconds, "memory_gb": peak_memory_gb(), "n_atoms": structure.n_atoms,
        "n_q": n_q, "n_flops": n_flops, "blas_before": rates[0], "blas_after": rates[1],
        "share": n_flops / seconds / max(rates),
    }  # fmt: skip


CASES = {
    "gradient of a map": map_gradient,
    "liquid-like fit": liquid_fit,
    "scattered gradient": scattered_gradient,
}


def main() -> None:
    """Each case in a process of its own."""
    small = size_asked() == "small"
    figures = run_cases(
        "benchmarks.bench_inference", CASES, lambda name: CASES[name](small=small), size_asked()
    )
    gradient, fitted, scattered = (figures[name] for name in CASES)
    limits = [] if small else [
        Limit("gradient by all of V: seconds", gradient["seconds"], at_most=MOST_GRADIENT_S),
        Limit("gradient by all of V: peak memory, GB", gradient["memory_gb"],
              at_most=MOST_GRADIENT_GB),
        Limit("liquid-like fit: seconds", fitted["seconds"], at_most=MOST_FIT_S),
        Limit("scattered gradient: share of the dgemm rate", scattered["share"],
              at_least=LEAST_SHARE),
    ]  # fmt: skip
    n_free = 3 * gradient["n_atoms"] * (3 * gradient["n_atoms"] + 1) / 2
    notes = [
        f"lysozyme, {gradient['n_atoms']} atoms, {gradient['n_voxels']} voxels: misfit and its "
        f"gradient by {n_free:.3g} numbers in {gradient['seconds']:.2f} s, peak "
        f"{gradient['memory_gb']:.2f} GB",
        f"liquid-like fit, {fitted['n_atoms']} atoms, {fitted['n_voxels']} voxels: "
        f"{fitted['seconds']:.1f} s, {fitted['n_evaluations']} maps and derivatives, peak "
        f"{fitted['memory_gb']:.2f} GB; σ {fitted['sigma']:.5f} ± {fitted['sigma_error']:.5f} Å "
        f"(truth 0.4), γ {fitted['gamma']:.4f} ± {fitted['gamma_error']:.4f} Å (truth 7)",
        f"scattered q, {scattered['n_q']} of them, {scattered['n_atoms']} atoms: "
        f"{scattered['seconds']:.2f} s for {scattered['n_flops']:.3g} operations, "
        f"{scattered['n_flops'] / scattered['seconds'] / 1e9:.1f} Gflop/s, "
        f"{100 * scattered['share']:.0f} % of the dgemm rate "
        f"({scattered['blas_before'] / 1e9:.1f} and {scattered['blas_after'] / 1e9:.1f} Gflop/s, "
        "before and after)",
    ]
    finish(limits, notes, cases=figures)


if __name__ == "__main__":
    main()
