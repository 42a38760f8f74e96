"""The report of an inference: how residues move together, and what that is worth."""

from __future__ import annotations

from pathlib import Path

from offbragg.inference.inferred import InferredCovariance
from offbragg.maps.comparison import compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.plotting import draw_correlation, draw_residue_correlations, draw_sections
from offbragg.report.page import Page


def score_table(found: InferredCovariance) -> tuple[list[str], list[tuple[object, ...]]]:
    """Heads and rows of the correlations over voxels that fits have not seen."""
    heads = ["judged on", "base model", "inferred", "gain", "±"]
    named = [
        ("exact maps, folds of blocks", found.exact),
        ("first order, block by block", found.linear),
    ]
    if found.null is not None:
        named.append(("first order, wrongly indexed map", found.null))
    rows: list[tuple[object, ...]] = [
        (name, x.base, x.cc, x.gain, x.gain_error) for name, x in named
    ]
    rows.append(("smooth functions without any structure", found.cc_smooth, "", "", ""))
    rows.append(("the voxels that were fitted", "", found.cc_working, "", ""))
    return heads, rows


def write_infer_report(path: str | Path, observed: DiffuseMap, found: InferredCovariance) -> None:
    """Write an inference's report as one HTML page.

    Parameters
    ----------
    path : str or Path
    observed : DiffuseMap
        The map that it was made from.
    found : InferredCovariance
    """
    page = Page("offbragg: how residues move together")
    page.heading("What it is worth")
    page.text(f"Base model: {found.base.model!r}.")
    page.table(
        *score_table(found),
        "Correlations of the anisotropic parts of map and model over voxels that were held out in "
        "whole blocks of hkl, smooth functions of direction fitted beside both. Errors of gains: "
        "jackknife over blocks. The gain on exact maps is the figure to quote; what the same "
        "functions gain on the wrongly indexed map says how much of it is due to chance.",
    )
    page.text(
        f"{found.n_numbers} numbers describe the change of the covariance; the data decide about "
        f"{found.n_determined:.0f} of them, the penalty the rest. "
        f"{100 * found.clipped:.1f} % of the motion was cut off to make it a possible one."
    )
    page.note(found.message)
    page.table(
        ("penalty", "CC of blocks left out"),
        sorted(found.cc_by_penalty.items()),
        f"The penalty was lowered as long as that helped: {found.penalty:g}.",
    )
    page.heading("Which residues move together")
    page.figure(
        draw_residue_correlations(found.residues),
        "Correlations of the displacements of residues, inferred from the map.",
    )
    page.figure(
        draw_residue_correlations(found.base_residues),
        "The same in the base model, for comparison: what the map did not change is as here.",
    )
    if found.correlation_errors is not None:
        errors = found.correlation_errors
        page.text(
            "Standard errors of the inferred correlations over resampled blocks: "
            f"{float(errors.mean()):.3f} on average, {float(errors.max()):.3f} at most."
        )
    page.heading("Map and model")
    page.figure(
        draw_sections({"observed": observed, "model": found.model_map}),
        "Section l = 0, isotropic part removed: observed and inferred map. Grey: not measured.",
    )
    page.figure(
        draw_correlation(
            {
                "inferred": compare(observed, found.model_map),
                "base model": compare(observed, found.base.model_map),
            }
        ),
        "Correlation of the anisotropic parts with the map, by resolution, on the voxels that were "
        "fitted.",
    )
    page.steps(found.model_map.provenance)
    page.write(path)
