"""RigidBody: T, L, S, several bodies, the closed form of one that only translates."""

import logging
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import copies, diffuse_of_cell, flat, form_factors, structure_factor_sum
from tests.strategies import CRYSTALS, random_covariance, random_structure, random_u, vectors

from offbragg import Covariance, HklGrid, RigidBody, simulate
from offbragg.disorder.rigid_body import lever_arms
from offbragg.errors import InputError
from offbragg.scattering import Displacements, LowRank, diffuse_intensity

MAP_ERROR = 1e-3  # of the mean, the project's own figure
RIGID_RTOL = 1e-6  # the project's own figure for the closed form
RTOL_ROUNDING = 1e-12  # same sums, other order, as a fraction of the sum of moduli
RTOL_DIFFERENCES = 1e-7  # V is linear in T, L, S: rounding over the step
STANDARD_ERRORS = 5.0

TRICLINIC = CRYSTALS["triclinic"][0]


def tls(seed, t=0.2, l=0.002):  # noqa: E741 - L of T, L, S
    """T [Å²], L [rad²], S [Å·rad] of a possible motion, S = ⟨λ tᵀ⟩ not symmetric."""
    factor = np.random.default_rng(seed).normal(size=(6, 9))
    scale = np.sqrt(np.repeat([t, l], 3) / 9)
    m = scale[:, None] * (factor @ factor.T) * scale
    return m[:3, :3], m[3:, 3:], m[3:, :3]


def u_by_formula(offsets, t, l, s):  # noqa: E741
    """U_i = T + A L Aᵀ + A S + Sᵀ Aᵀ, A of the PDB format's TLS section, element by element."""
    u = []
    for x, y, z in offsets:
        a = np.array([[0, z, -y], [-z, 0, x], [y, -x, 0]])
        u.append(t + a @ l @ a.T + a @ s + s.T @ a.T)
    return np.array(u)


def structure_of(n=10, seed=1, group="P 1", system="triclinic"):
    return random_structure(np.random.default_rng(seed), n, CRYSTALS[system][0], group)


def own_u(model, structure):
    return model.displacements(structure).u_aniso(structure.n_atoms)


def covariance_of(model, structure):
    return model.displacements(structure).dense(structure.n_atoms)


def drawn_places(rng, positions, origin, motion, n_draws):
    """Positions (n_draws, n, 3) after rigid motions (t, λ) drawn from M, by Rodrigues' formula."""
    values, vectors = np.linalg.eigh(motion)
    drawn = rng.normal(size=(n_draws, 6)) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    shift, turn = drawn[:, None, :3], drawn[:, None, 3:]
    angle = np.linalg.norm(turn, axis=2, keepdims=True)
    axis = turn / angle
    arms = (positions - origin)[None]
    along = (axis * arms).sum(axis=-1, keepdims=True)
    turned = arms * np.cos(angle) + np.cross(axis, arms) * np.sin(angle)
    return origin + turned + axis * along * (1 - np.cos(angle)) + shift


# --- 1 reference numbers -------------------------------------------------


def test_libration_about_z_by_hand():
    # λ_z alone, 0.01 rad²: an atom at x = 2 moves along y with ⟨y²⟩ = 4 × 0.01.
    structure = replace(structure_of(2), positions=np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 5.0]]))
    libration = np.diag([0.0, 0.0, 0.01])
    v = covariance_of(RigidBody(libration=libration, origin=(0, 0, 0)), structure)
    assert_allclose(v[0, 0], np.diag([0.0, 0.04, 0.0]), atol=1e-15)
    assert_allclose(v[1, 1], np.diag([0.09, 0.0, 0.0]), atol=1e-15)
    # δ_0 = λ(0, 2, 0), δ_1 = λ(−3, 0, 0): ⟨δ_0 δ_1ᵀ⟩ has −6 λ² at (y, x).
    expected = np.zeros((3, 3))
    expected[1, 0] = -0.06
    assert_allclose(v[0, 1], expected, atol=1e-15)


