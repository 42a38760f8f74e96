"""The report of a fit: what was found, how sure it is, and the pictures to judge it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from offbragg.inference.result import FitResult
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.plotting import (
    draw_agreement,
    draw_profiles,
    draw_residue_correlations,
    draw_sections,
)
from offbragg.report.history import add_history
from offbragg.report.page import Page
from offbragg.report.records import FitRecord
from offbragg.report.result_findings import fit_findings

# A parameter of more numbers is not printed.
_MOST_ROWS = 40
_FIGURES = {
    "n_unique": "unique voxels",
    "cc": "CC",
    "r": "R",
    "cc_anisotropic": "CC, anisotropic part",
    "r_anisotropic": "R, anisotropic part",
    "chi2_reduced": "mean (residual / σ)²",
}

_MEANINGS = {
    "held-out": "voxels that took no part in the fit, whole blocks of hkl with all their "
    "equivalents: what the model predicts",
    "CC": "correlation, 1 at best",
    "R": "mean relative difference, 0 at best",
    "anisotropic part": "less the mean at each resolution, which any model gets right",
    "residual / σ": "what the model leaves over the map's standard error, 1 where nothing but "
    "noise is left",
}

_SHELL_FIGURES = {
    "n": "voxels",
    "cc": "CC",
    "r": "R",
    "cc_anisotropic": "CC anis.",
    "r_anisotropic": "R anis.",
}


def add_fit(page: Page, observed: DiffuseMap, fit: FitRecord) -> None:
    """Add a fit's parameters, agreement and pictures to a page."""
    page.heading("Fit")
    page.code("Model: ", fit.model)
    rows: list[tuple[object, ...]] = []
    for name, p in fit.parameters.items():
        numbers = p.numbers(name.replace("_", " "))
        rows += (
            numbers
            if len(numbers) <= _MOST_ROWS
            else [(name, f"{len(numbers)} numbers", "", p.unit)]
        )
    scale = fit.scale
    rows.append(("scale", scale.value, scale.standard_error, scale.unit))
    page.table(
        ("parameter", "value", "standard error", "unit"),
        rows,
        "Refined parameters",
        {"standard error": "how far the value may be off by the noise of the map; infinite, or a "
         "dash: the map does not determine it"},
    )  # fmt: skip
    page.text(f"{'Converged' if fit.converged else 'Not converged'}: {fit.message}")
    if np.isfinite(fit.n_determined):
        page.text(
            f"{fit.n_numbers} numbers were refined; the map determines about "
            f"{fit.n_determined:.1f} of them."
        )
    sets = {name.replace("_", "-"): s for name, s in fit.sets().items()}
    page.table(
        ("", *sets),
        [(label, *(s[key] for s in sets.values())) for key, label in _FIGURES.items()],
        "Agreement of map and model",
        _MEANINGS,
    )
    page.figure(
        draw_sections({"observed": observed, "model": fit.model_map}),
        "Section l = 0, isotropic part removed: observed and fitted map. Grey: not measured.",
        "Section l = 0 of the observed map beside that of the fitted model",
    )
    shells = {name: s["shells"] for name, s in sets.items()}
    page.figure(
        draw_agreement(shells),
        "Correlation and R of model and map by resolution, of working and of held-out voxels.",
        "CC and R against resolution; the numbers are in the table that follows",
    )
    page.table(*shell_table(shells), "The same in numbers; shells of equal volume.", even=True)
    if fit.residues is not None and len(fit.residues.numbers) > 1:
        page.figure(
            draw_residue_correlations(fit.residues),
            "Which residues move together in the fitted model: correlations of the displacements "
            "of their centroids. What the data do not determine is the model's own assumption.",
            "Matrix of correlations between residues, as a picture",
        )
    page.figure(
        draw_profiles({"observed": observed, "model": fit.model_map}),
        "Mean intensity by resolution; the model has the fitted isotropic background.",
        "Mean intensity of map and model against resolution, two lines",
    )


def shell_table(
    shells: Mapping[str, Mapping[str, Sequence[float | None]]],
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Heads and rows of a table of shells, the figures of each set of voxels beside each other."""
    heads = ["d (Å)"]
    first = next(iter(shells.values()))
    columns: list[Sequence[object]] = [
        [f"{high:.2f}–{low:.2f}" for high, low in zip(first["d_max"], first["d_min"], strict=True)]
    ]
    for name, table in shells.items():
        for key, label in _SHELL_FIGURES.items():
            heads.append(f"{label}, {name}")
            columns.append(table[key])
    return heads, list(zip(*columns, strict=True))


def write_fit_report(path: str | Path, observed: DiffuseMap, result: FitResult) -> None:
    """Write a fit's report as one HTML page.

    Parameters
    ----------
    path : str or Path
    observed : DiffuseMap
        The map that was fitted.
    result : FitResult
    """
    page = Page("offbragg: fit of a disorder model")
    fit = FitRecord.of(result)
    page.findings(fit_findings(fit))
    add_fit(page, observed, fit)
    add_history(page, fit.model_map.provenance)
    page.write(path)
