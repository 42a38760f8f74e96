"""Figures of agreement by shell of resolution: CC½, CC between maps, CC and R of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.maps.comparison import Comparison
from offbragg.plotting.canvas import add_legend, label_resolution, new_figure, text_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_SCREEN_WIDTH = 5.2
_WIDE = 9.0
_LEAST_WIDE = 6.0  # inch, in text of 10 points

#: Columns of a table of shells: lists by name, ``d_max`` and ``d_min`` [Å] among them.
ShellColumns = Mapping[str, Sequence[float | None]]

# Correlations within a map, the first that a table has is drawn.
_WITHIN = {"cc_half": "CC½", "cc_equivalents": "CC of equivalents"}


def draw_correlation(tables: Mapping[str, Comparison], *, width: float | None = None) -> Figure:
    """Draw the correlation of maps against resolution, one line a comparison."""
    width = width or _SCREEN_WIDTH
    figure = new_figure(width, 0.65 * width)
    ax = figure.subplots()
    for label, table in tables.items():
        middle = _middles([x.d_max for x in table.shells], [x.d_min for x in table.shells])
        ax.plot(middle, [row.cc for row in table.shells], "o-", label=label)
    _finish(ax, "correlation")
    return figure


def draw_self_agreement(
    tables: Mapping[str, ShellColumns],
    *,
    between: Mapping[str, ShellColumns] | None = None,
    width: float | None = None,
) -> Figure:
    """Draw how well maps agree with themselves, and with each other, against resolution.

    Filled marks and full lines: of the anisotropic part; open and dotted: of the whole intensity.

    Parameters
    ----------
    tables : mapping of label to columns
        The ``shells`` of `offbragg.maps.statistics.statistics`. CC½ with its error where it is
        there, else the CC of equivalents.
    between : mapping of label to columns, optional
        ``cc`` and ``cc_anisotropic`` of comparisons, see `comparison_columns`.
    width : float, optional
        Of the figure [inch].

    Raises
    ------
    InputError
        If no table has a correlation.
    """
    width = width or _SCREEN_WIDTH
    figure = new_figure(width, 0.65 * width)
    ax = figure.subplots()
    number = 0
    for label, table in tables.items():
        for key in [x for x in _WITHIN if x in table][:1]:
            _draw_parts(ax, table, key, f"{_WITHIN[key]}, {label}", f"C{number % 10}")
            number += 1
    for label, table in (between or {}).items():
        _draw_parts(ax, table, "cc", f"CC, {label}", f"C{number % 10}")
        number += 1
    if not number:
        raise InputError("draw_self_agreement: expected a correlation in a table, found none")
    _finish(ax, "correlation")
    return figure


def comparison_columns(whole: Comparison, anisotropic: Comparison) -> dict[str, list[float]]:
    """Columns of a comparison of whole intensities and of anisotropic parts together."""
    columns: dict[str, list[float]] = {
        "d_max": [row.d_max for row in whole.shells],
        "d_min": [row.d_min for row in whole.shells],
    }
    for suffix, table in (("", whole), ("_anisotropic", anisotropic)):
        columns[f"cc{suffix}"] = [row.cc for row in table.shells]
        columns[f"r{suffix}"] = [row.r for row in table.shells]
    return columns


def draw_agreement(tables: Mapping[str, ShellColumns], *, width: float | None = None) -> Figure:
    """Draw CC and R against resolution, a colour for each table, such as working and held out.

    Parameters
    ----------
    tables : mapping of label to columns
        ``d_max``, ``d_min`` [Å], ``cc``, ``r``, ``cc_anisotropic``, ``r_anisotropic``; None where a
        figure is not defined.
    width : float, optional
        Of the figure [inch].
    """
    width = width or _WIDE
    figure = new_figure(width, agreement_height(width))
    draw_agreement_axes(figure, width, tables)
    return figure


def agreement_height(width: float) -> float:
    """Height [inch] of CC and R side by side, or one above the other where that is narrow."""
    return 0.38 * width if _is_wide(width) else 1.2 * width


def _is_wide(width: float) -> bool:
    return width / text_scale() >= _LEAST_WIDE


def draw_agreement_axes(
    figure: Figure | SubFigure, width: float, tables: Mapping[str, ShellColumns]
) -> None:
    """Draw CC and R on a part of a figure of a width [inch]; see `draw_agreement`."""
    shape = (1, 2) if _is_wide(width) else (2, 1)
    axes: list[Axes] = list(figure.subplots(*shape, squeeze=False).ravel())
    for ax, key, name in zip(axes, ("cc", "r"), ("CC", "R"), strict=True):
        for number, (label, table) in enumerate(tables.items()):
            _draw_parts(ax, table, key, label, f"C{number % 10}")
        _finish(ax, name)


def _draw_parts(ax: Axes, table: ShellColumns, key: str, label: str, colour: str) -> None:
    """Draw a column of the anisotropic part and the one of whole intensities."""
    middle = _middles(table["d_max"], table["d_min"])
    for suffix, style, fill, part in (
        ("_anisotropic", "o-", colour, "anisotropic"), ("", "o:", "none", "whole")
    ):  # fmt: skip
        values = table.get(key + suffix)
        if values is None:
            continue
        kind: dict[str, Any] = {"color": colour, "markerfacecolor": fill, "markersize": 3.5}
        text = f"{label}, {part}"
        errors = table.get(f"{key}_error{suffix}")
        if errors is None:
            ax.plot(middle, np.array(values, dtype=np.float64), style, label=text, **kind)
        else:
            ax.errorbar(
                middle, np.array(values, dtype=np.float64),
                yerr=np.array(errors, dtype=np.float64), fmt=style, label=text,
                elinewidth=0.8, capsize=1.5, **kind,
            )  # fmt: skip


def _middles(d_max: Sequence[float | None], d_min: Sequence[float | None]) -> FloatArray:
    edges = np.array([d_max, d_min], dtype=np.float64)
    middle: FloatArray = np.mean(1.0 / edges, axis=0)
    return middle


def _finish(ax: Axes, name: str) -> None:
    label_resolution(ax)
    ax.set_ylabel(name)
    low, high = ax.get_ylim()
    ax.set_ylim(min(0.0, low), high if name == "R" else max(1.02, high))
    ax.grid(alpha=0.3)
    add_legend(ax)
