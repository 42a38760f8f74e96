"""Images exposed from a known map without Bragg peaks, their observations, and maps judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.prove_exposed import voxel_means
from offbragg import HklGrid, LiquidLike, MapOptions, compare, merge, simulate
from offbragg.crystal.cell import Cell
from offbragg.made_crystal import make_experiment, make_peptide
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.experiment import Experiment, read_experiments
from offbragg.reduction.expose import ExposeOptions, expose
from offbragg.reduction.observations import Observations
from offbragg.reduction.observations_file import read_observations
from offbragg.reduction.observe import write_observations

MODEL = LiquidLike(0.4, 6.0)
SAMPLING, FINER = 2, 3
PHOTONS = 60.0  # a pixel
N_SHELLS = 6


@dataclass(frozen=True, eq=False)
class Known:
    """Exposed images, and the map that they are of."""

    name: str
    experiment: Experiment
    fine: DiffuseMap
    scale: float
    photons: float
    options: MapOptions


@dataclass(frozen=True, eq=False)
class Judged:
    """A merged map against the truth, after one scale by least squares."""

    cc: float
    bias: float
    shells: float
    slope: float
    spread: float


def make_known(space_group: str, folder: Path, *, small: bool) -> Known:
    """Expose a map without Bragg peaks."""
    d_min = 3.2 if small else 2.6
    structure = make_peptide("GASMVL", u=0.12)
    if space_group != structure.space_group:
        cell = Cell(26.0, 26.0, 34.0, 90.0, 90.0, 90.0)
        structure = replace(structure, cell=cell, space_group=space_group)
    cell = structure.require_cell()
    grid = HklGrid.from_resolution(cell, 0.93 * d_min, (SAMPLING * FINER,) * 3)
    fine = simulate(structure, MODEL, grid)
    experiment = make_experiment(
        cell, space_group, d_min=d_min, n_pixels=64 if small else 160,
        n_images=90 if small else 180, oscillation_deg=2.0 if small else 1.0,
    )  # fmt: skip
    photons = 4 * PHOTONS if small else PHOTONS
    made = expose(fine, experiment, folder, ExposeOptions(photons), np.random.default_rng(0))
    (exposed,) = read_experiments(made.experiments)
    options = MapOptions(
        d_min=d_min, sampling=(SAMPLING,) * 3, bragg="keep", scaling="standard",
        wedge=4.0 if small else 1.0,
    )  # fmt: skip
    return Known(space_group, exposed, fine, made.scale, photons, options)


def observe(known: Known, experiment: Experiment, folder: Path, **changed: Any) -> Observations:
    """Unmerged observations of some images."""
    path = folder / "observations.h5"
    options = replace(known.options, **changed)
    write_observations([experiment], options, path, np.random.default_rng(1))
    return read_observations(path)


def judge(known: Known, found: DiffuseMap) -> Judged:
    """Compare a map with the truth."""
    merged = merge(found).map
    truth = known.scale * voxel_means(known.fine, merged.grid)
    inv_d = merged.grid.inv_d()
    used = merged.measured & (inv_d > 1 / 15)
    measured, true = merged.intensity[used].astype(float), truth[used]
    true = true * float(measured @ true / (true @ true))
    residual = measured - true
    shell = np.argsort(np.argsort(inv_d[used])) * N_SHELLS // len(true)
    shells = np.bincount(shell, residual) / np.bincount(shell, true)
    masked = DiffuseMap(merged.grid, np.where(used, truth, np.nan), merged.space_group)
    return Judged(
        cc=compare(merged, masked).overall.cc,
        bias=abs(float(residual.mean() / true.mean())),
        shells=float(np.max(np.abs(shells))),
        slope=float(np.polyfit(true, measured, 1)[0]),
        spread=float(np.std(residual / merged.sigma[used])),
    )
