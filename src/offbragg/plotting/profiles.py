"""Figures of radial profiles: the isotropic part of maps against resolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.radial import radial_profile
from offbragg.plotting.canvas import add_legend, label_resolution, new_figure
from offbragg.plotting.units import common_unit, intensity_unit
from offbragg.runtime import SILENT, Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCREEN_WIDTH = 5.2


def draw_profiles(
    maps: Mapping[str, DiffuseMap],
    unit: str | None = None,
    *,
    sigma: bool = True,
    variation: bool = False,
    log: bool = False,
    width: float | None = None,
    progress: Progress = SILENT,
) -> Figure:
    """Draw the mean intensity of maps in shells of 0.01 Å⁻¹ against resolution.

    Parameters
    ----------
    maps : mapping of label to DiffuseMap
    unit : str, optional
        Of the intensities; that of the maps if not given.
    sigma : bool
        Draw the standard error of a voxel, the root of its mean square, as a band about the mean,
        where a map has it.
    variation : bool
        Draw the root mean square of the anisotropic part too, dashed.
    log : bool
        Logarithmic intensities.
    width : float, optional
        Of the figure [inch].
    progress : Progress, optional

    Raises
    ------
    InputError
        If there is no map.
    """
    if not maps:
        raise InputError("draw_profiles: expected at least one map, got none")
    width = width or _SCREEN_WIDTH
    figure = new_figure(width, 0.65 * width)
    ax = figure.subplots()
    for number, (label, diffuse_map) in enumerate(maps.items()):
        found = radial_profile(diffuse_map, progress=progress)
        colour = f"C{number % 10}"
        (line,) = ax.plot(found.inv_d, found.mean, color=colour, label=label)
        if sigma and found.sigma is not None:
            line.set_label(f"{label} (band: ± σ of a voxel)")
            ax.fill_between(
                found.inv_d, found.mean - found.sigma, found.mean + found.sigma,
                color=colour, alpha=0.25, linewidth=0,
            )  # fmt: skip
        if variation:
            ax.plot(
                found.inv_d, found.variation, "--", color=colour,
                label=f"{label}, anisotropic part (rms)",
            )  # fmt: skip
    if log:
        ax.set_yscale("log", nonpositive="mask")
    label_resolution(ax)
    unit = unit or common_unit(map(intensity_unit, maps.values()))
    ax.set_ylabel(f"mean intensity ({unit})")
    ax.grid(alpha=0.3)
    add_legend(ax)
    return figure
