"""The command that writes a page about maps and results: report."""

from __future__ import annotations

from pathlib import Path

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.options import Common, Output
from offbragg.errors import InputError


def report(
    *inputs: Path,
    output: Output,
    pdf: bool = False,
    title: str | None = None,
    common: Common | None = None,
) -> Outcome:
    """Write one page about maps and results, to read, print or send: HTML that needs no other file.

    First what to know before using them, in plain words; then what was measured, corrections,
    scaling, symmetry, statistics by resolution, sections, and how each file was made.

    Parameters
    ----------
    inputs
        Map files; folders that fit or infer wrote; the .json file of fit, infer or rank.
    output
        Page to write, .html.
    pdf
        Write it as a PDF too, beside the page. Needs Chromium or Chrome.
    title
        Title of the page; the names of the inputs if not given.
    """
    from offbragg.report import build_report, read_source
    from offbragg.report.findings import LABELS
    from offbragg.report.pdf import find_browser, write_pdf
    from offbragg.report.report import source_findings

    if not inputs:
        raise InputError("report needs at least one map, folder or file of results")
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{output}: expected a name in .html, got {output.suffix or 'none'}")
    if pdf:
        find_browser()  # before anything is written
    outputs = {"report": output}
    with BarProgress() as progress:
        progress.start("reading", len(inputs))
        sources = []
        for path in inputs:
            sources.append(read_source(path))
            progress.step()
        progress.start("page", 1 + pdf)
        page = build_report(sources, title)
        page.write(output)
        progress.step()
        if pdf:
            outputs["pdf"] = output.with_suffix(".pdf")
            write_pdf(outputs["pdf"], page.render())
            progress.step()
    told = [
        {"input": str(source.path), "kind": source.kind, "level": found.level, "text": found.text}
        for source in sources
        for found in source_findings(source)
    ]
    rows = [(Path(x["input"]).resolve().name, LABELS[x["level"]], x["text"]) for x in told]
    return Outcome({"findings": told}, outputs, "", [("", ("input", "", "what to know"), rows)])
