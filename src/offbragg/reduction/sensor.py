"""How strongly the material of a sensor absorbs."""

from __future__ import annotations

import numpy as np
import xraylib

from offbragg.errors import InputError

_KEV_ANGSTROM = 12.398419843320026  # h c, exact in the SI of 2019
_DENSITY = {"Si": 2.3290, "CdTe": 5.85, "GaAs": 5.3176}  # g/cm³


def sensor_absorption(material: str, wavelength: float) -> float:
    """Absorption coefficient of a sensor [mm⁻¹]: of photons that it converts.

    Parameters
    ----------
    material : str
        ``"Si"``, ``"CdTe"`` or ``"GaAs"``.
    wavelength : float
        [Å].

    Returns
    -------
    float
        Photoelectric cross section times density (xraylib).

    Raises
    ------
    InputError
        If the material is another, or the wavelength is out of the tables (0.016 to 120 Å).

    Examples
    --------
    >>> round(sensor_absorption("Si", 1.0), 2)
    4.07
    """
    if material not in _DENSITY:
        raise InputError(f"material must be one of {sorted(_DENSITY)}, got {material!r}")
    if not (np.isfinite(wavelength) and 0.016 <= wavelength <= 120):
        raise InputError(f"wavelength must be 0.016 to 120 Å, got {wavelength}")
    per_gram = float(xraylib.CS_Photo_CP(material, _KEV_ANGSTROM / wavelength))  # cm²/g
    return per_gram * _DENSITY[material] / 10
