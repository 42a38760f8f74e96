"""Compton (incoherent) scattering of the atoms of a cell, from tabulated incoherent functions."""

from __future__ import annotations

from collections.abc import Sequence

import gemmi
import numpy as np
import scipy.interpolate
import xraylib
from numpy.typing import NDArray

from offbragg.conventions import TWO_PI, FloatArray
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering.form_factors import unique_elements

#: h/(m_e c) [Å], CODATA 2018.
COMPTON_WAVELENGTH = 0.0242631023867
#: Power of the recoil factor E'/E that a detector sees: photons counted, energy integrated.
PHOTON_COUNTING, ENERGY_INTEGRATING = 2, 3

# Below the first of these sin θ/λ [Å⁻¹] the tables are rounded to a digit or two, and xraylib
# extends them by a spline that is not ∝ x²: there a x² + b x⁴ through both points is used.
_LOW_STOL = (0.02, 0.03)
# Every electron of every element scatters by itself from here on, to 1e-4 electrons.
_HIGH_STOL = 100.0
# Nodes of the table are equally spaced in log(1 + x / _NODE_SCALE).
_NODE_SCALE, _NODE_STEP = 0.05, 0.005
_CHUNK = 1 << 18


def compton_intensity(
    q_squared: FloatArray,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray | None = None,
    wavelength: float | None = None,
    exponent: int = PHOTON_COUNTING,
) -> FloatArray:
    r"""Sum the Compton scattering of atoms, which adds without interference.

    .. math:: I_C(q) = \Big(\frac{E'}{E}\Big)^{p} \sum_i o_i\, S_{Z_i}(x), \qquad
              \frac{E'}{E} = \frac{1}{1 + 2 \lambda_C \lambda x^2}, \qquad
              x = \frac{\sin\theta}{\lambda} = \frac{q}{4\pi}

    Parameters
    ----------
    q_squared : ndarray, any shape, float64
        \|q\|² [Å⁻²], 2π included.
    elements : sequence of str, length n_atoms
        Of *all* atoms that scatter: the whole cell, disordered solvent too, for an intensity per
        cell. Deuterium is as hydrogen; charges are not modelled.
    occupancies : ndarray, shape (n_atoms,), float64, optional
        They enter linearly, as numbers of atoms. None: all 1.
    wavelength : float, optional
        λ [Å] of the beam. None: no recoil factor, the limit of long wavelengths.
    exponent : {2, 3}
        Power p of the recoil factor: 2 for a detector that counts photons, 3 for one that
        integrates their energy. Without effect where there is no ``wavelength``.

    Returns
    -------
    ndarray, shape of ``q_squared``, float64
        [e²], on the scale of \|F\|²: the polarisation factor of Thomson scattering is divided
        out as from the coherent intensity. NaN where q > 4π/λ, out of reach of the beam.

    Raises
    ------
    InputError
        If an element has no table (Z > 98), or an occupancy, the wavelength, the exponent or a
        q² is not a possible one.

    Notes
    -----
    The elements are summed in one table of x, through which a cubic spline is drawn (1e-5
    electron per atom): 10⁷ voxels take a second or two whatever the number of atoms. Bound
    electrons and their momenta are in S alone; the Klein–Nishina formula differs from (E'/E)²
    by terms of second order in the recoil, (1 − E'/E)². Isotropic: no crystal lattice in it.

    References
    ----------
    .. [1] Hubbell, Veigele, Briggs, Brown, Cromer & Howerton, J. Phys. Chem. Ref. Data 4, 471
       (1975): S(x) of all elements.
    .. [2] Schoonjans et al., Spectrochim. Acta B 66, 776 (2011): xraylib, whose tables are used.
    .. [3] Breit, Phys. Rev. 27, 362 (1926); Dirac, Proc. R. Soc. A 111, 405 (1926): recoil.

    Examples
    --------
    >>> water = compton_intensity(np.array([0.0, 40.0, 1e6]), ["O", "H", "H"])
    >>> water.round(2).tolist()
    [0.0, 7.83, 10.0]
    """
    q_squared = np.asarray(q_squared, dtype=np.float64)
    if np.any(q_squared < 0):
        raise InputError(f"q_squared must be >= 0 Å⁻², got {float(np.nanmin(q_squared)):g}")
    if exponent not in (PHOTON_COUNTING, ENERGY_INTEGRATING):
        raise InputError(f"exponent must be 2 (photons) or 3 (energy), got {exponent}")
    if wavelength is not None and not (np.isfinite(wavelength) and wavelength > 0):
        raise InputError(f"wavelength must be > 0 Å, got {wavelength}")
    names, index = unique_elements(elements)
    numbers = np.bincount(index, _checked_occupancies(occupancies, len(index)), len(names))
    intensity = np.empty(q_squared.shape)
    given, out = np.ravel(q_squared), intensity.reshape(-1)
    nodes = _nodes(np.sqrt(np.max(given, initial=0.0, where=given >= 0)) / (2 * TWO_PI))
    total = np.zeros(len(nodes))
    for name, number in zip(names, numbers, strict=True):
        total += number * element_compton(name, nodes)
    spline = scipy.interpolate.CubicSpline(np.log1p(nodes / _NODE_SCALE), total)
    for rows in iter_chunks(len(given), _CHUNK):
        stol = np.sqrt(given[rows]) / (2 * TWO_PI)
        position = np.log1p(np.minimum(stol, nodes[-1]) / _NODE_SCALE)
        out[rows] = spline(position)
        if wavelength is not None:
            reached = stol * wavelength <= 1 + 1e-9
            out[rows] *= np.where(reached, recoil_factor(stol**2, wavelength) ** exponent, np.nan)
    return intensity


