"""Commands that infer: fit, demo."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.model_options import ModelOptions
from offbragg.cli.models import load_model
from offbragg.cli.options import Common, Output, generator
from offbragg.cli.structures import StructureOptions
from offbragg.demo import DemoOptions, run_demo
from offbragg.errors import InputError
from offbragg.inference import FitResult
from offbragg.inference import fit as fit_map
from offbragg.maps.io import read_map, replace_when_done, write_map
from offbragg.maps.provenance import plain
from offbragg.report import write_fit_report


@Parameter(name="*")
@dataclass(frozen=True)
class RefineOptions:
    """What is refined, and against which voxels.

    Attributes
    ----------
    refine : tuple of str or None
        Names of parameters; all that the model can refine if not given.
    adps : str
        Mean-square displacements: the model's alone, or the file's, the rest uncorrelated.
    d_min : float or None
        High-resolution limit [Å].
    d_max : float or None
        Low-resolution limit [Å].
    background : str
        Isotropic background.
    held_out : float
        Fraction of the voxels held out, in blocks of hkl with their equivalents.
    seed : int
        Draws the blocks.
    max_evaluations : int
        Simulations to make at most.
    voxel_average : bool or None
        Compare with means over voxels; if not given, where the map has counts of pixels.
    """

    refine: tuple[str, ...] | None = None
    adps: Literal["model", "file"] = "model"
    d_min: float | None = None
    d_max: float | None = None
    background: Literal["smooth", "shells", "none"] = "smooth"
    held_out: float = 0.1
    seed: int = 0
    max_evaluations: int = 60
    voxel_average: bool | None = None


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

    Writes parameters.json, model.h5 and report.html.

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
    atoms_read, start = load_model(
        structure, atoms or StructureOptions(), model, adps=choice.adps, for_fit=True
    )
    if output.exists() and not output.is_dir():
        raise InputError(f"--output must be a folder, got the file {output}")
    outputs = {
        "parameters": output / "parameters.json",
        "model": output / "model.h5",
        "report": output / "report.html",
    }
    for path in outputs.values():
        if path.is_dir():
            raise InputError(f"{path}: expected the name of a file, found a folder")
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
            held_out=choice.held_out,
            max_evaluations=choice.max_evaluations,
            voxel_average=choice.voxel_average,
            rng=generator(choice.seed),
            progress=progress,
        )
    output.mkdir(parents=True, exist_ok=True)
    figures = _figures(found)
    with replace_when_done(outputs["parameters"]) as temporary:
        temporary.write_text(json.dumps(plain(figures), indent=2) + "\n", encoding="utf-8")
    write_map(outputs["model"], found.model_map)
    write_fit_report(outputs["report"], observed, found)
    return Outcome(figures, outputs, found.message, _tables(found))


def _figures(found: FitResult) -> dict[str, object]:
    return {
        "parameters": found.parameters,
        "correlations": found.correlations,
        "scale": found.scale,
        "model": repr(found.model),
        "statistics": found.statistics,
        "converged": found.converged,
        "message": found.message,
        "n_evaluations": found.n_evaluations,
    }


def _tables(
    found: FitResult,
) -> list[tuple[str, list[str], list[tuple[object, ...]]]]:
    rows: list[tuple[object, ...]] = [
        (name, p.value, p.standard_error, p.unit) for name, p in found.parameters.items()
    ]
    rows.append(("scale", found.scale.value, found.scale.standard_error, found.scale.unit))
    sets = {name: s for name, s in found.statistics.items() if s is not None}
    keys = list(next(iter(sets.values())))
    agreement: list[tuple[object, ...]] = [(k, *(s[k] for s in sets.values())) for k in keys]
    return [
        ("", ["parameter", "value", "standard error", "unit"], rows),
        ("", ["agreement", *sets], agreement),
    ]


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