def test_screw_along_z_by_hand():
    # λ_z and t_z move together, ⟨λ_z t_z⟩ = 0.02: an atom at x = 2 has ⟨y z⟩ = 2 × 0.02.
    structure = replace(structure_of(1), positions=np.array([[2.0, 0.0, 0.0]]))
    model = RigidBody(
        np.diag([0, 0, 0.1]), np.diag([0, 0, 0.01]), np.diag([0, 0, 0.02]), origin=(0, 0, 0)
    )
    expected = [[0, 0, 0], [0, 0.04, 0.04], [0, 0.04, 0.1]]
    assert_allclose(own_u(model, structure)[0], expected, atol=1e-15)


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999), origin=vectors(10.0))
def test_displacement_parameters_match_gemmi_and_the_pdb_formula(seed, origin):
    t, l, s = tls(seed)  # noqa: E741
    structure = structure_of()
    found = own_u(RigidBody(t, l, s, origin), structure)
    assert_allclose(found, u_by_formula(structure.positions - origin, t, l, s), rtol=1e-9)
    # gemmi takes L in deg² and S in Å·deg, as files hold them.
    group, degree = gemmi.TlsGroup(), 180 / np.pi
    group.T = gemmi.SMat33d(*t[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]])
    group.L = gemmi.SMat33d(*(l * degree**2)[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]])
    group.S = gemmi.Mat33((s * degree).tolist())
    group.origin = gemmi.Position(*origin)
    for u, position in zip(found, structure.positions, strict=True):
        expected = gemmi.calculate_u_from_tls(group, gemmi.Position(*position)).as_mat33().tolist()
        assert_allclose(u, expected, rtol=1e-9)
    # The transposed S is another motion: these tests would see it.
    transposed = u_by_formula(structure.positions - origin, t, l, s.T)
    assert np.abs(transposed - found).max() > 1e-3


def test_covariance_matches_drawn_rigid_motions():
    # Rotations by Rodrigues' formula of small (λ, t) drawn from M: second order in λ is 1 %.
    t, l, s = tls(3, 0.05, 1e-4)  # noqa: E741
    structure = structure_of(5, seed=2)
    n_draws, centroid = 40_000, structure.positions.mean(axis=0)
    m = np.block([[t, s.T], [s, l]])
    places = drawn_places(np.random.default_rng(4), structure.positions, centroid, m, n_draws)
    moves = places - structure.positions
    expected = np.einsum("dix,djy->ijxy", moves, moves) / n_draws
    found = covariance_of(RigidBody(t, l, s), structure)
    # Standard error of ⟨ab⟩: √((V_aa V_bb + V_ab²)/n); 5 of them, and 1 % for what is not small.
    diagonal = np.einsum("iixx->ix", found)
    sigma = np.sqrt((diagonal[:, None, :, None] * diagonal[None, :, None, :] + found**2) / n_draws)
    assert np.all(np.abs(found - expected) < 5 * sigma + 0.01 * np.abs(found).max())


def test_intensity_of_tls_matches_the_direct_sum():
    t, l, s = tls(5)  # noqa: E741
    cell, groups = CRYSTALS["monoclinic"]
    structure = structure_of(8, 6, groups[0], "monoclinic")
    grid = HklGrid.from_resolution(cell, 2.2, (2, 1, 1))
    found = simulate(structure, RigidBody(t, l, s), grid).intensity[grid.within()]
    q = grid.q()[grid.within()]
    f = form_factors(structure.elements, q, structure.occupancies)
    arms = structure.positions - structure.positions.mean(axis=0)
    b = np.zeros((8, 3, 6))
    for i in range(8):  # δ = t + λ × r, column by column
        b[i, :, :3] = np.eye(3)
        b[i, :, 3:] = np.stack([np.cross(e, arms[i]) for e in np.eye(3)], axis=1)
    v = np.einsum("iax,xy,jby->ijab", b, np.block([[t, s.T], [s, l]]), b)
    expected = diffuse_of_cell(q, structure.positions, f, v, cell, groups[0])
    assert np.abs(found - expected).max() < MAP_ERROR * expected.mean()


def test_bodies_move_independently():
    t = random_u(np.random.default_rng(7), 1, 0.3)[0]
    structure = structure_of(9, 7)
    bodies = [np.array([0, 3, 4]), np.array([1, 2, 5, 8])]  # atoms 6 and 7 stand still
    model = RigidBody(t, bodies=bodies)
    v = np.zeros((9, 9, 3, 3))
    for body in bodies:
        v[np.ix_(body, body)] = t
    assert_allclose(covariance_of(model, structure), v, rtol=0, atol=1e-15)
    grid = HklGrid.from_resolution(TRICLINIC, 2.5)
    found = simulate(structure, model, grid).intensity
    expected = simulate(structure, Covariance(v), grid).intensity
    assert np.nanmax(np.abs(found - expected)) < 1e-9 * np.nanmean(expected)


