"""Compressed images to a map: the rate against that of decompression alone, and memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.measure import best_of, peak_memory_gb, run_cases
from benchmarks.results import Limit, finish, size_asked
from offbragg import HklGrid, MapOptions, compute_map
from offbragg.made_crystal import make_experiment
from offbragg.reduction.corrections import mean_solid_angle
from offbragg.reduction.detector_mask import static_mask
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.image_run import ImageRun
from offbragg.reduction.images import open_images
from offbragg.reduction.nxmx import create_nxmx, image_shape
from offbragg.reduction.photons import as_asked, make_tables, to_photons
from offbragg.reduction.pipeline import voxel_rules
from offbragg.reduction.voxelize import Accumulator, accumulate_image
from offbragg.runtime import SILENT, count_workers, map_in_order

CELL, SPACE_GROUP, D_MIN = (78.86, 78.86, 36.80, 90.0, 90.0, 90.0), "P 43 21 2", 2.0
# Of the rate of decompression with as many threads; memory [10⁹ bytes], and how much of it may
# go with the number of images.
LEAST_FRACTION, MOST_MEMORY, SAME_MEMORY = 0.6, 2.0, 0.05
# Pixels along an edge, images, and their type.
CASES: dict[str, tuple[int, int, Any]] = {
    "uint16": (2048, 100, np.uint16),
    "uint32": (2048, 100, np.uint32),
    "memory, 4 images": (4096, 4, np.uint32),
    "memory, 16 images": (4096, 16, np.uint32),
}
SMALL: dict[str, tuple[int, int, Any]] = {"uint16": (128, 4, np.uint16)}


@contextmanager
def image_file(n_pixels: int, n_images: int, dtype: Any) -> Iterator[Experiment]:
    """Images of a few photons a pixel, falling off with the angle, in bitshuffle and LZ4."""
    experiment = make_experiment(
        CELL, SPACE_GROUP, d_min=D_MIN, n_images=n_images, oscillation_deg=0.5, n_pixels=n_pixels
    )
    rng = np.random.default_rng(0)
    shape = image_shape(experiment)
    far = np.linspace(-1.0, 1.0, shape[-2])[:, None] ** 2 + np.linspace(0, 1, shape[-1]) ** 2
    mean = np.broadcast_to(10.0 * np.exp(-2.0 * far), shape)
    # A few different ones, repeated: drawing takes longer than what is measured.
    made = [rng.poisson(mean).astype(dtype) for _ in range(min(n_images, 4))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.h5"
        with create_nxmx(path, experiment, dtype) as dataset:
            for index in range(n_images):
                dataset[index] = made[index % len(made)]
        yield experiment.with_images(path)


def decompress_all(experiment: Experiment) -> None:
    """Read and decompress all images, and nothing else, in as many threads as a map has."""
    with h5py.File(experiment.template) as file:
        images = file["entry/data/data"]
        for _ in map_in_order(lambda i: len(images[i]), range(len(images)), count_workers()):
            pass


def stages(experiment: Experiment, options: MapOptions) -> dict[str, float]:
    """Time that one thread needs for each stage of an image [s], the best of a few."""
    (first,) = as_asked([experiment], options)
    mask = static_mask(first, options)
    reference = mean_solid_angle(first.detector)
    tables = make_tables(first, options, reference, mask)
    grid = HklGrid.from_resolution(first.crystal.cell, options.d_min, options.sampling)
    gone_through = ImageRun((first,), options, reference, SILENT)
    sums, rule = Accumulator.empty(grid), voxel_rules(grid, gone_through)(0)
    with open_images(first) as source:
        raw = source.read(0)
        photons = to_photons(raw, tables, first.detector, options)
        return {
            "read": best_of(3, lambda: source.read(1)),
            "photons": best_of(3, lambda: to_photons(raw, tables, first.detector, options)),
            "voxels": best_of(3, lambda: accumulate_image(sums, tables, photons, first, 0, rule)),
        }


def run(case: str) -> dict[str, float]:
    """Map of the images of a case: time and memory, and the time of decompression."""
    n_pixels, n_images, dtype = (SMALL if size_asked() == "small" else CASES)[case]
    options = MapOptions(d_min=D_MIN, sampling=(2, 2, 2))
    with image_file(n_pixels, n_images, dtype) as experiment:
        if case.startswith("memory"):
            compute_map([experiment], options)
            return {"memory_gb": peak_memory_gb()}
        compute_map([experiment], options)  # compiles
        alone = best_of(3, lambda: decompress_all(experiment))
        whole = best_of(3, lambda: compute_map([experiment], options))
        parts = stages(experiment, options)
    pixels = n_pixels**2 / 1e6
    return {
        "rate": n_images * pixels / whole,
        "alone": n_images * pixels / alone,
        **{name: 1e3 * seconds / pixels for name, seconds in parts.items()},
    }


def main() -> None:
    """Rates of both types; reduced, a few small images."""
    size = size_asked()
    found = run_cases("benchmarks.bench_images", SMALL if size == "small" else CASES, run, size)
    limits, notes = [], []
    for case, x in found.items():
        if "rate" in x:
            part = x["rate"] / x["alone"]
            if size == "full":
                limits.append(Limit(f"{case}: of decompression's rate", part, LEAST_FRACTION))
            notes.append(
                f"{case}: {x['rate']:.1f} M pixels/s, decompression alone {x['alone']:.1f}; one "
                f"thread takes {x['read']:.2f} ms to read a million, {x['photons']:.2f} to mask "
                f"them and make photons, {x['voxels']:.2f} to put them in voxels"
            )
        else:
            limits.append(Limit(f"{case} of 16 M pixels [GB]", x["memory_gb"], at_most=MOST_MEMORY))
    if size == "full":
        few, many = (found[f"memory, {n} images"]["memory_gb"] for n in (4, 16))
        limits.append(Limit("memory of 16 images over 4", many / few, at_most=1 + SAME_MEMORY))
    finish(limits, notes, **found)


if __name__ == "__main__":
    main()
