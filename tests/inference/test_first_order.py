"""start_from_map: a linear problem solved within what is possible, and what it is good for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import BasisCovariance, HklGrid, InputError, simulate
from offbragg.disorder import basis_of
from offbragg.inference import start_from_map
from offbragg.inference.first_order import _positive_least_squares
from offbragg.made_crystal import make_peptide

PEPTIDE = make_peptide("GASM", u=0.02)
BASIS = basis_of(PEPTIDE, "tls")
# Motions so small that first order holds: U of 0.01 Å², shifts and turns that are correlated.
ROOT = np.diag([0.1, 0.06, 0.08, 0.02, 0.01, 0.015]) @ (
    np.eye(6) + 0.3 * np.random.default_rng(0).normal(size=(6, 6))
)
TRUTH = BasisCovariance(BASIS, ROOT @ ROOT.T)
# The next order in q²U is q²U/2 ≈ 2 % on average here; C is told to some of that.
SECOND_ORDER = 0.06


def correlation(one, other):
    """Of two covariances in the basis, as atoms move by them."""
    v = [BASIS.reshape(-1, 6) @ c @ BASIS.reshape(-1, 6).T for c in (one, other)]
    return float(np.sum(v[0] * v[1]) / np.linalg.norm(v[0]) / np.linalg.norm(v[1]))


@pytest.fixture(scope="module")
def observed():
    return simulate(PEPTIDE, TRUTH, HklGrid.from_resolution(PEPTIDE.cell, 2.0, (2, 2, 2)))


def test_small_motions_are_recovered_without_a_guess(observed):
    found = start_from_map(observed, PEPTIDE, BASIS, d_min=2.5)
    assert correlation(found.coefficients, TRUTH.coefficients) > 1 - SECOND_ORDER
    # The scale of a map is unknown: the size is the share of the ADPs that was asked for.
    flat = BASIS.reshape(-1, 6)
    moved = np.sum((flat @ found.coefficients) * flat)
    assert moved == pytest.approx(0.5 * np.trace(PEPTIDE.u_aniso, axis1=1, axis2=2).sum())


def test_units_of_the_basis_do_not_matter(observed):
    units = np.array([1.0, 10.0, 0.1, 3.0, 1.0, 0.5])
    one = start_from_map(observed, PEPTIDE, BASIS, d_min=2.5)
    other = start_from_map(observed, PEPTIDE, BASIS * units, d_min=2.5)
    scaled = other.coefficients * units[:, None] * units
    assert correlation(one.coefficients, scaled) == pytest.approx(1.0, abs=1e-4)


def test_an_isotropic_basis_keeps_its_form(observed):
    basis = np.random.default_rng(1).normal(size=(PEPTIDE.n_atoms, 3))
    found = start_from_map(observed, PEPTIDE, basis, d_min=2.5)
    assert found.basis.shape == (PEPTIDE.n_atoms, 3)
    assert np.linalg.eigvalsh(found.coefficients)[0] > -1e-12


def test_the_least_squares_are_those_of_a_convex_problem():
    """At the solution no possible change lowers the misfit: the conditions of optimality."""
    rng = np.random.default_rng(2)
    n = 4
    design, data = rng.normal(size=(60, n * (n + 1) // 2)), rng.normal(size=60)
    c = _positive_least_squares(design, data, n)
    rows, columns = np.triu_indices(n)
    slopes = np.zeros((n, n))
    by_triangle = 2 * design.T @ (design @ c[rows, columns] - data)
    slopes[rows, columns] = np.where(rows == columns, by_triangle, by_triangle / 2)
    slopes = np.maximum(slopes, slopes.T) + np.minimum(slopes, slopes.T) - np.diag(np.diag(slopes))
    size = np.abs(design.T @ data).max()
    assert np.linalg.eigvalsh(c)[0] > -1e-9
    # Slopes are positive semi-definite and at right angles to C (Karush, Kuhn and Tucker).
    assert np.linalg.eigvalsh(slopes)[0] > -1e-3 * size
    assert_allclose(np.sum(slopes * c), 0.0, atol=1e-3 * size)
    # Where the unconstrained solution is possible, it is the solution.
    inside = np.eye(n)[rows, columns] + 0.1
    assert_allclose(_positive_least_squares(design, design @ inside, n)[rows, columns], inside,
                    atol=1e-3)  # fmt: skip


def test_what_cannot_be_is_refused(observed):
    with pytest.raises(InputError, match=f"structure's {PEPTIDE.n_atoms} atoms, got 2"):
        start_from_map(observed, PEPTIDE, np.ones((2, 3, 1)))
    with pytest.raises(InputError, match="unique voxels cannot determine the 21 numbers"):
        start_from_map(observed, PEPTIDE, BASIS, d_min=13.0)
    still = BASIS.copy()
    still[:, :, 2] = 0.0
    with pytest.raises(InputError, match="mode 2 moves no atom"):
        start_from_map(observed, PEPTIDE, still)
