"""Images with Bragg peaks made from a known map, reduced again: the map against the truth.

Monoclinic, λ ≠ 1 Å, two tilted panels. The truth is the mean over each voxel of the very field
that was exposed, trilinear between the nodes of a map sampled three times finer. A voxel holds a
few hundred pixels, which do not fill it evenly: beyond some 1000 photons a pixel that shows in the
residuals (a spread of 1.18 standard errors instead of 1), so the images here have fewer.
"""

from __future__ import annotations

import tempfile

import numpy as np
import scipy.ndimage

from benchmarks.results import Limit, finish, size_asked
from offbragg import HklGrid, LiquidLike, MapOptions, compare, compute_map, merge, simulate
from offbragg.made_crystal import make_experiment, make_peptide
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions, expose

SAMPLING, FINER = 3, 3
BRAGG_RADIUS = 0.2  # > √3/9: beyond the reach of a peak in the exposed map


def voxel_means(fine: DiffuseMap, grid: HklGrid) -> np.ndarray:
    """Means of the trilinear field of a map over voxels FINER times as wide."""
    # Integrals of hat functions over ±1.5 fine steps: 1/8, 7/8, 1, 7/8, 1/8.
    weights = np.array([1, 7, 8, 7, 1]) / 24.0
    averaged = np.nan_to_num(fine.intensity)
    for axis in range(3):
        averaged = scipy.ndimage.correlate1d(averaged, weights, axis=axis, mode="constant")
    index, inside = fine.grid.index_of(grid.hkl())
    values = averaged[tuple(np.moveaxis(np.where(inside[..., None], index, 0), -1, 0))]
    return np.where(inside, values, np.nan)


def main() -> None:
    """Expose, reduce, merge, compare."""
    small = size_asked() == "small"
    d_min = 3.0 if small else 2.0
    photons = 400.0 if small else 200.0
    structure = make_peptide(u=0.1)
    cell = structure.require_cell()
    model = LiquidLike(0.35, 6.0)
    fine_grid = HklGrid.from_resolution(cell, 0.93 * d_min, (SAMPLING * FINER,) * 3)
    total = simulate(structure, model, fine_grid, part="total")
    diffuse = simulate(structure, model, fine_grid)
    experiment = make_experiment(
        cell, structure.space_group, d_min=d_min,
        n_images=180 if small else 360, oscillation_deg=1.0 if small else 0.5,
        n_pixels=160 if small else 320,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        made = expose(total, experiment, folder, ExposeOptions(photons), np.random.default_rng(0))
        options = MapOptions(d_min=d_min, sampling=(SAMPLING,) * 3, bragg_radius=BRAGG_RADIUS)
        observed = compute_map(read_experiments(made.experiments), options)
    merged = merge(observed).map
    truth = made.scale * voxel_means(diffuse, merged.grid)
    used = merged.measured & ~merged.grid.is_node() & (merged.grid.inv_d() > 1 / 15)
    measured, true = merged.intensity[used].astype(float), truth[used]
    residual = (measured - true) / merged.sigma[used]
    order = np.argsort(true)
    tenth = len(order) // 10
    bias = {
        name: float(measured[chosen].mean() / true[chosen].mean() - 1)
        for name, chosen in (("weak", order[:tenth]), ("strong", order[-tenth:]))
    }
    masked = DiffuseMap(merged.grid, np.where(used, truth, np.nan), merged.space_group)
    varying = compare(merged, masked)
    limits = [
        Limit("CC with the truth", float(np.corrcoef(measured, true)[0, 1]), at_least=0.995),
        Limit("bias of the weakest tenth", abs(bias["weak"]), at_most=0.006),
        Limit("bias of the strongest tenth", abs(bias["strong"]), at_most=0.006),
        Limit("spread of residual / sigma", float(residual.std()), at_least=0.9, at_most=1.1),
    ]
    notes = [
        f"anisotropic part: CC {varying.overall.cc:.4f}; mean residual / sigma "
        f"{residual.mean():+.3f}; {len(true)} voxels, {made.n_pixels} pixels of "
        f"{made.mean_counts:.3g} photons"
    ]
    finish(limits, notes, bias=bias, cc_anisotropic=varying.overall.cc)


if __name__ == "__main__":
    main()
