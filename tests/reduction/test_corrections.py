"""Corrections of counts: solid angle, polarisation, sensor, exposure."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.errors import InputError
from offbragg.reduction.corrections import (
    PIXEL_CORRECTIONS,
    correction_factor,
    mean_solid_angle,
    polarization_axis,
    polarization_factor,
    sensor_absorption,
    solid_angle,
)
from offbragg.reduction.experiment import Beam, Panel

RTOL_ROUNDING = 1e-12
RTOL_CENTRE = 3e-4  # a pixel's solid angle from its centre: (size / distance)², 0.5 / 24 mm here


def random_directions(n, seed=0):
    v = np.random.default_rng(seed).normal(size=(n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


# --- 1 reference numbers -------------------------------------------------


def test_a_pixel_by_hand():
    # 45° off the normal, 0.01 mm² at 100 √2 mm: cos 45° A / 20000.
    angle = solid_angle(np.array([100.0, 0.0, 100.0]), np.array([0, 0, -1.0]), 0.01)
    assert_allclose(angle, 0.01 * np.sqrt(0.5) / 20000, rtol=RTOL_ROUNDING)


def test_silicon_at_a_slant_by_hand():
    # μ t = 0.672, 60° off the normal: twice that.
    direction = np.array([np.sqrt(0.75), 0.0, 0.5])
    absorbed = sensor_absorption(direction, np.array([0.0, 0, 1]), 2.1, 0.32)
    assert_allclose(absorbed, 1 - np.exp(-1.344), rtol=RTOL_ROUNDING)


# --- 2 independent oracle ------------------------------------------------


def triangle(a, b, c):
    """Solid angle of a triangle, van Oosterom & Strackee (1983)."""
    a, b, c = (v / np.linalg.norm(v) for v in (a, b, c))
    return 2 * abs(np.arctan2(a @ np.cross(b, c), 1 + a @ b + b @ c + c @ a))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 29), (19, 12)])
def test_solid_angle_is_that_of_the_rectangle(row, column, experiment):
    panel = experiment.detector[1]
    corners = [
        panel.pixel_positions(x, y)[row, column] for x, y in [(0, 0), (1, 0), (1, 1), (0, 1)]
    ]
    expected = triangle(*corners[:3]) + triangle(corners[0], *corners[2:])
    centre = panel.pixel_positions()[row, column]
    assert_allclose(solid_angle(centre, panel.normal, panel.pixel_area), expected, rtol=RTOL_CENTRE)


def test_the_pixels_of_a_box_fill_the_sphere():
    # Six panels around the crystal see all directions: 4π.
    axes = np.eye(3)
    panels = []
    for z in range(3):
        for sign in (1, -1):
            fast, slow, normal = axes[(z + 1) % 3], axes[(z + 2) % 3], sign * axes[z]
            origin = 50 * (normal - fast - slow)
            panels.append(Panel("", origin, fast, slow, (0.5, 0.5), (200, 200)))
    total = mean_solid_angle(panels) * 6 * 200 * 200
    assert_allclose(total, 4 * np.pi, rtol=1e-4)  # the midpoint rule, (0.5 / 50)²


def test_polarization_is_the_power_of_dipoles():
    # An electron driven by a field E radiates |ŝ × (ŝ × E)|²; two incoherent fields, p and 1 − p.
    beam = Beam(1.0, [0.3, -0.2, 1.0], [0.1, 1.0, 0.4], 0.8)
    directions = random_directions(50)
    normal = polarization_axis(beam)
    power = []
    for field in (np.cross(normal, beam.direction), normal):
        seen = np.cross(directions, np.cross(directions, field))
        power.append(np.einsum("ij,ij->i", seen, seen))
    expected = 0.8 * power[0] + 0.2 * power[1]
    assert_allclose(polarization_factor(directions, beam), expected, rtol=RTOL_ROUNDING)


def test_polarization_is_that_of_kahn():
    # Kahn et al. (1982): ½ [1 + cos²2θ − ξ cos 2ρ sin²2θ], ρ from the plane, ξ = 2p − 1.
    beam = Beam(1.0, [0, 0, 1], [0, 1, 0], 0.93)
    two_theta, rho = np.radians([[10.0, 40, 75, 120]]), np.radians([[0.0], [33], [90], [200]])
    directions = np.stack(
        [
            np.sin(two_theta) * np.cos(rho),
            np.sin(two_theta) * np.sin(rho),
            np.cos(two_theta) + 0 * rho,
        ],
        axis=-1,
    )
    xi = 2 * 0.93 - 1
    kahn = (1 + np.cos(two_theta) ** 2 - xi * np.cos(2 * rho) * np.sin(two_theta) ** 2) / 2
    assert_allclose(polarization_factor(directions, beam), kahn, rtol=RTOL_ROUNDING)


def test_absorption_is_an_integral_over_depth():
    depth = (np.arange(4000) + 0.5) / 4000 * 0.45
    normal = np.array([0.0, 0.6, 0.8])
    directions = np.array([normal, [0.0, 0.0, 1.0], [0.48, -0.36, 0.8], -normal])
    cosine = np.abs(directions @ normal)[:, None]
    expected = np.mean(3.0 / cosine * np.exp(-3.0 * depth / cosine), axis=1) * 0.45
    assert_allclose(sensor_absorption(directions, normal, 3.0, 0.45), expected, rtol=1e-4)


# --- 3 exact limits ------------------------------------------------------


def test_an_untilted_panel_goes_by_the_cube_of_the_cosine():
    panel = Panel("", [-80, -60, 100], [1, 0, 0], [0, 1, 0], (2.0, 3.0), (80, 40))
    positions = panel.pixel_positions()
    cosine = positions[..., 2] / np.linalg.norm(positions, axis=-1)
    straight = panel.pixel_area / 100**2
    assert_allclose(
        solid_angle(positions, panel.normal, panel.pixel_area), straight * cosine**3, rtol=1e-12
    )


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999])
def test_mean_over_azimuth_is_unpolarised(fraction):
    beam = Beam(1.0, [0, 0, 1], [0, 1, 0], fraction)
    rho = np.arange(12) * np.pi / 6
    for two_theta in (0.0, 0.7, 2.0):
        ring = np.stack(
            [np.sin(two_theta) * np.cos(rho), np.sin(two_theta) * np.sin(rho), 0 * rho], axis=-1
        )
        ring[:, 2] = np.cos(two_theta)
        factor = polarization_factor(ring, beam)
        assert_allclose(factor.mean(), (1 + np.cos(two_theta) ** 2) / 2, rtol=RTOL_ROUNDING)
        if fraction == 0.5:
            assert_allclose(factor, factor.mean(), rtol=RTOL_ROUNDING)


def test_an_unknown_sensor_absorbs_all():
    directions = random_directions(3)
    for mu, thickness in [(0.0, 0.3), (2.0, 0.0)]:
        assert_allclose(sensor_absorption(directions, np.array([0, 0, 1.0]), mu, thickness), 1.0)
    thick = sensor_absorption(directions, np.array([0, 0, 1.0]), 1e4, 1.0)
    assert_allclose(thick, 1.0)


def test_factor_is_the_product_of_what_is_switched_on(experiment):
    panel, beam = experiment.detector[1], experiment.beam
    alone = [correction_factor(panel, beam, (name,), 0.01) for name in PIXEL_CORRECTIONS]
    assert_allclose(correction_factor(panel, beam, reference=0.01), np.prod(alone, axis=0))
    assert_allclose(correction_factor(panel, beam, ()), 1.0)
    rows = slice(3, 6)
    assert_allclose(correction_factor(panel, beam, rows=rows), correction_factor(panel, beam)[rows])


def test_the_mean_solid_angle_makes_factors_of_order_one(experiment):
    reference = mean_solid_angle(experiment.detector)
    seen = [
        1 / correction_factor(p, experiment.beam, ("solid-angle",), reference)
        for p in experiment.detector
    ]
    assert_allclose(np.mean(seen), 1.0, rtol=RTOL_ROUNDING)


# --- 4 invariances -------------------------------------------------------


def test_isotropic_scattering_is_the_same_on_all_panels(experiment):
    # Counts of an isotropic source are ΔΩ: corrected they are one number, whatever the panel.
    reference = mean_solid_angle(experiment.detector)
    for panel in experiment.detector:
        positions = panel.pixel_positions()
        counts = solid_angle(positions, panel.normal, panel.pixel_area)
        factor = correction_factor(panel, experiment.beam, ("solid-angle",), reference)
        assert_allclose(counts * factor, reference, rtol=RTOL_ROUNDING)


def test_the_normal_of_polarization_may_lean_along_the_beam():
    directions = random_directions(10)
    upright = polarization_factor(directions, Beam(1.0, [0, 0, 1], [0, 1, 0], 0.9))
    leaning = polarization_factor(directions, Beam(1.0, [0, 0, 1], [0, 2, 5], 0.9))
    assert_allclose(leaning, upright, rtol=RTOL_ROUNDING)


# --- 5 errors ------------------------------------------------------------


def test_unknown_corrections_and_impossible_beams(experiment):
    panel = experiment.detector[0]
    with pytest.raises(InputError, match=r"corrections must be among .* got 'lorentz'"):
        correction_factor(panel, experiment.beam, ("lorentz",))
    along = replace(experiment.beam, polarization_normal=experiment.beam.direction)
    with pytest.raises(InputError, match="polarization_normal must not lie along the beam"):
        correction_factor(panel, along)


def test_a_pixel_edge_on_has_no_factor():
    panel = Panel("", [-0.5, 0, 10], [1, 0, 0], [0, 0, 1], (1.0, 1.0), (1, 2))
    factor = correction_factor(panel, Beam(1.0, [0, 0, 1], [0, 1, 0]), ("solid-angle",))
    assert np.isinf(factor).all()
