"""Compton scattering: exact hydrogen, Klein and Nishina, limits, sums over atoms, errors."""

import gemmi
import numpy as np
import pytest
import xraylib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.errors import InputError
from offbragg.scattering.compton import (
    compton_intensity,
    element_compton,
    recoil_factor,
)

BOHR_RADIUS = 0.529177210903  # Å
HYDROGEN_ERROR = 2e-4  # electrons: the table's digits and the spline between them; 1.4e-4 seen
TABLE_ERROR = 3e-5  # electrons per atom: cubic spline through the nodes; 4e-6 seen for C
LOW_ERROR = 0.04  # relative, below x = 0.02 Å⁻¹: the table's three digits there
RTOL_ROUNDING = 1e-12
ALL_ELEMENTS = [gemmi.Element(z).name for z in range(1, 99)]


def q_squared_of(stol):
    return (4 * np.pi * np.asarray(stol, dtype=float)) ** 2


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("element", "values"),
    [
        # python -c "import xraylib; print(xraylib.SF_Compt(6, 0.1))": Hubbell et al. (1975).
        ("C", {0.05: 0.3086, 0.1: 1.0392, 0.5: 4.4777, 1.0: 5.3485, 2.0: 5.9302}),
        ("O", {0.1: 0.977, 0.5: 5.828, 1.0: 6.901}),
        ("S", {0.1: 2.151, 0.5: 8.96, 1.0: 12.472}),
    ],
)
def test_tabulated_values(element, values):
    found = element_compton(element, np.array(list(values)))
    assert_allclose(found, list(values.values()), rtol=1e-6)


def test_recoil_of_backscattering_by_hand():
    # λ' − λ = 2 h/mc = 0.0485 Å at 2θ = 180°: sin θ/λ = 1/λ.
    assert_allclose(recoil_factor(np.array([1.0]), 1.0), 1 / 1.0485262, rtol=1e-7)


# --- 2 independent oracle ------------------------------------------------


def test_hydrogen_is_the_exact_atom():
    # One electron: S = 1 − f², f = 1/(1 + (2π a₀ x)²)² of the 1s state.
    stol = np.linspace(0, 3, 3001)
    f = 1 / (1 + (2 * np.pi * BOHR_RADIUS * stol) ** 2) ** 2
    found = compton_intensity(q_squared_of(stol), ["H"])
    assert_allclose(found, 1 - f**2, atol=HYDROGEN_ERROR)
    low = (stol > 0) & (stol < 0.02)
    assert_allclose(found[low], (1 - f**2)[low], rtol=1e-3)


def test_helium_is_nearly_two_independent_electrons():
    # 2 (1 − (f/2)²) with the coherent form factor; correlation of the two lowers it a little.
    stol = np.linspace(0.002, 2, 200)
    table = gemmi.Element("He").it92
    f = np.array([table.calculate_sf(stol2=x**2) for x in stol])
    independent = 2 * (1 - (f / 2) ** 2)
    found = element_compton("He", stol)
    assert np.all(np.abs(found - independent) < 0.1)
    assert_allclose(found[stol > 0.2], independent[stol > 0.2], rtol=0.06)


@pytest.mark.parametrize("wavelength", [0.3, 0.908, 1.54])
def test_photon_counting_is_klein_and_nishina_to_second_order(wavelength):
    # Oracle: xraylib's own cross sections, unpolarised, ratio to Thomson scattering [b/atom].
    energy = 12.398419843 / wavelength
    two_theta = np.linspace(0.2, 3.1, 30)
    stol = np.sin(two_theta / 2) / wavelength
    expected = [
        xraylib.DCS_KN(energy, a) / xraylib.DCS_Thoms(a) * element_compton("C", np.array([x]))[0]
        for a, x in zip(two_theta, stol, strict=True)
    ]
    found = compton_intensity(q_squared_of(stol), ["C"], wavelength=wavelength)
    second_order = (1 - recoil_factor(stol**2, wavelength)) ** 2
    assert np.all(np.abs(found / expected - 1) < 1.1 * second_order + 2e-5)
    assert np.any(np.abs(compton_intensity(q_squared_of(stol), ["C"]) / expected - 1) > 0.02)


def test_atoms_add_up():
    rng = np.random.default_rng(8)
    q_squared = rng.uniform(0, 60, (7, 5, 3))
    elements = np.array(["C", "N", "O", "S", "H"])[rng.integers(0, 5, 40)]
    occupancies = rng.uniform(0, 1, 40)
    stol = np.sqrt(q_squared.ravel()) / (4 * np.pi)
    expected = sum(
        o * element_compton(str(e), stol) for o, e in zip(occupancies, elements, strict=True)
    )
    found = compton_intensity(q_squared, elements, occupancies)
    assert found.shape == q_squared.shape
    assert_allclose(found.ravel(), expected, atol=40 * TABLE_ERROR)


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("element", ALL_ELEMENTS)
def test_from_zero_to_all_electrons(element):
    z = gemmi.Element(element).atomic_number
    stol = np.array([0.0, 1e-9, 1e-5, 0.019999, 0.02, 99.999, 100.0, 1e9, 1e12])
    found = element_compton(element, stol)
    assert found[0] == 0.0
    assert_allclose(found[-4:], z, atol=2e-4)
    # ∝ x² at small x, and no step where the table begins or ends.
    assert_allclose(found[2] / found[1], 1e8, rtol=1e-6)
    assert_allclose(found[3], found[4], rtol=3e-4)
    assert 0 < found[4] < z
    assert np.all(found <= z)


@pytest.mark.parametrize("element", ["H", "C", "N", "O", "P", "S", "Se", "Zn"])
def test_rises_with_x(element):
    found = element_compton(element, np.linspace(0, 2, 2001))
    assert np.diff(found).min() > -1e-6


@pytest.mark.parametrize("element", ["C", "N", "O", "S"])
def test_small_x_joins_the_table(element):
    # Where the table still has three digits it must be what the series below it says.
    stol = np.array([0.01, 0.0125, 0.015])
    table = [xraylib.SF_Compt(gemmi.Element(element).atomic_number, x) for x in stol]
    assert_allclose(element_compton(element, stol), table, rtol=LOW_ERROR)


def test_no_atoms_no_voxels_and_values_that_are_none():
    assert_array_equal(compton_intensity(np.ones(3), []), 0.0)
    assert compton_intensity(np.empty((0, 3)), ["C"]).shape == (0, 3)
    found = compton_intensity(np.array([0.0, np.nan, np.inf]), ["C"])
    assert found[0] == 0
    assert np.isnan(found[1])
    assert_allclose(found[2], 6.0, rtol=1e-6)


def test_beyond_the_limiting_sphere_there_is_nothing():
    stol = np.array([0.0, 0.5, 1.0, 1.001])
    found = compton_intensity(q_squared_of(stol), ["O"], wavelength=1.0)
    assert_array_equal(np.isnan(found), [False, False, False, True])


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 999), wavelength=st.floats(0.2, 2.0), factor=st.floats(0.0, 3.0))
def test_linear_in_occupancy_and_damped_by_the_recoil(seed, wavelength, factor):
    rng = np.random.default_rng(seed)
    q_squared = q_squared_of(rng.uniform(0, 1 / wavelength, 20))
    elements = rng.choice(["C", "N", "O", "S"], 6)
    occupancies = rng.uniform(0, 1, 6)
    one = compton_intensity(q_squared, elements, occupancies)
    many = compton_intensity(q_squared, elements, factor * occupancies)
    assert_allclose(many, factor * one, rtol=RTOL_ROUNDING, atol=1e-300)
    counted = compton_intensity(q_squared, elements, occupancies, wavelength)
    weighed = compton_intensity(q_squared, elements, occupancies, wavelength, exponent=3)
    ratio = recoil_factor(q_squared / (4 * np.pi) ** 2, wavelength)
    assert_allclose(counted, one * ratio**2, rtol=RTOL_ROUNDING)
    assert_allclose(weighed, one * ratio**3, rtol=RTOL_ROUNDING)


def test_deuterium_is_as_hydrogen_and_order_does_not_matter():
    q_squared = np.linspace(0, 40, 11)
    assert_array_equal(
        compton_intensity(q_squared, ["D", "C"]), compton_intensity(q_squared, ["C", "H"])
    )


def test_inputs_are_not_changed():
    q_squared, occupancies = np.linspace(0, 40, 11), np.array([0.5, 1.0])
    compton_intensity(q_squared, ["C", "N"], occupancies, wavelength=1.0)
    assert_array_equal(q_squared, np.linspace(0, 40, 11))
    assert_array_equal(occupancies, [0.5, 1.0])


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"elements": ["carbon"]}, "element 'carbon' must be one of H to Cf"),
        ({"elements": ["Es"]}, "element 'Es' must be"),
        ({"elements": ["X"]}, "element 'X' must be"),
        ({"occupancies": np.ones(2)}, r"occupancies must be \(1,\), got \(2,\)"),
        ({"occupancies": np.array([-1.0])}, "occupancies must be finite and >= 0"),
        ({"q_squared": np.array([-4.0])}, "q_squared must be >= 0 Å⁻², got -4"),
        ({"wavelength": 0.0}, "wavelength must be > 0 Å, got 0.0"),
        ({"wavelength": np.nan}, "wavelength must be > 0 Å, got nan"),
        ({"exponent": 1}, r"exponent must be 2 \(photons\) or 3 \(energy\), got 1"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        compton_intensity(**{"q_squared": np.ones(1), "elements": ["C"], **arguments})
