r"""What turns the counts of a pixel into scattering per solid angle: geometry and absorption.

Scope: arrays in, arrays out. A pixel's count is proportional to
ΔΩ · P · A · T · F · Δt times the mean of I(q) over what the pixel sweeps, so a count is multiplied
by

.. math:: \kappa = \frac{\Delta\Omega_0}{\Delta\Omega\; P\; A\; T\; F}

with P the polarisation, A what the sensor absorbs, T what comes through the air (`air`), F the
flat field (`pixel_table`), and ΔΩ₀ a reference solid angle, the same for all panels, images and
sweeps of a map. κ is of order 1, corrected intensities are of the order of counts per pixel, and
what different panels and sweeps measured can be compared. There is no Lorentz factor: the mean over
the swept volume is what is wanted. Exposure and flux are one factor an image (`image_factors`).
Parallax moves the rays of the pixels (`panel`). Formulas: theory, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.reduction.air import air_attenuation, air_transmission
from offbragg.reduction.experiment import Beam, Panel

#: Names of the corrections that `correction_factor` knows.
PIXEL_CORRECTIONS = ("solid-angle", "polarization", "absorption", "air")


def solid_angle(positions: FloatArray, normal: FloatArray, pixel_area: float) -> FloatArray:
    r"""Compute the solid angle of flat pixels, seen from the crystal.

    .. math:: \Delta\Omega = A\, |\mathbf p\cdot\mathbf n| / |\mathbf p|^3

    Parameters
    ----------
    positions : ndarray, shape (..., 3)
        Centres of the pixels, from the crystal [mm].
    normal : ndarray, shape (3,)
        Unit normal of the panel.
    pixel_area : float
        [mm²].

    Returns
    -------
    ndarray, shape (...)
        [sr].

    Examples
    --------
    >>> solid_angle(np.array([[0.0, 0.0, 100.0]]), np.array([0.0, 0.0, 1.0]), 0.01).tolist()
    [1e-06]
    """
    distance = np.linalg.norm(positions, axis=-1)
    angle: FloatArray = pixel_area * np.abs(positions @ normal) / distance**3
    return angle


def polarization_axis(beam: Beam) -> FloatArray:
    """Give the normal (3,) of the plane of polarisation, made normal to the beam, of length 1.

    Raises
    ------
    InputError
        If it lies along the beam.
    """
    across = beam.polarization_normal - beam.direction * (beam.polarization_normal @ beam.direction)
    length = float(np.linalg.norm(across))
    if length < 1e-3:
        raise InputError(
            "polarization_normal must not lie along the beam, got "
            f"{beam.polarization_normal.tolist()} and {beam.direction.tolist()}"
        )
    axis: FloatArray = across / length
    return axis


def polarization_factor(directions: FloatArray, beam: Beam) -> FloatArray:
    r"""Compute the fraction of the scattering that the beam's polarisation leaves.

    .. math:: P = p\,[1 - (\hat s_1\cdot(\hat n\times\hat s_0))^2]
              + (1-p)\,[1 - (\hat s_1\cdot\hat n)^2]

    Parameters
    ----------
    directions : ndarray, shape (..., 3)
        Unit vectors of the scattered rays.
    beam : Beam
        p and the normal n of the plane of polarisation; n is made normal to the beam.

    Returns
    -------
    ndarray, shape (...)
        1 straight on; (1 + cos²2θ)/2 for p = ½.

    References
    ----------
    Kahn, Fourme, Gadet, Janin, Dumas & André (1982) J. Appl. Cryst. 15, 330.
    """
    normal = polarization_axis(beam)
    in_plane = np.cross(normal, beam.direction)
    fraction = beam.polarization_fraction
    along_plane = 1 - (directions @ in_plane) ** 2
    along_normal = 1 - (directions @ normal) ** 2
    factor: FloatArray = fraction * along_plane + (1 - fraction) * along_normal
    return factor


def sensor_absorption(
    directions: FloatArray, normal: FloatArray, mu: float, thickness: float
) -> FloatArray:
    r"""Compute the fraction of photons that a sensor absorbs, and so counts.

    .. math:: A = 1 - e^{-\mu t / |\cos\alpha|},\quad \cos\alpha = \hat s_1\cdot\mathbf n

    Parameters
    ----------
    directions : ndarray, shape (..., 3)
        Unit vectors of the rays.
    normal : ndarray, shape (3,)
        Unit normal of the panel.
    mu, thickness : float
        Absorption coefficient [mm⁻¹] and thickness [mm]; where either is 0, that is not known,
        all is taken to be absorbed.

    Returns
    -------
    ndarray, shape (...)
    """
    if mu <= 0 or thickness <= 0:
        return np.ones(directions.shape[:-1])
    with np.errstate(divide="ignore"):
        path = thickness / np.abs(directions @ normal)
    absorbed: FloatArray = -np.expm1(-mu * path)
    return absorbed


def mean_solid_angle(detector: Sequence[Panel]) -> float:
    """Compute the mean solid angle [sr] of all pixels of a detector: the reference ΔΩ₀ of κ."""
    total, n_pixels = 0.0, 0
    for panel in detector:
        for rows in _row_blocks(panel):
            angle = solid_angle(panel.pixel_positions(rows=rows), panel.normal, panel.pixel_area)
            total += float(angle.sum())
            n_pixels += angle.size
    return total / n_pixels


def correction_factor(
    panel: Panel,
    beam: Beam,
    names: Sequence[str] = PIXEL_CORRECTIONS,
    reference: float = 1.0,
    rows: slice = slice(None),
    air_fraction: float = 1.0,
) -> FloatArray:
    """Compute κ of a panel's pixels: what their counts are multiplied by.

    Parameters
    ----------
    panel : Panel
    beam : Beam
    names : sequence of str
        Which of `PIXEL_CORRECTIONS` to correct for.
    reference : float
        ΔΩ₀ [sr], see `mean_solid_angle`; used with the solid angle only.
    rows : slice
        Of the slow axis; all by default.
    air_fraction : float
        Part of the way from crystal to pixel that is air, see `air.air_transmission`.

    Returns
    -------
    ndarray, shape (slow, fast)
        Not finite where a pixel can record nothing (edge on, or P = 0).
    """
    unknown = sorted(set(names) - set(PIXEL_CORRECTIONS))
    if unknown:
        raise InputError(f"corrections must be among {PIXEL_CORRECTIONS}, got {unknown[0]!r}")
    positions = panel.pixel_positions(rows=rows)
    distance = np.linalg.norm(positions, axis=-1)
    directions = positions / distance[..., None]
    seen = np.ones(positions.shape[:-1])
    if "solid-angle" in names:
        seen *= solid_angle(positions, panel.normal, panel.pixel_area) / reference
    if "polarization" in names:
        seen *= polarization_factor(directions, beam)
    if "absorption" in names:
        seen *= sensor_absorption(directions, panel.normal, panel.mu, panel.thickness)
    if "air" in names and air_fraction != 0:
        seen *= air_transmission(distance, air_attenuation(beam.wavelength), air_fraction)
    with np.errstate(divide="ignore"):
        factor: FloatArray = 1 / seen
    return factor


def _row_blocks(panel: Panel, n_rows: int = 256) -> list[slice]:
    """Cut a panel's rows into blocks, so that large ones need little memory."""
    return [slice(first, first + n_rows) for first in range(0, panel.shape[0], n_rows)]
