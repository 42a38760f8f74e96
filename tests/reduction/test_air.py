"""Air between crystal and detector: tables, photons that fly, and windows of a helium chamber."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.errors import InputError
from offbragg.reduction.air import air_attenuation, air_transmission
from offbragg.reduction.corrections import correction_factor
from offbragg.reduction.experiment import Beam, Panel

RTOL_TABLES = 0.01  # two tabulations of measured cross sections agree so (XCOM, xraylib)
DENSITY = 1.205e-3  # g/cm³
KEV_ANGSTROM = 12.398419843
RTOL_ROUNDING = 1e-12
SIGMAS = 4.5  # two-sided chance below 1e-5; the seeds are fixed


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("energy", "per_mass"),
    # NIST X-ray mass attenuation tables (Hubbell & Seltzer 1995), "Air, Dry (Near Sea Level)",
    # with coherent scattering: keV, cm²/g.
    [(5.0, 40.27), (8.0, 9.921), (10.0, 5.120), (15.0, 1.614), (20.0, 0.7779), (30.0, 0.3538)],
)
def test_the_tables_of_nist(energy, per_mass):
    found = air_attenuation(KEV_ANGSTROM / energy)
    assert_allclose(found, per_mass * DENSITY / 10, rtol=RTOL_TABLES)


def test_a_detector_by_hand():
    # 10 keV, 200 mm: exp(−5.12 · 0.001205 · 20) = 0.884.
    mu = air_attenuation(KEV_ANGSTROM / 10)
    assert_allclose(air_transmission(np.array(200.0), mu), 0.884, atol=5e-4)


# --- 2 independent oracle ------------------------------------------------


def test_photons_that_fly():
    # Free paths are exponential; a photon is seen if its path is longer than the way.
    rng, n = np.random.default_rng(1), 200_000
    paths = rng.exponential(1 / 0.004, n)
    for distance in (50.0, 150.0, 400.0):
        seen = np.mean(paths > distance)
        expected = air_transmission(np.array(distance), 0.004)
        assert abs(seen - expected) < SIGMAS * np.sqrt(expected * (1 - expected) / n)


def test_a_chamber_takes_the_same_part_of_every_way():
    # Helium between two planes parallel to a tilted panel: the way in air, step by step.
    panel = Panel("", [-30, -20, 80], [1, 0, 0.1], [0, 1, 0], (5.0, 5.0), (12, 9))
    positions, height = panel.pixel_positions(), abs(panel.origin @ panel.normal)
    steps = (np.arange(20000) + 0.5) / 20000
    for row, column in [(0, 0), (4, 6), (8, 11)]:
        way = positions[row, column] * steps[:, None]
        depth = np.abs(way @ panel.normal) / height
        in_air = np.mean((depth < 0.15) | (depth > 0.65)) * np.linalg.norm(positions[row, column])
        found = air_transmission(np.linalg.norm(positions[row, column]), 0.02, 0.5)
        assert_allclose(found, np.exp(-0.02 * in_air), rtol=1e-3)  # 20000 steps


# --- 3 exact limits ------------------------------------------------------


def test_no_air_takes_nothing():
    distance = np.array([0.0, 10.0, 1e4])
    assert_allclose(air_transmission(distance, 0.3, 0.0), 1.0, rtol=0)
    assert_allclose(air_transmission(distance, 0.0), 1.0, rtol=0)
    panel, beam = Panel("", [-5, -5, 50], [1, 0, 0], [0, 1, 0], (1, 1), (10, 10)), a_beam(1.0)
    assert_allclose(correction_factor(panel, beam, ("air",), air_fraction=0.0), 1.0, rtol=0)


def a_beam(wavelength):
    return Beam(wavelength, [0, 0, 1], [0, 1, 0])


# --- 4 invariances -------------------------------------------------------


def test_ways_multiply():
    one = air_transmission(np.array(130.0), 0.002)
    two = air_transmission(np.array(70.0), 0.002)
    assert_allclose(air_transmission(np.array(200.0), 0.002), one * two, rtol=RTOL_ROUNDING)


def test_longer_waves_lose_more():
    waves = [0.3, 0.7, 1.0, 1.5, 2.3]
    assert np.all(np.diff([air_attenuation(w) for w in waves]) > 0)


# --- 5 errors ------------------------------------------------------------


def test_what_air_cannot_be():
    with pytest.raises(InputError, match=r"air_fraction must be 0 to 1, got 1\.2"):
        air_transmission(np.ones(2), 0.001, 1.2)
    with pytest.raises(InputError, match=r"wavelength must be 0\.0155 to 124 Å .* got 500"):
        air_attenuation(500.0)
