"""Figures of halos: intensity around Bragg nodes against the distance from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from offbragg.errors import InputError
from offbragg.maps.node_halos import NodeHalo
from offbragg.plotting.canvas import add_legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCREEN_WIDTH = 5.2
_MARKS = "osD^v<>"


def draw_halos(
    halos: Mapping[str, Sequence[NodeHalo]],
    unit: str = "arbitrary units",
    *,
    anisotropic: bool = False,
    width: float | None = None,
) -> Figure:
    """Draw the mean intensity around Bragg nodes against the distance from the nearest.

    Parameters
    ----------
    halos : mapping of label to sequence of NodeHalo
        A colour a shell, a mark a map; see `offbragg.maps.node_halos.node_halos`.
    unit : str
        Of the intensities.
    anisotropic : bool
        Whether they are of the anisotropic part, as the axis will say.
    width : float, optional
        Of the figure [inch].

    Raises
    ------
    InputError
        If there is nothing to draw.
    """
    if not any(halos.values()):
        raise InputError("draw_halos: expected at least one halo, got none")
    width = width or _SCREEN_WIDTH
    figure = new_figure(width, 0.65 * width)
    ax = figure.subplots()
    for number, (label, shells) in enumerate(halos.items()):
        for shell, halo in enumerate(shells):
            known = np.isfinite(halo.mean)
            limits = f"{halo.d_max:.3g}–{halo.d_min:.3g} Å"
            ax.errorbar(
                halo.distance[known], halo.mean[known], yerr=halo.error[known],
                fmt=_MARKS[number % len(_MARKS)] + "-", color=f"C{shell % 10}", markersize=3.5,
                markerfacecolor=f"C{shell % 10}" if number == 0 else "none",
                elinewidth=0.8, capsize=1.5, label=f"{label}, {limits}",
            )  # fmt: skip
    if anisotropic:
        ax.axhline(0.0, color="black", linewidth=0.5)
    ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
    ax.set_xlabel("distance Δq from the nearest Bragg node (Å⁻¹)")
    what = "mean anisotropic intensity" if anisotropic else "mean intensity"
    ax.set_ylabel(f"{what} ({unit})")
    ax.grid(alpha=0.3)
    add_legend(ax)
    return figure
