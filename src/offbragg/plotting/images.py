"""The figure of a detector image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offbragg.plotting.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
