r"""Where to start from: a covariance in a basis from the map itself, by a convex problem.

To first order in ``q² V`` the intensity is linear in C of ``V = B C Bᵀ``,

.. math:: I(q) \approx \sum_g A(qR_g)^\dagger C A(qR_g), \qquad
          A_k(q) = \sum_i f_i e^{i q r_i - \frac12 q^T U_i q}\; q \cdot B_{ik},

so the C ⪰ 0 of least squares has no false minima. A fit of the exact intensity from there finds
what it does not find from a guess.
"""

from __future__ import annotations

import numpy as np

from offbragg.conventions import TWO_PI, ComplexArray, FloatArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import laue_rotations
from offbragg.disorder.basis import BasisCovariance
from offbragg.errors import InputError
from offbragg.inference.data import FitData
from offbragg.inference.objective import ProjectedProblem
from offbragg.inference.weights import with_expected_sigma
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.runtime import iter_chunks
from offbragg.scattering.form_factors import compute_form_factors

# Steps of projected gradient descent, and the change of C, as a fraction, that ends them.
_MOST_STEPS, _SMALL_STEP = 3000, 1e-6
# Elements of one array of phases.
_CHUNK = 1 << 22


def start_from_map(
    observed: DiffuseMap,
    structure: AtomicStructure,
    basis: FloatArray,
    *,
    d_min: float | None = None,
    d_max: float | None = None,
    background: str = "smooth",
    share: float = 0.5,
) -> BasisCovariance:
    """Return the covariance in a basis that explains a map best to first order.

    Parameters
    ----------
    observed : DiffuseMap
    structure : AtomicStructure
        Its ADPs damp the amplitudes, and set the size of the result.
    basis : ndarray, shape (n_atoms, 3, n_modes) or (n_atoms, n_modes)
        B: displacements of one copy, which moves independently of others. See `basis_of`.
    d_min, d_max : float, optional
        Limits of resolution [Å]. First order is good to about ``q² U = 1``.
    background : {"smooth", "shells", "none"}
        Isotropic background, as for `fit`.
    share : float
        Of the structure's mean U that the motions have: the scale of a map is not known to first
        order.

    Returns
    -------
    BasisCovariance

    Raises
    ------
    InputError
        If the basis is for other atoms, nothing is measured within the limits, the voxels are
        fewer than the numbers of C, or no motion in the basis resembles the map.

    Notes
    -----
    The design holds n_unique × n_modes (n_modes + 1) / 2 numbers.

    Examples
    --------
    >>> from offbragg import BasisCovariance, HklGrid, simulate
    >>> from offbragg.disorder import basis_of
    >>> from offbragg.made_crystal import make_peptide
    >>> peptide = make_peptide("GASM", u=0.1)
    >>> basis = basis_of(peptide, "tls")
    >>> truth = BasisCovariance(basis, [0.02, 0.1, 0.02, 1e-6, 1e-6, 1e-6])
    >>> grid = HklGrid.from_resolution(peptide.cell, 2.5)
    >>> found = start_from_map(simulate(peptide, truth, grid), peptide, basis)
    >>> int(np.argmax(np.diag(found.coefficients)[:3]))
    1
    """
    b = np.asarray(basis, dtype=np.float64)
    if len(b) != structure.n_atoms:
        raise InputError(
            f"basis must be for the structure's {structure.n_atoms} atoms, got {len(b)}"
        )
    observed = with_expected_sigma(observed)
    cell = structure.require_cell()
    check_cells_agree(cell, observed.cell, "structure and map")
    data = FitData.of(observed, cell, d_min, d_max)
    n_modes = b.shape[-1]
    rows, columns = np.triu_indices(n_modes)
    n_unique = len(data.voxels.index)
    if n_unique <= len(rows):
        raise InputError(
            f"start_from_map: {n_unique} unique voxels cannot determine the {len(rows)} numbers of "
            f"{n_modes} motions"
        )
    functions = data.smooth(background, 0).basis(data.q)
    every = np.ones(n_unique, dtype=bool)
    problem = ProjectedProblem.build(*data.take(every), functions)
    # An isotropic basis moves atoms along three axes by the same C.
    axes = [b] if b.ndim == 3 else [b[:, None, :] * e[:, None] for e in np.eye(3)]
    design = np.zeros((n_unique, len(rows)))
    for along in axes:
        _add_products(design, structure, along, data.voxels.hkl)
    design = problem.project(problem.root_weights[:, None] * design)
    sizes = np.sqrt(np.sum(b.reshape(-1, n_modes) ** 2, axis=0))
    if not np.all(sizes > 0):
        raise InputError(f"basis: mode {int(np.argmin(sizes))} moves no atom")
    # Coordinates of one size: steps go as far in each.
    design /= (sizes[rows] * sizes[columns])[None, :]
    found = _positive_least_squares(design, problem.data, n_modes)
    coefficients = found / sizes[:, None] / sizes
    flat = b.reshape(-1, n_modes)
    moved = len(axes) * float(np.sum((flat @ coefficients) * flat))
    if not moved > 0:
        raise InputError("start_from_map: no motion in the basis resembles the map")
    wanted = share * float(np.trace(structure.u_aniso, axis1=1, axis2=2).sum())
    coefficients *= wanted / moved
    return BasisCovariance(b, coefficients)


