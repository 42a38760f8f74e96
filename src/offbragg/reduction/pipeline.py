"""From experiments to a map: read, mask, correct, voxelize, average."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from offbragg.conventions import IntArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import hash_file, make_step
from offbragg.reduction.bragg_mask import BraggMask
from offbragg.reduction.corrections import mean_solid_angle, relative_exposures
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.images import ImageSource, open_images
from offbragg.reduction.masks import mask_untrusted, read_mask, static_masks
from offbragg.reduction.options import MapOptions
from offbragg.reduction.voxelize import (
    Accumulator,
    Float32Array,
    Oversampling,
    PixelTable,
    VoxelRule,
    accumulate_image,
    normalise,
)
from offbragg.runtime import SILENT, Progress, count_workers, map_in_order

_BLOCKS = 20  # contiguous runs of images that are drawn into one half or the other
Halves = tuple[Accumulator, Accumulator]


def compute_map(
    experiments: Sequence[Experiment],
    options: MapOptions,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
) -> DiffuseMap:
    """Average the corrected pixels of all images in voxels of reciprocal space.

    Several sweeps go into one map, by hkl; they must be indexed alike. The grid has the cell of
    the first. Corrected intensities are counts per pixel of the reference solid angle (the mean
    over the first detector), of the mean exposure time where images differ in it.

    The two halves of the images, for half maps, are drawn at random as blocks: of a twentieth of
    the images each, in their order; single images where there are few. They are added up by one
    thread each, so that the map is the same for any number of threads. One image has no halves.

    Parameters
    ----------
    experiments : sequence of Experiment
    options : MapOptions
    rng : numpy.random.Generator, optional
        Draws the halves; by ``options.seed`` where not given.
    progress : Progress

    Returns
    -------
    DiffuseMap
        float32, unmerged; count int32. Sigma from counting statistics.

    Raises
    ------
    InputError
        If the experiments' cells or space groups differ, or no pixel falls in the grid.
    FormatError, MissingFileError
        If an image or the mask cannot be read.
    """
    if options.images is not None:
        experiments = [experiment.with_images(options.images) for experiment in experiments]
    experiments = tuple(experiments)
    _check_experiments(experiments)
    first = experiments[0]
    grid = HklGrid.from_resolution(first.crystal.cell, options.d_min, options.sampling)
    halves = (Accumulator.empty(grid), Accumulator.empty(grid))
    tasks = _tasks(experiments, options, rng or np.random.default_rng(options.seed))
    progress.start("map", len(tasks))
    run = _Run(
        experiments,
        options,
        VoxelRule(grid, _bragg_mask(first, options), Oversampling(*options.oversample)),
        mean_solid_angle(first.detector),
        progress,
    )
    for batch in _batches(experiments, tasks):
        run.add(batch, halves)
    means = normalise(halves, grid)
    if not np.any(means.count):
        raise InputError(
            f"no pixel falls in the grid: of {len(tasks)} images none has a pixel that is not "
            f"masked and lies within d_min = {options.d_min:g} Å"
        )
    return DiffuseMap(
        grid=grid,
        intensity=means.intensity,
        space_group=first.crystal.space_group,
        sigma=means.sigma,
        count=means.count,
        half_1=means.half_1 if len(tasks) > 1 else None,
        half_2=means.half_2 if len(tasks) > 1 else None,
        provenance=(_provenance(experiments, options),),
    )


@dataclass(frozen=True)
class _Task:
    """One image of one experiment, its scale, and the half that it goes to."""

    experiment: int
    image: int
    half: int
    scale: float = 1.0


@dataclass(frozen=True)
class _Run:
    """What the work on all images shares."""

    experiments: tuple[Experiment, ...]
    options: MapOptions
    rule: VoxelRule
    reference: float
    progress: Progress

    def add(self, tasks: list[_Task], halves: Halves) -> None:
        """Add images of experiments that share beam and detector, each half in a thread."""
        tables = self._tables(self.experiments[tasks[0].experiment])
        n_workers = count_workers(self.options.n_workers)
        with ExitStack() as stack:
            # Sweeps stay open; single images are opened when it is their turn.
            sources = {
                number: stack.enter_context(open_images(self.experiments[number]))
                for number in sorted({task.experiment for task in tasks})
                if self.experiments[number].n_images > 1
            }

            def load(task: _Task) -> tuple[Float32Array, ...]:
                return self._read(task, sources.get(task.experiment), tables)

            def add_half(half: int) -> None:
                mine = [task for task in tasks if task.half == half]
                images = map_in_order(load, mine, max(1, n_workers // 2))
                for task, photons in zip(mine, images, strict=True):
                    experiment = self.experiments[task.experiment]
                    accumulate_image(
                        halves[half],
                        tables,
                        photons,
                        experiment,
                        task.image,
                        self.rule,
                        stills=self.options.stills,
                        scale=task.scale,
                    )
                    self.progress.step()

            for _ in map_in_order(add_half, (0, 1), min(2, n_workers)):
                pass

    def _tables(self, experiment: Experiment) -> tuple[PixelTable, ...]:
        """Compute the tables of a detector's pixels."""
        mask = self.options.mask
        given = None if mask is None else read_mask(mask, experiment.detector)
        masks = static_masks(experiment.detector, given)
        return tuple(
            PixelTable.of_panel(
                panel, experiment.beam, self.options.pixel_corrections, self.reference, excluded
            )
            for panel, excluded in zip(experiment.detector, masks, strict=True)
        )

    def _read(
        self, task: _Task, source: ImageSource | None, tables: tuple[PixelTable, ...]
    ) -> tuple[Float32Array, ...]:
        """Read an image as photons; NaN where a pixel is not to be used."""
        experiment = self.experiments[task.experiment]
        if source is None:
            with open_images(experiment) as opened:
                images = opened.read(task.image)
        else:
            images = source.read(task.image)
        photons = []
        for panel, image, table in zip(experiment.detector, images, tables, strict=True):
            low, high = panel.trusted_range
            if self.options.overload is not None:
                high = min(high, float(self.options.overload))
            bad = mask_untrusted(image, (low, high), self.options.overload_margin)
            values = image.astype(np.float32)
            if panel.pedestal != 0 or panel.gain != 1:
                values = (values - np.float32(panel.pedestal)) / np.float32(panel.gain)
            values[bad | table.excluded] = np.nan
            photons.append(values)
        return tuple(photons)