def test_each_body_turns_about_its_own_centroid_unless_told():
    _, l, _ = tls(8)  # noqa: E741
    structure = structure_of(6, 8)
    bodies = [np.array([0, 1, 2]), np.array([3, 4, 5])]
    found = own_u(RigidBody(libration=l, bodies=bodies), structure)
    for body in bodies:
        arms = structure.positions[body] - structure.positions[body].mean(axis=0)
        zero = np.zeros((3, 3))
        assert_allclose(found[body], u_by_formula(arms, zero, l, zero), rtol=1e-9, atol=1e-12)
    at_zero = own_u(RigidBody(libration=l, bodies=bodies, origin=(0, 0, 0)), structure)
    expected = u_by_formula(structure.positions, np.zeros((3, 3)), l, np.zeros((3, 3)))
    assert_allclose(at_zero, expected, rtol=1e-9, atol=1e-12)


def test_the_map_matches_drawn_rigid_motions():
    # I = ⟨|F|²⟩ − |⟨F⟩|² over drawn motions. ⟨|F|²⟩ has a sampling error; ⟨F⟩ is estimated too,
    # which makes the difference low by 1/n_draws of itself. True rotations, not small angles:
    # λ has 0.4° to 0.6° an axis, so that terms of second order are far below the sampling error.
    t, l, s = tls(24, 0.08, 8e-5)  # noqa: E741
    structure = structure_of(8, 24)
    centroid = structure.positions.mean(axis=0)
    rng, n_draws = np.random.default_rng(25), 30_000
    m = np.block([[t, s.T], [s, l]])
    places = drawn_places(rng, structure.positions, centroid, m, n_draws)
    q = rng.normal(size=(10, 3))
    q *= (rng.uniform(0.4, 2.5, 10) / np.linalg.norm(q, axis=1))[:, None]
    f = form_factors(structure.elements, q, structure.occupancies)
    found = diffuse_intensity(
        q, structure.positions, f, covariance_of(RigidBody(t, l, s), structure)
    )
    for vector, f_q, value in zip(q, f, found, strict=True):
        amplitude = np.exp(1j * places @ vector) @ f_q
        apart = np.abs(amplitude - amplitude.mean()) ** 2
        error = apart.std() / np.sqrt(n_draws)
        assert error < 0.02 * value
        assert abs(value - apart.sum() / (n_draws - 1)) < STANDARD_ERRORS * error


def test_a_mask_is_a_body():
    structure = structure_of(6, 26)
    chosen = np.array([True, False, True, True, False, False])
    by_mask = covariance_of(RigidBody(0.1, bodies=[chosen]), structure)
    assert np.array_equal(by_mask, covariance_of(RigidBody(0.1, bodies=[[0, 2, 3]]), structure))


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "rank"),
    [
        ({"translation": 0.1}, 3),
        ({"translation": 0.1, "libration": 1e-3 * np.eye(3)}, 6),
        ({"translation": 0.1, "bodies": [[0, 1], [4]]}, 6),
        ({"libration": 1e-3 * np.eye(3), "bodies": [[0, 1], [2], [4, 5]]}, 18),
        ({"translation": 0.1, "bodies": []}, 3),
    ],
)
def test_a_body_has_a_factor_of_six_columns(arguments, rank):
    moves = RigidBody(**arguments).displacements(structure_of()).correlated
    assert isinstance(moves, LowRank)
    assert moves.factor.shape == (10, 3, rank)


@pytest.mark.parametrize("system", ["triclinic", "tetragonal", "trigonal"])
def test_a_translation_has_its_closed_form(system):
    # Σ over copies (1 − exp(−qᵀT_g q)) |F_0|², T turned with the copy, F_0 undamped.
    cell, groups = CRYSTALS[system]
    structure = structure_of(8, 9, groups[0], system)
    t = random_u(np.random.default_rng(9), 1, 0.3)[0]
    grid = HklGrid.from_resolution(cell, 2.0, 2)
    found = simulate(structure, RigidBody(t), grid).intensity[grid.within()]
    q = grid.q()[grid.within()]
    f = form_factors(structure.elements, q, structure.occupancies)
    expected = np.zeros(len(q))
    for positions, turned in copies(
        structure.positions, np.broadcast_to(t, (8, 8, 3, 3)), cell, groups[0]
    ):
        f_zero = np.abs((f * np.exp(1j * q @ positions.T)).sum(axis=1)) ** 2
        expected += f_zero * -np.expm1(-np.einsum("qx,xy,qy->q", q, turned[0, 0], q))
    assert_allclose(found, expected, rtol=RIGID_RTOL, atol=RIGID_RTOL * expected.mean())


