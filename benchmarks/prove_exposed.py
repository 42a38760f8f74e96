"""Images made from a known map, reduced again: the map against the truth, in four geometries.

The truth is the mean over each voxel of the very field that was exposed, trilinear between the
nodes of a map sampled three times finer. A voxel holds a few hundred pixels, which do not fill it
evenly: beyond some 1000 photons a pixel that shows in the residuals (a spread of 1.18 standard
errors instead of 1), so the images here have fewer.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
from scipy.spatial.transform import Rotation

from benchmarks.results import Limit, finish, size_asked
from offbragg import HklGrid, LiquidLike, MapOptions, compare, compute_map, merge, simulate
from offbragg.crystal.cell import Cell
from offbragg.made_crystal import make_experiment, make_peptide
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.experiment import Experiment, read_experiments
from offbragg.reduction.expose import ExposeOptions, expose
from offbragg.reduction.geometry import CrystalModel, Goniometer

SAMPLING, FINER = 3, 3
MODEL = LiquidLike(0.35, 6.0)
# A voxel of fewer photons has no normal errors.
LEAST_PHOTONS = 100.0


@dataclass(frozen=True)
class Case:
    """A crystal, how it is measured, and how many photons a pixel gets."""

    name: str
    cell: tuple[float, ...] | None
    space_group: str
    wavelength: float
    photons: float
    changed: Callable[[Experiment], Experiment]
    has_peaks: bool = True


def as_made(experiment: Experiment) -> Experiment:
    """Two tilted panels, one axis."""
    return experiment


def on_an_arm(experiment: Experiment) -> Experiment:
    """The detector swung out by 12° about the vertical."""
    arm = Rotation.from_euler("y", 12.0, degrees=True)
    panels = [
        replace(
            panel,
            origin=arm.apply(panel.origin),
            fast_axis=arm.apply(panel.fast_axis),
            slow_axis=arm.apply(panel.slow_axis),
        )
        for panel in experiment.detector
    ]
    return replace(experiment, detector=tuple(panels))


def on_kappa(experiment: Experiment) -> Experiment:
    """Three axes of which the outermost turns, and a crystal that turns and shrinks meanwhile."""
    kappa = np.array([np.cos(np.radians(50.0)), np.sin(np.radians(50.0)), 0.0])
    axes = [[1.0, 0.0, 0.0], kappa, [1.0, 0.003, -0.002]]
    goniometer = Goniometer.from_axes(axes, np.radians([35.0, -40.0, 0.0]), 2)
    a = experiment.crystal.a_matrix
    along = np.linspace(0.0, 1.0, experiment.n_images + 1)
    slips = Rotation.from_euler("xyz", np.outer(along, [0.3, -0.2, 0.25]), degrees=True)
    points = slips.as_matrix() @ a * (1.0 + 0.004 * along)[:, None, None]
    crystal = CrystalModel(a, points, experiment.crystal.space_group)
    return replace(experiment, goniometer=goniometer, crystal=crystal)


CASES = (
    Case("monoclinic, two tilted panels", None, "P 1 21 1", 0.9763, 200.0, as_made),
    Case("trigonal, two-theta arm", (24.0, 24.0, 30.0, 90.0, 90.0, 120.0), "P 31", 1.3, 200.0,
         on_an_arm),
    Case("triclinic, kappa, scan-varying", (21.0, 24.0, 27.0, 82.0, 95.0, 104.0), "P 1", 0.7, 200.0,
         on_kappa),
    Case("cubic, 0.2 photons a pixel", (27.0, 27.0, 27.0, 90.0, 90.0, 90.0), "P 21 3", 1.0, 0.2,
         as_made, has_peaks=False),
)  # fmt: skip


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


def run(case: Case, *, small: bool) -> tuple[list[Limit], list[str]]:
    """Expose, reduce, merge, compare."""
    d_min = 3.0 if small else 2.0
    structure = make_peptide(u=0.1)
    if case.cell is not None:
        structure = replace(structure, cell=Cell(*case.cell), space_group=case.space_group)
    cell = structure.require_cell()
    fine_grid = HklGrid.from_resolution(cell, 0.93 * d_min, (SAMPLING * FINER,) * 3)
    diffuse = simulate(structure, MODEL, fine_grid)
    total = simulate(structure, MODEL, fine_grid, part="total") if case.has_peaks else diffuse
    experiment = case.changed(
        make_experiment(
            cell, structure.space_group, d_min=d_min, wavelength=case.wavelength,
            n_images=180 if small else 360, oscillation_deg=1.0 if small else 0.5,
            n_pixels=160 if small else 320,
        )
    )  # fmt: skip
    photons = case.photons * (2.0 if small and case.photons > 1 else 1.0)
    with tempfile.TemporaryDirectory() as folder:
        made = expose(total, experiment, folder, ExposeOptions(photons), np.random.default_rng(0))
        options = MapOptions(
            d_min=d_min, sampling=(SAMPLING,) * 3, bragg="exclude" if case.has_peaks else "keep"
        )
        observed = compute_map(read_experiments(made.experiments), options)
    merged = merge(observed).map
    truth = made.scale * voxel_means(diffuse, merged.grid)
    used = merged.measured & (merged.grid.inv_d() > 1 / 15)
    if case.has_peaks:
        used &= ~merged.grid.is_node()
    measured, true = merged.intensity[used].astype(float), truth[used]
    # By what is true: what was counted would choose the voxels that came out high.
    many = true / merged.sigma[used] > np.sqrt(LEAST_PHOTONS)
    residual = ((measured - true) / merged.sigma[used])[many]
    order = np.argsort(true)
    tenth = len(order) // 10
    tenths = {
        name: abs(float(measured[chosen].mean() / true[chosen].mean() - 1))
        for name, chosen in (("weakest", order[:tenth]), ("strongest", order[-tenth:]))
    }
    slope = float(measured @ true / (true @ true))
    bias = float(measured.mean() / true.mean() - 1)
    masked = DiffuseMap(merged.grid, np.where(used, truth, np.nan), merged.space_group)
    varying = compare(merged, masked)
    limits = [
        Limit(f"{case.name}: slope on the truth", slope, 0.995, 1.005),
        Limit(f"{case.name}: bias of the mean", abs(bias), at_most=0.005),
        Limit(f"{case.name}: spread of residual / sigma", float(residual.std()), 0.95, 1.05),
    ]
    if case.photons > 1:
        # Of n photons that make their own σ it is −½/√n: −0.05 for the hundred of empty images.
        most = 0.05 if small else 0.02
        mean = float(residual.mean())
        limits.append(Limit(f"{case.name}: mean of residual / sigma", mean, -most, most))
    limits += [
        Limit(f"{case.name}: bias of the {name} tenth", value, at_most=0.006)
        for name, value in tenths.items()
    ]
    # Of truth and truth with noise of the σ of each voxel.
    noise = float(np.mean(merged.sigma[used].astype(float) ** 2))
    allowed = float(np.sqrt(true.var() / (true.var() + noise)))
    cc = float(np.corrcoef(measured, true)[0, 1])
    limits.append(Limit(f"{case.name}: CC with the truth / what noise allows", cc / allowed, 0.999))
    notes = [
        f"{case.name}: anisotropic part: CC {varying.overall.cc:.4f}; mean residual / sigma "
        f"{residual.mean():+.3f}; {len(true)} voxels, {made.n_pixels} pixels of "
        f"{made.mean_counts:.3g} photons"
    ]
    return limits, notes


def main() -> None:
    """All geometries; reduced, the first and the last."""
    small = size_asked() == "small"
    limits: list[Limit] = []
    notes: list[str] = []
    for case in (CASES[0], CASES[-1]) if small else CASES:
        found = run(case, small=small)
        limits += found[0]
        notes += found[1]
        sys.stdout.write("".join(f"  {x}\n" for x in found[1]))
        sys.stdout.flush()
    finish(limits, [], cases=notes)  # said as they came


if __name__ == "__main__":
    main()
