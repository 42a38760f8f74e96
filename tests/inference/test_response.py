"""The design of an inference: columns against exact derivatives of maps, covariances of groups."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.strategies import random_covariance

from offbragg import Covariance, HklGrid, LiquidLike, MapOperator
from offbragg.disorder.residues import residue_correlations, residues_of
from offbragg.inference.response import GroupFields, group_covariance, response_columns
from offbragg.made_crystal import make_peptide
from offbragg.scattering.displacements import Displacements, as_blocks
from offbragg.scattering.engine import Engine

# Of the largest derivative: single precision, and the tolerance of the exact map.
CLOSE = 2e-3
RTOL_MAP = 1e-5


@pytest.fixture(scope="module")
def peptide():
    return make_peptide("GAS", u=0.1)


@pytest.mark.parametrize(
    "base", [LiquidLike(0.3, 5.0), "covariance"], ids=["isotropic", "anisotropic"]
)
def test_columns_are_derivatives_of_the_map_where_groups_are_atoms(peptide, base):
    n = peptide.n_atoms
    if base == "covariance":
        base = Covariance(random_covariance(np.random.default_rng(2), n, 0.1))
    moves = base.displacements(peptide)
    fields = GroupFields.of(peptide, np.arange(n), smoothing=4.0, reach=8.0, n_most=2)
    grid = HklGrid.from_resolution(peptide.cell, 3.0)
    # As blocks: the change is anisotropic whatever the base.
    blocks = Displacements(as_blocks(moves.dense(n)))
    operator = MapOperator(peptide, blocks, grid, Engine(rtol=RTOL_MAP))
    wanted = grid.within()
    columns = response_columns(peptide, moves, grid.hkl()[wanted], fields)
    rng = np.random.default_rng(0)
    for _ in range(3):
        numbers = rng.normal(size=fields.n_numbers)
        change = fields.covariance(numbers * fields.scales)
        expected = operator.product(Displacements(change))[wanted]
        found = columns @ numbers
        assert_allclose(found, expected, atol=CLOSE * np.abs(expected).max())


def test_changes_of_the_covariance_are_symmetric_and_fade(peptide):
    group, _ = residues_of(peptide)
    fields = GroupFields.of(peptide, group, smoothing=5.0, reach=3.0)
    change = fields.covariance(np.random.default_rng(1).normal(size=fields.n_numbers))
    assert_allclose(change, change.transpose(1, 0, 3, 2), atol=1e-12)
    near, far = np.abs(change[0, 1]).max(), np.abs(change[0, 2]).max()
    assert far < near
    assert fields.centroids.shape == (3, 3)


def test_numbers_of_variance_one_are_random_symmetric_matrices(peptide):
    """Each diagonal number has twice the variance of the others, so no direction is special."""
    fields = GroupFields.of(peptide, residues_of(peptide)[0], smoothing=5.0, reach=1e6, n_most=1)
    rng = np.random.default_rng(3)
    drawn = [
        fields.covariance(rng.normal(size=fields.n_numbers) * fields.scales)[0, 0]
        for _ in range(4000)
    ]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = turn @ np.array(drawn) @ turn.T
    before, after = (np.mean(np.square(x), axis=0) for x in (drawn, turned))
    # 4000 draws: 2 % each, a few times over.
    assert_allclose(after, before, rtol=0.15)


@pytest.mark.parametrize("anisotropic", [False, True])
def test_covariance_of_groups_is_that_of_their_centroids(peptide, anisotropic):
    rng = np.random.default_rng(4)
    v = random_covariance(rng, peptide.n_atoms, 0.1, anisotropic=anisotropic)
    own = np.broadcast_to(0.02 * np.eye(3), (peptide.n_atoms, 3, 3)).copy()
    moves = Displacements(v, own)
    found = group_covariance(moves, residues_of(peptide)[0], peptide.occupancies)
    expected = residue_correlations(moves, peptide).covariance
    assert_allclose(np.trace(found, axis1=2, axis2=3) / 3, expected, atol=1e-12)
