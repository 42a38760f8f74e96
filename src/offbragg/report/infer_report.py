"""The report of an inference: how residues move together, and what that is worth."""

from __future__ import annotations

from pathlib import Path

from offbragg.inference.inferred import InferredCovariance
from offbragg.maps.comparison import compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.plotting import draw_correlation, draw_residue_correlations, draw_sections
from offbragg.report.history import add_history
from offbragg.report.page import Page
from offbragg.report.records import InferredRecord
from offbragg.report.result_findings import inferred_findings


def score_table(
    found: InferredCovariance | InferredRecord,
) -> tuple[list[str], list[tuple[object, ...]]]:
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


def add_inferred(page: Page, observed: DiffuseMap, found: InferredRecord) -> None:
    """Add what an inference found, and what it is worth, to a page."""
    page.heading("What it is worth")
    page.code("Base model: ", found.base_model)
    page.table(
        *score_table(found),
        "Correlations with voxels that were held out",
        {
            "held out": "in whole blocks of hkl; of the anisotropic parts of map and model, smooth "
            "functions of direction fitted beside both",
            "±": "standard error of the gain, by the jackknife over blocks",
            "exact maps": "the figure to quote",
            "wrongly indexed map": "what the same functions gain there is chance",
        },
    )
    page.text(
        f"{found.n_numbers} numbers describe the change of the covariance; the data decide about "
        f"{found.n_determined:.0f} of them, the penalty the rest. "
        f"{100 * found.clipped:.1f} % of the motion was cut off to make it a possible one."
    )
    if found.message:
        page.text(found.message)
    page.table(
        ("penalty", "CC of blocks left out"),
        sorted(found.cc_by_penalty.items()),
        f"The penalty was lowered as long as that helped: {found.penalty:g}.",
    )
    page.heading("Which residues move together")
    page.figure(
        draw_residue_correlations(found.residues),
        "Correlations of the displacements of residues, inferred from the map.",
        "Matrix of inferred correlations between residues, as a picture",
    )
    if found.base_residues is not None:
        page.figure(
            draw_residue_correlations(found.base_residues),
            "The same in the base model, for comparison: what the map did not change is as here.",
            "Matrix of the base model's correlations between residues, as a picture",
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
        "Section l = 0 of the observed map beside that of the inferred model",
    )
    compared = {"inferred": compare(observed, found.model_map)}
    if found.base_map is not None:
        compared["base model"] = compare(observed, found.base_map)
    page.figure(
        draw_correlation(compared),
        "Correlation of the anisotropic parts with the map, by resolution, on the voxels that were "
        "fitted.",
        "Correlation of map and model against resolution, lines",
    )


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
    record = InferredRecord.of(found)
    page.findings(inferred_findings(record))
    add_inferred(page, observed, record)
    add_history(page, found.model_map.provenance)
    page.write(path)
