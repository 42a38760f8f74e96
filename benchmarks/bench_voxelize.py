"""Pixels to voxels from memory: rate on the cores there are, against plain vectorised NumPy."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.results import Limit, finish, peak_memory_gib, size_asked
from offbragg import HklGrid
from offbragg.made_crystal import make_experiment
from offbragg.reduction.bragg_mask import BraggMask
from offbragg.reduction.corrections import PIXEL_CORRECTIONS, mean_solid_angle
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.pixel_table import PixelTable
from offbragg.reduction.voxelize import Accumulator, VoxelRule, accumulate_image

CELL = (78.86, 78.86, 36.80, 90.0, 90.0, 90.0)
D_MIN = 2.0


def in_numpy(experiment: Experiment, image: np.ndarray, grid: HklGrid, index: int) -> np.ndarray:
    """One image's sums by whole-array operations, as a careful script would do it."""
    sums = np.zeros((2, grid.size))
    for number, panel in enumerate(experiment.detector):
        positions = panel.pixel_positions()
        distance = np.linalg.norm(positions, axis=-1, keepdims=True)
        q = positions / distance / experiment.beam.wavelength - experiment.beam.s0
        hkl = q @ experiment.hkl_matrix(index).T
        voxel, inside = grid.index_of(hkl)
        near = np.linalg.norm(hkl - np.rint(hkl), axis=-1) < 0.25
        used = inside & ~near
        flat = np.ravel_multi_index(tuple(voxel[used].T), grid.shape)
        sums[0] += np.bincount(flat, image[number][used], grid.size)
        sums[1] += np.bincount(flat, minlength=grid.size)
    return sums


def main() -> None:
    """Two threads, one a half, as `compute_map` has them."""
    small = size_asked() == "small"
    n_pixels, n_images = (512, 12) if small else (2048, 40)
    experiment = make_experiment(
        CELL, "P 43 21 2", d_min=D_MIN, n_images=n_images, oscillation_deg=0.5, n_pixels=n_pixels
    )
    grid = HklGrid.from_resolution(experiment.crystal.cell, D_MIN, (3, 3, 3))
    reference = mean_solid_angle(experiment.detector)
    tables = [
        PixelTable.of_panel(
            panel, experiment.beam, PIXEL_CORRECTIONS, reference, np.zeros(panel.shape, dtype=bool)
        )
        for panel in experiment.detector
    ]
    rng = np.random.default_rng(0)
    photons = [rng.poisson(2.0, p.shape).astype(np.float32) for p in experiment.detector]
    rule = VoxelRule(grid, BraggMask(grid.cell, "P 43 21 2", 0.25))
    halves = (Accumulator.empty(grid), Accumulator.empty(grid))

    def add_half(half: int, images: range) -> None:
        for image in images:
            accumulate_image(halves[half], tables, photons, experiment, image, rule)

    add_half(0, range(1))
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(add_half, (0, 1), (range(0, n_images, 2), range(1, n_images, 2))))
        rates.append(n_images * n_pixels**2 / (time.perf_counter() - start) / 1e6)
    start = time.perf_counter()
    in_numpy(experiment, np.stack(photons), grid, 0)
    numpy_rate = n_pixels**2 / (time.perf_counter() - start) / 1e6
    rate = float(np.median(rates))
    limits = []
    if not small:
        limits = [
            Limit("million pixels a second", rate, at_least=80.0),
            Limit("times plain NumPy on one core", rate / numpy_rate, at_least=15.0),
        ]
    notes = [
        f"{n_images} images of {n_pixels}², {grid.size} voxels, Bragg pixels excluded",
        f"two threads {rate:.1f} M pixels/s ({min(rates):.1f} to {max(rates):.1f}) = "
        f"{rate / numpy_rate:.1f} × plain NumPy on one core ({numpy_rate:.2f} M pixels/s)",
        f"peak memory {peak_memory_gib():.2f} GiB",
    ]
    finish(limits, notes, rate=rate, numpy_rate=numpy_rate)


if __name__ == "__main__":
    main()
