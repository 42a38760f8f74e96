"""Figures on matplotlib: of maps, models and statistics, for journals, reports and pages.

Each function takes data and returns a `matplotlib.figure.Figure` that belongs to the caller;
nothing is shown and no global state of pyplot is touched.
"""

from offbragg.plotting.canvas import (
    DOUBLE_COLUMN,
    SINGLE_COLUMN,
    journal_style,
    save_figure,
)
from offbragg.plotting.correlations import draw_distance_correlations, draw_residue_correlations
from offbragg.plotting.halos import draw_halos
from offbragg.plotting.images import draw_image
from offbragg.plotting.masks import draw_mask
from offbragg.plotting.model_data import draw_model
from offbragg.plotting.profiles import draw_profiles
from offbragg.plotting.ranking import draw_ranking
from offbragg.plotting.sections import SectionOptions, draw_sections
from offbragg.plotting.shells import (
    comparison_columns,
    draw_agreement,
    draw_correlation,
    draw_self_agreement,
)

__all__ = [
    "DOUBLE_COLUMN",
    "SINGLE_COLUMN",
    "SectionOptions",
    "comparison_columns",
    "draw_agreement",
    "draw_correlation",
    "draw_distance_correlations",
    "draw_halos",
    "draw_image",
    "draw_mask",
    "draw_model",
    "draw_profiles",
    "draw_ranking",
    "draw_residue_correlations",
    "draw_sections",
    "draw_self_agreement",
    "journal_style",
    "save_figure",
]
