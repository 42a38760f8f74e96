"""Self-contained HTML pages."""

from offbragg.report.fit_report import add_fit, shell_table, write_fit_report
from offbragg.report.infer_report import score_table, write_infer_report
from offbragg.report.page import Page
from offbragg.report.rank_report import ranking_table, write_ranking_report

__all__ = [
    "Page",
    "add_fit",
    "ranking_table",
    "score_table",
    "shell_table",
    "write_fit_report",
    "write_infer_report",
    "write_ranking_report",
]
