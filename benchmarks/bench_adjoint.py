"""Gradients and products by the covariance, in times of one intensity of the same method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.bench_simulate import N_SMALL, model_of, structure_of
from benchmarks.measure import best_of, run_cases
from benchmarks.results import Limit, finish, size_asked
from offbragg import AtomicStructure, HklGrid
from offbragg.scattering import compute_form_factors
from offbragg.scattering.direct_adjoint import direct_gradient, direct_intensity, direct_product
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.engine import Engine
from offbragg.scattering.gemm import diffuse_gemm, gemm_gradient, gemm_product
from offbragg.scattering.pair_nufft import PairNufft
from offbragg.scattering.pair_splat import PairSplat
from offbragg.scattering.pair_terms import PairSum
from offbragg.scattering.scatterers import Scatterers
from offbragg.simulation import lattice_for

MOST = 4.0  # intensities that a gradient, or a product, may cost
CASES = {
    "PairSplat, anisotropic": "splat",
    "PairNufft": "pair-nufft",
    "gemm": "gemm",
    "direct": "direct",
}
REPORTED_ONLY = ("direct",)

Steps = tuple[Callable[[], object], Callable[[], object], Callable[[], object]]


def lattice_steps(
    method: str, structure: AtomicStructure, d_min: float, sampling: tuple[int, int, int]
) -> Steps:
    """Intensity, gradient and product on a lattice, each from scratch."""
    grid = HklGrid.from_resolution(structure.require_cell(), d_min, sampling)
    lattice = lattice_for(grid, np.eye(3, dtype=np.int64)[None], 2 * np.pi / d_min)
    scatterers = Scatterers(structure.positions, structure.elements, structure.occupancies)
    kind = "general" if method == "splat" else "isotropic"
    moves = model_of(kind, structure.n_atoms).displacements(structure)
    change = Displacements(0.01 * np.asarray(moves.correlated))
    node_gradient = np.random.default_rng(5).normal(size=lattice.shape)
    sums = PairSplat if method == "splat" else PairNufft

    def fresh() -> PairSplat | PairNufft:
        return sums(PairSum(replace(lattice), scatterers, moves), Engine())

    return (
        lambda: fresh().intensity(),
        lambda: fresh().gradient(node_gradient),
        lambda: fresh().product(change),
    )


def scattered_steps(method: str, structure: AtomicStructure, n_q: int) -> Steps:
    """Intensity, gradient and product at scattered q within 2 Å."""
    rng = np.random.default_rng(6)
    q = sphere(n_q, 2.0, rng)
    f = compute_form_factors(structure.elements, q, structure.occupancies)
    v = np.asarray(model_of("isotropic", structure.n_atoms).displacements(structure).correlated)
    residual = rng.normal(size=n_q)
    atoms = (q, structure.positions, f, v)
    if method == "gemm":
        return (
            lambda: diffuse_gemm(*atoms),
            lambda: gemm_gradient(*atoms, residual),
            lambda: gemm_product(*atoms, 0.01 * v),
        )
    return (
        lambda: direct_intensity(*atoms),
        lambda: direct_gradient(*atoms, residual),
        lambda: direct_product(*atoms, 0.01 * v),
    )


def sphere(n_q: int, d_min: float, rng: np.random.Generator) -> np.ndarray:
    """Scattering vectors (n_q, 3) even in the sphere of d_min."""
    directions = rng.normal(size=(n_q, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    return 2 * np.pi / d_min * directions * rng.uniform(size=(n_q, 1)) ** (1 / 3)


def run_case(name: str, *, small: bool) -> dict[str, float]:
    """Times [s] of an intensity, a gradient and a product."""
    method = CASES[name]
    structure = structure_of("lysozyme")
    structure = structure.take(np.arange(N_SMALL)) if small else structure
    few = structure.take(np.arange(12))
    if method in ("splat", "pair-nufft"):
        compile_first = lattice_steps(method, few, 8.0, (1, 1, 1))
        d_min, sampling = (4.0, (1, 1, 1)) if small else (2.0, (2, 2, 2))
        steps = lattice_steps(method, structure, d_min, sampling)
    else:
        compile_first = scattered_steps(method, few, 50)
        n_q = {"gemm": 4000, "direct": 200}[method] // (10 if small else 1)
        steps = scattered_steps(method, structure, n_q)
    for step in compile_first:
        step()
    forward, gradient, product = (best_of(1 if small else 2, step) for step in steps)
    return {"forward": forward, "gradient": gradient, "product": product}


def main() -> None:
    """Each method in a process of its own."""
    small = size_asked() == "small"
    figures = run_cases(
        "benchmarks.bench_adjoint", CASES, lambda name: run_case(name, small=small), size_asked()
    )
    limits, notes = [], []
    for name, got in figures.items():
        for what in ("gradient", "product"):
            if not small and name not in REPORTED_ONLY:
                ratio = got[what] / got["forward"]
                limits.append(Limit(f"{name}: {what} / intensity", ratio, at_most=MOST))
        notes.append(
            f"{name}: intensity {got['forward']:.2f} s, gradient {got['gradient']:.2f} s "
            f"({got['gradient'] / got['forward']:.2f} times), product {got['product']:.2f} s "
            f"({got['product'] / got['forward']:.2f} times)"
        )
    finish(limits, notes, cases=figures)


if __name__ == "__main__":
    main()
