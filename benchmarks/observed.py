"""Maps as a measurement gives them: noise, missing cones and Bragg exclusion, of known truth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
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


@contextmanager
def exposed_once(
    structure: AtomicStructure,
    total: DiffuseMap,
    d_min: float,
    *,
    n_pixels: int,
    sampling: tuple[int, int, int] = (3, 3, 3),
) -> Iterator[Callable[[int], DiffuseMap]]:
    """Expose a map of Bragg peaks and diffuse scattering; give what draws photons for a seed.

    The images of each seed are reduced and merged. What they are expected to count is worked out
    once.
    """
    experiment = make_experiment(
        structure.require_cell(), structure.space_group, d_min=d_min, n_pixels=n_pixels
    )
    options = MapOptions(d_min=d_min, sampling=sampling, bragg_radius=0.2)
    with tempfile.TemporaryDirectory() as folder:
        quiet = ExposeOptions(PHOTONS, noise=False)
        made = expose(total, experiment, folder, quiet, np.random.default_rng(0))
        (exposed,) = read_experiments(made.experiments)
        with h5py.File(made.images[0], "r") as file:
            expected = file["entry/data/data"][()]
        drawn = Path(folder) / "drawn.h5"

        def measured(seed: int) -> DiffuseMap:
            rng = np.random.default_rng(seed)
            with h5py.File(drawn, "w") as file:
                file["entry/data/data"] = rng.poisson(expected).astype(np.uint32)
            return merge(compute_map([exposed.with_images(str(drawn))], options, rng)).map

        yield measured


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
    how = {"n_pixels": n_pixels, "sampling": sampling}
    with exposed_once(structure, total, d_min, **how) as measured:
        return measured(seed)
