"""The report of a ranking: which model predicts best, by how much, and what chance would give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offbragg.inference.ranking import RankedModel
from offbragg.plotting import draw_ranking
from offbragg.report.page import Page
from offbragg.report.result_findings import ranking_findings


def ranking_table(ranked: Sequence[RankedModel]) -> tuple[list[str], list[tuple[object, ...]]]:
    """Heads and rows of a table of ranked models; the null's column where there is one."""
    has_null = any(x.cc_null is not None for x in ranked)
    heads = ["model", "numbers", "CC held out", "±"]
    heads += ["CC null"] if has_null else []
    heads += [f"gain over {ranked[0].reference}", "±", "behind the best", "±"]
    heads += ["CC fitted", "converged"]
    rows: list[tuple[object, ...]] = [
        (
            x.name, x.n_numbers, x.cc, x.cc_error, *((x.cc_null,) if has_null else ()),
            x.gain, x.gain_error, x.behind, x.behind_error, x.cc_working,
            "yes" if x.converged else "no",
        )
        for x in ranked
    ]  # fmt: skip
    return heads, rows


def add_ranking(page: Page, ranked: Sequence[RankedModel]) -> None:
    """Add a ranking to a page: who is first, a figure, the table, the models."""
    first = ranked[0]
    page.heading("Which model")
    page.text(
        f"First comes {first.name}: a correlation of {first.cc:.3f} ± {first.cc_error:.3f} with "
        f"{len(first.cc_by_fold)} folds of voxels that it was not fitted to. Of models within one "
        "standard error of the best the one of fewest numbers comes first."
    )
    page.figure(
        draw_ranking(ranked),
        "Correlation of the anisotropic parts of map and model over voxels that each model was not "
        "fitted to, with standard errors; open: of the fit to all voxels; grey: of the same model "
        "on a wrongly indexed map, where that was asked for.",
        "Bars of the models' correlations with held-out voxels; the numbers are in the table",
    )
    page.table(
        *ranking_table(ranked),
        "Models, in their order",
        {
            "numbers": "that were refined",
            "CC held out": "correlation of the anisotropic parts of map and model over voxels that "
            "the model was not fitted to",
            "±": "standard error, of a CC or of a difference on the same voxels, by the jackknife "
            "over blocks of hkl",
            "CC fitted": "the same over voxels that it was fitted to: what is above CC held out "
            "was fitted by chance",
            "CC null": "what the same freedom finds in a wrongly indexed map: a CC that is not "
            "clearly above it says nothing",
        },
        even=True,
    )
    page.heading("The fitted models")
    page.table(("name", "model"), [(x.name, repr(x.model)) for x in ranked])


def write_ranking_report(path: str | Path, ranked: Sequence[RankedModel]) -> None:
    """Write the outcome of `rank_models` as one HTML page.

    Parameters
    ----------
    path : str or Path
    ranked : sequence of RankedModel
        In the order in which they are shown.
    """
    page = Page("offbragg: models ranked by what they predict")
    page.findings(ranking_findings(ranked))
    add_ranking(page, ranked)
    page.write(path)
