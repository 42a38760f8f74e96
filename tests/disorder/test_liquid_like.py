"""LiquidLike: kernels, exact form, series, the convolution, and which atoms move together."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import diffuse_of_cell, diffuse_sum, flat, form_factors, q_of
from tests.strategies import CRYSTALS, random_structure, structures

from offbragg import AtomicStructure, HklGrid, LiquidLike, RigidBody, Uncorrelated, simulate
from offbragg.errors import InputError
from offbragg.scattering import HalfLattice
from offbragg.scattering.engine import Engine

MAP_ERROR = 1e-3  # of the mean, the project's own figure
# Of the largest: a map good to 1e-4 of its mean against a quadrature converged to 1e-9.
RTOL_CONVOLUTION = 2e-4

TRICLINIC = CRYSTALS["triclinic"][0]


def gamma_of(kernel, r, length):
    return np.exp(-r / length) if kernel == "exponential" else np.exp(-(r**2) / (2 * length**2))


def series_sum(q, positions, f, sigma, gamma, orders):
    """e^{−x} Σ_n xⁿ/n! Σ_ij f_i f_j cos(q·r_ij) Γⁿ, x = q²σ²."""
    waves = f * np.exp(1j * q @ positions.T)
    x = (q**2).sum(axis=1) * sigma**2
    total, factor = np.zeros(len(q)), np.ones(len(q))
    for n in range(1, orders + 1):
        factor = factor * x / n
        phi = np.einsum("qi,ij,qj->q", waves.conj(), gamma**n, waves, optimize=True).real
        total += factor * phi
    return np.exp(-x) * total


def distances(positions):
    return np.linalg.norm(positions[:, None] - positions[None, :], axis=-1)


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "expected"),
    # r = 5 Å, γ = 2.5 Å: e^−2; e^−25/12.5 = e^−2 as well; r = 10 Å: e^−4 and e^−8.
    [("exponential", [np.exp(-2.0), np.exp(-4.0)]), ("gaussian", [np.exp(-2.0), np.exp(-8.0)])],
)
def test_correlations_of_two_distances_by_hand(kernel, expected):
    positions = np.array([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, 10.0]])
    found = LiquidLike(0.3, 2.5, kernel).correlation(positions)
    assert_allclose(np.diag(found), 1.0, rtol=1e-15)
    assert_allclose(found[0, 1:], expected, rtol=1e-13)
    assert_allclose(found, found.T, rtol=0)


def test_two_atoms_by_hand():
    # σ² = 0.16, Γ = e^−1 at r = γ = 5 Å along x; q = 1 along x, equal atoms:
    # 2f²e^{−σ²}[(e^{σ²} − 1) + cos(5)(e^{σ²/e} − 1)].
    structure = pair_of_carbons(5.0)
    grid = HklGrid(structure.cell, [1.0], [0.0], [0.0])
    q = 2 * np.pi / 20
    f = form_factors(["C"], np.array([[q, 0, 0]]))[0, 0]
    x = q**2 * 0.16
    expected = 2 * f**2 * np.exp(-x) * (np.expm1(x) + np.cos(5 * q) * np.expm1(x / np.e))
    found = simulate(structure, LiquidLike(0.4, 5.0), grid, rtol=1e-8).intensity[0, 0, 0]
    assert found == pytest.approx(expected, rel=1e-6)


def pair_of_carbons(distance):
    return AtomicStructure(
        (20, 20, 20, 90, 90, 90), "P 1", np.array([[0.0, 0, 0], [distance, 0, 0]]),
        np.array(["C", "C"]), np.ones(2), np.zeros((2, 3, 3)),
    )  # fmt: skip


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("kernel", ["exponential", "gaussian"])
def test_the_exact_form_matches_the_direct_sum(kernel):
    cell, groups = CRYSTALS["tetragonal"]
    structure = random_structure(np.random.default_rng(2), 7, cell, groups[0])
    model = LiquidLike(0.45, 4.0, kernel)
    grid = HklGrid.from_resolution(cell, 2.2, (1, 1, 2))
    found = simulate(structure, model, grid).intensity[grid.within()]
    q = grid.q()[grid.within()]
    f = form_factors(structure.elements, q, structure.occupancies)
    v = 0.45**2 * gamma_of(kernel, distances(structure.positions), 4.0)
    expected = diffuse_of_cell(q, structure.positions, f, v, cell, groups[0])
    assert np.abs(found - expected).max() < MAP_ERROR * expected.mean()


@pytest.mark.parametrize("kernel", ["exponential", "gaussian"])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_the_series_matches_its_terms(kernel, order):
    structure = random_structure(np.random.default_rng(3), 7, TRICLINIC)
    grid = HklGrid.from_resolution(TRICLINIC, 2.0, (2, 1, 1))
    found = simulate(structure, LiquidLike(0.5, 4.0, kernel, order=order), grid).intensity
    q = grid.q()[grid.within()]
    f = form_factors(structure.elements, q, structure.occupancies)
    gamma = gamma_of(kernel, distances(structure.positions), 4.0)
    expected = series_sum(q, structure.positions, f, 0.5, gamma, order)
    assert np.abs(found[grid.within()] - expected).max() < MAP_ERROR * expected.mean()


def test_powers_of_a_kernel_are_the_kernel_with_a_shorter_length():
    # Γⁿ: γ/n for the exponential, γ/√n for the Gaussian.
    positions = np.random.default_rng(4).normal(scale=4, size=(6, 3))
    for kernel, root in (("exponential", 1.0), ("gaussian", 0.5)):
        for n in (2, 3):
            power = LiquidLike(0.3, 5.0, kernel).correlation(positions) ** n
            other = LiquidLike(0.3, 5.0 / n**root, kernel).correlation(positions)
            assert_allclose(power, other, rtol=1e-12)


def test_first_order_is_the_convolution_over_8_pi_cubed():
    # Φ_1 = 1/(8π³) ∫ I_0(q − q') Γ̃(q') d³q', Γ̃ = (2π)^{3/2} γ³ e^{−q'²γ²/2}; six point atoms.
    # The atoms are all carbon, so that point atoms come from dividing by f².
    sigma, length = 0.3, 3.0
    rng = np.random.default_rng(5)
    structure = random_structure(rng, 6, TRICLINIC, spread=2.5)
    carbons = AtomicStructure(
        TRICLINIC, "P 1", structure.positions, np.full(6, "C"), np.ones(6), np.zeros((6, 3, 3))
    )
    lattice = HalfLattice(TRICLINIC, (1, 1, 1), (4, 4, 6), 2 * np.pi / 2.8)
    found = LiquidLike(sigma, length, "gaussian", order=1).diffuse_on_lattice(
        lattice, carbons, engine=Engine(rtol=1e-6)
    )
    picks = [(4 + h, 4 + k, m) for h, k, m in [(1, 0, 0), (-1, 2, 1), (2, -1, 3), (0, 1, 4)]]
    q = q_of([(p[0] - 4, p[1] - 4, p[2]) for p in picks], TRICLINIC)
    f = form_factors(["C"], q)[:, 0]
    x = (q**2).sum(axis=1) * sigma**2
    phi = np.array([found[p] for p in picks]) / (f**2 * x * np.exp(-x))

    # Gauss–Hermite in each direction: q' = √2 t/γ; its weight e^{−t²} is divided out again.
    t, w = np.polynomial.hermite.hermgauss(40)
    nodes = np.sqrt(2) / length * np.array(list(itertools.product(t, t, t)))
    weights = np.prod(np.array(list(itertools.product(w * np.exp(t**2), repeat=3))), axis=1)
    kernel = (2 * np.pi) ** 1.5 * length**3 * np.exp(-0.5 * length**2 * (nodes**2).sum(axis=1))
    volume = (np.sqrt(2) / length) ** 3
    expected = []
    for vector in q:
        waves = np.exp(1j * (vector - nodes) @ structure.positions.T).sum(axis=1)
        expected.append((np.abs(waves) ** 2 * kernel * weights).sum() * volume)
    assert_allclose(phi, np.array(expected) / (8 * np.pi**3), rtol=RTOL_CONVOLUTION)


def test_coherence_of_the_cell_correlates_its_copies():
    # Oracle: the copies written out by hand from the doc: centroids in [0, 1), actual distances.
    cell, groups = CRYSTALS["monoclinic"]
    structure = random_structure(np.random.default_rng(6), 5, cell, groups[0])
    every = structure.to_p1()
    grid = HklGrid.from_resolution(cell, 2.5, (1, 2, 1))
    found = simulate(structure, LiquidLike(0.4, 6.0, coherence="cell"), grid)
    q = grid.q()[grid.within()]
    f = form_factors(every.elements, q, every.occupancies)
    v = 0.16 * gamma_of("exponential", distances(every.positions), 6.0)
    expected = diffuse_sum(q, every.positions, f, v)
    assert np.abs(found.intensity[grid.within()] - expected).max() < MAP_ERROR * expected.mean()
    apart = simulate(structure, LiquidLike(0.4, 6.0, coherence="asu"), grid)
    assert np.abs((found.intensity - apart.intensity)[grid.within()]).max() > 0.1 * expected.mean()


# --- 3 exact limits ------------------------------------------------------


def test_higher_orders_approach_the_exact_form():
    structure = random_structure(np.random.default_rng(7), 6, TRICLINIC)
    grid = HklGrid.from_resolution(TRICLINIC, 2.5)
    exact = simulate(structure, LiquidLike(0.5, 5.0), grid, rtol=1e-6).intensity
    mean = np.nanmean(exact)
    errors = []
    for order in (1, 2, 4, 8, 12):
        series = simulate(structure, LiquidLike(0.5, 5.0, order=order), grid, rtol=1e-6).intensity
        errors.append(np.nanmax(np.abs(series - exact)) / mean)
    assert all(b < 0.7 * a for a, b in itertools.pairwise(errors[:4]))
    assert errors[0] > 0.1
    assert errors[-1] < 1e-5


def test_a_long_correlation_length_moves_all_atoms_as_one():
    # γ = 10⁶ Å, far beyond the box: the closed form of a rigid translation.
    structure = random_structure(np.random.default_rng(8), 8, TRICLINIC)
    grid = HklGrid.from_resolution(TRICLINIC, 2.0, 2)
    found = simulate(structure, LiquidLike(0.4, 1e6), grid).intensity
    rigid = simulate(structure, RigidBody(translation=0.16), grid).intensity
    assert np.nanmax(np.abs(found - rigid)) < MAP_ERROR * np.nanmean(rigid)


def test_a_short_correlation_length_moves_each_atom_by_itself():
    structure = random_structure(np.random.default_rng(9), 8, TRICLINIC)
    grid = HklGrid.from_resolution(TRICLINIC, 2.0, 2)
    found = simulate(structure, LiquidLike(0.4, 0.02), grid).intensity
    u = np.broadcast_to(0.16 * np.eye(3), (8, 3, 3))
    alone = AtomicStructure(
        TRICLINIC, "P 1", structure.positions, structure.elements, structure.occupancies, u
    )
    expected = simulate(alone, Uncorrelated(), grid).intensity
    assert np.nanmax(np.abs(found - expected)) < MAP_ERROR * np.nanmean(expected)


def test_no_displacement_scatters_nothing():
    structure = random_structure(np.random.default_rng(10), 5, TRICLINIC)
    grid = HklGrid.from_resolution(TRICLINIC, 3.0)
    for order in ("exact", 1, 3):
        assert (
            np.nanmax(simulate(structure, LiquidLike(0.0, 5.0, order=order), grid).intensity) == 0
        )


def test_a_large_displacement_leaves_the_sum_of_squares_at_high_q():
    # σ = 2 Å, γ = 1 Å: beyond q = 2 Å⁻¹ pairs are damped by e^{−q²σ²(1 − Γ)}.
    structure = random_structure(np.random.default_rng(11), 6, TRICLINIC)
    grid = HklGrid(TRICLINIC, [3.0, 4.0], [4.0, 5.0], [5.0])
    found = simulate(structure, LiquidLike(2.0, 0.5), grid).intensity
    q = grid.q().reshape(-1, 3)
    f = form_factors(structure.elements, q, structure.occupancies)
    assert_allclose(found.ravel(), (f**2).sum(axis=1), rtol=1e-3)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    structure=structures(8),
    length=st.floats(0.1, 1e4),
    sigma=st.floats(0.01, 3.0),
    kernel=st.sampled_from(["exponential", "gaussian"]),
)
def test_the_covariance_is_a_covariance(structure, length, sigma, kernel):
    moves = LiquidLike(sigma, length, kernel).displacements(structure)
    values = np.linalg.eigvalsh(flat(moves.correlated))
    assert values[0] > -1e-10 * values[-1]
    assert_allclose(moves.u_aniso(8), np.broadcast_to(sigma**2 * np.eye(3), (8, 3, 3)), rtol=1e-12)


def test_the_files_adps_are_not_used():
    structure = random_structure(np.random.default_rng(12), 5, TRICLINIC, u=0.2)
    other = random_structure(np.random.default_rng(12), 5, TRICLINIC, u=0.9)
    grid = HklGrid.from_resolution(TRICLINIC, 3.0)
    maps = [simulate(s, LiquidLike(0.4, 5.0), grid).intensity for s in (structure, other)]
    assert not np.allclose(structure.u_aniso, other.u_aniso)
    assert_allclose(maps[0], maps[1], rtol=0)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rms_displacement": -0.1}, "rms_displacement must be a positive number of Å, got -0.1"),
        ({"rms_displacement": np.nan}, "rms_displacement must be a positive number of Å, got nan"),
        ({"correlation_length": 0.0}, "correlation_length must be a positive number of Å, got 0.0"),
        ({"correlation_length": np.inf}, "correlation_length must be a positive number of Å"),
        ({"kernel": "box"}, "kernel must be one of exponential gaussian, got 'box'"),
        ({"coherence": "world"}, "coherence must be one of asu cell.* got 'world'"),
        ({"order": 0}, "order must be 'exact' or a whole number >= 1, got 0"),
        ({"order": 1.5}, "order must be 'exact' or a whole number >= 1, got 1.5"),
        ({"order": "first"}, "order must be 'exact' or a whole number >= 1, got 'first'"),
    ],
)
def test_a_wrong_parameter_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        LiquidLike(**{"rms_displacement": 0.4, "correlation_length": 7.0, **arguments})


def test_an_order_may_be_a_numpy_number():
    assert LiquidLike(0.4, 7.0, order=np.int64(2)).order == 2


def test_a_series_does_not_take_the_files_adps():
    structure = random_structure(np.random.default_rng(13), 4, TRICLINIC)
    grid = HklGrid.from_resolution(TRICLINIC, 4.0)
    with pytest.raises(InputError, match="adps='file' needs order='exact', got order=1"):
        simulate(structure, LiquidLike(0.1, 5.0, order=1), grid, adps="file")


def test_a_series_cannot_be_part_of_a_sum():
    # V_m add, the orders of one term do not: taking the exact form instead would be silent.
    structure = random_structure(np.random.default_rng(14), 4, TRICLINIC)
    grid = HklGrid.from_resolution(TRICLINIC, 4.0)
    with pytest.raises(InputError, match="order"):
        simulate(structure, LiquidLike(0.3, 5.0, order=1) + RigidBody(translation=0.1), grid)
