"""low_rank_start: motions that a map shows, each atom's free; and a fit from there."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import Covariance, HklGrid, InputError, fit, simulate
from offbragg.disorder import basis_of
from offbragg.inference import coarse_fields, low_rank_start
from offbragg.made_crystal import make_peptide

MADE = make_peptide("GASM")
# A motion that no rigid body has: one end swings, the further out the more.
CENTRED = MADE.positions - MADE.positions.mean(axis=0)
AXIS = CENTRED[-1] / np.linalg.norm(CENTRED[-1])
SWING = np.maximum(CENTRED @ AXIS + 1.0, 0.0)[:, None] ** 2 * np.cross(AXIS, [0.0, 0.0, 1.0])
SWING *= 0.5 / np.sqrt(np.mean(np.sum(SWING**2, axis=1)))
PEPTIDE = replace(MADE, u_aniso=np.einsum("ia,ib->iab", SWING, SWING))
# Where a fit of 72 numbers comes to in 24 maps and gradients of exact data.
LEAST_OVERLAP = 0.99


def overlap(factor):
    """Cosine between the largest motion of a factor and the truth."""
    motion = np.linalg.svd(factor.reshape(len(SWING) * 3, -1), full_matrices=False)[0][:, 0]
    return abs(float(motion @ SWING.ravel())) / np.linalg.norm(SWING)


@pytest.fixture(scope="module")
def observed():
    grid = HklGrid.from_resolution(PEPTIDE.cell, 2.0)
    return simulate(PEPTIDE, Covariance.from_factor(SWING[:, :, None]), grid)


def test_a_fit_from_there_finds_a_motion_that_the_basis_lacks(observed):
    start = low_rank_start(observed, PEPTIDE, 1, basis=basis_of(PEPTIDE, "fields"))
    assert overlap(start.factor) < LEAST_OVERLAP
    found = fit(observed, PEPTIDE, start, held_out=0.0, max_evaluations=24, errors="none",
                adp_error=0.02)  # fmt: skip
    assert overlap(found.model.factor) > LEAST_OVERLAP


def test_its_size_is_the_share_of_the_adps_that_was_asked_for(observed):
    for share in (0.2, 0.7):
        start = low_rank_start(observed, PEPTIDE, 1, basis=basis_of(PEPTIDE, "tls"), share=share)
        wanted = share * np.trace(PEPTIDE.u_aniso, axis1=1, axis2=2).sum()
        assert_allclose(np.sum(start.factor**2), wanted)


def test_no_column_is_zero(observed):
    """Columns without a slope would stay, and C of the map may have fewer motions."""
    start = low_rank_start(observed, PEPTIDE, 6, basis=basis_of(PEPTIDE, "tls"))
    assert np.all(np.sum(start.factor**2, axis=(0, 1)) > 0)


def test_fields_are_as_fine_as_their_number_allows():
    small, large = make_peptide("GAS"), make_peptide("GASMVLKA" * 2)
    assert coarse_fields(small).shape[2] <= 9
    assert 20 <= coarse_fields(large).shape[2] <= 45


def test_a_rank_that_cannot_be_is_refused(observed):
    with pytest.raises(InputError, match="rank must be at least 1, got 0"):
        low_rank_start(observed, PEPTIDE, 0)
    with pytest.raises(InputError, match="rank must be at most 6, the basis's, got 7"):
        low_rank_start(observed, PEPTIDE, 7, basis=basis_of(PEPTIDE, "tls"))
