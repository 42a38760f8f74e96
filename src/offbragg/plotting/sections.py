"""Figures of planes of maps, in true angle and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.radial import radial_profile
from offbragg.maps.section import PLANES, Section, take_section
from offbragg.plotting.canvas import MISSING, new_figure, text_scale, width_of
from offbragg.plotting.contrast import CONTRASTS, colour_scale
from offbragg.plotting.units import common_unit, intensity_unit
from offbragg.runtime import SILENT, Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure, SubFigure

_IN_A_ROW = 3
_LEAST_PANEL, _WIDE_PANEL = 2.1, 3.0  # inch, in text of 10 points
_MANY_NODES = 5000  # more would make a vector file large
_SCREEN_WIDTH = 4.4  # inch, a map
# Heights and widths [inch, text of 10 points] of what is around a section.
_BESIDE, _AROUND, _BAR, _LINE = 0.85, 0.9, 0.5, 0.18


@dataclass(frozen=True)
class SectionOptions:
    """How sections are drawn.

    Attributes
    ----------
    plane : str
        hk, hl or kl: the first index along x.
    level : float
        Of the third index; the nearest plane of each map is drawn.
    anisotropic : bool
        Take the mean in shells of 0.01 Å⁻¹ off first, and use diverging colours.
    contrast : str
        Ends of the colours: without the outermost values (percentile), all of them (linear), or
        logarithmic (log).
    clip : float
        Per cent of the values beyond the ends, with percentile and log.
    limits : tuple of 2 float or None
        Intensities that the ends stand for, in their place.
    shared : bool
        One contrast for all maps, instead of each its own.
    nodes : bool
        Mark the Bragg nodes.
    rings : tuple of float
        Resolutions to draw circles at [Å].
    """

    plane: str = "hk"
    level: float = 0.0
    anisotropic: bool = True
    contrast: str = "percentile"
    clip: float = 2.0
    limits: tuple[float, float] | None = None
    shared: bool = False
    nodes: bool = False
    rings: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.plane not in PLANES:
            raise InputError(f"plane must be one of {' '.join(PLANES)}, got {self.plane!r}")
        if self.contrast not in CONTRASTS:
            raise InputError(
                f"contrast must be one of {' '.join(CONTRASTS)}, got {self.contrast!r}"
            )
        # The rest of what may be wrong, before a map is read.
        colour_scale(np.zeros(1), clip=self.clip, limits=self.limits, diverging=True)
        for d in self.rings:
            if not (np.isfinite(d) and d > 0):
                raise InputError(f"rings must be at d > 0 Å, got {d}")

    def scale(self, values: FloatArray) -> Normalize:
        """Colours for values."""
        return colour_scale(
            values, self.contrast, diverging=self.anisotropic, clip=self.clip, limits=self.limits
        )


@dataclass(frozen=True, eq=False)
class Panel:
    """A section and what stands at it."""

    title: str
    section: Section
    space_group: str
    unit: str


def draw_sections(
    maps: Mapping[str, DiffuseMap],
    options: SectionOptions | None = None,
    *,
    unit: str | None = None,
    width: float | None = None,
    progress: Progress = SILENT,
) -> Figure:
    """Draw the same plane of several maps side by side, in true angle and length.

    Grey: not measured. Axes are in 1/d, without 2π.

    Parameters
    ----------
    maps : mapping of title to DiffuseMap
    options : SectionOptions, optional
    unit : str, optional
        Of the intensities, at the colour bars; that of each map if not given.
    width : float, optional
        Of the figure [inch]; 4.4 a map if not given.
    progress : Progress, optional

    Raises
    ------
    InputError
        If there is no map.

    Examples
    --------
    >>> from offbragg.crystal.grid import HklGrid
    >>> grid = HklGrid((10, 20, 30, 90, 90, 90), [-1, 0, 1], [-1, 0, 1], [0])
    >>> observed = DiffuseMap(grid, np.ones((3, 3, 1)))
    >>> figure = draw_sections({"observed": observed}, SectionOptions(rings=(15.0,)))
    >>> figure.axes[0].get_xlabel()
    '1/d along a* (Å⁻¹)'
    """
    chosen = options or SectionOptions()
    if not maps:
        raise InputError("draw_sections: expected at least one map, got none")
    panels = [
        take_panel(title, diffuse_map, chosen, unit, progress)
        for title, diffuse_map in maps.items()
    ]
    width = width or _SCREEN_WIDTH * min(len(panels), _IN_A_ROW)
    n_columns = columns_for(len(panels), width)
    figure = new_figure(width, sections_height(panels, width, n_columns, chosen.shared))
    draw_panels(figure, panels, chosen, n_columns)
    return figure


def take_panel(
    title: str,
    diffuse_map: DiffuseMap,
    options: SectionOptions,
    unit: str | None = None,
    progress: Progress = SILENT,
) -> Panel:
    """Take from a map what a panel shows."""
    profile = radial_profile(diffuse_map, progress=progress) if options.anisotropic else None
    section = take_section(diffuse_map, options.plane, options.level, profile)
    return Panel(title, section, diffuse_map.space_group, unit or intensity_unit(diffuse_map))


def columns_for(n_panels: int, width: float) -> int:
    """How many sections stand side by side in a width [inch] and can still be read."""
    return max(1, min(n_panels, _IN_A_ROW, int(width / (_LEAST_PANEL * text_scale()))))


def sections_height(panels: Sequence[Panel], width: float, n_columns: int, shared: bool) -> float:
    """Height [inch] of a figure of sections that leaves little empty."""
    scale = text_scale()
    each = max(0.5, width / n_columns - _BESIDE * scale)
    ratios = []
    for panel in panels:
        x, y = panel.section.coordinates()
        ratios.append(float(np.ptp(y) or 1.0) / float(np.ptp(x) or np.ptp(y) or 1.0))
    n_rows = -(-len(panels) // n_columns)
    n_bars = 1 if shared else n_rows
    bar = _BAR + 0.1 * each / scale
    bar += 0.0 if shared or width / n_columns >= _WIDE_PANEL * scale else _LINE
    return n_rows * (each * min(max(ratios), 2.0) + _AROUND * scale) + n_bars * bar * scale


def draw_panels(
    figure: Figure | SubFigure, panels: Sequence[Panel], options: SectionOptions, n_columns: int
) -> list[Axes]:
    """Draw sections in rows, each with its colour bar, or one for all."""
    n_rows = -(-len(panels) // n_columns)
    axes: list[Axes] = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
    for spare in axes[len(panels) :]:
        spare.remove()
    axes = axes[: len(panels)]
    together = None
    if options.shared:
        together = options.scale(np.concatenate([x.section.values.ravel() for x in panels]))
    for ax, panel in zip(axes, panels, strict=True):
        norm = together or options.scale(np.asarray(panel.section.values))
        mesh = _draw_panel(ax, panel, options, norm)
        if together is None:
            _colour_bar(figure, mesh, [ax], [panel], options)
    if together is not None:
        _colour_bar(figure, mesh, axes, panels, options)
    return axes


def _draw_panel(ax: Axes, panel: Panel, options: SectionOptions, norm: Normalize) -> Any:
    section = panel.section
    x, y = section.coordinates()
    mesh = ax.pcolormesh(
        x,
        y,
        np.ma.masked_invalid(section.values),
        cmap="RdBu_r" if options.anisotropic else "viridis",
        norm=norm,
        shading="nearest",
        rasterized=True,
    )
    ax.set_facecolor(MISSING)
    ax.set_aspect("equal")
    ax.set_title(f"{panel.title}, {section.normal} = {section.level:g}")
    first, second = ("abc"["hkl".index(name)] + "*" for name in section.plane)
    upright = abs(section.vectors[1, 0]) < 1e-6 * section.vectors[1, 1]
    ax.set_xlabel(f"1/d along {first} (Å⁻¹)")
    ax.set_ylabel(f"1/d along {second} (Å⁻¹)" if upright else f"1/d towards {second} (Å⁻¹)")
    ax.set_xlim(ax.get_xlim())
    ax.set_ylim(ax.get_ylim())
    if options.nodes:
        _draw_nodes(ax, panel)
    for d in options.rings:
        _draw_ring(ax, section, d)
    return mesh


def _draw_nodes(ax: Axes, panel: Panel) -> None:
    """Circles at Bragg nodes as far out as there are values, smaller where they are many."""
    section = panel.section
    nodes = section.nodes(panel.space_group)
    x, y = section.place(nodes[:, 0], nodes[:, 1])
    measured = section.inv_d()[np.isfinite(section.values)]
    inside = section.inv_d_at(x, y) <= measured.max(initial=0.0) * (1 + 1e-9)
    x, y = x[inside], y[inside]
    spacing = float(np.min(np.linalg.norm(section.vectors[:2], axis=1)))
    span = float(np.ptp(section.coordinates()[0]) or spacing)
    points = 72 * 0.7 * width_of(ax) * spacing / span
    ax.plot(
        x, y, "o", markersize=float(np.clip(0.3 * points, 0.5, 4.0)), markerfacecolor="none",
        markeredgecolor="black", markeredgewidth=0.3, linestyle="", rasterized=len(x) > _MANY_NODES,
        gid="nodes",
    )  # fmt: skip


def _draw_ring(ax: Axes, section: Section, d: float) -> None:
    from matplotlib.patches import Circle

    ring = section.ring(d)
    if ring is None:
        return
    x, y, radius = ring
    ax.add_patch(Circle((x, y), radius, fill=False, linestyle="--", linewidth=0.6, color="black"))
    at = (x + radius * np.sqrt(0.5), y + radius * np.sqrt(0.5))
    ax.text(
        *at, f"{d:g} Å", fontsize="small", ha="center", va="center", clip_on=True,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
    )  # fmt: skip


def _colour_bar(
    figure: Figure | SubFigure,
    mesh: Any,
    axes: list[Axes],
    panels: Sequence[Panel],
    options: SectionOptions,
) -> None:
    values = np.concatenate([x.section.values.ravel() for x in panels])
    values = values[np.isfinite(values)]
    beyond = bool(np.any(values < mesh.norm.vmin)), bool(np.any(values > mesh.norm.vmax))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    what = "anisotropic intensity" if options.anisotropic else "intensity"
    # A label that is wider than its map would run into the next one.
    width = width_of(axes[0])
    gap = " " if len(axes) > 1 or width >= _WIDE_PANEL * text_scale() else "\n"
    bar = figure.colorbar(
        mesh,
        ax=axes,
        location="bottom",
        shrink=0.9 if len(axes) == 1 else 0.5,
        aspect=25,
        label=f"{what}{gap}({common_unit(panel.unit for panel in panels)})",
        extend=extend.get(beyond, "both"),
    )
    bar.ax.tick_params(labelsize="small")
    if options.contrast != "log":
        bar.ax.locator_params(nbins=5 if gap == " " else 2)
