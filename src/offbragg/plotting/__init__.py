"""Figures on matplotlib, used by reports."""

from offbragg.plotting.figures import (
    draw_agreement,
    draw_correlation,
    draw_image,
    draw_profiles,
    draw_ranking,
    draw_residue_correlations,
    draw_sections,
)
from offbragg.plotting.masks import draw_mask

__all__ = [
    "draw_agreement",
    "draw_correlation",
    "draw_image",
    "draw_mask",
    "draw_profiles",
    "draw_ranking",
    "draw_residue_correlations",
    "draw_sections",
]
