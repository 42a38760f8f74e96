"""From experiments to a map: read, mask, correct, voxelize, average."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import hash_file, make_step
from offbragg.reduction.arrivals import Arrivals
from offbragg.reduction.bragg_mask import BRAGG_RADIUS, BraggMask
from offbragg.reduction.corrections import mean_solid_angle
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.image_run import ImageRun, LoadedImage
from offbragg.reduction.image_tasks import ImageTask, in_batches, list_tasks
from offbragg.reduction.options import MapOptions
from offbragg.reduction.photons import as_asked
from offbragg.reduction.sweep_summary import summarise_sweep
from offbragg.reduction.voxelize import (
    Accumulator,
    Oversampling,
    VoxelRule,
    normalise,
)
from offbragg.runtime import SILENT, Progress

logger = logging.getLogger(__name__)

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
    over the first detector), of the mean exposure and flux where images differ in them.

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
        If an image or a file that the options name cannot be read.
    """
    check_experiments(experiments, options)
    experiments = as_asked(experiments, options)
    first = experiments[0]
    grid = HklGrid.from_resolution(first.crystal.cell, options.d_min, options.sampling)
    halves = (Accumulator.empty(grid), Accumulator.empty(grid))
    tasks = list_tasks(experiments, options, rng or np.random.default_rng(options.seed))
    progress.start("map", len(tasks))
    n_used = [0, 0]  # by half

    def add(stream: int, loaded: LoadedImage) -> None:
        sweep = loaded.task.experiment
        loaded.add_to(halves[stream], rule_of(sweep), stills=options.is_still(sweep))
        n_used[stream] += loaded.is_there

    with begin_run(experiments, options, tasks, progress) as run:
        rule_of = voxel_rules(grid, run)
        for batch in in_batches(experiments, tasks):
            run.each([[task for task in batch if task.half == half] for half in (0, 1)], add)
    if not all(n_used) and sum(n_used) > 1:
        logger.warning("no half maps: all %d images are of one half", sum(n_used))
    means = normalise(halves, grid)
    if not np.any(means.count):
        raise InputError(
            f"no pixel falls in the grid: of {sum(n_used)} images none has a pixel that is not "
            f"masked and lies within d_min = {options.d_min:g} Å"
        )
    return DiffuseMap(
        grid=grid,
        intensity=means.intensity,
        space_group=first.crystal.space_group,
        sigma=means.sigma,
        count=means.count,
        half_1=means.half_1 if all(n_used) else None,
        half_2=means.half_2 if all(n_used) else None,
        provenance=(map_provenance(run),),
    )


def voxel_rules(grid: HklGrid, run: ImageRun) -> Callable[[int], VoxelRule]:
    """How the pixels of a sweep, by its number, go to voxels; once the run has come to it."""
    options = run.options
    oversampling, is_inverted = Oversampling(*options.oversample), options.bragg == "only"
    crystal = run.experiments[0].crystal
    spheres = None
    if options.bragg in ("exclude", "only"):
        radius = BRAGG_RADIUS if options.bragg_radius is None else options.bragg_radius
        spheres = BraggMask(
            crystal.cell, crystal.space_group, radius, options.bragg_radius_unit, is_inverted
        )

    @cache
    def rule(sweep: int) -> VoxelRule:
        return VoxelRule(grid, run.spot_masks.get(sweep, spheres), oversampling)

    return rule


def check_experiments(experiments: Sequence[Experiment], options: MapOptions) -> None:
    """Check that experiments can go into one map.

    Raises
    ------
    InputError
        If there is none, cells or space groups differ, or a sweep is named that is not there.
    """
    if not experiments:
        raise InputError("experiments must be at least one, got none")
    for number in options.still_sweeps:
        if not 0 <= number < len(experiments):
            raise InputError(f"still_sweeps must be 0 to {len(experiments) - 1}, got {number}")
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


@contextmanager
def begin_run(
    experiments: tuple[Experiment, ...],
    options: MapOptions,
    tasks: Sequence[ImageTask],
    progress: Progress,
) -> Iterator[ImageRun]:
    """Give what goes through images; those that are followed are counted at the end.

    Raises
    ------
    MissingFileError
        If images are followed and none came.
    """
    reference = mean_solid_angle(experiments[0].detector)
    if options.follow is None:
        yield ImageRun(experiments, options, reference, progress)
        return
    with closing(Arrivals(experiments, tasks, options.follow, progress)) as arrivals:
        yield ImageRun(experiments, options, reference, progress, arrivals=arrivals)
        arrivals.conclude()


def map_provenance(run: ImageRun) -> dict[str, Any]:
    """Say what was done to what, for the map's file."""
    experiments, options = run.experiments, run.options
    names = [*dict.fromkeys(e.source for e in experiments if e.source)]
    files = [options.file_of(name) for name in ("dark", "flat-field", "flux")]
    names += [name for name in (options.mask, options.mask_shapes, *files) if name]
    names += [name for name in options.background if Path(name).is_file()]
    images = [{"template": Path(e.template).name, "n_images": e.n_images} for e in experiments]
    if run.arrivals is not None:
        for number, sweep in enumerate(images):
            sweep["n_came"] = run.arrivals.n_came[number]
    return make_step(
        "map",
        options,
        corrections=_applied(experiments, options),
        masked_pixels=[dict(each) for each in dict.fromkeys(tuple(m.items()) for m in run.masked)],
        **({"spot_shapes": _shapes(run)} if run.spot_masks else {}),
        inputs={name: hash_file(name) for name in names},
        images=images,
        sweeps=[summarise_sweep(e, stills=options.is_still(n)) for n, e in enumerate(experiments)],
    )


def _shapes(run: ImageRun) -> list[dict[str, Any]]:
    """Give the shape of the spots of each sweep in which it was found."""
    return [{"sweep": n, **mask.shape.as_dict()} for n, mask in sorted(run.spot_masks.items())]


def _applied(experiments: Sequence[Experiment], options: MapOptions) -> list[str]:
    """Give the corrections that were asked for and that there was something to apply of."""
    panels = [panel for experiment in experiments for panel in experiment.detector]
    sensors = [panel for panel in panels if panel.mu > 0 and panel.thickness > 0]
    times = [experiment.scan.exposure_times for experiment in experiments]
    possible = {
        "absorption": bool(sensors),
        "air": options.air_fraction > 0,
        "parallax": any(panel.parallax for panel in sensors),
        "dark": options.dark is not None,
        "flat-field": options.flat_field is not None,
        "exposure": all(some is not None and bool(np.all(some > 0)) for some in times),
        "flux": options.flux is not None,
    }
    return [name for name in options.corrections if possible.get(name, True)]
