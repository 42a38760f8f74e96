"""Background: splines and shells in |q|, a basis that a fit can take out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import HklGrid, InputError
from offbragg.crystal.cell import Cell
from offbragg.inference.background import N_SMOOTH, Background
from offbragg.inference.objective import background_coefficients
from offbragg.maps.shells import anisotropic_part

RTOL_ROUNDING = 1e-10  # sums of a few hundred float64, solved by least squares

Q = np.random.default_rng(3).uniform(0.4, 3.1, 400)


# --- 1 reference numbers -------------------------------------------------


def test_shells_are_a_hundredth_of_an_inverse_angstrom_wide():
    # By hand: 1/d = 0.104, 0.1099 and 0.111 Å⁻¹ lie in shells 10, 10 and 11.
    q = 2 * np.pi * np.array([0.104, 0.1099, 0.111])
    background = Background.over(q, "shells")
    assert_array_equal(background.knots, [10, 11])
    assert_array_equal(background.basis(q), [[1, 0], [1, 0], [0, 1]])


# --- 2 independent oracle ------------------------------------------------


def test_splines_hold_every_cubic_polynomial():
    # What cubic splines must hold exactly, whatever their knots.
    values = np.polynomial.Polynomial([2.0, -1.0, 0.5, 0.3])(Q)
    basis = Background.over(Q, "smooth").basis(Q)
    coefficients = background_coefficients(values, None, basis)
    assert_allclose(basis @ coefficients, values, rtol=RTOL_ROUNDING)


def test_splines_match_an_interpolation_by_truncated_powers():
    # The same space from another basis: 1 q q² q³ and (q − knot)³₊ at the inner knots.
    edges = np.linspace(Q.min(), Q.max(), N_SMOOTH - 2)
    powers = [Q**n for n in range(4)] + [np.maximum(Q - k, 0) ** 3 for k in edges[1:-1]]
    powers = np.stack(powers, axis=1)
    basis = Background.over(Q, "smooth").basis(Q)
    assert basis.shape == powers.shape == (len(Q), N_SMOOTH)
    values = np.sin(4 * Q) + 0.1 * np.random.default_rng(0).normal(size=len(Q))
    expected = powers @ np.linalg.lstsq(powers, values)[0]
    found = basis @ background_coefficients(values, None, basis)
    assert_allclose(found, expected, rtol=1e-7)  # truncated powers are ill-conditioned


def test_shell_coefficients_are_weighted_means():
    rng = np.random.default_rng(5)
    values, sigma = rng.normal(10, 2, len(Q)), rng.uniform(0.5, 2, len(Q))
    background = Background.over(Q, "shells")
    found = background_coefficients(values, sigma, background.basis(Q))
    shell_of = [int(q / (2 * np.pi) / 0.01) for q in Q]
    for number, coefficient in zip(background.knots, found, strict=True):
        own = [i for i, s in enumerate(shell_of) if s == number]
        mean = np.average(values[own], weights=sigma[own] ** -2)
        assert coefficient == pytest.approx(mean, rel=RTOL_ROUNDING)


def test_shells_leave_the_anisotropic_part_of_maps():
    # Cubic, so that many voxels lie exactly on the edges of shells: 1/d = 0.05 n.
    grid = HklGrid.from_resolution((20.0, 20.0, 20.0, 90, 90, 90), 3.0)
    inside = grid.within() & (grid.inv_d() > 0)
    values = np.random.default_rng(1).normal(5, 1, grid.shape)
    q = 2 * np.pi * grid.inv_d()[inside]
    basis = Background.over(q, "shells").basis(q)
    residual = values[inside] - basis @ background_coefficients(values[inside], None, basis)
    expected = anisotropic_part(values, grid.inv_d(), inside)[inside]
    assert_allclose(residual, expected, atol=1e-12)


# --- 3 exact limits ------------------------------------------------------


def test_none_has_no_functions():
    basis = Background.over(Q, "none").basis(Q)
    assert basis.shape == (len(Q), 0)
    assert background_coefficients(Q, None, basis).shape == (0,)


def test_splines_add_up_to_one_and_keep_their_ends():
    background = Background.over(Q, "smooth")
    assert_allclose(background.basis(Q).sum(axis=1), 1.0, rtol=RTOL_ROUNDING)
    beyond = background.basis(np.array([0.0, Q.min(), Q.max(), 99.0]))
    assert_array_equal(beyond[0], beyond[1])
    assert_array_equal(beyond[2], beyond[3])
    assert_allclose(beyond[1], np.eye(N_SMOOTH)[0], atol=1e-12)
    assert_allclose(beyond[2], np.eye(N_SMOOTH)[-1], atol=1e-12)


def test_a_shell_without_data_is_zero():
    background = Background.over(Q, "shells")
    assert not background.basis(np.array([0.01, 50.0])).any()


def test_voxels_of_one_length_have_finite_splines():
    basis = Background.over(np.full(5, 1.3), "smooth").basis(np.full(5, 1.3))
    assert np.isfinite(basis).all()
    assert_allclose(basis.sum(axis=1), 1.0)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("kind", ["smooth", "shells"])
def test_the_order_of_voxels_does_not_matter(kind):
    order = np.random.default_rng(0).permutation(len(Q))
    basis = Background.over(Q, kind).basis(Q)
    shuffled = Background.over(Q[order], kind).basis(Q[order])
    assert_allclose(shuffled, basis[order], rtol=0)


def test_voxels_on_the_edge_of_a_shell_stay_together():
    # |h|² = 49 all: 1/d = 0.28 Å⁻¹ in a cell of 25 Å, an edge that roundings miss on either side.
    frac = Cell(25.0, 25.0, 25.0, 90.0, 90.0, 90.0).frac_matrix
    hkl = np.array([[-6, -3, -2], [-7, 0, 0], [2, 3, 6], [0, 7, 0]])
    q = 2 * np.pi * np.linalg.norm(hkl @ frac, axis=1)
    background = Background.over(q, "shells")
    assert_array_equal(background.knots, [28])
    assert_array_equal(background.basis(q), np.ones((4, 1)))


# --- 5 errors ------------------------------------------------------------


def test_another_kind_is_refused():
    message = "background must be one of smooth shells none, got 'flat'"
    with pytest.raises(InputError, match=message):
        Background.over(Q, "flat")
