"""Figures on matplotlib: sections of maps, correlation by resolution, radial profiles.

Each function returns a `matplotlib.figure.Figure` that belongs to the caller; nothing is shown and
no global state of pyplot is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.disorder.residues import ResidueCorrelations
from offbragg.errors import InputError
from offbragg.inference.ranking import RankedModel
from offbragg.maps.comparison import Comparison
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import anisotropic_part, isotropic_shells, shell_mean
from offbragg.plotting.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

_PLANES = {"h": (0, "k", "l"), "k": (1, "h", "l"), "l": (2, "h", "k")}
_MISSING = "#bfbfbf"


def draw_sections(
    maps: Mapping[str, DiffuseMap],
    normal: str = "l",
    level: float = 0.0,
    *,
    anisotropic: bool = True,
    unit: str = "",
) -> Figure:
    """Draw the same plane of several maps side by side, each scaled to its own contrast.

    Axes are drawn at their true angle and length. Grey: not measured.

    Parameters
    ----------
    maps : mapping of title to DiffuseMap
    normal : {"h", "k", "l"}
        The index that is constant in the plane.
    level : float
        Its value; the nearest plane of each map is drawn.
    anisotropic : bool
        Take the mean in shells of 0.01 Å⁻¹ off first, and use diverging colours.
    unit : str
        Written at the colour bars.

    Raises
    ------
    InputError
        If there is no map, or the normal is none of these.
    """
    if normal not in _PLANES:
        raise InputError(f"normal must be h, k or l, got {normal!r}")
    if not maps:
        raise InputError("draw_sections: expected at least one map, got none")
    figure = new_figure(4.4 * len(maps), 4.2)
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (title, diffuse_map) in zip(axes, maps.items(), strict=True):
        _draw_section(figure, ax, diffuse_map, (normal, level), anisotropic, unit)
        ax.set_title(title)
    return figure


def _draw_section(
    figure: Figure,
    ax: Axes,
    diffuse_map: DiffuseMap,
    plane: tuple[str, float],
    anisotropic: bool,
    unit: str,
) -> None:
    normal, level = plane
    axis, across, up = _PLANES[normal]
    grid = diffuse_map.grid
    axes = {"h": grid.h, "k": grid.k, "l": grid.l}
    index = int(np.argmin(np.abs(axes[normal] - level)))
    values: NDArray[np.floating] = diffuse_map.intensity
    if anisotropic:
        values = anisotropic_part(values, grid.inv_d(), diffuse_map.measured)
    section = np.take(values, index, axis=axis).T
    x, y = _plane_coordinates(diffuse_map, axes[across], axes[up], across + up)
    mesh = ax.pcolormesh(
        x,
        y,
        np.ma.masked_invalid(section),
        cmap="RdBu_r" if anisotropic else "viridis",
        norm=_norm(section, anisotropic),
        shading="nearest",
        rasterized=True,
    )
    ax.set_facecolor(_MISSING)
    ax.set_aspect("equal")
    ax.set_xlabel(f"along {across}* (Å⁻¹), {normal} = {axes[normal][index]:g}")
    ax.set_ylabel(f"towards {up}* (Å⁻¹)")
    figure.colorbar(mesh, ax=ax, shrink=0.75, label=unit)


def _plane_coordinates(
    diffuse_map: DiffuseMap, across: FloatArray, up: FloatArray, names: str
) -> tuple[FloatArray, FloatArray]:
    """Cartesian coordinates [Å⁻¹, 1/d] of the voxels of a plane, each (n_up, n_across)."""
    vectors = diffuse_map.cell.frac_matrix[["hkl".index(name) for name in names]]
    lengths = np.linalg.norm(vectors, axis=1)
    cosine = float(vectors[0] @ vectors[1] / np.prod(lengths))
    x = across[None, :] * lengths[0] + up[:, None] * lengths[1] * cosine
    y = up[:, None] * lengths[1] * np.sqrt(1 - cosine**2) + 0 * across[None, :]
    return x, y


def _norm(section: NDArray[np.floating], anisotropic: bool) -> Normalize:
    from matplotlib.colors import Normalize, TwoSlopeNorm

    finite = section[np.isfinite(section)]
    if not len(finite):
        return Normalize(0.0, 1.0)
    if anisotropic:
        reach = max(float(np.percentile(np.abs(finite), 98)), 1e-12)
        return TwoSlopeNorm(0.0, -reach, reach)
    low, high = np.percentile(finite, [1, 99])
    return Normalize(float(low), max(float(high), float(low) + 1e-12))


def draw_correlation(tables: Mapping[str, Comparison]) -> Figure:
    """Draw the correlation of maps against resolution, one line a comparison."""
    figure = new_figure(5.2, 3.4)
    ax = figure.subplots()
    for label, table in tables.items():
        middle = [0.5 * (1 / row.d_max + 1 / row.d_min) for row in table.shells]
        ax.plot(middle, [row.cc for row in table.shells], "o-", label=label, markersize=4)
    _label_resolution(ax)
    ax.set_ylabel("correlation")
    ax.set_ylim(min(0.0, ax.get_ylim()[0]), 1.02)
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def draw_agreement(tables: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Figure:
    """Draw CC and R against resolution, a colour for each table, such as working and held out.

    Parameters
    ----------
    tables : mapping of label to columns
        ``d_max``, ``d_min`` [Å], ``cc``, ``r``, ``cc_anisotropic``, ``r_anisotropic``; None where a
        figure is not defined.
    """
    figure = new_figure(9.0, 3.4)
    for ax, key, name in zip(figure.subplots(1, 2), ("cc", "r"), ("CC", "R"), strict=True):
        for number, (label, table) in enumerate(tables.items()):
            edges = np.array([table["d_max"], table["d_min"]], dtype=np.float64)
            middle = np.mean(1.0 / edges, axis=0)
            for suffix, style, part in (("_anisotropic", "o-", "anisotropic"), ("", ".:", "whole")):
                values = np.array(table[key + suffix], dtype=np.float64)
                text = f"{label}, {part}"
                ax.plot(middle, values, style, color=f"C{number}", label=text, markersize=4)
        _label_resolution(ax)
        ax.set_ylabel(name)
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small")
    return figure


def draw_residue_correlations(found: ResidueCorrelations) -> Figure:
    """Draw the correlations of residues' displacements as a picture, red together, blue against."""
    figure = new_figure(5.2, 4.4)
    ax = figure.subplots()
    n = len(found.numbers)
    image = ax.imshow(
        found.correlation, cmap="RdBu_r", vmin=-1.0, vmax=1.0, origin="lower",
        interpolation="nearest",
    )  # fmt: skip
    ticks = np.unique(np.linspace(0, n - 1, min(n, 9)).round().astype(np.int64))
    several = len(set(found.chains.tolist())) > 1
    labels = [
        f"{found.chains[i]} {found.numbers[i]}" if several else str(found.numbers[i]) for i in ticks
    ]
    ax.set_xticks(ticks, labels)
    ax.set_yticks(ticks, labels)
    ax.set_xlabel("residue")
    ax.set_ylabel("residue")
    figure.colorbar(image, ax=ax, label="correlation of displacements", shrink=0.85)
    return figure