def test_the_closed_form_is_what_the_general_engine_gives():
    structure = structure_of(8, 10)
    t = random_u(np.random.default_rng(10), 1, 0.3)[0]
    grid = HklGrid.from_resolution(TRICLINIC, 2.0, 2)
    closed = simulate(structure, RigidBody(t), grid).intensity
    general = simulate(structure, Covariance(np.tile(t, (8, 8, 1, 1))), grid).intensity
    assert np.nanmax(np.abs(closed - general)) < MAP_ERROR * np.nanmean(closed)


def test_a_translation_with_the_remainder_of_the_files_adps():
    # [1 − e^{−qᵀTq}] |F_0|² + Σ f_i² (1 − e^{−qᵀ(U_i−T)q}), F_0 damped by U_i − T.
    structure = structure_of(8, 11)
    t = random_u(np.random.default_rng(11), 1, 0.05)[0]
    remainder = random_u(np.random.default_rng(12), 8, 0.15)
    structure = replace(structure, u_aniso=t + remainder)
    grid = HklGrid.from_resolution(TRICLINIC, 2.0, 2)
    found = simulate(structure, RigidBody(t), grid, adps="file").intensity[grid.within()]
    q = grid.q()[grid.within()]
    f = form_factors(structure.elements, q, structure.occupancies)
    f_zero = np.abs(structure_factor_sum(q, structure.positions, f, remainder)) ** 2
    expected = f_zero * -np.expm1(-np.einsum("qx,xy,qy->q", q, t, q))
    x = np.einsum("qx,ixy,qy->qi", q, remainder, q)
    expected += (f**2 * -np.expm1(-x)).sum(axis=1)
    assert np.abs(found - expected).max() < 2e-4 * expected.mean()


def test_a_number_is_an_isotropic_translation():
    assert_allclose(RigidBody(translation=0.2).translation, 0.2 * np.eye(3), rtol=0)


def test_no_motion_scatters_nothing():
    grid = HklGrid.from_resolution(TRICLINIC, 3.0)
    still = np.zeros((3, 3))
    for model in (RigidBody(), RigidBody(0.0, still), RigidBody(0.0, still, still, bodies=[])):
        assert np.nanmax(simulate(structure_of(), model, grid).intensity) == 0.0


def test_one_atom_feels_no_libration_about_its_own_centroid():
    _, l, _ = tls(13)  # noqa: E741
    structure = structure_of(1)
    assert_allclose(own_u(RigidBody(libration=l), structure), np.zeros((1, 3, 3)), atol=1e-18)


# --- 4 invariances -------------------------------------------------------


def test_lever_arms_are_cross_products():
    rng = np.random.default_rng(14)
    offsets, shift, turn = rng.normal(size=(6, 3)), rng.normal(size=3), rng.normal(size=3)
    found = lever_arms(offsets) @ np.concatenate([shift, turn])
    assert_allclose(found, shift + np.cross(turn, offsets), rtol=1e-12)


def test_the_trace_of_s_changes_no_intensity(caplog):
    t, l, s = tls(15)  # noqa: E741
    structure = structure_of(8, 15)
    grid = HklGrid.from_resolution(TRICLINIC, 2.5)
    reference = simulate(structure, RigidBody(t, l, s), grid).intensity
    for shift in (0.001, -0.002, 5.0):
        # The last makes M indefinite: another trace is found, and nothing is said.
        with caplog.at_level(logging.DEBUG):
            found = simulate(structure, RigidBody(t, l, s + shift * np.eye(3)), grid).intensity
        assert np.nanmax(np.abs(found - reference)) < 1e-4 * np.nanmean(reference)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_another_origin_with_its_own_t_and_s_is_the_same_motion():
    # r_0' = r_0 + p: t' = t + λ × p, so T' and S' follow from M by the lever arm of p.
    t, l, s = tls(16)  # noqa: E741
    structure = structure_of(6, 16)
    origin, p = structure.positions[0], np.array([2.0, -3.0, 1.0])
    m = np.block([[t, s.T], [s, l]])
    change = np.eye(6)
    change[:3, 3:] = np.stack([np.cross(e, p) for e in np.eye(3)], axis=1)
    moved = change @ m @ change.T
    one = covariance_of(RigidBody(t, l, s, origin), structure)
    other = RigidBody(moved[:3, :3], l, moved[3:, :3], origin + p)
    assert_allclose(covariance_of(other, structure), one, rtol=1e-8, atol=1e-10)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 999), scale=st.floats(0.0, 3.0))
