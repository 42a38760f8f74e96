"""Options that figures share, and how a figure is drawn and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from cyclopts import Parameter

from offbragg.cli.console import Outcome
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.section import PLANES
from offbragg.plotting import (
    DOUBLE_COLUMN,
    SINGLE_COLUMN,
    SectionOptions,
    journal_style,
    save_figure,
)
from offbragg.plotting.canvas import check_suffix

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@Parameter(name="*")
@dataclass(frozen=True)
class FigureOptions:
    """The figure itself.

    Attributes
    ----------
    columns : int
        Columns of a journal that it is as wide as: 3.5 or 7 inch.
    width : float or None
        Its width in their place [inch].
    style : str
        Text of 8 points and thin lines for journals, or larger for slides.
    dpi : int
        Dots an inch, of .png and of maps within .pdf and .svg.
    titles : tuple of str
        Names of the maps in the figure, in place of those of the files.
    """

    columns: Literal[1, 2] | None = None
    width: float | None = None
    style: Literal["journal", "slides"] = "journal"
    dpi: int = 300
    titles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.width is not None and not (np.isfinite(self.width) and 1 <= self.width <= 50):
            raise InputError(f"--width must be 1 to 50 inch, got {self.width}")
        if self.dpi < 1:
            raise InputError(f"--dpi must be >= 1, got {self.dpi}")

    def draw(self, output: Path, figure: Callable[[float], Figure], columns: int = 1) -> Outcome:
        """Draw a figure in the style asked for and write it."""
        check_suffix(output)
        width = self.width or (SINGLE_COLUMN if (self.columns or columns) == 1 else DOUBLE_COLUMN)
        with journal_style() if self.style == "journal" else nullcontext():
            made = figure(width)
            save_figure(made, output, self.dpi)
        size = [float(x) for x in made.get_size_inches()]
        text = f"{size[0]:.3g} x {size[1]:.3g} inch"
        return Outcome({"size_inch": size}, {"figure": output}, text)

    def names(self, files: Sequence[Path]) -> list[str]:
        """Names of files in the figure."""
        if self.titles and len(self.titles) != len(files):
            raise InputError(
                f"--titles must be as many as the files, {len(files)}, got {len(self.titles)}"
            )
        stems = [path.stem for path in files]
        names = list(self.titles) or (
            stems if len(set(stems)) == len(stems) else [str(path) for path in files]
        )
        if len(set(names)) != len(names):
            raise InputError("names of maps in a figure must differ: give --titles")
        return names


@Parameter(name="*")
@dataclass(frozen=True)
class PlaneOptions(SectionOptions):
    """Which plane, and its colours."""

    plane: Literal["hk", "hl", "kl"] = "hk"
    contrast: Literal["percentile", "linear", "log"] = "percentile"
    shared: Annotated[bool, Parameter(negative="")] = False
    nodes: Annotated[bool, Parameter(negative="")] = False

    def check_level(self, maps: Mapping[str, DiffuseMap]) -> None:
        """Check that maps reach the level, which is drawn at their nearest plane."""
        name = PLANES[self.plane][2]
        for title, diffuse_map in maps.items():
            axis = getattr(diffuse_map.grid, name)
            half = 0.5 / diffuse_map.grid.sampling["hkl".index(name)]
            if not axis[0] - half <= self.level <= axis[-1] + half:
                raise InputError(
                    f"--level must be {axis[0]:g} to {axis[-1]:g}, the {name} of {title}, "
                    f"got {self.level:g}"
                )
