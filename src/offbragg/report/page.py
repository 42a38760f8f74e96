"""One self-contained HTML page: headings, text, tables and figures, nothing loaded from outside."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from offbragg.formatting import show
from offbragg.maps.io import replace_when_done

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: 0.8rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.25rem 0.9rem 0.25rem 0; border-bottom: 1px solid #8884; }
caption, figcaption { text-align: left; color: #777; margin: 0.3rem 0; }
figure { margin: 1rem 0; } img { max-width: 100%; background: white; border-radius: 4px; }
.note { border-left: 4px solid #d98c00; padding: 0.2rem 0.8rem; }
"""


@dataclass
class Page:
    """A page under construction; parts appear in the order in which they are added."""

    title: str
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Add a heading."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def note(self, text: str) -> None:
        """Add a paragraph that stands out: a warning in plain words."""
        self.parts.append(f'<p class="note">{html.escape(text)}</p>')

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = ""
    ) -> None:
        """Add a table; numbers are shown to four digits, None and NaN as a dash."""
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(show(cell))}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
        self.parts.append(f"<table>{title}<thead><tr>{head}</tr></thead>{body}</table>")

    def figure(self, figure: Figure, caption: str) -> None:
        """Add a figure as a PNG within the page; the caption is its text for screen readers."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        text = html.escape(caption, quote=True)
        self.parts.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{text}">'
            f"<figcaption>{text}</figcaption></figure>"
        )

    def steps(self, provenance: Sequence[Mapping[str, object]]) -> None:
        """Add how a map was made: command, version and options of each step."""
        self.heading("How it was made")
        self.table(
            ("step", "version", "options"),
            [(x.get("command"), x.get("version"), x.get("options")) for x in provenance],
        )

    def render(self) -> str:
        """The page as HTML."""
        title = html.escape(self.title)
        body = "\n".join(self.parts)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Write the page to a file, whole or not at all."""
        with replace_when_done(path) as temporary:
            temporary.write_text(self.render(), encoding="utf-8")
