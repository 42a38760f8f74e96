"""Matrix products at scattered q: share of the BLAS rate of the same run that is reached."""

from __future__ import annotations

import numpy as np

from benchmarks.bench_adjoint import sphere
from benchmarks.bench_simulate import N_SMALL, model_of, structure_of
from benchmarks.measure import best_of, peak_memory_gb
from benchmarks.results import Limit, finish, size_asked
from offbragg.scattering import compute_form_factors, diffuse_intensity
from offbragg.scattering.gemm_plan import GemmPlan

LEAST_SHARE = 0.6
RTOL = 1e-6


def main() -> None:
    """1000 atoms, 20000 q within 2 Å, isotropic covariance; dgemm before and after."""
    small = size_asked() == "small"
    n_q, n_blas, n_atoms = (2000, 1024, N_SMALL) if small else (20000, 3000, 1000)
    structure = structure_of("lysozyme").take(np.arange(n_atoms))
    rng = np.random.default_rng(7)
    q = sphere(n_q, 2.0, rng)
    f = compute_form_factors(structure.elements, q, structure.occupancies)
    v = np.asarray(model_of("isotropic", n_atoms).displacements(structure).correlated)
    few = slice(0, 300)
    diffuse_intensity(q[few], structure.positions[:40], f[few, :40], v[:40, :40], "gemm", RTOL)
    a, b = (rng.normal(size=(n_blas, n_blas)) for _ in range(2))
    out = np.empty((n_blas, n_blas))

    def blas_rate() -> float:
        return 2.0 * n_blas**3 / best_of(5, lambda: np.matmul(a, b, out=out))

    rates = [blas_rate()]
    seconds = best_of(
        5, lambda: diffuse_intensity(q, structure.positions, f, v, method="gemm", rtol=RTOL)
    )
    rates.append(blas_rate())
    n_flops = GemmPlan.build(q, f, v, RTOL).n_flops
    some = q[:50] if small else q[:200]
    direct = best_of(
        2, lambda: diffuse_intensity(some, structure.positions, f[: len(some)], v, method="direct")
    )
    share = n_flops / seconds / max(rates)
    ms_direct, ms_gemm = 1e3 * direct / len(some), 1e3 * seconds / n_q
    limits = [] if small else [Limit("share of the dgemm rate", share, at_least=LEAST_SHARE)]
    finish(
        limits,
        [
            f"{n_q} q, {n_atoms} atoms, rtol {RTOL:g}: {seconds:.2f} s, "
            f"{n_flops / seconds / 1e9:.1f} Gflop/s, {100 * share:.0f} % of the dgemm rate "
            f"({rates[0] / 1e9:.1f} and {rates[1] / 1e9:.1f} Gflop/s, before and after)",
            f"direct sum: {ms_direct:.2f} ms a q, here {ms_gemm:.3f} ms: "
            f"{ms_direct / ms_gemm:.1f} times faster",
            f"peak memory {peak_memory_gb():.2f} GB",
        ],
        seconds=seconds,
        n_flops=n_flops,
        blas_rates=rates,
        direct_s_a_q=direct / len(some),
        memory_gb=peak_memory_gb(),
    )


if __name__ == "__main__":
    main()
