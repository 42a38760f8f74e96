"""Commands that infer: fit, rank, demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter

from offbragg.cli.arrays import read_booleans
from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.model_options import ModelOptions
from offbragg.cli.models import load_model
from offbragg.cli.options import Common, Output, generator, output_files, write_json
from offbragg.cli.structures import StructureOptions, load_structure
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.writers import write_models
from offbragg.demo import DemoOptions, run_demo
from offbragg.disorder import DisorderModel, principal_motions
from offbragg.errors import InputError
from offbragg.inference import FitResult, rank_models, standard_models
from offbragg.inference import fit as fit_map
from offbragg.inference.ranking import STANDARD_MODELS
from offbragg.maps.io import read_map, write_map
from offbragg.report import (
    ranking_table,
    shell_table,
    write_fit_report,
    write_ranking_report,
)

# Motions that are written, and models of each.
_N_MOTIONS, _N_FRAMES = 3, 12
# A parameter of more numbers is not printed.
_MOST_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class VoxelOptions:
    """Which voxels count, and for what.

    Attributes
    ----------
    adps : str
        Mean-square displacements: the model's alone, or the file's, the rest uncorrelated.
    d_min : float or None
        High-resolution limit [Å].
    d_max : float or None
        Low-resolution limit [Å].
    background : str
        Isotropic background.
    harmonics : int
        Degree of smooth functions of direction fitted beside the model; 0: none.
    mask : Path or None
        A .npy file of booleans of the map's shape; True: left out.
    seed : int
        Draws the blocks of hkl that are held out.
    max_evaluations : int or None
        Maps and derivatives of maps to make at most in a fit; enough for 25 steps if not given.
    """

    adps: Literal["model", "file"] = "model"
    d_min: float | None = None
    d_max: float | None = None
    background: Literal["smooth", "shells", "none"] = "smooth"
    harmonics: Literal[0, 2, 4, 6, 8] = 0
    mask: Path | None = None
    seed: int = 0
    max_evaluations: int | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RefineOptions(VoxelOptions):
    """What is refined, and how.

    Attributes
    ----------
    refine : tuple of str or None
        Names of parameters; all that the model can refine if not given.
    held_out : float
        Fraction of the voxels held out, in blocks of hkl with their equivalents.
    solver : str
        How; auto: by Gauss-Newton up to 30 numbers.
    loss : str
        huber: voxels that are far off count less.
    voxel_average : bool or None
        Compare with means over voxels; if not given, where the map has counts of pixels.
    errors : str
        Standard errors for independent voxels, or by resampling blocks of hkl.
    n_starts : int
        Starts: the first as given, the others drawn around it; the best is kept.
    max_seconds : float or None
        Stop after so long, with the best so far.
    checkpoint : Path or None
        File that the best so far is kept in, .npz.
    resume : bool
        Go on from what the checkpoint holds.
    """

    refine: tuple[str, ...] | None = None
    held_out: float = 0.1
    solver: Literal["auto", "gauss-newton", "l-bfgs"] = "auto"
    loss: Literal["squares", "huber"] = "squares"
    voxel_average: bool | None = None
    errors: Literal["gauss-newton", "bootstrap"] = "gauss-newton"
    n_starts: int = 1
    max_seconds: float | None = None
    checkpoint: Path | None = None
    resume: Annotated[bool, Parameter(negative="")] = False


def fit(
    map_file: Path,
    structure: Path,
    /,
    *,
    output: Output,
    model: Annotated[ModelOptions, Parameter(name="*")],
    options: RefineOptions | None = None,
    atoms: StructureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Refine the parameters of a disorder model against a map.

    Writes parameters.json, model.h5, residual.h5 (the map less the model) and report.html; and,
    where motions are those of one copy or cell, modes.pdb: the three largest, twelve models each.

    Parameters
    ----------
    map_file
        Measured map.
    structure
        PDB or mmCIF file of the average structure.
    output
        Folder for the results.
    """
    choice = options or RefineOptions()
    observed = read_map(map_file)
    mask = None if choice.mask is None else read_booleans("--mask", choice.mask)
    atoms_read, start = load_model(
        structure, atoms or StructureOptions(), model, adps=choice.adps, for_fit=True
    )
    outputs = output_files(
        output,
        {
            "parameters": "parameters.json",
            "model": "model.h5",
            "residual": "residual.h5",
            "report": "report.html",
            "modes": "modes.pdb",
        },
    )
    modes = outputs.pop("modes")
    with BarProgress() as progress:
        found = fit_map(
            observed,
            atoms_read,
            start,
            choice.refine,
            adps=choice.adps,
            d_min=choice.d_min,
            d_max=choice.d_max,
            background=choice.background,
            harmonics=choice.harmonics,
            mask=mask,
            held_out=choice.held_out,
            max_evaluations=choice.max_evaluations,
            solver=choice.solver,
            loss=choice.loss,
            voxel_average=choice.voxel_average,
            n_starts=choice.n_starts,
            max_seconds=choice.max_seconds,
            checkpoint=choice.checkpoint,
            resume=choice.resume,
            errors=choice.errors,
            rng=generator(choice.seed),
            progress=progress,
        )
    output.mkdir(parents=True, exist_ok=True)
    figures = _figures(found)
    write_json(outputs["parameters"], figures)
    write_map(outputs["model"], found.model_map)
    write_map(outputs["residual"], found.residual_map)
    # An earlier fit's would be taken for this one's.
    modes.unlink(missing_ok=True)
    if found.residues is not None and write_motions(modes, found.model, atoms_read, choice.adps):
        outputs["modes"] = modes
    write_fit_report(outputs["report"], observed, found)
    return Outcome(figures, outputs, found.message, _tables(found))


