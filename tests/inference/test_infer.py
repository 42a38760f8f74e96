"""`infer_covariance`: a motion that the base model lacks is found, and none where there is none."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import (
    Covariance,
    DiffuseMap,
    HklGrid,
    InputError,
    LiquidLike,
    RigidBody,
    infer_covariance,
    simulate,
)
from offbragg.disorder.residues import residue_correlations
from offbragg.made_crystal import make_peptide

BASE = LiquidLike(rms_displacement=0.3, correlation_length=6.0)
START = LiquidLike(rms_displacement=0.33, correlation_length=7.0)
NOISE = 0.05  # of the map's mean
BEND = 0.35  # Å at either end
QUICK = {"smoothing": 8.0, "reach": 20.0, "harmonics": 2, "block_edge": 1, "n_folds": 2}
# A gain this many standard errors above zero is no chance.
SURE = 4.0


@pytest.fixture(scope="module")
def helix():
    peptide = make_peptide("GASMKDLV", u=0.1)
    return replace(peptide, elements=np.full(peptide.n_atoms, "C"))


@pytest.fixture(scope="module")
def bent(helix):
    """Liquid-like motions and one more: the ends go to either side along x."""
    along = helix.positions[:, 1] - helix.positions[:, 1].mean()
    factor = np.zeros((helix.n_atoms, 3, 1))
    factor[:, 0, 0] = BEND * along / np.abs(along).max()
    return BASE + Covariance.from_factor(factor)


def observe(structure, model, has_sigma=True):
    grid = HklGrid.from_resolution(structure.cell, 2.4, (2, 2, 2))
    made = simulate(structure, model, grid)
    sigma = np.full(grid.shape, NOISE * np.nanmean(made.intensity))
    noisy = made.intensity + sigma * np.random.default_rng(0).normal(size=grid.shape)
    return DiffuseMap(grid, noisy, structure.space_group, sigma=sigma if has_sigma else None)


@pytest.fixture(scope="module")
def found(helix, bent):
    observed = observe(helix, bent)
    return observed, infer_covariance(observed, helix, START, n_resamples=4, **QUICK)


def test_it_gains_on_voxels_that_it_has_not_seen(found):
    _, result = found
    for score in (result.exact, result.linear):
        assert score.gain > SURE * score.gain_error > 0
        assert score.gain == pytest.approx(score.cc - score.base)
    assert result.exact.cc <= result.cc_working
    assert result.cc_smooth < result.linear.base


def test_correlations_of_residues_come_closer_to_the_truth(found, helix, bent):
    truth = residue_correlations(bent.displacements(helix), helix).correlation
    pairs = np.triu_indices(len(truth), 1)

    def distance(residues):
        return float(np.abs(residues.correlation - truth)[pairs].mean())

    _, result = found
    assert distance(result.residues) < 0.75 * distance(result.base_residues)
    assert result.residues.labels[0] == "A GLY 1"


def test_the_wrong_indexing_gains_less(found):
    _, result = found
    # Not near 0: the helix lies along the axis of the turn, which keeps its envelope.
    assert result.null is not None
    assert result.null.cc < result.linear.base - 0.1


def test_the_covariance_is_a_possible_one_and_its_map_is_the_model_map(found, helix):
    observed, result = found
    v = result.model.displacements(helix).dense(helix.n_atoms)
    flat = v.transpose(0, 2, 1, 3).reshape(3 * helix.n_atoms, -1)
    assert np.linalg.eigvalsh(flat)[0] > -1e-6
    assert 0 <= result.clipped < 0.05
    rest = observed.intensity - result.model_map.intensity
    np.testing.assert_allclose(result.residual_map.intensity, rest)
    # Both halves of the work agree: residuals are noise, up to what regularisation leaves.
    assert np.sqrt(np.nanmean((rest / observed.sigma) ** 2)) < 2.0


def test_the_count_of_numbers_is_honest(found):
    _, result = found
    assert len(result.spectrum) == result.n_numbers
    assert 1 < result.n_determined == pytest.approx(result.spectrum.sum())
    assert result.n_determined < result.n_numbers
    assert result.correlation_errors.shape == result.residues.correlation.shape
    off = ~np.eye(len(result.correlation_errors), dtype=bool)
    assert np.all(result.correlation_errors[off] > 0)


def test_nothing_is_found_where_the_base_is_the_truth(helix):
    observed = observe(helix, BASE, has_sigma=False)
    result = infer_covariance(observed, helix, START, null=False, **QUICK)
    assert result.exact.gain < 2.0 * result.exact.gain_error or result.exact.gain < 0.002
    assert result.null is None
    assert result.correlation_errors is None


def test_groups_of_ones_own_are_named_by_number(helix):
    observed = observe(helix, BASE)
    halves = (np.arange(helix.n_atoms) >= helix.n_atoms // 2).astype(np.int64)
    result = infer_covariance(observed, helix, START, groups=halves, null=False, **QUICK)
    assert result.residues.labels == ("group 0", "group 1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": 0.0}, "smoothing must be > 0"),
        ({"harmonics": 3}, "harmonics must be an even degree"),
        ({"n_resamples": 1}, "n_resamples must be 0 or at least 2"),
        ({"stiffness": 1.0}, "no option 'stiffness'"),
        ({"max_memory": 10.0}, "too little for one field"),
        ({"groups": np.zeros(3, int)}, "groups must be whole numbers"),
        ({"background": "flat"}, "background must be one of"),
    ],
)
def test_bad_options_are_refused(helix, options, message):
    observed = observe(helix, RigidBody(0.1))
    with pytest.raises(InputError, match=message):
        infer_covariance(observed, helix, RigidBody(0.1), **(QUICK | options))


def test_motions_beyond_one_copy_are_refused(helix):
    observed = observe(helix, RigidBody(0.1))
    crystal = LiquidLike(0.3, 6.0, coherence="crystal")
    with pytest.raises(InputError, match="one copy"):
        infer_covariance(observed, helix, crystal, **QUICK)