def draw_ranking(ranked: Sequence[RankedModel]) -> Figure:
    """Draw the CC of ranked models as bars with errors, the first on top, the null's beside them.

    Open circles are the CC of the fits to all voxels.
    """
    figure = new_figure(6.4, 1.2 + 0.55 * len(ranked))
    ax = figure.subplots()
    places = np.arange(len(ranked), dtype=np.float64)
    ax.barh(
        places - 0.15, [x.cc for x in ranked], 0.45, xerr=[x.cc_error for x in ranked],
        color="C0", ecolor="black", capsize=3, label="held out",
    )  # fmt: skip
    fitted = [x.cc_working for x in ranked]
    ax.plot(fitted, places - 0.15, "o", mfc="none", mec="black", label="fitted")
    floors = [(place, x.cc_null) for place, x in zip(places, ranked, strict=True)]
    known = [(place, cc) for place, cc in floors if cc is not None]
    if known:
        at, cc = zip(*known, strict=True)
        ax.barh(np.array(at) + 0.22, cc, 0.25, color=_MISSING, label="null: wrong indexing")
    ax.set_yticks(places, [x.name for x in ranked])
    ax.invert_yaxis()
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_xlabel("correlation of anisotropic parts")
    ax.grid(alpha=0.3, axis="x")
    ax.legend(fontsize="small")
    return figure


def draw_profiles(maps: Mapping[str, DiffuseMap], unit: str = "") -> Figure:
    """Draw the mean intensity of maps in shells of 0.01 Å⁻¹ against resolution."""
    figure = new_figure(5.2, 3.4)
    ax = figure.subplots()
    for label, diffuse_map in maps.items():
        measured = diffuse_map.measured
        inv_d = diffuse_map.grid.inv_d()[measured]
        shell = isotropic_shells(inv_d)
        n_shells = int(shell.max()) + 1 if len(shell) else 0
        values = diffuse_map.intensity[measured].astype(np.float64)
        ax.plot(
            shell_mean(inv_d, shell, n_shells), shell_mean(values, shell, n_shells), label=label
        )
    _label_resolution(ax)
    ax.set_ylabel(f"mean intensity {unit}".strip())
    ax.grid(alpha=0.3)
    ax.legend()
    return figure


def draw_image(image: NDArray[np.number] | Sequence[NDArray[np.number]], title: str) -> Figure:
    """Draw the panels of a detector image, one above the other, dark where counts are many."""
    panels = [image] if isinstance(image, np.ndarray) else list(image)
    height = 5.0 * sum(panel.shape[0] for panel in panels) / panels[0].shape[1]
    figure = new_figure(5.0, max(2.0, height))
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    high = max(1.0, float(np.percentile(np.concatenate([p.ravel() for p in panels]), 99.5)))
    for ax, panel in zip(axes, panels, strict=True):
        ax.imshow(panel, cmap="gray_r", vmin=0, vmax=high, interpolation="nearest")
        ax.set_xticks([])
        ax.set_yticks([])
    axes[0].set_title(title)
    return figure


def _label_resolution(ax: Axes) -> None:
    """Resolution in Å below an axis of 1/d."""
    ticks = [t for t in ax.get_xticks() if t > 0]
    ax.set_xticks(ticks, [f"{1 / t:.2g}" for t in ticks])
    ax.set_xlabel("resolution d (Å), equal steps of 1/d")
