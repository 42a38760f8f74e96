"""rank_models: the model that made the data comes first, and no model by fitting more."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import (
    BasisCovariance,
    DiffuseMap,
    HklGrid,
    InputError,
    LiquidLike,
    RigidBody,
    Uncorrelated,
    rank_models,
    simulate,
)
from offbragg.made_crystal import make_peptide

FOUR = 4.0  # standard errors
NOISE = 0.05  # of the map's mean: a good measurement
# One step against a fit, of what leaving a fold out changes: second order in that.
ONE_STEP = 0.2
QUICK = {"n_folds": 2, "max_evaluations": 100}


@pytest.fixture(scope="module")
def crystal():
    peptide = make_peptide("GASM", u=0.1)
    return replace(peptide, elements=np.full(peptide.n_atoms, "C"))


def domains(n_atoms, covariance):
    """Two halves that shift along x: B of unit shifts, C (2, 2)."""
    basis = np.zeros((n_atoms, 3, 2))
    for number, part in enumerate(np.split(np.arange(n_atoms), 2)):
        basis[part, 0, number] = 1.0
    return BasisCovariance(basis, covariance)


#: Where each model starts, and what made the data.
CANDIDATES = {
    "uncorrelated": lambda n: Uncorrelated(),
    "rigid body": lambda n: RigidBody(0.08),
    "liquid-like": lambda n: LiquidLike(0.3, 6.0),
    "two domains": lambda n: domains(n, 0.08 * np.eye(2)),
}
TRUTHS = {
    "rigid body": lambda n: RigidBody([[0.12, 0.02, 0.0], [0.02, 0.06, 0.01], [0.0, 0.01, 0.09]]),
    "liquid-like": lambda n: LiquidLike(0.35, 4.0),
    "two domains": lambda n: domains(n, np.array([[0.2, -0.12], [-0.12, 0.1]])),
}


def observe(structure, model, seed=0, d_min=2.3):
    grid = HklGrid.from_resolution(structure.cell, d_min)
    made = simulate(structure, model, grid)
    rng = np.random.default_rng(seed)
    sigma = np.full(grid.shape, NOISE * np.nanmean(made.intensity))
    noisy = made.intensity + sigma * rng.normal(size=grid.shape)
    return DiffuseMap(grid, noisy, structure.space_group, sigma=sigma)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("name", TRUTHS)
def test_the_model_that_made_the_data_comes_first(crystal, name):
    observed = observe(crystal, TRUTHS[name](crystal.n_atoms), seed=3)
    models = {key: make(crystal.n_atoms) for key, make in CANDIDATES.items()}
    ranked = rank_models(observed, crystal, models, **QUICK)
    assert ranked[0].name == name, [(x.name, x.cc, x.behind, x.behind_error) for x in ranked]
    assert ranked[0].cc > 0.9
    assert len(ranked) == 4


# --- 3 exact limits ------------------------------------------------------


def test_noise_is_no_motion(crystal):
    # Whatever is fitted to noise is worth nothing where it was not fitted.
    observed = observe(crystal, LiquidLike(0.3, 4.0), d_min=2.0)
    rng = np.random.default_rng(5)
    values = 1000.0 + rng.normal(size=observed.grid.shape)
    noise = replace(observed, intensity=values, sigma=np.ones(observed.grid.shape))
    models = {"liquid-like": LiquidLike(0.3, 6.0), "rigid": RigidBody(0.08)}
    for ranked in rank_models(noise, crystal, models, **QUICK):
        assert ranked.cc_working > ranked.cc
        assert abs(ranked.cc) < 0.15


def test_a_model_without_parameters_is_judged_as_it_is(crystal):
    observed = observe(crystal, LiquidLike(0.3, 4.0))
    (ranked,) = rank_models(observed, crystal, {"alone": Uncorrelated()}, **QUICK)
    assert ranked.n_numbers == 0
    assert ranked.cc == pytest.approx(ranked.cc_working)
    assert ranked.behind == ranked.behind_error == 0.0
    assert ranked.gain == ranked.gain_error == 0.0
    assert ranked.reference == "alone"
    assert ranked.cc_null is None


def test_folds_that_share_out_the_isotropic_part_otherwise_do_not_spoil_the_whole(crystal):
    # Few noisy voxels: scale and amplitude of a fold are loose, and with them the model's own
    # isotropic part. Pooled with that, 0.37 came of folds of 0.79 and 0.75.
    made = simulate(crystal, LiquidLike(0.35, 4.0), HklGrid.from_resolution(crystal.cell, 2.5))
    rng = np.random.default_rng(1)
    sigma = np.full(made.grid.shape, 0.3 * np.nanmean(made.intensity))
    noisy = made.intensity + sigma * rng.normal(size=made.grid.shape)
    observed = DiffuseMap(made.grid, noisy, made.space_group, sigma=sigma)
    (ranked,) = rank_models(
        observed, crystal, {"a": LiquidLike(0.3, 6.0)}, n_folds=2, background="shells", block_edge=2
    )
    assert abs(ranked.cc - ranked.cc_by_fold.mean()) < 0.03


def test_gains_are_differences_of_cc_from_the_reference(crystal):
    observed = observe(crystal, LiquidLike(0.35, 4.0), seed=1)
    models = {"liquid-like": LiquidLike(0.3, 6.0), "alone": Uncorrelated()}
    for name in (None, "alone"):
        found = rank_models(observed, crystal, models, reference=name, **QUICK)
        ranked = {x.name: x for x in found}
        base = ranked[name or "liquid-like"]
        assert base.gain == base.gain_error == 0.0
        for x in found:
            assert x.reference == base.name
            assert x.gain == pytest.approx(x.cc - base.cc)
            assert x.behind == pytest.approx(found[0].cc - x.cc)
    # Right is better than nothing by far more than the error of their difference.
    right = ranked["liquid-like"]
    assert right.gain > FOUR * right.gain_error > 0
    assert 0 < right.cc_error < 0.1


def test_a_wrongly_indexed_map_is_no_motion(crystal):
    observed = observe(crystal, LiquidLike(0.35, 4.0), seed=2)
    models = {"liquid-like": LiquidLike(0.3, 6.0), "rigid": RigidBody(0.08)}
    for ranked in rank_models(observed, crystal, models, null=True, **QUICK):
        # Turned about the helix much of the envelope is the same: the floor is not 0.
        assert ranked.cc_null < ranked.cc - 0.3


@pytest.mark.parametrize("name", ["rigid body", "liquid-like"])
def test_one_step_without_a_fold_is_a_fit_without_it(crystal, name):
    n = crystal.n_atoms
    observed = observe(crystal, TRUTHS[name](n), seed=1)
    options = {"adp_error": 0.05, "n_folds": 6, "max_evaluations": 100}
    models = {name: CANDIDATES[name](n)}
    (stepped,) = rank_models(observed, crystal, models, refit=False, **options)
    (fitted,) = rank_models(observed, crystal, models, **options)
    optimism = fitted.cc_working - fitted.cc
    assert optimism > 0
    assert stepped.cc == pytest.approx(fitted.cc, abs=ONE_STEP * optimism)
    assert stepped.cc_error == pytest.approx(fitted.cc_error, rel=ONE_STEP)


def test_restraints_hold_in_every_fold(crystal):
    """Without them a rigid body would take what the map wants."""
    observed = observe(crystal, RigidBody(0.3))
    tight = {"adp_error": 1e-4, **QUICK}
    (ranked,) = rank_models(observed, crystal, {"rigid": RigidBody(0.08)}, **tight)
    found = np.trace(ranked.model.translation) / 3
    assert found == pytest.approx(0.1, abs=0.02)  # the structure's ADPs


# --- 4 invariances -------------------------------------------------------


def test_the_seed_draws_the_folds_and_the_order_of_models_does_not_matter(crystal):
    observed = observe(crystal, LiquidLike(0.3, 4.0), d_min=3.0)
    models = {"liquid-like": LiquidLike(0.3, 6.0), "rigid": RigidBody(0.08)}
    turned = dict(reversed(models.items()))
    one, same, other = (
        rank_models(
            observed, crystal, m, rng=np.random.default_rng(seed), n_folds=2, max_evaluations=12
        )
        for m, seed in ((models, 1), (turned, 1), (models, 2))
    )
    assert [(x.name, x.cc) for x in one] == [(x.name, x.cc) for x in same]
    assert one[0].cc != other[0].cc


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({}, {}, "expected at least one model, got none"),
        ({"a": LiquidLike(0.3, 6)}, {"held_out": 0.1}, "rank_models has no option 'held_out'"),
        ({"a": LiquidLike(0.3, 6)}, {"reference": "b"}, "reference must be one of a, got 'b'"),
        ({"a": LiquidLike(0.3, 6)}, {"n_folds": 1}, r"n_folds must be 2 to \d+, the number of bl"),
        ({"a": LiquidLike(0.3, 6)}, {"n_folds": 9999}, r"n_folds must be 2 to \d+, the number of"),
    ],
)
def test_what_is_wrong_is_named(crystal, models, options, message):
    with pytest.raises(InputError, match=message):
        rank_models(observe(crystal, LiquidLike(0.3, 4.0)), crystal, models, **options)
