"""RigidBodies: correlated rigid motions against drawn ones, blocks between bodies, derivatives."""

import logging
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import flat, form_factors
from tests.strategies import CRYSTALS, random_structure

from offbragg import RigidBody
from offbragg.crystal.tls import TlsGroup
from offbragg.disorder.bodies import bodies_of, tls_basis
from offbragg.disorder.rigid_bodies import RigidBodies
from offbragg.errors import InputError
from offbragg.scattering import Displacements, LowRank, diffuse_intensity

RTOL_ROUNDING = 1e-12  # same sums, other order, as a fraction of the sum of moduli
RTOL_ROOT = 1e-9  # a square root by eigenvectors, then squared
RTOL_DIFFERENCES = 1e-7  # V is linear in M: rounding over the step
STANDARD_ERRORS = 5.0

N = 9
STRUCTURE = random_structure(np.random.default_rng(1), N, CRYSTALS["triclinic"][0])
BODIES = ((0, 3, 4), (1, 2, 5, 8))  # atoms 6 and 7 stand still
ORIGINS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 1.0]])


def random_motion(seed, n_bodies=2, t=0.1, l=1e-3):  # noqa: E741 - T and L of TLS
    """M of correlated bodies, far from singular."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(6 * n_bodies, 18 * n_bodies))
    scale = np.tile(np.sqrt(np.repeat([t, l], 3) / (18 * n_bodies)), n_bodies)
    return scale[:, None] * (factor @ factor.T) * scale


def dense(model, structure=STRUCTURE):
    return model.displacements(structure).dense(structure.n_atoms)


def arms_by_cross_products(structure, bodies, origins):
    """B (n, 3, 6 n_bodies) column by column: t moves along an axis, λ by λ × (r − r_0)."""
    b = np.zeros((structure.n_atoms, 3, 6 * len(bodies)))
    for number, body in enumerate(bodies):
        body = list(body)
        for axis, e in enumerate(np.eye(3)):
            b[body, :, 6 * number + axis] = e
            arms = structure.positions[body] - origins[number]
            b[body, :, 6 * number + 3 + axis] = np.cross(e, arms)
    return b


# --- 1 reference numbers -------------------------------------------------


def test_two_bodies_that_turn_against_each_other_by_hand():
    # λ_z of body 1 is −λ_z of body 2, ⟨λ_z²⟩ = 0.01; atoms at x = 2 and x = 3 from their origins:
    # δ_1 = λ(0, 2, 0), δ_2 = −λ(0, 3, 0), so ⟨δ_1 δ_2ᵀ⟩_yy = −0.06.
    structure = replace(
        random_structure(np.random.default_rng(0), 2, CRYSTALS["triclinic"][0]),
        positions=np.array([[2.0, 0.0, 0.0], [13.0, 0.0, 0.0]]),
    )
    motion = np.zeros((12, 12))
    motion[np.ix_([5, 11], [5, 11])] = [[0.01, -0.01], [-0.01, 0.01]]
    v = dense(RigidBodies([[0], [1]], motion, [[0, 0, 0], [10, 0, 0]]), structure)
    assert_allclose(v[0, 1], np.diag([0.0, -0.06, 0.0]), atol=1e-14)
    assert_allclose(v[0, 0], np.diag([0.0, 0.04, 0.0]), atol=1e-14)
    assert_allclose(v[1, 1], np.diag([0.0, 0.09, 0.0]), atol=1e-14)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("origins", [ORIGINS, None])
def test_blocks_between_bodies(origins):
    motion = random_motion(2)
    v = dense(RigidBodies(BODIES, motion, origins))
    centres = origins
    if origins is None:
        centres = [STRUCTURE.positions[list(body)].mean(axis=0) for body in BODIES]
    b = arms_by_cross_products(STRUCTURE, BODIES, centres)
    expected = np.einsum("iax,xy,jby->ijab", b, motion, b)
    assert_allclose(v, expected, rtol=RTOL_ROOT, atol=1e-12)
    # The block of body 1 with body 2 is B_i M_12 B_jᵀ: seen by itself.
    i, j = 3, 8
    block = b[i][:, :6] @ motion[:6, 6:] @ b[j][:, 6:].T
    assert_allclose(v[i, j], block, rtol=RTOL_ROOT, atol=1e-12)
    assert np.abs(v[i, j]).max() > 1e-3
    assert not v[6].any()
    assert_allclose(tls_basis(STRUCTURE, BODIES, origins), b, atol=1e-15)


def test_intensity_matches_drawn_correlated_motions():
    # Rotations to second order in λ: r → r + λ × r + ½ λ × (λ × r). I = ⟨|F|²⟩ − |⟨F⟩|².
    motion = random_motion(3, l=6e-5)
    rng, n_draws = np.random.default_rng(4), 20_000
    drawn = rng.normal(size=(n_draws, 12)) @ np.linalg.cholesky(motion).T
    places = np.tile(STRUCTURE.positions, (n_draws, 1, 1))
    for number, body in enumerate(BODIES):
        t, turn = np.split(drawn[:, None, 6 * number : 6 * number + 6], 2, axis=2)
        arms = (STRUCTURE.positions[list(body)] - ORIGINS[number])[None]
        first = np.cross(turn, arms)
        places[:, list(body)] += t + first + 0.5 * np.cross(turn, first)
    q = rng.normal(size=(8, 3))
    q *= (rng.uniform(0.5, 2.5, 8) / np.linalg.norm(q, axis=1))[:, None]
    f = form_factors(STRUCTURE.elements, q, STRUCTURE.occupancies)
    v = dense(RigidBodies(BODIES, motion, ORIGINS))
    found = diffuse_intensity(q, STRUCTURE.positions, f, v)
    apart = dense(RigidBodies(BODIES, motion * np.kron(np.eye(2), np.ones((6, 6))), ORIGINS))
    independent = diffuse_intensity(q, STRUCTURE.positions, f, apart)
    worst = 0.0
    for vector, f_q, value, other in zip(q, f, found, independent, strict=True):
        amplitude = np.exp(1j * places @ vector) @ f_q
        squares = np.abs(amplitude - amplitude.mean()) ** 2
        error = squares.std() / np.sqrt(n_draws)
        assert abs(value - squares.sum() / (n_draws - 1)) < STANDARD_ERRORS * error
        worst = max(worst, abs(value - other) / error)
    assert worst > 2 * STANDARD_ERRORS  # without the correlations the test would fail


def tls_group(atoms, seed, origin):
    m = random_motion(seed, 1)
    return TlsGroup("", np.array(atoms), m[:3, :3], m[3:, 3:], m[3:, :3], np.array(origin))


def test_tls_groups_are_independent_bodies_with_their_own_u():
    # Oracle of U_i: gemmi, which takes L in deg² and S in Å·deg.
    groups = [tls_group(b, 5 + i, o) for i, (b, o) in enumerate(zip(BODIES, ORIGINS, strict=True))]
    model = RigidBodies.from_tls(groups, STRUCTURE)
    v = dense(model)
    degree = 180 / np.pi
    for group in groups:
        other = gemmi.TlsGroup()
        order = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])
        other.T = gemmi.SMat33d(*group.translation[order])
        other.L = gemmi.SMat33d(*(group.libration[order] * degree**2))
        other.S = gemmi.Mat33((group.screw * degree).tolist())
        other.origin = gemmi.Position(*group.origin)
        for atom in group.atoms:
            position = gemmi.Position(*STRUCTURE.positions[atom])
            expected = gemmi.calculate_u_from_tls(other, position).as_mat33().tolist()
            assert_allclose(v[atom, atom], expected, rtol=1e-8, atol=1e-12)
    assert not v[np.ix_(BODIES[0], BODIES[1])].any()
    # Within a body: what RigidBody has for the same tensors.
    g = groups[1]
    alone = RigidBody(g.translation, g.libration, g.screw, g.origin, bodies=[g.atoms])
    assert_allclose(
        v[np.ix_(g.atoms, g.atoms)],
        dense(alone)[np.ix_(g.atoms, g.atoms)],
        rtol=RTOL_ROOT,
        atol=1e-12,
    )


# --- 3 exact limits ------------------------------------------------------


def test_the_factor_has_six_columns_a_body():
    moves = RigidBodies(BODIES, random_motion(6)).displacements(STRUCTURE).correlated
    assert isinstance(moves, LowRank)
    assert moves.factor.shape == (N, 3, 12)


def test_bodies_that_move_as_one_are_one():
    # Both bodies about one origin with one motion: M = [[m, m], [m, m]].
    m = random_motion(7, 1)
    origin = np.array([1.0, 1.0, 1.0])
    together = RigidBodies(BODIES, np.block([[m, m], [m, m]]), [origin, origin])
    atoms = sorted(BODIES[0] + BODIES[1])
    one = RigidBody(m[:3, :3], m[3:, 3:], m[3:, :3], origin, bodies=[atoms])
    assert_allclose(dense(together), dense(one), rtol=1e-7, atol=1e-10)


def test_a_group_whose_trace_of_s_is_impossible_gets_another(caplog):
    m = random_motion(8, 1)
    screw = m[3:, :3] + 5.0 * np.eye(3)
    group = TlsGroup("", np.arange(4), m[:3, :3], m[3:, 3:], screw, np.zeros(3))
    with caplog.at_level(logging.WARNING):
        model = RigidBodies.from_tls([group], STRUCTURE)
    assert not caplog.records
    found = model.motion[3:, :3] - screw
    assert_allclose(found, found[0, 0] * np.eye(3), atol=1e-9)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999))
def test_the_covariance_is_a_covariance_of_low_rank(seed):
    values = np.linalg.eigvalsh(flat(dense(RigidBodies(BODIES, random_motion(seed)))))
    assert values[0] > -1e-12
    assert (values > 1e-10 * values[-1]).sum() <= 12


def test_the_order_of_bodies_does_not_matter():
    motion, swap = random_motion(9), np.r_[6:12, 0:6]
    one = RigidBodies(BODIES, motion, ORIGINS)
    other = RigidBodies(BODIES[::-1], motion[np.ix_(swap, swap)], ORIGINS[::-1])
    assert_allclose(dense(one), dense(other), rtol=RTOL_ROOT, atol=1e-13)


def test_the_tangent_is_the_difference_of_covariances():
    model = RigidBodies(BODIES, random_motion(10), ORIGINS)
    change = np.random.default_rng(11).normal(size=(12, 12))
    change = change + change.T
    step = 1e-6
    ahead, behind = (
        dense(model.with_parameters({"motion": model.motion + x * change})) for x in (step, -step)
    )
    expected = (ahead - behind) / (2 * step)
    found = model.tangent(STRUCTURE, {"motion": change}).correlated
    assert_allclose(found, expected, rtol=0, atol=RTOL_DIFFERENCES * np.abs(expected).max())


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_pullback_is_adjoint_to_the_tangent(symmetric):
    model, rng = RigidBodies(BODIES, random_motion(12)), np.random.default_rng(13)
    g, change = rng.normal(size=(N, N, 3, 3)), rng.normal(size=(12, 12))
    if symmetric:
        g = g + g.transpose(1, 0, 3, 2)
    pulled = model.pullback(STRUCTURE, Displacements(g))["motion"]
    moved = model.tangent(STRUCTURE, {"motion": change}).correlated
    scale = np.abs(g * moved).sum()
    assert_allclose((pulled * change).sum(), (g * moved).sum(), rtol=0, atol=RTOL_ROUNDING * scale)
    assert_allclose(pulled, pulled.T, atol=1e-13 * scale)


def test_the_parameter_is_the_motion():
    model = RigidBodies(BODIES, random_motion(14))
    assert {k: p.shape for k, p in model.refinable.items()} == {"motion": (12, 12)}
    assert model.n_bodies == 2


def peptide_and_others():
    """Chain A: two residues, a ligand, a water; chain B: one residue, a ligand of two atoms."""
    structure = random_structure(np.random.default_rng(15), 8, CRYSTALS["triclinic"][0])
    return replace(
        structure,
        chains=np.array(list("AAAABBBA")),
        residue_names=np.array(["ALA", "GLY", "HEM", "HOH", "SER", "SO4", "SO4", "HEM"]),
        residue_numbers=np.array([1, 2, 101, 201, 1, 101, 101, 101]),
    )


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("chain", [[0, 1, 2, 3, 7], [4, 5, 6]]),
        ("molecule", [[0, 1], [2, 7], [4], [5, 6]]),
        (["chain A and protein", "resname SO4"], [[0, 1], [5, 6]]),
    ],
)
def test_atoms_are_grouped_into_bodies(by, expected):
    assert [body.tolist() for body in bodies_of(peptide_and_others(), by)] == expected


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("bodies", "motion", "origins", "message"),
    [
        (BODIES, np.eye(6), None, r"motion must be \(12, 12\), got \(6, 6\)"),
        (BODIES, -np.eye(12), None, "motion must be positive semi-definite"),
        (BODIES, np.triu(np.ones((12, 12))), None, "motion must be symmetric"),
        (BODIES, np.full((12, 12), np.nan), None, "motion must be finite"),
        ([[0, 1], [1, 2]], np.eye(12), None, "bodies must not share atoms"),
        (BODIES, np.eye(12), np.zeros((1, 3)), r"origins must be \(2, 3\) finite .* got \(1, 3\)"),
    ],
)
def test_a_wrong_argument_is_named(bodies, motion, origins, message):
    with pytest.raises(InputError, match=message):
        RigidBodies(bodies, motion, origins)


@pytest.mark.parametrize("body", [[0, 9], [-1, 2]])
def test_bodies_must_hold_atoms_of_the_structure(body):
    model = RigidBodies([[3], body], np.eye(12))
    with pytest.raises(InputError, match=r"bodies\[1\] must hold atom indices 0\.\.8, got"):
        model.displacements(STRUCTURE)


def test_tls_groups_must_be_there_and_be_apart():
    with pytest.raises(InputError, match="expected at least one TLS group, got none"):
        RigidBodies.from_tls([], STRUCTURE)
    groups = [tls_group([0, 1], 16, [0, 0, 0]), tls_group([1, 2], 17, [0, 0, 0])]
    with pytest.raises(InputError, match="bodies must not share atoms"):
        RigidBodies.from_tls(groups, STRUCTURE)
    with pytest.raises(InputError, match=r"bodies\[0\] must hold atom indices 0\.\.8, got 0\.\.40"):
        RigidBodies.from_tls([tls_group([0, 40], 18, [0, 0, 0])], STRUCTURE)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("residue", "by must be 'chain', 'molecule' or a list of selections, got 'residue'"),
        (["chain Z"], "selection 'chain Z' names none of 8 atoms"),
        (["chain A", "protein"], "bodies must not share atoms"),
        (["chane A"], "unknown word 'chane'"),
    ],
)
def test_a_wrong_grouping_is_named(by, message):
    with pytest.raises(InputError, match=message):
        bodies_of(peptide_and_others(), by)
