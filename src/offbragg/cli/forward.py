"""Commands from structures to maps, and from maps to images: simulate, expose."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.models import ModelOptions, Source, build_model
from offbragg.cli.options import Common, Output, generator
from offbragg.cli.tables import map_summary
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure, read_structure
from offbragg.errors import InputError
from offbragg.maps.io import read_map, write_map
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions
from offbragg.reduction.expose import expose as expose_map
from offbragg.scattering.engine import DEFAULT_MEMORY, DEFAULT_RTOL
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
    crystal_size : tuple of 3 int or None
        Cells of a finite crystal along a, b, c, for the Bragg part; None: infinite.
    """

    d_min: float | None = None
    sampling: tuple[int, int, int] = (1, 1, 1)
    like: Path | None = None
    part: Literal["diffuse", "bragg", "total", "compton"] = "diffuse"
    adps: Literal["model", "file"] = "model"
    voxel_average: Annotated[bool, Parameter(negative="")] = False
    crystal_size: tuple[int, int, int] | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class EngineOptions:
    """How the intensity is computed.

    Attributes
    ----------
    method : str
        The fastest exact one (auto), or a given one; one-phonon and sampled are approximations.
    rtol : float
        Largest error wanted, as a fraction of the mean diffuse intensity.
    max_memory : float
        Bytes that work arrays may take.
    wavelength : float or None
        Wavelength [Å], for anomalous scattering; none where not given.
    altlocs : str
        Altlocs scatter together, or those of one residue exclude each other.
    n_samples : int
        Draws of the method sampled.
    seed : int
        Of the draws.
    """

    method: Literal["auto", "splat", "pair-nufft", "gemm", "one-phonon", "sampled", "direct"] = (
        "auto"
    )
    rtol: float = DEFAULT_RTOL
    max_memory: float = DEFAULT_MEMORY
    wavelength: float | None = None
    altlocs: Literal["together", "exclusive"] = "together"
    n_samples: int = 1000
    seed: int = 0


def simulate(
    structure: Path,
    /,
    *,
    output: Output,
    model: Annotated[ModelOptions, Parameter(name="*")],
    grid: GridOptions | None = None,
    atoms: StructureOptions | None = None,
    engine: EngineOptions | None = None,
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
    choice, which = grid or GridOptions(), atoms or StructureOptions()
    atoms_read = load_structure(structure, which)
    if (choice.d_min is None) == (choice.like is None):
        raise InputError("simulate needs either --d-min or --like")
    if choice.like is not None:
        voxels = read_map(choice.like).grid
    else:
        cell = atoms_read.require_cell()
        voxels = HklGrid.from_resolution(cell, choice.d_min or 0.0, choice.sampling)
    computed = simulate_map(
        atoms_read,
        build_model(model, Source(atoms_read, structure, which.select)),
        voxels,
        choice.part,
        choice.adps,
        crystal_size=choice.crystal_size,
        voxel_average=choice.voxel_average,
        **asdict(engine or EngineOptions()),
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
