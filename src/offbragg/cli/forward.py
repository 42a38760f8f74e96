"""Commands from structures to maps, and from maps to images: simulate, expose."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.model_options import ModelOptions
from offbragg.cli.models import load_model
from offbragg.cli.options import Common, Output, generator
from offbragg.cli.structures import StructureOptions
from offbragg.cli.tables import map_summary
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.io import read_map, write_map
from offbragg.maps.provenance import hash_file, plain
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions
from offbragg.reduction.expose import expose as expose_map
from offbragg.simulation import SimulationOptions
from offbragg.simulation import simulate as simulate_map


@Parameter(name="*")
@dataclass(frozen=True)
class GridOptions:
    """Which voxels.

    Attributes
    ----------
    d_min : float or None
        Resolution limit [Å].
    sampling : tuple of 3 int
        Voxels per reciprocal-lattice unit along h, k, l.
    like : Path or None
        A map whose voxels are computed, in place of --d-min and --sampling.
    """

    d_min: float | None = None
    sampling: tuple[int, int, int] = (1, 1, 1)
    like: Path | None = None

    def make(self, structure: AtomicStructure) -> HklGrid:
        """Make the grid of a structure's cell, or take that of the other map."""
        if self.like is not None:
            return read_map(self.like).grid
        return HklGrid.from_resolution(structure.require_cell(), self.d_min or 0.0, self.sampling)


@Parameter(name="*")
@dataclass(frozen=True)
class ComputeOptions(SimulationOptions):
    """Which part of the scattering, and how it is computed.

    Attributes
    ----------
    part : str
        What is computed; without --crystal-size Bragg peaks are averaged over their voxels.
    adps : str
        Mean-square displacements: the model's alone, or the file's, the rest uncorrelated.
    crystal_size : tuple of 3 int or None
        Cells of a finite crystal along a, b, c, for Bragg peaks of its width.
    rtol : float
        Largest error wanted, as a fraction of the mean diffuse intensity.
    voxel_average : bool
        Means over voxels instead of values at their centres.
    method : str
        How the diffuse part is computed; auto is the fastest that is exact, sampled gives standard
        errors too.
    max_memory : float
        Bytes that work arrays may take.
    wavelength : float or None
        [Å], for anomalous scattering; none if not given.
    altlocs : str
        Altlocs of a residue scatter together by their occupancies, or never coexist.
    n_samples : int
        Draws of --method sampled.
    seed : int
        Of the draws.
    bulk_solvent : tuple of 2 float or None
        Of Bragg peaks: density [e/Å³] and B [Å²] of flat solvent around the molecules, such as
        0.35 46; vacuum if not given.
    """

    part: Literal["diffuse", "bragg", "total", "compton"] = "diffuse"
    adps: Literal["model", "file"] = "model"
    voxel_average: Annotated[bool, Parameter(negative="")] = False
    method: Literal["auto", "splat", "pair-nufft", "gemm", "one-phonon", "sampled", "direct"] = (
        "auto"
    )
    altlocs: Literal["together", "exclusive"] = "together"

    def __post_init__(self) -> None:
        super().__post_init__()
        generator(self.seed)
        if self.crystal_size is not None and self.part not in ("bragg", "total"):
            raise InputError(f"--crystal-size needs --part bragg or total, got {self.part}")
        if self.n_samples != SimulationOptions.n_samples and self.method != "sampled":
            raise InputError(f"--n-samples needs --method sampled, got {self.method}")


def simulate(
    structure: Path,
    /,
    *,
    output: Output,
    model: Annotated[ModelOptions, Parameter(name="*")],
    grid: GridOptions | None = None,
    compute: ComputeOptions | None = None,
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
    voxels, how = grid or GridOptions(), compute or ComputeOptions()
    if (voxels.d_min is None) == (voxels.like is None):
        raise InputError("simulate needs either --d-min or --like")
    atoms_read, motion = load_model(structure, atoms or StructureOptions(), model, adps=how.adps)
    options = {f.name: getattr(how, f.name) for f in fields(how)}
    with BarProgress() as progress:
        computed = simulate_map(
            atoms_read, motion, voxels.make(atoms_read), **options, progress=progress
        )
    computed = _with_inputs(computed, [structure, voxels.like], model)
    write_map(output, computed)
    return map_summary(computed, output)


def _with_inputs(computed: DiffuseMap, files: list[Path | None], model: ModelOptions) -> DiffuseMap:
    """Add the options of the model, and the files that were read, to the map's last step."""
    given = {f.name: getattr(model, f.name) for f in fields(model)}
    given = {name: value for name, value in given.items() if value is not None}
    read = [x for x in [*files, *given.values()] if isinstance(x, Path)]
    inputs = [{"name": path.name, "sha256": hash_file(path)} for path in dict.fromkeys(read)]
    step = {**computed.provenance[-1], "model_options": plain(given), "inputs": inputs}
    return replace(computed, provenance=(*computed.provenance[:-1], step))


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
        Folder for the images and their .expt.
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
