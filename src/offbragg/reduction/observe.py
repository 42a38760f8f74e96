"""From experiments to unmerged observations: images, wedge by wedge, into a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.image_run import LoadedImage
from offbragg.reduction.image_tasks import ImageTask, in_batches, list_tasks
from offbragg.reduction.observations import Wedges, axes_across, take_observations
from offbragg.reduction.observations_file import Append, create_observations
from offbragg.reduction.options import MapOptions
from offbragg.reduction.photons import as_asked
from offbragg.reduction.pipeline import begin_run, check_experiments, map_provenance, voxel_rules
from offbragg.reduction.voxelize import Accumulator
from offbragg.runtime import SILENT, Progress

# Angles that differ by less are the same [degrees].
_SAME_ANGLE = 1e-6


def write_observations(
    experiments: Sequence[Experiment],
    options: MapOptions,
    path: str | Path,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
) -> int:
    """Write what the pixels of each wedge of images measured in each voxel.

    Memory is two sets of sums over the grid, 60 bytes a voxel each, however many images there are.
    What is written does not depend on the number of threads.

    Parameters
    ----------
    experiments : sequence of Experiment
    options : MapOptions
        ``wedge`` says how many images are one.
    path : str or Path
        File to write, see `read_observations`.
    rng : numpy.random.Generator, optional
        Draws the halves; by ``options.seed`` where not given.
    progress : Progress

    Returns
    -------
    int
        Observations written.

    Raises
    ------
    InputError, FormatError, MissingFileError
        As `compute_map`.
    """
    check_experiments(experiments, options)
    experiments = as_asked(experiments, options)
    first = experiments[0]
    grid = HklGrid.from_resolution(first.crystal.cell, options.d_min, options.sampling)
    tasks = list_tasks(experiments, options, rng or np.random.default_rng(options.seed))
    wedges, wedge_of = make_wedges(experiments, tasks, options)
    sums = [Accumulator.of_wedge(grid, axes_across(first.beam)) for _ in range(2)]
    inside = grid.within().ravel()
    last_of = {wedge: task for task, wedge in wedge_of.items()}  # images come in order
    progress.start("observations", len(tasks))

    def provenance() -> tuple[dict[str, Any], ...]:
        return (map_provenance(run),)

    with create_observations(path, grid, first.crystal.space_group, wedges, provenance) as append:
        in_order = _InOrder(append)

        def add(stream: int, loaded: LoadedImage) -> None:
            sweep = loaded.task.experiment
            loaded.add_to(sums[stream], rule_of(sweep), stills=options.is_still(sweep))
            wedge = wedge_of[loaded.task]
            if last_of[wedge] == loaded.task:
                found = take_observations(sums[stream], wedge)
                kept = inside[found["voxel"]]
                in_order.give(wedge, {name: column[kept] for name, column in found.items()})

        with begin_run(experiments, options, tasks, progress) as run:
            rule_of = voxel_rules(grid, run)
            for batch in in_batches(experiments, tasks):
                parts = [[t for t in batch if wedge_of[t] % 2 == stream] for stream in (0, 1)]
                run.each(parts, add)
        if not in_order.n_written:
            raise InputError(
                f"no pixel falls in the grid: of {len(tasks)} images none has a pixel that is not "
                f"masked and lies within d_min = {options.d_min:g} Å"
            )
    return in_order.n_written


def make_wedges(
    experiments: Sequence[Experiment], tasks: Sequence[ImageTask], options: MapOptions
) -> tuple[Wedges, dict[ImageTask, int]]:
    """Share images out among wedges: consecutive, of one experiment and one half.

    Images go together while the wedge turns by no more than ``options.wedge``; stills are wedges
    of their own.
    """
    wedge_of: dict[ImageTask, int] = {}
    members: list[list[ImageTask]] = []
    begun = 0.0
    for task in tasks:
        begin, end = _angles(experiments, task.experiment, options)[task.image]
        last = members[-1][-1] if members else None
        is_next = last is not None and (
            (task.experiment, task.half, task.image) == (last.experiment, last.half, last.image + 1)
        )
        is_still = abs(end - begin) < _SAME_ANGLE
        if not is_next or is_still or abs(end - begun) > options.wedge + _SAME_ANGLE:
            members.append([])
            begun = float(begin)
        members[-1].append(task)
        wedge_of[task] = len(members) - 1
    begin_and_end = np.array(
        [
            [angles[wedge[0].image, 0], angles[wedge[-1].image, 1]]
            for wedge in members
            for angles in (_angles(experiments, wedge[0].experiment, options),)
        ]
    )
    firsts, lasts = [wedge[0] for wedge in members], [wedge[-1] for wedge in members]
    wedges = Wedges(
        sweep=np.array([task.experiment for task in firsts], dtype=np.int64),
        angle=begin_and_end.mean(axis=1),
        half=np.array([task.half for task in firsts], dtype=np.int64),
        first_image=np.array([task.image for task in firsts], dtype=np.int64),
        last_image=np.array([task.image for task in lasts], dtype=np.int64),
        turn=np.abs(np.diff(begin_and_end)[:, 0]),
    )
    return wedges, wedge_of


def _angles(experiments: Sequence[Experiment], sweep: int, options: MapOptions) -> FloatArray:
    """Where the images of a sweep begin and end, (n_images, 2) [degrees]."""
    return np.degrees(experiments[sweep].angles(stills=options.is_still(sweep)))


class _InOrder:
    """Writes wedges in their order, whichever thread is done first."""

    def __init__(self, append: Append) -> None:
        self.append, self.n_written = append, 0
        self._waiting: dict[int, Mapping[str, NDArray[Any]]] = {}
        self._next, self._lock = 0, Lock()

    def give(self, wedge: int, found: Mapping[str, NDArray[Any]]) -> None:
        """Take a wedge's observations; write them when all before them are written."""
        with self._lock:
            self._waiting[wedge] = found
            while self._next in self._waiting:
                ready = self._waiting.pop(self._next)
                self.append(ready)
                self.n_written += len(ready["voxel"])
                self._next += 1
