"""Liquid-like motions recovered from images: values and standard errors over noisy repeats."""

from __future__ import annotations

import tempfile

import numpy as np

from benchmarks.results import Limit, finish, size_asked
from offbragg import HklGrid, LiquidLike, MapOptions, compute_map, fit, merge, simulate
from offbragg.made_crystal import make_experiment, make_peptide
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions, expose

TRUTH = LiquidLike(0.35, 6.0)
START = LiquidLike(0.45, 9.0)


def main() -> None:
    """Repeat exposure, reduction and fit with other photons."""
    small = size_asked() == "small"
    d_min, n_repeats = (2.6, 3) if small else (2.0, 30)
    structure = make_peptide(u=TRUTH.rms_displacement**2)
    cell = structure.require_cell()
    grid = HklGrid.from_resolution(cell, 0.95 * d_min, (9, 9, 18))
    total = simulate(structure, TRUTH, grid, part="total")
    experiment = make_experiment(
        cell, structure.space_group, d_min=d_min, n_pixels=160 if small else 256
    )
    options = MapOptions(d_min=d_min, sampling=(3, 3, 3), bragg_radius=0.2)
    scores, values = [], []
    for seed in range(n_repeats):
        with tempfile.TemporaryDirectory() as folder:
            rng = np.random.default_rng(seed)
            made = expose(total, experiment, folder, ExposeOptions(12.0), rng)
            merged = merge(compute_map(read_experiments(made.experiments), options, rng)).map
        found = fit(merged, structure, START, d_max=8.0, rng=rng).parameters
        values.append([p.value for p in found.values()])
        scores.append([(p.value - getattr(TRUTH, k)) / p.standard_error for k, p in found.items()])
    z = np.array(scores)
    names = list(TRUTH.refinable)
    limits = [Limit("largest error in standard errors", float(np.abs(z).max()), at_most=4.0)]
    if not small:
        # 30 repeats give a spread of 1 to ± 0.13; a bias of the mean is allowed half an error.
        limits += [
            Limit(f"{n}: spread of error / standard error", float(s), at_least=0.6, at_most=1.4)
            for n, s in zip(names, z.std(axis=0, ddof=1), strict=True)
        ]
        limits += [
            Limit(f"{n}: mean error / standard error", float(m), at_least=-1.0, at_most=1.0)
            for n, m in zip(names, z.mean(axis=0), strict=True)
        ]
    means = np.mean(values, axis=0)
    notes = [
        f"{n}: truth {getattr(TRUTH, n):g}, mean recovered {m:.4f}"
        for n, m in zip(names, means, strict=True)
    ]
    finish(limits, notes, scores=z.round(3).tolist())


if __name__ == "__main__":
    main()
