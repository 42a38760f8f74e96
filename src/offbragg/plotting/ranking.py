"""The figure of ranked models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from offbragg.plotting.canvas import MISSING, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from offbragg.inference.ranking import RankedModel


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
        ax.barh(np.array(at) + 0.22, cc, 0.25, color=MISSING, label="null: wrong indexing")
    ax.set_yticks(places, [x.name for x in ranked])
    ax.invert_yaxis()
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_xlabel("correlation of anisotropic parts")
    ax.grid(alpha=0.3, axis="x")
    ax.legend(fontsize="small")
    return figure
