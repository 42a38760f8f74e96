"""Self-contained HTML pages."""

from offbragg.report.facts import MapFacts
from offbragg.report.findings import Finding
from offbragg.report.fit_report import shell_table, write_fit_report
from offbragg.report.infer_report import score_table, write_infer_report
from offbragg.report.map_findings import map_findings
from offbragg.report.page import Page
from offbragg.report.rank_report import ranking_table, write_ranking_report
from offbragg.report.report import build_report
from offbragg.report.sources import Source, read_source

__all__ = [
    "Finding",
    "MapFacts",
    "Page",
    "Source",
    "build_report",
    "map_findings",
    "ranking_table",
    "read_source",
    "score_table",
    "shell_table",
    "write_fit_report",
    "write_infer_report",
    "write_ranking_report",
]
