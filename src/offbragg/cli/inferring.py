"""The command that infers a covariance: infer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.fitting import write_motions
from offbragg.cli.model_options import ModelOptions
from offbragg.cli.models import load_model
from offbragg.cli.options import Common, Output, generator, output_files, write_json
from offbragg.cli.structures import StructureOptions
from offbragg.inference import InferredCovariance, infer_covariance
from offbragg.maps.io import read_map, write_map
from offbragg.report import score_table, write_infer_report


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How the covariance is inferred.

    Attributes
    ----------
    smoothing : float
        Length over which residues' displacements change alike [Å].
    reach : float
        Distance over which changes of covariances fade [Å].
    harmonics : int
        Degree of smooth functions of direction fitted beside the model.
    background : str
        Isotropic background.
    d_min : float or None
        High-resolution limit [Å].
    d_max : float or None
        Low-resolution limit [Å].
    block_edge : int or None
        Edge of the blocks of hkl that are held out; the largest that leaves enough if not given.
    n_folds : int
        Folds of whole blocks for the exact score.
    n_resamples : int
        Resamples of blocks for errors of correlations.
    null : bool
        Do the same for the map as if indexed wrongly.
    max_memory : float
        Bytes that the design may take.
    seed : int
        Draws folds and resamples.
    """

    smoothing: float = 9.0
    reach: float = 15.0
    harmonics: Literal[0, 2, 4, 6, 8] = 4
    background: Literal["smooth", "shells", "none"] = "shells"
    d_min: float | None = None
    d_max: float | None = None
    block_edge: int | None = None
    n_folds: int = 5
    n_resamples: int = 20
    null: bool = True
    max_memory: float = 2e9
    seed: int = 0


def infer(
    map_file: Path,
    structure: Path,
    /,
    *,
    output: Output,
    model: Annotated[ModelOptions, Parameter(name="*")],
    options: InferenceOptions | None = None,
    atoms: StructureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Infer how residues move together, starting from a simple model.

    Writes inferred.json, model.h5, residual.h5 (the map less the model), report.html and modes.pdb:
    the three largest motions, twelve models each. Leave out hydrogens and waters
    (--select "not water and not hydrogen"): time grows with the square of the atoms.

    Parameters
    ----------
    map_file
        Measured map.
    structure
        PDB or mmCIF file of the average structure.
    output
        Folder for the results.
    """
    choice = options or InferenceOptions()
    observed = read_map(map_file)
    atoms_read, start = load_model(structure, atoms or StructureOptions(), model, for_fit=True)
    outputs = output_files(
        output,
        {
            "inferred": "inferred.json",
            "model": "model.h5",
            "residual": "residual.h5",
            "report": "report.html",
            "modes": "modes.pdb",
        },
    )
    given = {name: value for name, value in vars(choice).items() if name != "seed"}
    with BarProgress() as progress:
        found = infer_covariance(
            observed, atoms_read, start, rng=generator(choice.seed), progress=progress, **given
        )
    output.mkdir(parents=True, exist_ok=True)
    figures = _figures(found)
    write_json(outputs["inferred"], figures)
    write_map(outputs["model"], found.model_map)
    write_map(outputs["residual"], found.residual_map)
    write_infer_report(outputs["report"], observed, found)
    write_motions(outputs["modes"], found.model, atoms_read, "model")
    heads, rows = score_table(found)
    return Outcome(figures, outputs, found.message, [("", heads, rows)])


def _figures(found: InferredCovariance) -> dict[str, object]:
    return {
        "exact": found.exact,
        "linear": found.linear,
        "null": found.null,
        "cc_smooth": found.cc_smooth,
        "cc_working": found.cc_working,
        "penalty": found.penalty,
        "cc_by_penalty": {f"{x:g}": y for x, y in found.cc_by_penalty.items()},
        "n_numbers": found.n_numbers,
        "n_determined": found.n_determined,
        "clipped": found.clipped,
        "base": {"model": repr(found.base.model), "parameters": found.base.parameters},
        "residues": found.residues.labels,
        "covariance": found.residues.covariance,
        "correlation_errors": found.correlation_errors,
        "message": found.message,
    }
