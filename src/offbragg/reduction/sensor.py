"""How strongly the material of a sensor absorbs."""

from __future__ import annotations

import numpy as np
import xraylib

from offbragg.errors import InputError

_KEV_ANGSTROM = 12.398419843320026  # h c, exact in the SI of 2019
_DENSITY = {"Si": 2.3290, "CdTe": 5.85, "GaAs": 5.3176}  # g/cm³
_SAME_MATERIAL = 0.15  # of the logarithm; materials differ by factors of 5 and more


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


def sensor_material(mu: float, wavelength: float) -> str | None:
    """Name the material of a sensor by how strongly it absorbs; None if it is none of those known.

    Parameters
    ----------
    mu : float
        Absorption coefficient [mm⁻¹]; tables differ by several per cent, and 15 % are allowed.
    wavelength : float
        [Å].

    Examples
    --------
    >>> sensor_material(3.9, 0.9763), sensor_material(0.0, 0.9763)
    ('Si', None)
    """
    if not mu > 0:
        return None
    ratios = {name: sensor_absorption(name, wavelength) / mu for name in _DENSITY}
    nearest = min(ratios, key=lambda name: abs(np.log(ratios[name])))
    return nearest if abs(np.log(ratios[nearest])) < _SAME_MATERIAL else None
