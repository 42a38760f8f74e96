"""Structure factors of a set of atoms: by direct summation, and on a lattice by splatting.

Arrays in, arrays out. No files and no symmetry: one copy of the atoms, as given.
"""

from __future__ import annotations

from collections.abc import Sequence

import finufft
import numpy as np
import scipy.interpolate
from numpy.typing import NDArray

from offbragg.conventions import ComplexArray, FloatArray
from offbragg.errors import InputError
from offbragg.scattering.arguments import as_scattered_atoms
from offbragg.scattering.form_factors import element_form_factor, unique_elements
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.skeleton import skeleton_of
from offbragg.scattering.splat import SplatPlan

_UPPER = np.triu_indices(3)
_AXIS_POINTS = 300


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
    q, positions, form_factors = as_scattered_atoms(q, positions, form_factors)
    n_atoms = len(positions)
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
    method: str = "auto",
) -> ComplexArray:
    """Structure factors on every node of a lattice: by splatting, or by NUFFTs.

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
    method : {"auto", "splat", "nufft"}
        "splat": a Gaussian an atom, one FFT an element, any U. "nufft": isotropic U; one
        non-uniform FFT for each of the few functions of q² that ``f e^{−½q²U}`` of all atoms
        span. "auto": "splat", which is the faster at all sizes tried.

    Returns
    -------
    ndarray, ``lattice.shape``, complex128
        [electrons]; 0 beyond ``lattice.q_max``.

    Raises
    ------
    InputError
        If the method is none of these, or U is anisotropic and the method "nufft".
    """
    if method not in ("auto", "splat", "nufft"):
        raise InputError(f"method must be one of auto splat nufft, got {method!r}")
    if method == "nufft":
        return _by_nufft(lattice, positions, elements, occupancies, u_aniso, tolerance)
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


def _by_nufft(
    lattice: HalfLattice,
    positions: FloatArray,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray,
    u_aniso: FloatArray,
    tolerance: float,
) -> ComplexArray:
    """Σ_m c_m(q²) Σ_i occ_i g_i(q²_m) e^{iq·r_i}, g_i = f_i e^{−½q²U_i}; see `skeleton_of`."""
    u_iso = u_aniso[:, 0, 0]
    if not np.allclose(u_aniso, u_iso[:, None, None] * np.eye(3), rtol=1e-9, atol=1e-12):
        raise InputError("method 'nufft' needs isotropic U: use 'splat'")
    q_squared = lattice.q_squared()
    wanted = q_squared <= lattice.q_max**2 * (1 + 1e-9)
    axis = np.linspace(0.0, lattice.q_max**2 * (1 + 1e-9), _AXIS_POINTS)
    names, index = unique_elements(elements)
    f = np.stack([element_form_factor(name, axis) for name in names])
    family = f[index].T * np.exp(-0.5 * axis[:, None] * u_iso)
    nodes, functions, _ = skeleton_of(family, axis, max(tolerance, 1e-11))
    total = np.zeros(lattice.shape, dtype=np.complex128)
    if not len(nodes):
        return total
    at_nodes = np.stack([element_form_factor(name, nodes) for name in names])[index].T
    strengths = occupancies * at_nodes * np.exp(-0.5 * nodes[:, None] * u_iso)
    phases = positions @ lattice.reciprocal_vectors.T
    phases -= 2 * np.pi * np.rint(phases / (2 * np.pi))
    eps = max(0.1 * tolerance, 1e-13)
    plan = finufft.Plan(
        1, tuple(2 * m + 1 for m in lattice.extent), eps=eps, isign=1, dtype="complex128",
        upsampfac=1.25 if eps > 1e-9 else 2.0, nthreads=1,
    )  # fmt: skip
    plan.setpts(*(np.ascontiguousarray(x) for x in phases.T))
    spline = scipy.interpolate.make_interp_spline(axis, functions, k=5)
    top = lattice.extent[2]
    factors = spline(q_squared[wanted])
    for m in range(len(nodes)):
        waves = plan.execute(strengths[m].astype(np.complex128))[:, :, top:]
        total[wanted] += factors[:, m] * waves[wanted]
    return total
