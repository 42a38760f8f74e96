"""Restraints: linear in V, adjoint to their own derivative, and what they do to a fit."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.strategies import random_covariance

from offbragg import Covariance, FreeAdps, InputError, LiquidLike, RigidBody, fit
from offbragg.inference.restraints import (
    AdpRestraint,
    copies_alike,
    little_motion,
    neighbours_alike,
    restraints_of,
)
from offbragg.made_crystal import make_peptide
from offbragg.scattering.displacements import Displacements, LowRank

ROUNDING = 1e-10
PEPTIDE = make_peptide("GAS", u=0.2)
N = PEPTIDE.n_atoms


def two_chains():
    """The peptide twice, the second turned and elsewhere."""
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    parts = {
        name: np.concatenate([getattr(PEPTIDE, name)] * 2)
        for name in (
            "elements", "occupancies", "u_aniso", "names", "residue_names", "residue_numbers",
            "altlocs", "copies",
        )
    }  # fmt: skip
    positions = np.concatenate([PEPTIDE.positions, PEPTIDE.positions @ turn.T + 30.0])
    chains = np.repeat(["A", "B"], N)
    return replace(PEPTIDE, positions=positions, chains=chains, **parts), turn


TWO, TURN = two_chains()
RESTRAINTS = {
    "ADPs": (PEPTIDE, AdpRestraint(PEPTIDE.u_aniso, 0.05)),
    "neighbours": (PEPTIDE, neighbours_alike(PEPTIDE, 0.02)),
    "little motion": (PEPTIDE, little_motion(PEPTIDE, 0.1)),
    "copies": (TWO, copies_alike(TWO, 0.03)),
}
by_restraint = pytest.mark.parametrize("name", RESTRAINTS)


def random_moves(n, seed, kind):
    rng = np.random.default_rng(seed)
    if kind == "isotropic":
        return Displacements(random_covariance(rng, n, 0.2, anisotropic=False))
    if kind == "factor":
        return Displacements(LowRank(rng.normal(size=(n, 3, 2))))
    own = random_covariance(rng, n, 0.1)[range(n), range(n)]
    return Displacements(random_covariance(rng, n, 0.2), own)


@by_restraint
@pytest.mark.parametrize("kind", ["isotropic", "factor", "anisotropic"])
def test_rows_are_linear_and_the_pull_is_their_transpose(name, kind):
    structure, restraint = RESTRAINTS[name]
    n = structure.n_atoms
    one, other = random_moves(n, 1, kind), random_moves(n, 2, kind)
    both = restraint.rows(one + other)
    assert_allclose(
        both, restraint.rows(one) + restraint.rows(other), atol=ROUNDING * abs(both).max()
    )
    slopes = np.random.default_rng(3).normal(size=len(both))
    by_v = restraint.pull(slopes)
    v = Displacements(one.correlated).dense(n)
    dense = v if v.ndim == 4 else v[:, :, None, None] * np.eye(3)
    through = float(np.sum(by_v.correlated * dense))
    if one.independent is not None:
        through += float(np.sum(by_v.independent * one.independent))
    assert through == pytest.approx(float(slopes @ restraint.rows(one)), rel=1e-9)


def test_adps_at_the_files_values_are_no_departure():
    restraint = AdpRestraint(PEPTIDE.u_aniso, 0.05)
    same = Displacements(independent=PEPTIDE.u_aniso)
    assert_allclose(restraint.rows(same), restraint.target)
    # One element of U off by one expected departure: it stands twice in the matrix.
    changed = PEPTIDE.u_aniso.copy()
    changed[0, 0, 1] += 0.05
    changed[0, 1, 0] += 0.05
    misses = restraint.rows(Displacements(independent=changed)) - restraint.target
    assert float(misses @ misses) == pytest.approx(2.0)


def test_a_rigid_shift_moves_neighbours_alike_and_independent_atoms_apart():
    restraint = neighbours_alike(PEPTIDE, 0.02)
    shift = RigidBody(0.1 * np.eye(3)).displacements(PEPTIDE)
    assert_allclose(restraint.rows(shift), 0.0, atol=1e-9)
    # ⟨|δ_i − δ_j|²⟩ of two that are independent: three axes, two atoms, 0.1 Å² each.
    apart = FreeAdps(np.full(N, 0.1)).displacements(PEPTIDE)
    assert_allclose(restraint.rows(apart), 0.6 / 0.02)


def test_every_atom_has_a_neighbour_along_a_chain_of_calpha():
    trace = PEPTIDE.select("name CA")
    restraint = neighbours_alike(trace, 0.02)
    assert set(restraint.first) | set(restraint.second) == set(range(trace.n_atoms))


def test_little_motion_is_the_mean_u():
    moves = FreeAdps(np.linspace(0.1, 0.3, N)).displacements(PEPTIDE)
    assert_allclose(little_motion(PEPTIDE, 0.1).rows(moves), [2.0])


def test_copies_that_move_alike_however_turned_are_no_departure():
    rng = np.random.default_rng(5)
    own = random_covariance(rng, N, 0.2)
    v = np.zeros((2 * N, 2 * N, 3, 3))
    v[:N, :N] = own
    v[N:, N:] = np.einsum("ab,ijbc,dc->ijad", TURN, own, TURN)
    restraint = copies_alike(TWO, 0.03)
    assert_allclose(restraint.rows(Displacements(v)), 0.0, atol=1e-9)
    v[0, 0] += 0.03 * np.eye(3)
    assert_allclose(np.abs(restraint.rows(Displacements(v))).max(), 1.0)


def test_structures_that_give_nothing_to_compare_are_refused():
    with pytest.raises(InputError, match="expected two chains of the same residues"):
        copies_alike(PEPTIDE, 0.1)
    far = replace(PEPTIDE, positions=10.0 * PEPTIDE.positions)
    with pytest.raises(InputError, match="no two atoms of the structure are neighbours"):
        neighbours_alike(far, 0.1)
    assert restraints_of(PEPTIDE) == ()


# In a fit.


@pytest.mark.parametrize("solver", ["gauss-newton", "truncated-newton", "l-bfgs"])
def test_a_tight_restraint_on_adps_holds_the_amplitude(observe, structure, solver):
    observed = observe(0)
    wrong = replace(structure, u_aniso=1.5 * structure.u_aniso)
    free = fit(observed, wrong, LiquidLike(0.5, 8.0), solver=solver)
    held = fit(observed, wrong, LiquidLike(0.5, 8.0), solver=solver, adp_error=1e-5)
    u = np.trace(wrong.u_aniso, axis1=1, axis2=2).mean() / 3.0
    assert held.parameters["rms_displacement"].value ** 2 == pytest.approx(u, rel=5e-3)
    assert free.parameters["rms_displacement"].value ** 2 < 0.9 * u
    if solver == "gauss-newton":
        # One more measurement: the error is smaller with it.
        errors = [x.parameters["rms_displacement"].standard_error for x in (held, free)]
        assert errors[0] < errors[1]


def test_little_motion_shrinks_what_the_data_do_not_ask_for(observe, structure):
    rng = np.random.default_rng(0)
    start = Covariance.from_factor(0.1 * rng.normal(size=(structure.n_atoms, 3, 2)))
    options = {"adps": "file", "max_evaluations": 60}
    free = fit(observe(0), structure, start, **options)
    little = fit(observe(0), structure, start, motion_error=1e-4, **options)
    sizes = [float(np.sum(x.model.factor**2)) for x in (little, free)]
    assert sizes[0] < 0.5 * sizes[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adp_error": 0.0}, "adp_error must be > 0, got 0"),
        ({"neighbour_error": -1.0}, "neighbour_error must be > 0"),
        ({"adp_error": 0.1, "adps": "file"}, "adps='file' fixes them"),
    ],
)
def test_impossible_departures_are_refused(observe, structure, options, message):
    with pytest.raises(InputError, match=message):
        fit(observe(0), structure, LiquidLike(0.5, 8.0), **options)
