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
from offbragg.report.page import Page

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

_SHELL_FIGURES = {
    "n": "voxels",
    "cc": "CC",
    "r": "R",
    "cc_anisotropic": "CC anis.",
    "r_anisotropic": "R anis.",
}


def add_fit(page: Page, observed: DiffuseMap, result: FitResult) -> None:
    """Add a fit's parameters, agreement and pictures to a page."""
    page.heading("Fit")
    page.text(f"Model: {result.model!r}.")
    rows: list[tuple[object, ...]] = []
    for name, p in result.parameters.items():
        numbers = p.numbers(name.replace("_", " "))
        rows += (
            numbers
            if len(numbers) <= _MOST_ROWS
            else [(name, f"{len(numbers)} numbers", "", p.unit)]
        )
    scale = result.scale
    rows.append(("scale", scale.value, scale.standard_error, scale.unit))
    page.table(("parameter", "value", "standard error", "unit"), rows)
    if np.isfinite(result.n_determined):
        page.text(
            f"{result.n_numbers} numbers were refined; the map determines about "
            f"{result.n_determined:.1f} of them. An infinite error: not determined."
        )
    if result.told_undetermined:
        page.note(result.told_undetermined)
    say = page.text if result.converged else page.note
    say(f"{'Converged' if result.converged else 'Not converged'}: {result.message}")
    sets = {name: s for name, s in result.statistics.items() if s is not None}
    page.table(
        ("", *(name.replace("_", "-") for name in sets)),
        [(label, *(s[key] for s in sets.values())) for key, label in _FIGURES.items()],
        "Held-out voxels took no part in the fit: whole blocks of hkl with all their equivalents.",
    )
    page.figure(
        draw_sections({"observed": observed, "model": result.model_map}),
        "Section l = 0, isotropic part removed: observed and fitted map. Grey: not measured.",
    )
    shells = {name.replace("_", "-"): s["shells"] for name, s in sets.items()}
    page.figure(
        draw_agreement(shells),
        "Correlation and R of model and map by resolution, of working and of held-out voxels.",
    )
    page.table(*shell_table(shells), "The same in numbers; shells of equal volume.")
    if result.residues is not None and len(result.residues.numbers) > 1:
        page.figure(
            draw_residue_correlations(result.residues),
            "Which residues move together in the fitted model: correlations of the displacements "
            "of their centroids. What the data do not determine is the model's own assumption.",
        )
    page.figure(
        draw_profiles({"observed": observed, "model": result.model_map}),
        "Mean intensity by resolution; the model has the fitted isotropic background.",
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
    add_fit(page, observed, result)
    page.steps(result.model_map.provenance)
    page.write(path)