def test_the_covariance_is_a_covariance_whatever_s(seed, scale):
    t, l, s = tls(seed)  # noqa: E741
    logging.getLogger("offbragg").setLevel(logging.ERROR)
    try:
        v = covariance_of(RigidBody(t, l, scale * s), structure_of(5, 17))
    finally:
        logging.getLogger("offbragg").setLevel(logging.NOTSET)
    values = np.linalg.eigvalsh(flat(v))
    assert values[0] > -1e-9 * values[-1]
    assert (values > 1e-9 * values[-1]).sum() <= 6


def test_a_possible_motion_is_used_as_given():
    t, l, s = tls(18)  # noqa: E741
    structure = structure_of(4, 18)
    found = own_u(RigidBody(t, l, s, (0, 0, 0)), structure)
    assert_allclose(found, u_by_formula(structure.positions, t, l, s), rtol=1e-10)


def test_an_impossible_screw_is_said_and_projected(caplog):
    # S_xy² ≤ L_xx T_yy cannot hold, and no trace helps.
    s = np.zeros((3, 3))
    s[0, 1] = 1.0
    model = RigidBody(0.1 * np.eye(3), 1e-4 * np.eye(3), s)
    with caplog.at_level(logging.WARNING):
        v = covariance_of(model, structure_of(5, 19))
    assert "T, L, S are not a possible motion" in caplog.text
    values = np.linalg.eigvalsh(flat(v))
    assert values[0] > -1e-9 * values[-1]


def two_bodies(seed):
    t, l, s = tls(seed)  # noqa: E741
    return RigidBody(t, l, s, bodies=[[0, 3, 4], [1, 2, 5, 8]])


@pytest.mark.parametrize("name", ["translation", "libration", "screw"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_tangent_is_the_difference_of_covariances(name, whole):
    structure = structure_of(9, 27)
    model = RigidBody(*tls(27)) if whole else two_bodies(27)
    change = np.random.default_rng(28).normal(size=(3, 3))
    if name != "screw":
        change = change + change.T
    step = 1e-6 if name == "libration" else 1e-5
    ahead, behind = (
        covariance_of(model.with_parameters({name: getattr(model, name) + x * change}), structure)
        for x in (step, -step)
    )
    found = model.tangent(structure, {name: change}).correlated
    expected = (ahead - behind) / (2 * step)
    assert_allclose(found, expected, rtol=0, atol=RTOL_DIFFERENCES * np.abs(expected).max())


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999), whole=st.booleans(), symmetric=st.booleans())
def test_the_pullback_is_adjoint_to_the_tangent(seed, whole, symmetric):
    rng, structure = np.random.default_rng(seed), structure_of(9, 29)
    model = RigidBody(*tls(30)) if whole else two_bodies(30)
    g = rng.normal(size=(9, 9, 3, 3))
    direction = {name: rng.normal(size=(3, 3)) for name in model.refinable}
    if symmetric:
        g = g + g.transpose(1, 0, 3, 2)
    pulled = model.pullback(structure, Displacements(g))
    moved = model.tangent(structure, direction).correlated
    by_parameters = sum((pulled[name] * direction[name]).sum() for name in direction)
    scale = np.abs(g * moved).sum()
    assert_allclose(by_parameters, (g * moved).sum(), rtol=0, atol=RTOL_ROUNDING * scale)
    for name in ("translation", "libration"):
        assert_allclose(pulled[name], pulled[name].T, rtol=0, atol=1e-13 * scale)


def test_no_gradient_is_no_gradient():
    for pulled in RigidBody(*tls(31)).pullback(structure_of(), Displacements()).values():
        assert not pulled.any()


def test_the_parameters_are_the_tensors_that_there_are():
    assert list(RigidBody(0.1).refinable) == ["translation"]
    assert list(RigidBody(0.1, np.zeros((3, 3))).refinable) == ["translation", "libration"]
    model = RigidBody(*tls(32))
    assert {k: (p.shape, p.unit) for k, p in model.refinable.items()} == {
        "translation": ((3, 3), "Å²"),
        "libration": ((3, 3), "rad²"),
        "screw": ((3, 3), "Å·rad"),
    }
    for name, value in model.parameters(structure_of()).items():
        assert np.array_equal(value, getattr(model, name))