def _bragg_mask(experiment: Experiment, options: MapOptions) -> BraggMask | None:
    if options.bragg == "keep":
        return None
    crystal = experiment.crystal
    return BraggMask(
        crystal.cell, crystal.space_group, options.bragg_radius, options.bragg_radius_unit
    )


def _check_experiments(experiments: tuple[Experiment, ...]) -> None:
    if not experiments:
        raise InputError("experiments must be at least one, got none")
    first = experiments[0]
    for number, other in enumerate(experiments[1:], start=1):
        if other.crystal is first.crystal:
            continue
        check_cells_agree(other.crystal.cell, first.crystal.cell, f"experiment {number}")
        if other.crystal.space_group != first.crystal.space_group:
            raise InputError(
                f"experiment {number}: space group must be that of the first, "
                f"{first.crystal.space_group}, got {other.crystal.space_group}"
            )


def _tasks(
    experiments: Sequence[Experiment], options: MapOptions, rng: np.random.Generator
) -> list[_Task]:
    """List all images, with halves drawn by blocks, and what their counts are multiplied by."""
    every = [(e, i) for e, experiment in enumerate(experiments) for i in range(experiment.n_images)]
    halves = draw_halves(len(every), rng)
    exposures = relative_exposures([experiment.scan.exposure_times for experiment in experiments])
    tasks = []
    for (e, i), half in zip(every, halves, strict=True):
        times = exposures[e] if "exposure" in options.corrections else None
        tasks.append(_Task(e, i, int(half), 1.0 if times is None else 1.0 / float(times[i])))
    return tasks


def draw_halves(n_images: int, rng: np.random.Generator) -> IntArray:
    """Draw which half, 0 or 1, each image (n_images,) goes to, by contiguous blocks.

    There are twenty blocks or a few more, as many of them in either half; fewer images than that
    are drawn singly.
    """
    block = np.arange(n_images) // max(1, n_images // _BLOCKS)
    n_blocks = int(block[-1]) + 1
    half_of_block = rng.permutation(np.arange(n_blocks) % 2)
    drawn: IntArray = half_of_block[block].astype(np.int64)
    return drawn


def _batches(experiments: Sequence[Experiment], tasks: list[_Task]) -> list[list[_Task]]:
    """Group tasks in order by what shares beam and detector, so one table serves them all."""

    def shared(task: _Task) -> tuple[int, int]:
        experiment = experiments[task.experiment]
        return id(experiment.beam), id(experiment.detector)

    return [list(batch) for _, batch in groupby(tasks, key=shared)]


def _provenance(experiments: Sequence[Experiment], options: MapOptions) -> dict[str, Any]:
    """Say what was done to what, for the map's file."""
    names = [*dict.fromkeys(e.source for e in experiments if e.source)]
    names += [options.mask] if options.mask else []
    images = [{"template": Path(e.template).name, "n_images": e.n_images} for e in experiments]
    return make_step(
        "map",
        options,
        corrections=options.corrections,
        inputs={name: hash_file(name) for name in names},
        images=images,
    )
