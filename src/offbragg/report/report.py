"""One page on maps, fits, inferences and rankings, whichever are given."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from offbragg.errors import InputError
from offbragg.report.findings import Finding
from offbragg.report.fit_report import add_fit
from offbragg.report.history import add_history
from offbragg.report.infer_report import add_inferred
from offbragg.report.map_findings import map_findings
from offbragg.report.map_report import add_map
from offbragg.report.page import Page
from offbragg.report.rank_report import add_ranking
from offbragg.report.result_findings import fit_findings, inferred_findings, ranking_findings
from offbragg.report.sources import Source


def build_report(sources: Sequence[Source], title: str | None = None) -> Page:
    """Build the page: what to know first, then everything about each source in its order.

    Parameters
    ----------
    sources : sequence of Source
    title : str, optional
        The names of the sources if not given.

    Raises
    ------
    InputError
        If there is no source.
    """
    if not sources:
        raise InputError("report needs at least one map, folder or file of results")
    names = ", ".join(source.name for source in sources)
    page = Page(title or f"Diffuse scattering: {names}")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page.lead = f"Written by offbragg {version('offbragg')}, {now}, from {names}."
    page.heading("In short")
    for source in sources:
        if len(sources) > 1:
            page.heading(_named(source), 1)
        page.findings(source_findings(source))
    for source in sources:
        if len(sources) == 1:
            _add(page, source)
            continue
        with page.part(_named(source)):
            _add(page, source)
    page.heading("The files that this page is about")
    page.table(
        ("what", "file", "SHA-256"),
        [(source.kind, str(source.path), source.digest) for source in sources],
        meaning={"SHA-256": "a fingerprint of the file: the same one, the same content"},
    )
    return page


def source_findings(source: Source) -> list[Finding]:
    """What to know of a source, gravest first."""
    if source.facts is not None:
        return map_findings(source.facts)
    if source.fit is not None:
        return fit_findings(source.fit)
    if source.inferred is not None:
        return inferred_findings(source.inferred)
    return ranking_findings(source.ranking or ())


def _named(source: Source) -> str:
    return f"{source.kind.capitalize()}: {source.name}"


def _add(page: Page, source: Source) -> None:
    if source.facts is not None:
        add_map(page, source.facts)
    elif source.fit is not None and source.observed is not None:
        add_fit(page, source.observed, source.fit)
        add_history(page, source.fit.model_map.provenance)
    elif source.inferred is not None and source.observed is not None:
        add_inferred(page, source.observed, source.inferred)
        add_history(page, source.inferred.model_map.provenance)
    elif source.ranking is not None:
        add_ranking(page, source.ranking)
