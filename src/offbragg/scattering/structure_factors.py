"""Structure factors of a set of atoms: by direct summation, and on a lattice by splatting.

Arrays in, arrays out. No files and no symmetry: one copy of the atoms, as given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import ComplexArray, FloatArray
from offbragg.errors import InputError
from offbragg.scattering.form_factors import element_form_factor, unique_elements
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.splat import SplatPlan

_UPPER = np.triu_indices(3)


def compute_structure_factors(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    u_aniso: FloatArray | None = None,
) -> ComplexArray:
    r"""Sum the scattering of atoms, by direct summation over atoms.

    .. math:: F(\mathbf q) = \sum_j f_j(q)\, e^{-\frac12 \mathbf q^T U_j \mathbf q}\,
              e^{+i \mathbf q \cdot \mathbf r_j}

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons].
    u_aniso : ndarray, shape (n_atoms, 3, 3), float64, optional
        Mean-square displacements U [Å²]. None: no damping.

    Returns
    -------
    ndarray, shape (n_q,), complex128
        [electrons]

    Raises
    ------
    InputError
        If a shape does not match.

    Notes
    -----
    Time and memory O(n_q n_atoms): split ``q`` where that is too much.

    Examples
    --------
    >>> q = np.array([[0.0, 0.0, 0.0], [np.pi, 0.0, 0.0]])
    >>> positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    >>> compute_structure_factors(q, positions, np.full((2, 2), 6.0)).real.round(6) + 0.0
    array([12.,  0.])
    """
    n_q, n_atoms = len(q), len(positions)
    if q.shape != (n_q, 3) or positions.shape != (n_atoms, 3):
        raise InputError(f"q and positions must be (n, 3), got {q.shape} and {positions.shape}")
    if form_factors.shape != (n_q, n_atoms):
        raise InputError(f"form_factors must be {(n_q, n_atoms)}, got {form_factors.shape}")
    exponent = 1j * (q @ positions.T)
    if u_aniso is not None:
        if u_aniso.shape != (n_atoms, 3, 3):
            raise InputError(f"u_aniso must be {(n_atoms, 3, 3)}, got {u_aniso.shape}")
        exponent = exponent - 0.5 * np.einsum("qx,axy,qy->qa", q, u_aniso, q, optimize=True)
    f_calc: ComplexArray = np.einsum("qa,qa->q", form_factors, np.exp(exponent))
    return f_calc


def structure_factors_on_lattice(
    lattice: HalfLattice,
    positions: FloatArray,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray,
    u_aniso: FloatArray,
    tolerance: float = 1e-8,
) -> ComplexArray:
    """Structure factors on every node of a lattice, one splat and FFT per element.

    Parameters
    ----------
    lattice : HalfLattice
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    elements : sequence of str, length n_atoms
    occupancies : ndarray, shape (n_atoms,)
    u_aniso : ndarray, shape (n_atoms, 3, 3), float64
        Mean-square displacements U [Å²].
    tolerance : float
        Error as a fraction of the sum of form factors.

    Returns
    -------
    ndarray, ``lattice.shape``, complex128
        [electrons]; 0 beyond ``lattice.q_max``.
    """
    plan = SplatPlan.for_tolerance(lattice, tolerance)
    q_squared = lattice.q_squared()
    unblur = plan.unblur(q_squared)
    covariances = np.ascontiguousarray(u_aniso[:, _UPPER[0], _UPPER[1]])
    total = np.zeros(lattice.shape, dtype=np.complex128)
    names, index = unique_elements(elements)
    for number, name in enumerate(names):
        atoms = index == number
        grid = plan.real_space_grid()
        plan.add(grid, plan.place(positions[atoms], covariances[atoms]), occupancies[atoms])
        total += plan.transform(grid) * (unblur * element_form_factor(name, q_squared))
    return total