def element_compton(element: str, stol: FloatArray) -> FloatArray:
    """Evaluate the incoherent function S of one element: its table, and a x² + b x⁴ at small x.

    Parameters
    ----------
    element : str
    stol : ndarray, shape (n,), float64
        x = sin θ/λ [Å⁻¹]; exact limits are S(0) = 0 and S → Z.

    Returns
    -------
    ndarray, shape (n,), float64
        [electrons²], from 0 to Z.

    Raises
    ------
    InputError
        If the tables have no such element.

    Notes
    -----
    One call of xraylib a value: for many values use `compton_intensity`. The tables have three
    to five digits; the part below x = 0.02 Å⁻¹ is good to some 3 % of S, or 0.003 electrons.

    Examples
    --------
    >>> element_compton("C", np.array([0.0, 0.5, 1e4])).round(3).tolist()
    [0.0, 4.478, 6.0]
    """
    z = _atomic_number(element)
    at_low = np.array([xraylib.SF_Compt(z, x) for x in _LOW_STOL])
    low = np.square(_LOW_STOL)
    slope = np.diff(at_low / low)[0] / np.diff(low)[0]
    limit = at_low[0] / low[0] - slope * low[0]
    total = np.full(len(stol), float(z))
    is_low = stol < _LOW_STOL[0]
    squares = stol[is_low] ** 2
    total[is_low] = squares * (limit + slope * squares)
    tabulated = ~is_low & (stol < _HIGH_STOL)
    total[tabulated] = [xraylib.SF_Compt(z, float(x)) for x in stol[tabulated]]
    total[np.isnan(stol)] = np.nan
    values: FloatArray = np.minimum(total, float(z))
    return values


def recoil_factor(stol2: FloatArray, wavelength: float) -> FloatArray:
    """Energy E'/E that a photon keeps when an electron at rest scatters it.

    Parameters
    ----------
    stol2 : ndarray, any shape, float64
        (sin θ/λ)² [Å⁻²].
    wavelength : float
        λ [Å].

    Examples
    --------
    >>> recoil_factor(np.array([0.0, 1.0]), 1.0).round(4).tolist()
    [1.0, 0.9537]
    """
    return 1.0 / (1.0 + 2.0 * COMPTON_WAVELENGTH * wavelength * stol2)


def _nodes(stol_max: np.floating) -> FloatArray:
    """Nodes x [Å⁻¹] of a table up to x = stol_max, or to where S = Z."""
    last = np.log1p(min(float(stol_max), _HIGH_STOL) / _NODE_SCALE)
    steps = np.arange(int(np.ceil(last / _NODE_STEP)) + 3)
    nodes: FloatArray = _NODE_SCALE * np.expm1(_NODE_STEP * steps)
    return nodes


def _atomic_number(element: str) -> int:
    known = gemmi.Element(element)
    # gemmi reads the first letters of a longer word: "carbon" would be calcium.
    if known.name == "X" or known.name.upper() != element.upper() or known.atomic_number > 98:
        raise InputError(f"element {element!r} must be one of H to Cf, of those there are tables")
    return int(known.atomic_number)


def _checked_occupancies(occupancies: FloatArray | None, n_atoms: int) -> FloatArray:
    if occupancies is None:
        return np.ones(n_atoms)
    values = np.asarray(occupancies, dtype=np.float64)
    if values.shape != (n_atoms,):
        raise InputError(f"occupancies must be {(n_atoms,)}, got {values.shape}")
    if not np.all(np.isfinite(values) & (values >= 0)):
        raise InputError("occupancies must be finite and >= 0")
    return values
