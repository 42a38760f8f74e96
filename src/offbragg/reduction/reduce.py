"""Experiments to a map in one call, scaled where that is asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from offbragg.crystal.friedel import equivalence_group
from offbragg.crystal.symmetry import check_group_fits_cell
from offbragg.errors import MissingFileError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.experiment import Experiment
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import check_experiments, compute_map
from offbragg.runtime import SILENT, Progress

if TYPE_CHECKING:
    from offbragg.reduction.scaled_map import ScaledMap


def reduce_images(
    experiments: Sequence[Experiment],
    options: MapOptions,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
    folder: str | Path | None = None,
) -> tuple[DiffuseMap, ScaledMap | None]:
    """Average the pixels of all images in voxels, and scale them first where asked.

    Before they are scaled together, sweeps are brought to the indexing of the first.

    Parameters
    ----------
    experiments : sequence of Experiment
    options : MapOptions
    rng : numpy.random.Generator, optional
        As for `compute_map`.
    progress : Progress
    folder : str or Path, optional
        Where unmerged observations are kept meanwhile, sixty bytes each, unless ``options`` names
        a file for them; the system's temporary folder where not given.

    Returns
    -------
    map : DiffuseMap
        Unmerged.
    scaled : ScaledMap or None
        How it was scaled; None where it was not.

    Raises
    ------
    InputError, FormatError, MissingFileError
        As `compute_map` and `scale_to_map`.
    """
    if options.scaling == "none":
        return compute_map(experiments, options, rng, progress), None
    # Imported where it is wanted: that takes a quarter of a second.
    from offbragg.reduction.observations_file import read_observations
    from offbragg.reduction.observe import write_observations
    from offbragg.reduction.same_indexing import index_alike
    from offbragg.reduction.scaled_map import scale_to_map
    from offbragg.reduction.standard_scaling import ScalingOptions

    if folder is not None and not Path(folder).is_dir():
        raise MissingFileError(f"{folder}: no such folder")
    check_experiments(experiments, options)
    _check_group(experiments[0], options)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = options.observations or Path(temporary) / "observations.h5"
        write_observations(experiments, options, path, rng, progress)
        observations, _ = index_alike(read_observations(path))
        settings = ScalingOptions(
            laue_group=options.laue_group, friedel=options.friedel, seed=options.seed
        )
        if options.scaling == "outliers":
            settings = replace(settings, corrections=())
        scaled = scale_to_map(observations, settings, progress)
    return scaled.map, scaled


def _check_group(experiment: Experiment, options: MapOptions) -> None:
    """Check that equivalents can be those of the options, before images are read."""
    crystal = experiment.crystal
    name = options.laue_group or crystal.space_group
    group = equivalence_group(name, options.friedel, crystal.space_group)
    check_group_fits_cell(crystal.cell, group.rotations, f"laue_group {name}")
