"""Commands from structures to maps, and from maps to images: simulate, expose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.models import ModelOptions, build_model
from offbragg.cli.options import Common, Output, generator
from offbragg.cli.tables import map_summary
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure, read_structure
from offbragg.errors import InputError
from offbragg.maps.io import read_map, write_map
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions
from offbragg.reduction.expose import expose as expose_map
from offbragg.simulation import simulate as simulate_map


@Parameter(name="*")
@dataclass(frozen=True)
class StructureOptions:
    """Which atoms, in which crystal.

    Attributes
    ----------
    select : str or None
        Atoms to keep, such as "not water".
    cell : tuple of 6 float or None
        Unit cell a b c alpha beta gamma, in place of the file's.
    space_group : str or None
        Space group, in place of the file's.
    """

    select: str | None = None
    cell: tuple[float, float, float, float, float, float] | None = None
    space_group: str | None = None


def load_structure(path: Path, options: StructureOptions) -> AtomicStructure:
    """Read a structure and select its atoms."""
    structure = read_structure(path, options.cell, options.space_group)
    return structure if options.select is None else structure.select(options.select)


@Parameter(name="*")
@dataclass(frozen=True)
class GridOptions:
    """Which voxels, and which part of the scattering.

    Attributes
    ----------
    d_min : float or None
        Resolution limit [Å].
    sampling : tuple of 3 int
        Voxels per reciprocal-lattice unit along h, k, l.
    like : Path or None
        A map whose voxels are computed, in place of --d-min and --sampling.
    part : str
        What is computed; Bragg peaks are averaged over their voxels.
    adps : str
        Mean-square displacements: the model's alone, or the file's, the rest uncorrelated.
    voxel_average : bool
        Means over voxels instead of values at their centres.
    """

    d_min: float | None = None
    sampling: tuple[int, int, int] = (1, 1, 1)
    like: Path | None = None
    part: Literal["diffuse", "bragg", "total"] = "diffuse"
    adps: Literal["model", "file"] = "model"
    voxel_average: Annotated[bool, Parameter(negative="")] = False


def simulate(
    structure: Path,
    /,
    *,
    output: Output,
    model: Annotated[ModelOptions, Parameter(name="*")],
    grid: GridOptions | None = None,
    atoms: StructureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Compute the map of a structure whose atoms move as a disorder model says.

    Parameters
    ----------
    structure
        PDB or mmCIF file.
    output
        Map file to write.
    """
    choice = grid or GridOptions()
    atoms_read = load_structure(structure, atoms or StructureOptions())
    if (choice.d_min is None) == (choice.like is None):
        raise InputError("simulate needs either --d-min or --like")
    if choice.like is not None:
        voxels = read_map(choice.like).grid
    else:
        cell = atoms_read.require_cell()
        voxels = HklGrid.from_resolution(cell, choice.d_min or 0.0, choice.sampling)
    computed = simulate_map(
        atoms_read,
        build_model(model),
        voxels,
        choice.part,
        choice.adps,
        voxel_average=choice.voxel_average,
    )
    write_map(output, computed)
    return map_summary(computed, output)


def expose(
    map_file: Path,
    expt: Path,
    /,
    *,
    output: Output,
    options: Annotated[ExposeOptions, Parameter(name="*")],
    seed: int = 0,
    common: Common | None = None,
) -> Outcome:
    """Make detector images from a map, with photon noise.

    Parameters
    ----------
    map_file
        Map to expose.
    expt
        DIALS experiment list that gives the geometry.
    output
        Folder for the images (NXmx) and their .expt.
    seed
        Of the photon noise.
    """
    experiments = read_experiments(expt)
    with BarProgress() as progress:
        made = expose_map(
            read_map(map_file), experiments, output, options, generator(seed), progress
        )
    outputs = {"experiments": made.experiments}
    outputs |= {f"images_{n}": path for n, path in enumerate(made.images, start=1)}
    result = {
        "scale": made.scale,
        "mean_counts": made.mean_counts,
        "n_pixels": made.n_pixels,
        "seed": seed,
    }
    text = (
        f"{made.n_pixels} pixels, {made.mean_counts:.4g} photons a pixel on average; "
        f"{made.scale:.4g} photons per unit of the map"
    )
    return Outcome(result, outputs, text)
