"""Findings: what a reader should know before using a map or a model, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: How grave a finding is, gravest first, and the word for it on a page.
LABELS = {"warning": "Warning", "remark": "Note", "good": "Good"}


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes
    ----------
    level : {"warning", "remark", "good"}
    text : str
    """

    level: str
    text: str


def warning(text: str) -> Finding:
    """Something that makes a result wrong or of little worth."""
    return Finding("warning", text)


def remark(text: str) -> Finding:
    """Something to have in mind."""
    return Finding("remark", text)


def good(text: str) -> Finding:
    """Something that was looked at and is as it should be."""
    return Finding("good", text)


def gravest_first(findings: Sequence[Finding]) -> list[Finding]:
    """Warnings, then remarks, then what is good; each in their order."""
    return sorted(findings, key=lambda finding: list(LABELS).index(finding.level))
