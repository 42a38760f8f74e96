"""Figures of how atoms and residues move together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from offbragg.plotting.canvas import add_legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from offbragg.disorder.residues import ResidueCorrelations

_SCREEN_WIDTH = 5.2


def draw_residue_correlations(found: ResidueCorrelations, *, width: float | None = None) -> Figure:
    """Draw the correlations of residues' displacements as a picture, red together, blue against."""
    width = width or _SCREEN_WIDTH
    figure = new_figure(width, 0.85 * width)
    ax = figure.subplots()
    n = len(found.numbers)
    image = ax.imshow(
        found.correlation, cmap="RdBu_r", vmin=-1.0, vmax=1.0, origin="lower",
        interpolation="nearest",
    )  # fmt: skip
    most = 9 if width >= _SCREEN_WIDTH else 6
    ticks = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
    several = len(set(found.chains.tolist())) > 1
    labels = [
        f"{found.chains[i]} {found.numbers[i]}" if several else str(found.numbers[i]) for i in ticks
    ]
    ax.set_xticks(ticks, labels)
    ax.set_yticks(ticks, labels)
    # Where one chain ends and the next begins.
    for place in np.flatnonzero(found.chains[1:] != found.chains[:-1]) + 0.5:
        ax.axhline(place, color="black", linewidth=0.5)
        ax.axvline(place, color="black", linewidth=0.5)
    ax.set_xlabel("residue number")
    ax.set_ylabel("residue number")
    figure.colorbar(image, ax=ax, label="correlation of displacements", shrink=0.85)
    return figure


def draw_distance_correlations(
    tables: Mapping[str, Mapping[str, Sequence[float | None]]], *, width: float | None = None
) -> Figure:
    """Draw the correlations of pairs of atoms against their distance.

    Parameters
    ----------
    tables : mapping of label to columns
        ``r_min`` and ``r_max`` of the bins [Å], ``correlation`` and its spread among the pairs of
        a bin, ``correlation_std``, which is drawn as a band.
    width : float, optional
        Of the figure [inch].
    """
    width = width or _SCREEN_WIDTH
    figure = new_figure(width, 0.65 * width)
    ax = figure.subplots()
    for number, (label, table) in enumerate(tables.items()):
        edges, mean, spread = (
            np.array(x, dtype=np.float64)
            for x in (
                [table["r_min"], table["r_max"]], table["correlation"], table["correlation_std"]
            )
        )  # fmt: skip
        middle = edges.mean(axis=0)
        ax.plot(middle, mean, color=f"C{number % 10}", label=label)
        ax.fill_between(
            middle, mean - spread, mean + spread, color=f"C{number % 10}", alpha=0.25, linewidth=0
        )
    ax.axhline(0.0, color="black", linewidth=0.5)
    ax.set_xlabel("distance of the atoms (Å)")
    ax.set_ylabel("correlation of displacements")
    ax.set_xlim(left=0.0)
    ax.grid(alpha=0.3)
    add_legend(ax, "band: spread of the pairs")
    return figure
