"""Empty figures, their style, and files of them.

Matplotlib is slow to import: the first figure does, not the command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offbragg.errors import InputError
from offbragg.maps.io import replace_when_done

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Widths of figures in journals [inch].
SINGLE_COLUMN, DOUBLE_COLUMN = 3.5, 7.0
#: Kinds of files that figures are written to.
SUFFIXES = (".pdf", ".png", ".svg")
#: Colour of what was not measured.
MISSING = "#bfbfbf"

_JOURNAL: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.titlepad": 4,
    "axes.labelpad": 2,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "patch.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
}
# Text stays text, which can be searched and edited.
_VECTOR: dict[Any, Any] = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}
# No time in the file: the same figure is the same file.
_METADATA: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {},
}
_RESOLUTIONS = (
    100, 50, 30, 20, 15, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.8, 2.6, 2.4, 2.2, 2, 1.9, 1.8, 1.7, 1.6,
    1.5, 1.4, 1.3, 1.2, 1.1, 1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6,
)  # fmt: skip

# Inch, in text of 10 points.
_TICK_APART, _LEGEND_ROW = 0.5, 0.18
_LONG_LEGEND = 4  # entries that may stand within axes


@contextmanager
def journal_style() -> Iterator[None]:
    """Draw in the style of journals: text of 8 points, thin lines; within the block alone.

    Use it around both the drawing and the writing of a figure.

    Examples
    --------
    >>> with journal_style():
    ...     figure = new_figure(SINGLE_COLUMN, 2.5)
    """
    from matplotlib import rc_context

    with rc_context(_JOURNAL):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of a size [inch] that belongs to the caller; nothing is shown."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def text_scale() -> float:
    """Size of text in the style of now, 1 for 10 points."""
    from matplotlib import rcParams

    return float(rcParams["font.size"]) / 10.0


def check_suffix(path: str | Path) -> str:
    """Return the kind of file that a name asks for.

    Raises
    ------
    InputError
        If figures are not written to such.

    Examples
    --------
    >>> check_suffix("figure.PDF")
    '.pdf'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path}: expected a name in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, "
            f"got {suffix or 'none'}"
        )
    return suffix


def save_figure(figure: Figure, path: str | Path, dpi: int = 300) -> None:
    """Write a figure whole or not at all, as the name's ending says: .pdf, .png or .svg.

    Parameters
    ----------
    figure : Figure
    path : str or Path
    dpi : int
        Dots an inch, of .png and of maps within the others; lines and text of those are vectors,
        text is text.

    Raises
    ------
    InputError
        If the ending is another, or dpi is not above 0.
    MissingFileError
        If the file cannot be written.
    """
    suffix = check_suffix(path)
    if dpi < 1:
        raise InputError(f"dpi must be >= 1, got {dpi}")
    from matplotlib import rc_context

    with replace_when_done(path) as temporary, rc_context({**_VECTOR, "svg.hashsalt": "offbragg"}):
        figure.savefig(temporary, format=suffix[1:], dpi=dpi, metadata=_METADATA[suffix])


def label_resolution(ax: Axes) -> None:
    """Resolutions in Å along an axis of 1/d, round ones that do not come too close."""
    low, high = ax.get_xlim()
    apart = (high - low) * min(0.25, _TICK_APART * text_scale() / width_of(ax))
    kept: list[float] = []
    for d in _RESOLUTIONS:
        if max(low, 0.0) <= 1 / d <= high and (not kept or 1 / d - 1 / kept[-1] >= apart):
            kept.append(d)
    ax.set_xticks([1 / d for d in kept], [f"{d:g}" for d in kept])
    ax.set_xlim(low, high)
    ax.set_xlabel("resolution d (Å), equal steps of 1/d")


def width_of(ax: Axes) -> float:
    """Width [inch] that axes have in their figure, with all that stands around them."""
    figure, spec = ax.get_figure(root=True), ax.get_subplotspec()
    if figure is None or spec is None:
        return SINGLE_COLUMN
    return float(figure.get_figwidth()) / spec.get_gridspec().ncols


def add_legend(ax: Axes, title: str | None = None) -> None:
    """Add a legend: within the axes where it is short, else below them."""
    figure = ax.get_figure(root=True)
    handles, labels = ax.get_legend_handles_labels()
    if figure is None or len(handles) <= _LONG_LEGEND:
        ax.legend(fontsize="small", title=title)
        return
    n_rows = -(-len(handles) // 2)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * text_scale() * n_rows)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, fontsize="small", title=title
    )