def write_motions(path: Path, model: DisorderModel, structure: AtomicStructure, adps: str) -> bool:
    """Write the largest motions of a model as a film; nothing, and False, where it has none."""
    unit = model.coherent_unit(structure)
    motions, _ = principal_motions(model.with_adps(unit, adps), unit, _N_MOTIONS)
    if not len(motions):
        return False
    # Twice the standard deviation either way, so that it is seen.
    swing = 2.0 * np.sin(2 * np.pi * np.arange(_N_FRAMES) / _N_FRAMES)
    frames = unit.positions + swing[:, None, None] * motions[:, None]
    write_models(path, unit, frames.reshape(-1, unit.n_atoms, 3))
    return True


def _figures(found: FitResult) -> dict[str, object]:
    return {
        "parameters": found.parameters,
        "correlations": found.correlations,
        "scale": found.scale,
        "n_numbers": found.n_numbers,
        "n_determined": found.n_determined,
        "spectrum": found.spectrum,
        "model": repr(found.model),
        "statistics": found.statistics,
        "converged": found.converged,
        "message": found.message,
        "n_evaluations": found.n_evaluations,
        "starts": found.starts,
    }


def _tables(
    found: FitResult,
) -> list[tuple[str, list[str], list[tuple[object, ...]]]]:
    rows: list[tuple[object, ...]] = []
    for name, p in found.parameters.items():
        numbers = p.numbers(name)
        rows += (
            numbers if len(numbers) <= _MOST_ROWS else [(name, "in parameters.json", "", p.unit)]
        )
    rows.append(("scale", found.scale.value, found.scale.standard_error, found.scale.unit))
    sets = {name: s for name, s in found.statistics.items() if s is not None}
    keys = [key for key in next(iter(sets.values())) if key != "shells"]
    agreement: list[tuple[object, ...]] = [(k, *(s[k] for s in sets.values())) for k in keys]
    return [
        ("", ["parameter", "value", "standard error", "unit"], rows),
        ("", ["agreement", *sets], agreement),
        ("by resolution", *shell_table({name: s["shells"] for name, s in sets.items()})),
    ]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RankOptions(VoxelOptions):
    """Which models are compared, and how.

    Attributes
    ----------
    models : tuple of str or None
        Models to compare; all if not given.
    n_folds : int
        Folds of whole blocks of hkl; each is held out once.
    reference : str or None
        Model that gains are counted from; liquid-like if compared, else the first, if not given.
    null : bool
        Judge every model on a wrongly indexed map too: what its CC must exceed. Twice the time.
    """

    models: tuple[Literal[STANDARD_MODELS], ...] | None = None  # type: ignore[valid-type]
    n_folds: int = 5
    reference: Literal[STANDARD_MODELS] | None = None  # type: ignore[valid-type]
    null: Annotated[bool, Parameter(negative="")] = False


def rank(
    map_file: Path,
    structure: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    report: Path | None = None,
    options: RankOptions | None = None,
    atoms: StructureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Rank disorder models by how well they predict voxels that they were not fitted to.

    Parameters
    ----------
    map_file
        Measured map.
    structure
        PDB or mmCIF file of the average structure.
    output
        File for the table and the fitted models, .json.
    report
        Page with the table, a figure and what they mean, .html.
    """
    choice = options or RankOptions()
    for path, suffix in ((output, ".json"), (report, ".html")):
        if path is not None and path.suffix.lower() != suffix:
            raise InputError(f"{path}: expected a name in {suffix}, got {path.suffix or 'none'}")
    observed = read_map(map_file)
    mask = None if choice.mask is None else read_booleans("--mask", choice.mask)
    atoms_read = load_structure(structure, atoms or StructureOptions())
    with BarProgress() as progress:
        found = rank_models(
            observed,
            atoms_read,
            standard_models(atoms_read, choice.models),
            n_folds=choice.n_folds,
            reference=choice.reference,
            null=choice.null,
            adps=choice.adps,
            d_min=choice.d_min,
            d_max=choice.d_max,
            background=choice.background,
            harmonics=choice.harmonics,
            mask=mask,
            max_evaluations=choice.max_evaluations,
            rng=generator(choice.seed),
            progress=progress,
        )
    figures = {"ranking": [{**vars(x), "model": repr(x.model)} for x in found]}
    outputs = {}
    if output is not None:
        write_json(output, figures)
        outputs["ranking"] = output
    if report is not None:
        write_ranking_report(report, found)
        outputs["report"] = report
    text = (
        f"Correlation of anisotropic parts over {choice.n_folds} folds of blocks, each predicted "
        "by a fit without it; errors by the jackknife over blocks. Of models within one standard "
        "error of the best the one of fewest numbers comes first."
    )
    return Outcome(figures, outputs, text, [("", *ranking_table(found))])


def demo(
    *,
    out: Path = Path("demo-output"),
    options: Annotated[DemoOptions | None, Parameter(name="*")] = None,
    common: Common | None = None,
) -> Outcome:
    """Go the whole way on made data with known truth: images, map, fit, page.

    Parameters
    ----------
    out
        Folder for the files.
    """
    with BarProgress() as progress:
        made = run_demo(out, options, progress)
    rows = [
        (name, getattr(made.truth, name), p.value, p.standard_error, p.unit)
        for name, p in made.fit.parameters.items()
    ]
    columns = ["quantity", "truth", "recovered", "standard error", "unit"]
    cc = made.map_to_truth.overall.cc
    text = f"Anisotropic part of the measured map: correlation {cc:.3f} with the truth."
    return Outcome(made.summary(), made.files, text, [("", columns, rows)])
