"""κ and parallax against photons that are traced one by one from the crystal into a sensor.

Nothing here uses the formulas of `corrections`: rays are thrown evenly over a cone, kept as dipoles
radiate, flown through air, and absorbed along their way in a flat sensor.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from offbragg.reduction.air import air_attenuation
from offbragg.reduction.corrections import PIXEL_CORRECTIONS, correction_factor
from offbragg.reduction.experiment import Beam, Panel
from offbragg.reduction.pixel_table import PixelTable

N_RAYS = 2_000_000
# Poisson numbers of 100 to 1400 a pixel: χ² per pixel of 300 pixels is 1 ± 0.08.
CHI_SQUARED = 1.35
BEAM = Beam(1.9, [0.05, 0.02, 1.0], [0.1, 1.0, 0.0], 0.8)


@pytest.fixture(scope="module")
def panel():
    """Tilted by 25°, so that rays enter at 10 to 60°; 60 cm away, where air counts at 1.9 Å."""
    fast, slow = Rotation.from_euler("xyz", [25, -10, 8], degrees=True).apply(np.eye(3)[:2])
    middle = np.array([260.0, 180.0, 520.0])
    origin = middle - 10 * 20.0 * fast - 7.5 * 20.0 * slow
    return Panel("", origin, fast, slow, (20.0, 20.0), (20, 15), mu=6.0, thickness=0.12)


@pytest.fixture(scope="module")
def rays(panel):
    """Unit vectors of the photons that left the crystal towards the panel, and the cone's size."""
    rng = np.random.default_rng(3)
    corners = np.stack([panel.pixel_positions(x, y) for x in (0, 1) for y in (0, 1)])
    corners = corners.reshape(-1, 3) / np.linalg.norm(corners, axis=-1).reshape(-1, 1)
    axis = corners.mean(axis=0) / np.linalg.norm(corners.mean(axis=0))
    lowest = (corners @ axis).min() - 1e-3
    cosine = rng.uniform(lowest, 1, N_RAYS)
    azimuth = rng.uniform(0, 2 * np.pi, N_RAYS)
    sine = np.sqrt(1 - cosine**2)
    x = np.cross(axis, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    y = np.cross(axis, x)
    directions = (
        sine[:, None] * (np.cos(azimuth)[:, None] * x + np.sin(azimuth)[:, None] * y)
        + cosine[:, None] * axis
    )
    return directions, 2 * np.pi * (1 - lowest)


def entry_points(panel, directions):
    """Where rays meet the surface: fast and slow [mm] from the origin, distance, cosine."""
    normal = np.cross(panel.fast_axis, panel.slow_axis)
    cosine = directions @ normal
    distance = (panel.origin @ normal) / cosine
    across = directions * distance[:, None] - panel.origin
    return across @ panel.fast_axis, across @ panel.slow_axis, distance, np.abs(cosine)


def count(panel, x, y):
    """Photons in each pixel (slow, fast)."""
    (n_slow, n_fast), (fast, slow) = panel.shape, panel.pixel_size
    sides = [np.arange(n_slow + 1) * slow, np.arange(n_fast + 1) * fast]
    return np.histogram2d(y, x, bins=sides)[0]


def dipoles(directions, rng):
    """Whether each ray is radiated: an electron shaken along one of two axes, at random."""
    normal = BEAM.polarization_normal - BEAM.direction * (BEAM.polarization_normal @ BEAM.direction)
    normal /= np.linalg.norm(normal)
    in_plane = np.cross(normal, BEAM.direction)
    shaken_in_plane = rng.random(len(directions)) < BEAM.polarization_fraction
    field = np.where(shaken_in_plane[:, None], in_plane, normal)
    power = np.linalg.norm(np.cross(directions, field), axis=1) ** 2
    return rng.random(len(directions)) < power


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("names", [(name,) for name in PIXEL_CORRECTIONS] + [PIXEL_CORRECTIONS])
def test_traced_photons_are_even_after_correction(names, panel, rays):
    directions, cone = rays
    rng = np.random.default_rng(len(names))
    x, y, distance, cosine = entry_points(panel, directions)
    kept = np.ones(len(directions), dtype=bool)
    if "polarization" in names:
        kept &= dipoles(directions, rng)
    if "air" in names:
        kept &= rng.exponential(1 / air_attenuation(BEAM.wavelength), len(x)) > distance
    if "absorption" in names:
        kept &= rng.exponential(1 / panel.mu, len(x)) * cosine < panel.thickness
    photons = count(panel, x[kept], y[kept])
    # Rays are even in solid angle: what one steradian gets.
    kappa = correction_factor(panel, BEAM, ("solid-angle", *names), reference=1.0)
    found, expected = photons * kappa, N_RAYS / cone
    chi_squared = np.mean((found - expected) ** 2 / (photons * kappa**2))
    assert photons.min() > 80
    assert chi_squared < CHI_SQUARED
    if names != ("solid-angle",):
        plain = photons * correction_factor(panel, BEAM, ("solid-angle",), reference=1.0)
        assert np.mean((plain - expected) ** 2 / (photons * kappa**2)) > 20 * CHI_SQUARED


def test_parallax_is_the_way_to_the_absorption(panel, rays):
    # The sensor stops 99.7 % at a right angle; where it lets more pass DIALS counts those as 0.
    thick = replace(panel, mu=3.0, thickness=2.0, pixel_size=(2.0, 2.0), image_size=(200, 150))
    directions = rays[0][:400_000]
    x, y, _, cosine = entry_points(thick, directions)
    path = np.random.default_rng(8).exponential(1 / thick.mu, len(x))
    stopped = path * cosine < thick.thickness
    along = directions[stopped] * path[stopped, None]
    recorded = np.stack(
        [x[stopped] + along @ thick.fast_axis, y[stopped] + along @ thick.slow_axis], axis=1
    )
    pixel = np.floor(recorded / 2.0).astype(int)
    inside = np.all((pixel >= 0) & (pixel < [200, 150]), axis=1)
    pixel, entered = pixel[inside], directions[stopped][inside]
    shape = (*thick.shape, 3)
    with_parallax, without = (
        PixelTable.of_panel(one, BEAM, (), 1.0, np.zeros(one.shape, bool)).directions.reshape(shape)
        for one in (replace(thick, parallax=True), thick)
    )
    at = (pixel[:, 1], pixel[:, 0])
    # Mean over photons of the angle from their ray to that of their pixel, away from the normal.
    centre = thick.pixel_positions()
    away = centre[at] / np.linalg.norm(centre[at], axis=1, keepdims=True) - thick.normal
    tangent = away - entered * np.einsum("ij,ij->i", away, entered)[:, None]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    error = [
        np.einsum("ij,ij->i", tangent, table[at] - entered) for table in (with_parallax, without)
    ]
    noise = error[0].std() / np.sqrt(len(entered))
    assert abs(np.mean(error[1])) > 30 * noise  # it is not nothing
    assert abs(np.mean(error[0])) < 0.02 * abs(np.mean(error[1])) + 4 * noise


# --- 3 exact limits ------------------------------------------------------


def test_a_sensor_without_depth_has_no_parallax(panel):
    thin = replace(panel, thickness=1e-9, parallax=True)
    assert_allclose(thin.pixel_positions(), panel.pixel_positions(), atol=1e-8)
