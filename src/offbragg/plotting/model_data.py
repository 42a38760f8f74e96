"""The figure of a model beside the map it stands for: sections, difference, CC and R by shell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from offbragg.maps.comparison import common_voxels, compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import N_SHELLS
from offbragg.plotting.canvas import new_figure
from offbragg.plotting.sections import (
    Panel,
    SectionOptions,
    columns_for,
    draw_panels,
    sections_height,
    take_panel,
)
from offbragg.plotting.shells import agreement_height, comparison_columns, draw_agreement_axes
from offbragg.plotting.units import intensity_unit
from offbragg.runtime import SILENT, Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCREEN_WIDTH = 13.2


def draw_model(
    observed: DiffuseMap,
    model: DiffuseMap,
    options: SectionOptions | None = None,
    *,
    n_shells: int = N_SHELLS,
    unit: str | None = None,
    titles: Sequence[str] | None = None,
    width: float | None = None,
    progress: Progress = SILENT,
) -> Figure:
    """Draw a map, a model of it and their difference, and how well they agree by resolution.

    Only voxels that both have are shown. The model is brought to the map's scale by one
    least-squares factor; the three share one contrast.

    Parameters
    ----------
    observed, model : DiffuseMap
        Voxels are matched by hkl.
    options : SectionOptions, optional
    n_shells : int
        Shells of equal volume of CC and R.
    unit : str, optional
        Of the intensities; the map's if not given.
    titles : sequence of 2 str, optional
        Of the map and the model.
    width : float, optional
        Of the figure [inch].
    progress : Progress, optional

    Raises
    ------
    InputError
        If the maps have no measured voxel in common, or their cells differ by more than 3 %.
    """
    chosen = replace(options or SectionOptions(), shared=True)
    tables = {
        part: compare(observed, model, anisotropic=part, n_shells=n_shells)
        for part in (False, True)
    }
    scale = tables[chosen.anisotropic].scale
    unit = unit or intensity_unit(observed)
    names = titles or ("map", "model")
    maps = _paired(observed, model, scale)
    panels = [
        take_panel(name, diffuse_map, chosen, unit, progress)
        for name, diffuse_map in zip(names, maps, strict=True)
    ]
    first, second = (panel.section for panel in panels)
    difference = replace(first, values=np.asarray(first.values) - np.asarray(second.values))
    panels.append(Panel("difference", difference, observed.space_group, unit))
    width = width or _SCREEN_WIDTH
    n_columns = columns_for(len(panels), width)
    heights = sections_height(panels, width, n_columns, True), agreement_height(width)
    figure = new_figure(width, sum(heights))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    draw_panels(above, panels, chosen, n_columns)
    columns = comparison_columns(tables[False], tables[True])
    draw_agreement_axes(below, width, {" and ".join(names): columns})
    return figure


def _paired(observed: DiffuseMap, model: DiffuseMap, scale: float) -> tuple[DiffuseMap, DiffuseMap]:
    """The map, and the model on its scale, at the voxels that both have."""
    grid, at_observed, at_model = common_voxels(observed.grid, model.grid)
    values = observed.intensity[at_observed].astype(np.float64)
    other = scale * model.intensity[at_model]
    neither = ~(np.isfinite(values) & np.isfinite(other))
    values[neither] = other[neither] = np.nan
    group = observed.space_group
    return DiffuseMap(grid, values, group), DiffuseMap(grid, other, group)
