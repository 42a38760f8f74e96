"""Maps to draw, and a renderer that has to get through."""

import io

import numpy as np

from offbragg import DiffuseMap, HklGrid

TRICLINIC = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)


def made_map(cell=TRICLINIC, seed=0, sampling=(1, 1, 1), d_min=2.5):
    """Noise about 10, of no symmetry."""
    grid = HklGrid.from_resolution(cell, d_min, sampling)
    values = np.random.default_rng(seed).normal(10, 2, grid.shape)
    return DiffuseMap(grid, np.where(grid.within(), values, np.nan))


def drawn(figure):
    """The figure, after a renderer has gone through it: warnings are errors."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure
