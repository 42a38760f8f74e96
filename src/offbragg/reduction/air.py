r"""What the air between crystal and detector takes out of the scattered rays.

Scope: numbers and arrays in, arrays out. Air of the density stated below; a way that is partly
helium or vacuum counts with the part of it that is air.
"""

from __future__ import annotations

import numpy as np
import xraylib

from offbragg.conventions import FloatArray
from offbragg.errors import InputError

#: Dry air at 20 °C and 101.325 kPa: composition and density (1.205e-3 g/cm³) of NIST.
_AIR = "Air, Dry (near sea level)"
_PLANCK_LIGHT = 12.398419843  # h c [keV Å], exact in the SI of 2019
_MM_PER_CM = 10.0


def air_attenuation(wavelength: float) -> float:
    r"""Attenuation coefficient of dry air at 20 °C and 1 atm.

    .. math:: \mu = \varrho \sum_Z w_Z (\mu/\varrho)_Z

    absorption and both kinds of scattering: what is scattered on the way is lost to its pixel.

    Parameters
    ----------
    wavelength : float
        [Å].

    Returns
    -------
    float
        [mm⁻¹].

    Raises
    ------
    InputError
        If the wavelength is beyond the tables, 0.1 to 800 keV.

    References
    ----------
    Schoonjans et al. (2011) Spectrochim. Acta B 66, 776: xraylib, whose tables are used.

    Examples
    --------
    >>> round(1 - float(np.exp(-300 * air_attenuation(1.0))), 3)  # lost in 30 cm of air at 1 Å
    0.094
    """
    try:
        air = xraylib.GetCompoundDataNISTByName(_AIR)
        per_mass = xraylib.CS_Total_CP(_AIR, _PLANCK_LIGHT / wavelength)  # cm²/g
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"wavelength must be 0.0155 to 124 Å for the attenuation of air, got {wavelength}"
        ) from None
    return float(per_mass * air["density"] / _MM_PER_CM)


def air_transmission(distance: FloatArray, mu: float, fraction: float = 1.0) -> FloatArray:
    r"""Compute the part of the scattered photons that comes through the air.

    .. math:: T = e^{-\mu f |\mathbf p|}

    Parameters
    ----------
    distance : ndarray, any shape
        From the crystal to the pixels, \|p\| [mm].
    mu : float
        Attenuation coefficient [mm⁻¹], see `air_attenuation`.
    fraction : float
        f, the part of the way that is air. A helium chamber with windows parallel to the
        detector takes the same part of every way.

    Returns
    -------
    ndarray, the shape of ``distance``

    Raises
    ------
    InputError
        If the fraction is not 0 to 1.

    Examples
    --------
    >>> air_transmission(np.array([0.0, 100.0]), 0.001, 0.5).round(4).tolist()
    [1.0, 0.9512]
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"air_fraction must be 0 to 1, got {fraction}")
    transmitted: FloatArray = np.exp(-mu * fraction * distance)
    return transmitted