def _add_products(
    design: FloatArray, structure: AtomicStructure, basis: FloatArray, hkl: FloatArray
) -> None:
    """Add derivatives (n_q, n_modes (n_modes + 1) / 2) of the intensity by C's upper triangle."""
    rows, columns = np.triu_indices(basis.shape[2])
    counts = np.where(rows == columns, 1.0, 2.0)
    rotations = laue_rotations(structure.space_group)
    # A pair of opposite q has one intensity.
    proper = rotations[np.linalg.det(rotations) > 0]
    frac_matrix = structure.require_cell().frac_matrix
    for part in iter_chunks(len(hkl), max(1, _CHUNK // structure.n_atoms)):
        for rotation in proper:
            q = TWO_PI * (hkl[part] @ rotation) @ frac_matrix
            a = _amplitudes(structure, basis, q)
            design[part] += counts * (np.conj(a[:, rows]) * a[:, columns]).real


def _amplitudes(structure: AtomicStructure, basis: FloatArray, q: FloatArray) -> ComplexArray:
    """A (n_q, n_modes)."""
    f = compute_form_factors(structure.elements, q, structure.occupancies)
    damping = np.einsum("qa,iab,qb->qi", q, structure.u_aniso, q, optimize=True)
    waves = f * np.exp(1j * (q @ structure.positions.T) - 0.5 * damping)
    n_atoms, _, n_modes = basis.shape
    along = (waves @ basis.reshape(n_atoms, 3 * n_modes)).reshape(len(q), 3, n_modes)
    amplitudes: ComplexArray = np.einsum("qa,qak->qk", q, along)
    return amplitudes


def _positive_least_squares(design: FloatArray, data: FloatArray, n: int) -> FloatArray:
    """C (n, n) ⪰ 0 of the least ``|design · C − data|²``, by accelerated projected gradients.

    (Beck and Teboulle, 2009), restarted where the misfit rises.
    """
    rows, columns = np.triu_indices(n)
    counts = np.where(rows == columns, 1.0, 2.0)
    # In numbers whose sum of squares is that of the matrix, so that projections are orthogonal.
    root = np.sqrt(counts)
    normal = (design.T @ design) / root[:, None] / root
    right = (design.T @ data) / root
    step = 1.0 / float(np.linalg.eigvalsh(normal)[-1])

    def matrix(x: FloatArray) -> FloatArray:
        m = np.zeros((n, n))
        m[rows, columns] = x / root
        m[columns, rows] = x / root
        return m

    def projected(x: FloatArray) -> FloatArray:
        values, vectors = np.linalg.eigh(matrix(x))
        m = (vectors * np.maximum(values, 0.0)) @ vectors.T
        inside: FloatArray = m[rows, columns] * root
        return inside

    x = ahead = np.zeros(len(rows))
    momentum = 1.0
    for _ in range(_MOST_STEPS):
        moved = projected(ahead - step * (normal @ ahead - right))
        if float((ahead - moved) @ (moved - x)) > 0:
            momentum = 1.0
        grown = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = moved + (momentum - 1.0) / grown * (moved - x)
        change = float(np.linalg.norm(moved - x))
        x, momentum = moved, grown
        if change <= _SMALL_STEP * float(np.linalg.norm(x)):
            break
    return matrix(x)
