"""Uncorrelated: the file's ADPs, each atom by itself."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.oracles import copies, form_factors
from tests.strategies import CRYSTALS, random_structure

from offbragg import HklGrid, Uncorrelated, simulate

MAP_ERROR = 1e-3  # of the mean, the project's own figure

MONOCLINIC = CRYSTALS["monoclinic"]


@pytest.fixture
def structure():
    """Eight atoms with ANISOU in P 2₁."""
    return random_structure(np.random.default_rng(1), 8, MONOCLINIC[0], MONOCLINIC[1][0])


# --- 2 independent oracle ------------------------------------------------


def test_einstein_form_with_each_copys_own_adps(structure):
    # Σ_copies Σ_i f_i² [1 − exp(−qᵀU_i q)], U turned with the copy.
    grid = HklGrid.from_resolution(structure.cell, 2.0, (2, 1, 1))
    found = simulate(structure, Uncorrelated(), grid).intensity[grid.within()]
    q = grid.q()[grid.within()]
    f = form_factors(structure.elements, q, structure.occupancies)
    v = np.zeros((8, 8, 3, 3))
    v[range(8), range(8)] = structure.u_aniso
    expected = np.zeros(len(q))
    for _, turned in copies(structure.positions, v, structure.cell, structure.space_group):
        x = np.einsum("qx,ixy,qy->qi", q, turned[range(8), range(8)], q)
        expected += (f**2 * -np.expm1(-x)).sum(axis=1)
    assert np.abs(found - expected).max() < MAP_ERROR * expected.mean()


# --- 3 exact limits ------------------------------------------------------


def test_the_displacements_are_the_files(structure):
    moves = Uncorrelated().displacements(structure)
    assert moves.correlated is None
    assert_allclose(moves.u_aniso(8), structure.u_aniso, rtol=0)


def test_both_readings_of_the_adps_are_the_same(structure):
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    maps = [simulate(structure, Uncorrelated(), grid, adps=adps) for adps in ("model", "file")]
    assert_allclose(maps[1].intensity, maps[0].intensity, rtol=1e-6, atol=1e-9)


# --- 5 errors ------------------------------------------------------------


def test_an_adp_that_is_no_motion_is_named_and_mended(structure, caplog):
    # Files hold such ADPs: an eigenvalue of −0.05 Å². The nearest motion has 0 there.
    u = structure.u_aniso.copy()
    u[2] = np.diag([0.1, 0.1, -0.05])
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    found = simulate(replace(structure, u_aniso=u), Uncorrelated(), grid)
    assert "U of 1 atoms" in caplog.text
    assert "index 2" in caplog.text
    u[2] = np.diag([0.1, 0.1, 0.0])
    expected = simulate(replace(structure, u_aniso=u), Uncorrelated(), grid)
    np.testing.assert_allclose(found.intensity, expected.intensity, rtol=1e-12)
