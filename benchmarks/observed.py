"""Maps as a measurement gives them: noise, missing cones and Bragg exclusion, of known truth."""

from __future__ import annotations

import tempfile

import numpy as np

from offbragg import AtomicStructure, HklGrid, MapOptions, compute_map, merge, simulate
from offbragg.disorder.base import DisorderModel
from offbragg.made_crystal import make_experiment
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions, expose

PHOTONS = 12.0  # a pixel, on average


def truth_map(
    structure: AtomicStructure, truth: DisorderModel, d_min: float, sampling: tuple[int, int, int]
) -> DiffuseMap:
    """Bragg peaks and diffuse scattering, fine and far enough to be exposed out to d_min."""
    grid = HklGrid.from_resolution(structure.require_cell(), 0.95 * d_min, sampling)
    return simulate(structure, truth, grid, part="total")


def observe(
    structure: AtomicStructure,
    total: DiffuseMap,
    d_min: float,
    seed: int,
    *,
    n_pixels: int,
    sampling: tuple[int, int, int] = (3, 3, 3),
) -> DiffuseMap:
    """Expose a map of Bragg peaks and diffuse scattering, reduce and merge the images."""
    experiment = make_experiment(
        structure.require_cell(), structure.space_group, d_min=d_min, n_pixels=n_pixels
    )
    options = MapOptions(d_min=d_min, sampling=sampling, bragg_radius=0.2)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        made = expose(total, experiment, folder, ExposeOptions(PHOTONS), rng)
        return merge(compute_map(read_experiments(made.experiments), options, rng)).map
