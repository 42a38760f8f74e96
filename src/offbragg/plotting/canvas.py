"""Empty figures. Matplotlib is slow to import: the first figure does, not the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of a size [inch] that belongs to the caller; nothing is shown."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
