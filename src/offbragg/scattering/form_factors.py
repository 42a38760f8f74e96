"""Atomic form factors f(q) of neutral atoms, from International Tables C (1992) through gemmi."""

from __future__ import annotations

from collections.abc import Sequence

import gemmi
import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray, stol2_from_q
from offbragg.errors import InputError


def unique_elements(elements: Sequence[str] | NDArray[np.str_]) -> tuple[list[str], IntArray]:
    """Return the distinct elements, sorted, and which of them each atom is (n_atoms,).

    >>> unique_elements(["N", "C", "N"])
    (['C', 'N'], array([1, 0, 1]))
    """
    names, index = np.unique(np.asarray(elements, dtype=str), return_inverse=True)
    return [str(name) for name in names], index.astype(np.int64)


def element_form_factor(element: str, q_squared: FloatArray) -> FloatArray:
    r"""Evaluate the form factor of one element, four Gaussians and a constant.

    .. math:: f(q) = c + \sum_{k=1}^{4} a_k e^{-b_k (q / 4\pi)^2}

    Parameters
    ----------
    element : str
        Element symbol; deuterium scatters as hydrogen. Charges are not modelled.
    q_squared : ndarray, any shape, float64
        \|q\|² [Å⁻²], 2π included.

    Returns
    -------
    ndarray, the shape of ``q_squared``
        Form factor [electrons].

    Raises
    ------
    InputError
        If the tables have no such element.

    References
    ----------
    .. [1] International Tables for Crystallography, Vol. C (1992), table 6.1.1.4; good to
       sin θ/λ = 2 Å⁻¹ (d = 0.25 Å).

    Examples
    --------
    >>> element_form_factor("C", np.array([0.0])).round(2)
    array([6.])
    """
    known = gemmi.Element(element)
    # gemmi reads the first letters of a longer word: "carbon" would be calcium.
    is_known = known.name != "X" and known.name.upper() == element.upper()
    coefficients = known.it92 if is_known else None
    if coefficients is None:
        raise InputError(f"element {element!r} has no form factor in the tables of 1992")
    stol2 = stol2_from_q(np.sqrt(q_squared))
    total = np.full(np.shape(q_squared), float(coefficients.c))
    for a, b in zip(coefficients.a, coefficients.b, strict=True):
        total += a * np.exp(-b * stol2)
    return total


def compute_form_factors(
    elements: Sequence[str] | NDArray[np.str_],
    q: FloatArray,
    occupancies: FloatArray | None = None,
) -> FloatArray:
    """Form factors of atoms at scattering vectors, times their occupancies.

    Parameters
    ----------
    elements : sequence of str, length n_atoms
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors [Å⁻¹], 2π included.
    occupancies : ndarray, shape (n_atoms,), optional

    Returns
    -------
    ndarray, shape (n_q, n_atoms), float64
        [electrons]

    Examples
    --------
    >>> compute_form_factors(["C", "O"], np.zeros((1, 3)), np.array([1.0, 0.5])).round(1)
    array([[6., 4.]])
    """
    names, index = unique_elements(elements)
    q_squared = np.einsum("qx,qx->q", q, q)
    table = np.stack([element_form_factor(name, q_squared) for name in names], axis=1)
    # Not table[:, index], whose rows do not lie one after the other.
    form_factors: FloatArray = np.take(table, index, axis=1)
    if occupancies is not None:
        form_factors *= occupancies
    return form_factors


def anomalous_form_factor(element: str, wavelength: float) -> complex:
    """Anomalous part f′ + if″ of an element's form factor, by the method of Cromer and Liberman.

    Parameters
    ----------
    element : str
    wavelength : float
        [Å]

    Returns
    -------
    complex
        [electrons]; the same at every q.

    References
    ----------
    .. [1] Cromer & Liberman, Acta Cryst. A37, 267 (1981), through gemmi.

    Examples
    --------
    >>> anomalous_form_factor("S", 1.7).imag > anomalous_form_factor("S", 1.0).imag > 0
    True
    """
    z = gemmi.Element(element).atomic_number
    f1, f2 = gemmi.cromer_liberman(z=z, energy=gemmi.hc / wavelength)
    return complex(f1, f2)
