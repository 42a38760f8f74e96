"""A fit says where the map agrees with the model in another indexing."""

import re
from dataclasses import replace

import numpy as np
import pytest

from offbragg import HklGrid, LiquidLike, fit, simulate
from offbragg.inference.other_indexing import told_other_indexing
from offbragg.made_crystal import make_peptide
from offbragg.maps.symmetrize import apply_operation

MODEL = LiquidLike(0.35, 5.0)


@pytest.fixture(scope="module")
def structure():
    """P 41: (h,k,l) and (k,h,−l) look alike to spots, not to structures."""
    peptide = make_peptide("GAS", u=0.1225, cell=(16, 16, 22, 90, 90, 90))
    return replace(peptide, space_group="P 41")


@pytest.fixture(scope="module")
def exact(structure):
    return simulate(structure, MODEL, HklGrid.from_resolution(structure.cell, 2.4))


def noisy(exact, seed=0):
    sigma = np.full(exact.grid.shape, 0.1 * np.nanmean(exact.intensity))
    noise = sigma * np.random.default_rng(seed).normal(size=sigma.shape)
    return replace(exact, intensity=exact.intensity + noise, sigma=sigma)


def test_a_fit_to_a_map_in_the_other_indexing_says_so(exact, structure):
    other = apply_operation(noisy(exact), "k,h,-l")
    found = fit(other, structure, MODEL, held_out=0.0, max_evaluations=12)
    assert re.search(r"if it is indexed as (-h,k,-l|k,h,-l): correlation 0", found.message)
    right = fit(noisy(exact), structure, MODEL, held_out=0.0, max_evaluations=12)
    assert "indexed" not in right.message


def test_noise_agrees_with_no_indexing(exact):
    rng = np.random.default_rng(1)
    noise = replace(exact, intensity=rng.normal(size=exact.grid.shape))
    assert told_other_indexing(noise, exact, lambda: exact) == ""


def test_a_map_that_cannot_be_turned_says_nothing(structure):
    # P 21 21 21 in a cell as if tetragonal: the other way exchanges h, sampled once, and k, twice.
    orthorhombic = replace(structure, space_group="P 21 21 21")
    grid = HklGrid.from_resolution(structure.cell, 4.0, (1, 2, 1))
    model = simulate(orthorhombic, MODEL, grid)
    turned = replace(model, intensity=model.intensity[::-1])
    assert told_other_indexing(turned, model, lambda: model) == ""
