"""Smooth functions of direction: how many, their symmetry, and Legendre polynomials by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.crystal.cell import Cell
from offbragg.crystal.symmetry import laue_rotations
from offbragg.errors import InputError
from offbragg.inference.harmonics import Harmonics

# Directions that means are taken over are finite in number: 400 give means to some 1e-4.
SAMPLED = 2e-3
ROUNDING = 1e-9

# Even harmonics of degrees 2, 4, 6, 8 that each Laue group keeps, added up (International Tables,
# or Σ over degrees of the trivial representation's multiplicity).
COUNTS = {
    "-1": ((11, 13, 17, 82, 95, 104), (5, 14, 27, 44)),
    "2/m": ((12, 9, 15, 90, 112, 90), (3, 8, 15, 24)),
    "mmm": ((9, 12, 16, 90, 90, 90), (2, 5, 9, 14)),
    "4/m": ((12, 12, 17, 90, 90, 90), (1, 4, 7, 12)),
    "4/mmm": ((12, 12, 17, 90, 90, 90), (1, 3, 5, 8)),
    "-3": ((13, 13, 16, 90, 90, 120), (1, 4, 9, 14)),
    "6/m": ((13, 13, 16, 90, 90, 120), (1, 2, 5, 8)),
    "m-3m": ((14, 14, 14, 90, 90, 90), (0, 1, 2, 3)),
}


def harmonics(group, degree):
    edges, _ = COUNTS[group]
    cell = Cell(*(float(x) for x in edges))
    return cell, Harmonics.of(cell, laue_rotations(group), degree)


@pytest.mark.parametrize("group", COUNTS)
def test_there_are_as_many_as_the_group_keeps(group):
    found = [harmonics(group, degree)[1].n_functions for degree in (0, 2, 4, 6, 8)]
    assert found == [0, *COUNTS[group][1]]


@pytest.mark.parametrize("group", ["2/m", "4/m", "-3"])
def test_equivalents_have_the_same_values(group):
    cell, found = harmonics(group, 4)
    hkl = np.random.default_rng(0).normal(size=(20, 3))
    expected = found.values(hkl @ cell.frac_matrix)
    for rotation in laue_rotations(group):
        turned = found.values((hkl @ rotation) @ cell.frac_matrix)
        assert_allclose(turned, expected, atol=ROUNDING)


def test_a_tetragonal_quadrupole_is_the_legendre_polynomial():
    _, found = harmonics("4/m", 2)
    q = np.random.default_rng(1).normal(size=(30, 3))
    z = q[:, 2] / np.linalg.norm(q, axis=1)
    legendre = np.sqrt(5.0) * 0.5 * (3 * z**2 - 1)
    values = found.values(q)[:, 0]
    assert_allclose(values * np.sign(values[0] * legendre[0]), legendre, atol=SAMPLED)


def test_functions_are_orthonormal_with_mean_zero():
    _, found = harmonics("2/m", 4)
    q = np.random.default_rng(2).normal(size=(40_000, 3))
    values = found.values(q)
    # Random directions: 1/√40 000, a few times over.
    assert_allclose(values.mean(axis=0), 0.0, atol=0.03)
    assert_allclose(values.T @ values / len(q), np.eye(8), atol=0.05)


@pytest.mark.parametrize("degree", [1, 3, 10, -2])
def test_other_degrees_are_refused(degree):
    with pytest.raises(InputError, match=f"even degree, 0 to 8, got {degree}"):
        harmonics("4/m", degree)
