"""Form factors: printed coefficients, gemmi, limits, names."""

import gemmi
import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.errors import InputError
from offbragg.scattering.form_factors import (
    compute_form_factors,
    element_form_factor,
    unique_elements,
)

RTOL_ROUNDING = 1e-12  # the same sum of five terms
# gemmi evaluates in float32: 1e-7 seen with gemmi 0.7.5.
RTOL_GEMMI = 1e-6


# --- 1 reference numbers -------------------------------------------------


def test_carbon_by_the_printed_coefficients():
    # International Tables C, table 6.1.1.4, carbon: a, b and c as printed.
    a, b, c = (2.3100, 1.0200, 1.5886, 0.8650), (20.8439, 10.2075, 0.5687, 51.6512), 0.2156
    q = np.array([0.0, 0.5, 1.0, 3.0, 6.0])
    expected = c + sum(x * np.exp(-y * (q / (4 * np.pi)) ** 2) for x, y in zip(a, b, strict=True))
    assert_allclose(element_form_factor("C", q**2), expected, rtol=1e-6)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("element", ["H", "C", "N", "O", "S", "P", "Se", "Zn", "Fe", "U"])
def test_matches_gemmi(element):
    q_squared = np.linspace(0, 100, 37)
    table = gemmi.Element(element).it92
    expected = [table.calculate_sf(stol2=x / (16 * np.pi**2)) for x in q_squared]
    assert_allclose(element_form_factor(element, q_squared), expected, rtol=RTOL_GEMMI)


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 93))
def test_forward_scattering_counts_electrons(number):
    # The fits of 1992 miss Z by at most 0.06 electrons (Tl).
    f_zero = element_form_factor(gemmi.Element(number).name, np.zeros(1))
    assert f_zero[0] == pytest.approx(number, abs=0.06)


def test_deuterium_scatters_as_hydrogen():
    q_squared = np.linspace(0, 40, 9)
    assert_allclose(element_form_factor("D", q_squared), element_form_factor("H", q_squared))


# --- 4 invariances -------------------------------------------------------


def test_occupancies_multiply_and_directions_do_not_matter():
    rng = np.random.default_rng(5)
    q = rng.normal(size=(6, 3))
    elements = ["C", "S", "C", "N"]
    occupancies = np.array([1.0, 0.5, 0.25, 0.0])
    full = compute_form_factors(elements, q)
    assert full.shape == (6, 4)
    assert_allclose(compute_form_factors(elements, q, occupancies), full * occupancies)
    assert_allclose(full[:, 0], full[:, 2], rtol=0)
    lengths = np.linalg.norm(q, axis=1)[:, None] * np.array([0.0, 0.0, 1.0])
    assert_allclose(compute_form_factors(elements, lengths), full, rtol=RTOL_ROUNDING)


def test_a_map_of_q_keeps_its_shape():
    q_squared = np.arange(24.0).reshape(2, 3, 4)
    found = element_form_factor("O", q_squared)
    assert found.shape == (2, 3, 4)
    assert_allclose(found.ravel(), element_form_factor("O", q_squared.ravel()), rtol=0)


def test_unique_elements_give_back_the_list():
    elements = np.array(["S", "C", "N", "C", "S"])
    names, index = unique_elements(elements)
    assert names == ["C", "N", "S"]
    assert np.array_equal(np.array(names)[index], elements)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("element", ["X", "Qq", "", "Es", "carbon"])
def test_an_element_without_a_table_is_named(element):
    with pytest.raises(InputError, match=f"element {element!r} has no form factor"):
        element_form_factor(element, np.zeros(1))
