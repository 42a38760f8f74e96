"""Commands that infer: fit, rank, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from offbragg.cli.arrays import read_booleans
from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.covariances import freed_in_rank
from offbragg.cli.fit_options import RankOptions, RefineOptions, passed_on
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
    if choice.rank is not None:
        start = freed_in_rank(start, observed, atoms_read, choice)
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
            mask=mask,
            **passed_on(choice),
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
    text = " ".join(filter(None, (found.message, found.told_undetermined)))
    return Outcome(figures, outputs, text, _tables(found))


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
        "undetermined": found.told_undetermined,
        "model": repr(found.model),
        "statistics": found.statistics,
        "converged": found.converged,
        "message": found.message,
        "n_evaluations": found.n_evaluations,
        "starts": found.starts,
        "residues": None if found.residues is None else found.residues.labels,
        "covariance": None if found.residues is None else found.residues.covariance,
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
            mask=mask,
            **passed_on(choice),
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
