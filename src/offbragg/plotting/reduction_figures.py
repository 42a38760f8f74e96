"""Figures of a reduction: its statistics by resolution, and what scaling did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from offbragg.errors import InputError
from offbragg.plotting.canvas import label_resolution, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Axes of `draw_statistics`: title, and columns with their labels and styles.
_PANELS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "how much is measured": (("completeness", "completeness", "o-"),),
    "agreement (correlations)": (
        ("cc_half_anisotropic", "CC½, variations", "o-"),
        ("cc_star_anisotropic", "CC*, variations", "s--"),
        ("cc_equivalents_anisotropic", "equivalents, variations", "^-"),
        ("cc_half", "CC½, whole", "."),
    ),
    "disagreement of equivalents": (
        ("r_meas", "R_meas, whole", "o-"),
        ("r_meas_anisotropic", "R_meas, variations", "s--"),
    ),
    "signal over noise": (
        ("mean_i_over_sigma", "mean I/σ", "o-"),
        ("variation_over_sigma", "variations/σ", "s--"),
    ),
}
_NAMES = {
    "scale": "scale (beam and crystal)",
    "absorption": "absorption",
    "offset": "offset / mean intensity",
    "detector": "detector",
    "chip": "chips of the detector",
}


def draw_statistics(shells: Mapping[str, Sequence[float | None]]) -> Figure:
    """Draw the columns of a table of shells against resolution, in four panels.

    Parameters
    ----------
    shells : mapping
        As `offbragg.maps.statistics.statistics` gives; columns that are not there are left out.
    """
    figure = new_figure(9.4, 6.2)
    middle = np.mean(1.0 / np.array([shells["d_max"], shells["d_min"]], dtype=np.float64), axis=0)
    for ax, (title, columns) in zip(figure.subplots(2, 2).ravel(), _PANELS.items(), strict=True):
        for name, label, style in columns:
            if name in shells:
                values = np.array(shells[name], dtype=np.float64)
                ax.plot(middle, values, style, label=label, markersize=4)
        ax.set_title(title, fontsize="medium")
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        ax.grid(alpha=0.3)
        if title == "how much is measured":
            _add_multiplicity(ax, middle, shells)
        elif ax.lines:
            ax.legend(fontsize="small")
        label_resolution(ax)
    return figure


def _add_multiplicity(
    ax: Axes, middle: np.ndarray, shells: Mapping[str, Sequence[float | None]]
) -> None:
    ax.set_ylim(0.0, 1.05)
    ax.set_ylabel("completeness")
    other = ax.twinx()
    (line,) = other.plot(
        middle, np.array(shells["multiplicity"], dtype=np.float64), "s--", color="C1",
        markersize=4, label="multiplicity",
    )  # fmt: skip
    other.set_ylim(bottom=0.0)
    other.set_ylabel("multiplicity")
    ax.legend(handles=[*ax.lines, line], fontsize="small", loc="lower left")


def draw_scaling(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the corrections of a scaling: lines with the range over what else they depend on.

    Parameters
    ----------
    curves : sequence of mapping
        As `offbragg.reduction.scaling_curves.scaling_curves` gives.

    Raises
    ------
    InputError
        If there is none.
    """
    panels = list(dict.fromkeys((curve["name"], curve["by"]) for curve in curves))
    if not panels:
        raise InputError("draw_scaling: expected at least one curve, got none")
    n_rows = (len(panels) + 2) // 3
    n_columns = min(3, len(panels))
    figure = new_figure(3.6 * n_columns, 3.0 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, (name, by) in zip(axes, panels, strict=False):
        own = [curve for curve in curves if (curve["name"], curve["by"]) == (name, by)]
        ax.set_title(_NAMES.get(name, name), fontsize="medium")
        if by == "direction":
            _draw_squares(figure, ax, own[0])
            continue
        for curve in own:
            label = f"sweep {curve['sweep'] + 1}"
            style = "o" if by == "chip" else "-"
            (line,) = ax.plot(curve["at"], curve["mean"], style, label=label)
            ax.fill_between(curve["at"], curve["low"], curve["high"], color=line.get_color(),
                            alpha=0.2, linewidth=0)  # fmt: skip
        neutral = 0.0 if own[0]["kind"] == "offset" else 1.0
        ax.axhline(neutral, color="black", linewidth=0.6)
        # A factor that hardly changes is not to look as if it did.
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, neutral - 0.05), max(high, neutral + 0.05))
        ax.grid(alpha=0.3)
        if len(own) > 1:
            ax.legend(fontsize="small")
        if by == "angle":
            ax.set_xlabel("rotation from where the sweep begins (°)")
        elif by == "chip":
            ax.set_xlabel("number of the chip")
        else:
            label_resolution(ax)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return figure


def _draw_squares(figure: Figure, ax: Axes, curve: Mapping[str, Any]) -> None:
    """A factor by direction, as a picture."""
    values = np.ma.masked_invalid(np.array(curve["mean"], dtype=np.float64).T)
    reach = max(float(np.ma.max(np.ma.abs(values - 1.0))), 0.02)
    mesh = ax.pcolormesh(
        np.degrees(curve["x"]), np.degrees(curve["y"]), values, cmap="RdBu_r",
        vmin=1.0 - reach, vmax=1.0 + reach, shading="nearest", rasterized=True,
    )  # fmt: skip
    ax.set_aspect("equal")
    ax.set_xlabel("direction across the beam (°)")
    figure.colorbar(mesh, ax=ax, shrink=0.8)
