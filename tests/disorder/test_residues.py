"""Residues: correlations of centroids and principal motions against drawn displacements."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.networks import peptide
from tests.oracles import blocks
from tests.strategies import random_covariance, random_u

from offbragg import Covariance, InputError, LiquidLike, RigidBody, Uncorrelated
from offbragg.disorder import principal_motions, residue_correlations
from offbragg.scattering.displacements import Displacements

RTOL_ROUNDING = 1e-9  # the same sums in another order
RESIDUES = peptide(6)


def drawn(v, n_draws, seed=0):
    """Displacements (n_draws, n, 3) of a covariance (n, n, 3, 3)."""
    n = len(v)
    flat = v.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    values, vectors = np.linalg.eigh(flat)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = np.random.default_rng(seed).normal(size=(n_draws, 3 * n))
    return (draws @ root.T).reshape(n_draws, n, 3)


# --- 1 reference numbers -------------------------------------------------


def test_two_residues_by_hand():
    # Residue 1: two atoms of u = 1, correlation ½: C = (1 + 1 + 2·½)/4 = ¾. Residue 2: one, u = 4.
    structure = RESIDUES.take(np.array([0, 1, 5]))
    v = np.array([[1.0, 0.5, 0.6], [0.5, 1.0, 0.2], [0.6, 0.2, 4.0]])
    found = residue_correlations(Displacements(v), structure)
    assert_allclose(found.covariance, [[0.75, 0.4], [0.4, 4.0]])
    assert_allclose(found.correlation, [[1.0, 0.4 / np.sqrt(3)], [0.4 / np.sqrt(3), 1.0]])
    assert found.labels == ("A ALA 1", "A ALA 2")
    assert found.numbers.tolist() == [1, 2]


# --- 2 independent oracle ------------------------------------------------


def test_correlations_are_those_of_drawn_centroids():
    rng, n = np.random.default_rng(1), RESIDUES.n_atoms
    v = random_covariance(rng, n, 0.3, rank=7)
    own = random_u(rng, n, 0.1)
    occupancies = rng.uniform(0.2, 1.0, n)
    structure = replace(RESIDUES, occupancies=occupancies)
    found = residue_correlations(Displacements(v, own), structure)
    whole = v.copy()
    whole[range(n), range(n)] += own
    moves = drawn(whole, 40_000)
    keys = np.unique(structure.residue_numbers)
    centroids = np.stack(
        [
            np.average(moves[:, structure.residue_numbers == k], axis=1,
                       weights=occupancies[structure.residue_numbers == k])
            for k in keys
        ], axis=1,
    )  # fmt: skip
    expected = np.einsum("dax,dbx->ab", centroids, centroids) / (3 * len(moves))
    # The sampling error of a variance of 120 000 numbers is 0.4 %.
    assert_allclose(found.covariance, expected, atol=0.02 * np.abs(expected).max())
    assert found.numbers.tolist() == sorted(keys.tolist())


def test_principal_motions_are_the_leading_eigenvectors():
    rng, n = np.random.default_rng(2), RESIDUES.n_atoms
    v, own = random_covariance(rng, n, 0.3), random_u(rng, n, 0.1)
    motions, shares = principal_motions(Displacements(v, own), RESIDUES, 4)
    whole = v.copy()
    whole[range(n), range(n)] += own
    flat = whole.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    values = np.linalg.eigvalsh(flat)[::-1]
    assert_allclose(shares, values[:4] / values.sum(), rtol=1e-8)
    for motion, value in zip(motions.reshape(4, -1), values, strict=False):
        assert motion @ motion == pytest.approx(value, rel=1e-8)
        assert_allclose(flat @ motion, value * motion, atol=1e-7 * value)


# --- 3 exact limits ------------------------------------------------------


def test_a_rigid_body_is_one_residue():
    found = residue_correlations(RigidBody(0.1).displacements(RESIDUES), RESIDUES)
    assert_allclose(found.correlation, 1.0, rtol=RTOL_ROUNDING)
    motions, shares = principal_motions(RigidBody(0.1).displacements(RESIDUES), RESIDUES, 9)
    assert len(motions) == 3
    assert_allclose(shares, 1 / 3)
    assert_allclose(np.linalg.norm(motions, axis=2), np.sqrt(0.1), rtol=RTOL_ROUNDING)


def test_independent_atoms_do_not_correlate():
    found = residue_correlations(Uncorrelated().displacements(RESIDUES), RESIDUES)
    assert_allclose(found.correlation, np.eye(len(found.numbers)), atol=1e-12)


def test_what_stands_still_has_no_correlation():
    n = RESIDUES.n_atoms
    v = np.zeros((n, n))
    v[0, 0] = 0.1
    found = residue_correlations(Displacements(v), RESIDUES)
    assert_allclose(found.correlation, np.eye(len(found.numbers)))
    motions, shares = principal_motions(Displacements(np.zeros((n, n))), RESIDUES)
    assert motions.shape == (0, n, 3)
    assert len(shares) == 0


# --- 4 invariances -------------------------------------------------------


def test_factors_and_matrices_give_the_same():
    rng, n = np.random.default_rng(3), RESIDUES.n_atoms
    model = Covariance.from_factor(0.2 * rng.normal(size=(n, 3, 5)))
    moves = model.displacements(RESIDUES)
    dense = Displacements(blocks(moves.correlated))
    one, other = (residue_correlations(x, RESIDUES) for x in (moves, dense))
    assert_allclose(one.covariance, other.covariance, rtol=RTOL_ROUNDING, atol=1e-12)
    for a, b in zip(*(principal_motions(x, RESIDUES, 4) for x in (moves, dense)), strict=True):
        assert_allclose(a, b, atol=1e-7)


def test_the_order_of_atoms_is_the_order_of_residues():
    order = np.random.default_rng(4).permutation(RESIDUES.n_atoms)
    turned = RESIDUES.take(order)
    model = LiquidLike(0.3, 5.0)
    one = residue_correlations(model.displacements(RESIDUES), RESIDUES)
    other = residue_correlations(model.displacements(turned), turned)
    place = [other.labels.index(label) for label in one.labels]
    assert_allclose(other.covariance[np.ix_(place, place)], one.covariance, rtol=RTOL_ROUNDING)


# --- 5 errors ------------------------------------------------------------


def test_what_has_no_matrix_is_refused():
    across = LiquidLike(0.3, 2.0, coherence="crystal").displacements(RESIDUES)
    with pytest.raises(InputError, match="residues need a covariance within one unit"):
        residue_correlations(across, RESIDUES)
    with pytest.raises(InputError, match=r"correlated displacements must be \(31, 31\)"):
        residue_correlations(Displacements(np.eye(2)), RESIDUES)
    with pytest.raises(InputError, match="n_motions must be at least 1, got 0"):
        principal_motions(Displacements(np.eye(31)), RESIDUES, 0)
