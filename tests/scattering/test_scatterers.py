"""Elements, their form factors, and products of form factors from a few of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.lattice_oracles import complex_form_factors
from tests.oracles import form_factors

from offbragg.errors import InputError
from offbragg.scattering.scatterers import ProductBasis, Scatterers

ROUNDING = 1e-12
# Between the points where the error is worked out, tables bend little: the worst of a finer mesh.
BETWEEN_POINTS = 1.05
PROTEIN = ["C"] * 50 + ["N"] * 14 + ["O"] * 16 + ["S"] * 2 + ["H"] * 80
CHEAP, DEAR = 1e-3, 1e9  # pairs splatted in the time of a transform
Q_MAX = 2 * np.pi / 1.5


def scatterers_of(elements, wavelength=None):
    n = len(elements)
    return Scatterers(np.zeros((n, 3)), np.array(elements), np.ones(n), wavelength)


def q_along_x(q_squared):
    return np.sqrt(q_squared)[:, None] * np.array([1.0, 0.0, 0.0])


# --- 1 reference numbers -------------------------------------------------


def test_classes_and_counts_by_hand():
    s = scatterers_of(["O", "C", "C", "S", "C"])
    assert s.names == ["C", "O", "S"]
    assert s.index.tolist() == [1, 0, 0, 2, 0]
    assert s.pair_classes == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    # C–C 3, C–O 3, C–S 3, O–O 0, O–S 1, S–S 0.
    assert s.class_counts().tolist() == [3, 3, 3, 0, 1, 0]


def test_forward_scattering_counts_electrons():
    f = scatterers_of(["C", "H", "S"]).form_factors(np.zeros(1))
    assert_allclose(f[:, 0].real, [6.0, 1.0, 16.0], atol=0.02)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("wavelength", [None, 0.97, 1.7])
def test_form_factors_are_those_of_the_tables(wavelength):
    elements = ["C", "N", "O", "S", "SE", "ZN", "H"]
    q2 = np.linspace(0.0, 25.0, 40)
    found = scatterers_of(elements, wavelength).form_factors(q2)
    names = sorted(elements)
    q = q_along_x(q2)
    expected = form_factors(names, q)
    if wavelength is not None:
        expected = complex_form_factors(names, q, wavelength)
    assert_allclose(found.T, expected, atol=ROUNDING * 40)


@pytest.mark.parametrize("wavelength", [None, 1.2])
def test_products_have_the_second_factor_conjugate(wavelength):
    s = scatterers_of(["C", "S", "FE"], wavelength)
    q2 = np.linspace(0.0, 9.0, 7)
    f = s.form_factors(q2)
    for product, (a, b) in zip(s.pair_products(q2), s.pair_classes, strict=True):
        assert_allclose(product, f[a] * f[b].conj(), rtol=ROUNDING)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(elements=st.lists(st.sampled_from(["C", "N", "O", "S", "H"]), min_size=1, max_size=12))
def test_counts_are_those_of_all_pairs(elements):
    s = scatterers_of(elements)
    counted = {}
    for a, b in itertools.combinations(elements, 2):
        key = tuple(sorted((s.names.index(a), s.names.index(b))))
        counted[key] = counted.get(key, 0) + 1
    assert s.class_counts().tolist() == [counted.get(c, 0) for c in s.pair_classes]


@pytest.mark.parametrize("elements", [PROTEIN, ["C", "N", "O", "P", "S", "FE", "ZN", "CL"] * 9])
@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("d_min", [1.0, 2.5])
def test_products_are_reproduced_within_the_stated_error(elements, tolerance, d_min):
    s = scatterers_of(elements)
    q_max = 2 * np.pi / d_min
    basis = ProductBasis.choose(s, q_max, tolerance, DEAR)
    q2 = np.linspace(0.0, q_max**2, 3001)
    products = s.pair_products(q2).real
    found = basis.coefficients @ products[list(basis.members)]
    worst = np.max(np.abs(found - products) / products)
    assert basis.error <= tolerance
    assert worst <= BETWEEN_POINTS * basis.error + 1e-12
    assert_array_equal(basis.coefficients[list(basis.members)], np.eye(len(basis.members)))


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "wavelength", "cost"),
    [(PROTEIN, None, CHEAP), (["C"] * 4, None, DEAR), (PROTEIN, 1.5, DEAR)],
)
def test_every_product_is_its_own_where_that_is_cheapest_or_must_be(elements, wavelength, cost):
    s = scatterers_of(elements, wavelength)
    basis = ProductBasis.choose(s, Q_MAX, 1e-3, cost)
    n = len(s.pair_classes)
    assert basis.members == tuple(range(n))
    assert_array_equal(basis.coefficients, np.eye(n))
    assert basis.error == 0.0


def test_one_member_where_anything_goes():
    basis = ProductBasis.choose(scatterers_of(["C", "N"]), 2 * np.pi / 4, 0.5, DEAR)
    assert len(basis.members) == 1


# --- 4 invariances -------------------------------------------------------


def test_dear_transforms_and_loose_tolerances_make_small_bases():
    s = scatterers_of(PROTEIN)
    by_cost = [len(ProductBasis.choose(s, Q_MAX, 1e-3, c).members) for c in (CHEAP, 1e3, DEAR)]
    assert by_cost == sorted(by_cost, reverse=True)
    assert by_cost[0] > by_cost[-1]
    by_error = [len(ProductBasis.choose(s, Q_MAX, t, DEAR).members) for t in (1e-7, 1e-4, 1e-1)]
    assert by_error == sorted(by_error, reverse=True)
    assert by_error[0] > by_error[-1]


@pytest.mark.parametrize("cost", [3.0, 30.0, 300.0, 3e3, 3e4])
def test_a_basis_never_costs_more_than_every_product_by_itself(cost):
    s = scatterers_of(PROTEIN)
    basis = ProductBasis.choose(s, Q_MAX, 1e-3, cost)
    n, size = len(s.pair_classes), len(basis.members)
    others = np.delete(s.class_counts(), basis.members).sum()
    assert size * cost + (size - 1) * others <= n * cost


def test_the_order_of_atoms_changes_nothing():
    mixed = np.random.default_rng(0).permutation(PROTEIN)
    one, two = (
        ProductBasis.choose(scatterers_of(e), Q_MAX, 1e-4, DEAR) for e in (PROTEIN, list(mixed))
    )
    assert one.members == two.members
    assert_allclose(one.coefficients, two.coefficients, rtol=ROUNDING)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("positions", np.zeros((2, 2)), r"positions must have shape \(2, 3\), got \(2, 2\)"),
        ("elements", np.array(["C"]), r"elements must have shape \(2,\), got \(1,\)"),
        ("occupancies", np.ones((2, 1)), r"occupancies must have shape \(2,\), got \(2, 1\)"),
    ],
)
def test_a_wrong_shape_is_named(name, value, message):
    arguments = {
        "positions": np.zeros((2, 3)), "elements": np.array(["C", "N"]), "occupancies": np.ones(2)
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        Scatterers(**(arguments | {name: value}))


def test_an_element_without_form_factors_is_named():
    with pytest.raises(InputError, match="element 'Qq' has no form factor"):
        scatterers_of(["C", "Qq"]).form_factors(np.zeros(1))
