"""One self-contained HTML page: headings, text, tables and figures, nothing loaded from outside."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from offbragg.formatting import show
from offbragg.maps.io import replace_when_done
from offbragg.report.findings import LABELS, Finding
from offbragg.report.style import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI, _SCREEN_DPI = 150, 84  # of pictures, and at what size they are shown
# A page of fewer headings has no table of contents.
_FEW_HEADINGS = 4


@dataclass
class Page:
    """A page under construction; parts appear in the order in which they are added.

    Attributes
    ----------
    title : str
    parts : list of str
        HTML.
    lead : str
        One line below the title.
    level : int
        Of the headings that `heading` adds: 2 at first, one more within `part`.
    """

    title: str
    parts: list[str] = field(default_factory=list)
    lead: str = ""
    level: int = 2
    _headings: list[tuple[int, str, str]] = field(default_factory=list)

    def heading(self, text: str, deeper: int = 0) -> None:
        """Add a heading with an anchor; ``deeper`` levels below the current one."""
        level = self.level + deeper
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
        taken = {name for _, name, _ in self._headings}
        name = slug
        number = 2
        while name in taken:
            name, number = f"{slug}-{number}", number + 1
        self._headings.append((level, name, text))
        self.parts.append(f'<h{level} id="{name}">{html.escape(text)}</h{level}>')

    @contextmanager
    def part(self, text: str) -> Iterator[None]:
        """Add a heading, and make those within the block one level deeper."""
        self.heading(text)
        self.level += 1
        try:
            yield
        finally:
            self.level -= 1

    @contextmanager
    def details(self, summary: str) -> Iterator[None]:
        """Hide what is added within the block until the reader asks for it."""
        self.parts.append(f"<details><summary>{html.escape(summary)}</summary>")
        try:
            yield
        finally:
            self.parts.append("</details>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def code(self, before: str, text: str) -> None:
        """Add a paragraph that ends in something a program reads."""
        self.parts.append(f"<p>{html.escape(before)}<code>{html.escape(text)}</code></p>")

    def note(self, text: str) -> None:
        """Add a paragraph that stands out: a warning in plain words."""
        self.parts.append(f'<p class="note">{html.escape(text)}</p>')

    def findings(self, findings: Sequence[Finding]) -> None:
        """Add findings, each with a word that says how grave it is."""
        self.parts += [
            f'<p class="finding {x.level}"><b>{html.escape(LABELS[x.level])}:</b> '
            f"{html.escape(x.text)}</p>"
            for x in findings
        ]

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        caption: str = "",
        meaning: Mapping[str, str] | None = None,
        total: bool = False,
        even: bool = False,
    ) -> None:
        """Add a table; numbers are shown to four digits, None and NaN as a dash.

        Parameters
        ----------
        columns : sequence of str
        rows : sequence of sequences
        caption : str
            Above the table.
        meaning : mapping of str to str, optional
            What columns or rows mean, in a line below.
        total : bool
            The last row is of all the others.
        even : bool
            Give the numbers of a column the same decimals, of three digits or so.
        """
        if even:
            rows = list(zip(*(_evened(column) for column in zip(*rows, strict=True)), strict=True))
        numeric = [
            bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(columns))
        ]
        of = [' class="n"' if n else "" for n in numeric]
        head = "".join(
            f'<th scope="col"{kind}>{html.escape(name)}</th>'
            for name, kind in zip(columns, of, strict=True)
        )
        body = ""
        for number, row in enumerate(rows):
            last = ' class="total"' if total and number == len(rows) - 1 else ""
            cells = "".join(
                f"<td{kind}>{html.escape(show(cell))}</td>"
                for cell, kind in zip(row, of, strict=True)
            )
            body += f"<tr{last}>{cells}</tr>"
        title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
        label = html.escape(caption or "table", quote=True)
        self.parts.append(
            f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>{title}'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
        if meaning:
            self.meaning(meaning)

    def meaning(self, words: Mapping[str, str]) -> None:
        """Add what terms mean, in small print."""
        told = "; ".join(
            f"<b>{html.escape(term)}</b> {html.escape(text)}" for term, text in words.items()
        )
        self.parts.append(f'<p class="meaning">{told}.</p>')

    def figure(self, figure: Figure, caption: str, alt: str = "") -> None:
        """Add a figure as a PNG within the page.

        ``alt`` is its text for people who do not see it; the caption where it is not given.
        """
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        width = round(float(figure.get_figwidth()) * _SCREEN_DPI)
        text = html.escape(alt or caption, quote=True)
        self.parts.append(
            f'<figure><img src="data:image/png;base64,{data}" width="{width}" alt="{text}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    @contextmanager
    def row(self) -> Iterator[None]:
        """Put the figures that are added within the block beside each other."""
        self.parts.append('<div class="row">')
        try:
            yield
        finally:
            self.parts.append("</div>")

    def render(self) -> str:
        """The page as HTML."""
        title = html.escape(self.title)
        lead = f'<p class="lead">{html.escape(self.lead)}</p>\n' if self.lead else ""
        body = "\n".join(self.parts)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{lead}{self._contents()}"
            f"<main>\n{body}\n</main></body></html>\n"
        )

    def _contents(self) -> str:
        """The table of contents: headings of two levels, as nested lists."""
        if len(self._headings) < _FEW_HEADINGS:
            return ""
        out = '<nav aria-label="Contents"><p>Contents</p><ul>'
        inner = False
        for number, (level, name, text) in enumerate(self._headings):
            if level > 3:
                continue
            if level == 3 and not inner:
                out, inner = out + "<ul>", True
            elif level == 2 and inner:
                out, inner = out + "</ul></li>", False
            elif level == 2 and number:
                out += "</li>"
            out += f'<li><a href="#{name}">{html.escape(text)}</a>' + ("</li>" * (level == 3))
        return out + ("</ul></li>" if inner else "</li>") + "</ul></nav>\n"

    def write(self, path: str | Path) -> None:
        """Write the page to a file, whole or not at all."""
        with replace_when_done(path) as temporary:
            temporary.write_text(self.render(), encoding="utf-8")


class _Number(str):
    """A number that is written already."""

    __slots__ = ()


def _evened(column: Sequence[object]) -> list[object]:
    """Write the numbers of a column with the same decimals; leave others as they are."""
    numbers = [x for x in column if isinstance(x, float) and x == x]
    if not numbers:
        return list(column)
    largest = max(abs(x) for x in numbers)
    decimals = 3 if largest < 2 else 2 if largest < 10 else 1 if largest < 1000 else 0
    return [_Number(f"{x:.{decimals}f}") if x in numbers else x for x in column]


def _is_number(cell: object) -> bool:
    if isinstance(cell, _Number):
        return True
    return cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))
