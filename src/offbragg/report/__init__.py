"""Self-contained HTML pages."""

from offbragg.report.fit_report import add_fit, shell_table, write_fit_report
from offbragg.report.page import Page

__all__ = ["Page", "add_fit", "shell_table", "write_fit_report"]
