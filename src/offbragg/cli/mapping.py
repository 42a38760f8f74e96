"""The command from images to a map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.options import Common, Output, generator
from offbragg.cli.tables import map_summary, with_scaling
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.io import write_map
from offbragg.reduction.experiment import read_crystal, read_experiments
from offbragg.reduction.growing_geometry import await_image_geometry
from offbragg.reduction.image_reader import read_image_geometry
from offbragg.reduction.options import MapOptions
from offbragg.reduction.reduce import reduce_images


def map_images(
    *expt: Path,
    output: Output,
    options: Annotated[MapOptions, Parameter(name="*")],
    crystal: Path | None = None,
    common: Common | None = None,
) -> Outcome:
    """Average the pixels of rotation images in voxels of reciprocal space.

    Parameters
    ----------
    expt
        DIALS experiment lists, or geometry of XDS: XPARM.XDS, GXPARM.XDS, INTEGRATE.HKL, with the
        XDS.INP beside it. With --crystal, images: an NXmx or Eiger master file, one image, or a
        template with # for the digits.
    output
        Map file to write.
    crystal
        Experiment list or geometry of XDS that has the crystal, where geometry comes from the
        headers of images.
    """
    if not expt:
        raise InputError("map needs at least one .expt file, XPARM.XDS, or images with --crystal")
    if crystal is None:
        experiments = [e for path in expt for e in read_experiments(path, options.images)]
    elif options.images is not None:
        raise InputError("--images is for experiment lists; with --crystal the images are given")
    else:
        source = read_crystal(crystal)
        geometries = [
            read_image_geometry(path)
            if options.follow is None
            else await_image_geometry(path, options.follow)
            for path in expt
        ]
        experiments = [geometry.with_crystal(source) for geometry in geometries]
    rng = generator(options.seed)
    with BarProgress() as progress:
        observed, scaled = reduce_images(experiments, options, rng, progress, output.parent)
    write_map(output, observed)
    summary = map_summary(observed, output)
    if options.fits_spots:
        summary = _with_spots(summary, observed, len(experiments))
    return with_scaling(summary, scaled)


def _with_spots(outcome: Outcome, observed: DiffuseMap, n_sweeps: int) -> Outcome:
    """Add what shape spots were found to have."""
    shapes = [shape for step in observed.provenance for shape in step.get("spot_shapes", ())]
    said = f"found in {len(shapes)} of {n_sweeps} sweeps"
    if len(shapes) < n_sweeps:
        said += ", spheres in the others"
    elif n_sweeps == 1:
        said = " × ".join(f"{axis:.4f}" for axis in shapes[0]["axes"]) + " Å⁻¹"
    (title, columns, rows), *others = outcome.tables
    return replace(
        outcome,
        result={**outcome.result, "spot_shapes": shapes},
        tables=[(title, columns, [*rows, ("spot shape", said)]), *others],
    )
