"""A small crystal, its true map, and noisy copies of it: quick enough for many fits."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import DiffuseMap, HklGrid, LiquidLike, simulate
from offbragg.made_crystal import make_peptide

TRUTH = LiquidLike(rms_displacement=0.35, correlation_length=5.0)
SCALE = 3.0


def isotropic_offset(grid):
    """A smooth background that falls off with |q|, as tall as the diffuse scattering itself."""
    return 1500.0 * np.exp(-2 * np.pi * grid.inv_d())


@pytest.fixture(scope="session")
def structure():
    """Twenty-four atoms, all of one element: one transform a simulation."""
    peptide = make_peptide("GASM", u=0.1225)
    return replace(peptide, elements=np.full(peptide.n_atoms, "C"))


@pytest.fixture(scope="session")
def truth(structure):
    """The map of the true motions, 358 unique voxels of the 1273 within 1.8 Å."""
    return simulate(structure, TRUTH, HklGrid.from_resolution(structure.cell, 1.8))


@pytest.fixture(scope="session")
def observe(truth):
    """Make an observation: scale times truth, a smooth background, Gaussian noise of known σ."""

    def make(seed, level=0.1, background=True, has_sigma=True):
        rng = np.random.default_rng(seed)
        sigma = level * np.nanmean(truth.intensity) * SCALE / 3
        # Of two kinds of voxels, so that weights matter.
        sigmas = np.where(rng.uniform(size=truth.grid.shape) < 0.3, 3 * sigma, sigma)
        values = SCALE * truth.intensity + rng.normal(size=truth.grid.shape) * sigmas
        if background:
            values = values + isotropic_offset(truth.grid)
        return DiffuseMap(
            truth.grid, values, truth.space_group, sigma=sigmas if has_sigma else None
        )

    return make