def test_the_gradient_knows_the_trace_of_s():
    # tr S changes no intensity: with the gradient of an intensity, dO/d(tr S) = 0.
    structure = structure_of(8, 33)
    q = np.random.default_rng(34).normal(size=3)
    # Any gradient G_ij = c_ij q qᵀ with c symmetric, as an intensity has it.
    c = random_covariance(np.random.default_rng(35), 8, 1.0, anisotropic=False)
    g = c[:, :, None, None] * np.outer(q, q)
    pulled = RigidBody(*tls(36)).pullback(structure, Displacements(g))
    assert abs(np.trace(pulled["screw"])) < 1e-12 * np.abs(pulled["screw"]).max()


def test_inputs_are_not_changed():
    t, l, s = tls(20)  # noqa: E741
    before = t.copy(), l.copy(), s.copy()
    RigidBody(t, l, s).displacements(structure_of())
    assert all(np.array_equal(a, b) for a, b in zip((t, l, s), before, strict=True))


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"translation": -0.1}, "translation must be positive semi-definite, got an eigenv"),
        ({"translation": np.ones(3)}, r"translation must be a number or a \(3, 3\) matrix"),
        ({"translation": np.full((3, 3), np.nan)}, r"translation must be a number or a \(3, 3\)"),
        ({"translation": np.triu(np.ones((3, 3)))}, "translation must be symmetric"),
        ({"libration": np.diag([1e-3, 1e-3, -1e-3])}, "libration must be positive semi-definite"),
        ({"libration": np.triu(np.ones((3, 3)))}, "libration must be symmetric"),
        ({"screw": np.ones((2, 3))}, r"screw must be a \(3, 3\) matrix, got shape \(2, 3\)"),
        ({"screw": np.full((3, 3), np.inf)}, r"screw must be a \(3, 3\) matrix"),
        ({"origin": (1.0, 2.0)}, r"origin must be three numbers, got shape \(2,\)"),
        ({"bodies": [[0, 1], [1, 2]]}, "bodies must not share atoms"),
    ],
)  # fmt: skip
def test_a_wrong_tensor_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        RigidBody(**arguments)


@pytest.mark.parametrize("body", [[0, 10], [-1, 2]])
def test_bodies_must_hold_atoms_of_the_structure(body):
    model = RigidBody(0.1, bodies=[[3], body])
    with pytest.raises(InputError, match=r"bodies\[1\] must hold atom indices 0\.\.9, got"):
        model.displacements(structure_of())


def test_a_body_that_moves_more_than_its_adps_is_refused_with_the_atom():
    u = np.tile(0.2 * np.eye(3), (10, 1, 1))
    u[4] = 0.01 * np.eye(3)
    structure = replace(structure_of(), u_aniso=u)
    grid = HklGrid.from_resolution(TRICLINIC, 4.0)
    for model in (RigidBody(0.02), RigidBody(0.02, bodies=[range(10)])):
        with pytest.raises(InputError, match=r"adps='file': the model moves atom .*index 4\)"):
            simulate(structure, model, grid, adps="file")


@pytest.mark.parametrize("bodies", [[[0.5, 1.0]], [[[0, 1]]], [["a"]]])
def test_a_body_must_be_indices_or_a_mask(bodies):
    with pytest.raises(InputError, match=r"bodies\[0\] must be a list of atom indices or a mask"):
        RigidBody(0.1, bodies=bodies)


def test_an_impossible_motion_has_no_derivative():
    s = np.zeros((3, 3))
    s[0, 1] = 1.0
    model = RigidBody(0.1 * np.eye(3), 1e-4 * np.eye(3), s)
    with pytest.raises(InputError, match="T, L, S are not a possible motion: no derivative"):
        model.tangent(structure_of(), {"screw": np.eye(3)})


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ({"libration": np.eye(3)}, "RigidBody has parameters translation, got 'libration'"),
        ({"translation": 0.1}, r"direction of translation must be \(3, 3\), got \(\)"),
    ],
)
def test_a_wrong_direction_is_named(direction, message):
    with pytest.raises(InputError, match=message):
        RigidBody(0.1).tangent(structure_of(), direction)


def test_a_gradient_by_scalars_is_refused():
    with pytest.raises(InputError, match=r"gradient must be \(10, 10, 3, 3\), got \(10, 10\)"):
        RigidBody(0.1).pullback(structure_of(), Displacements(np.eye(10)))
