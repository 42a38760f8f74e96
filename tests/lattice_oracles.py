"""Plain double sums for intensities on lattices, beside `tests.oracles`: NumPy and gemmi only.

Whatever the engine does in blocks, by splatting or by NUFFT is here one array over all pairs of
atoms: joint occupancies, anomalous form factors, means over voxels by quadrature, and copies and
cells of a crystal written out.
"""

import gemmi
import numpy as np

from tests.oracles import cell_vectors, copies, form_factors, q_of, reciprocal_vectors

# Gauss–Legendre points along each edge of a voxel: right to rounding for phases that turn
# some ten times across it.
POINTS, POINT_WEIGHTS = np.polynomial.legendre.leggauss(48)


def extent_to(cell, d_min, sampling=(1, 1, 1)):
    """Largest node index along each axis of a sphere of radius 1/d_min."""
    lengths = np.linalg.norm(cell_vectors(cell), axis=1)
    return tuple(int(n) for n in np.floor(lengths / d_min * np.array(sampling) + 1e-9))


def nodes_within(lattice):
    """q (n, 3) of a half lattice's nodes within q_max, and their flat index."""
    m_x, m_y, m_z = lattice.extent
    axes = np.arange(-m_x, m_x + 1), np.arange(-m_y, m_y + 1), np.arange(m_z + 1)
    m = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    q = q_of(m / np.array(lattice.sampling), lattice.cell)
    within = np.linalg.norm(q, axis=1) <= lattice.q_max * (1 + 1e-9)
    return q[within], np.flatnonzero(within)


def anomalous(element, wavelength):
    """f′ + if″ of an element [electrons]."""
    energy = 12398.4197386209 / wavelength  # hc [eV Å]
    return complex(*gemmi.cromer_liberman(gemmi.Element(str(element)).atomic_number, energy))


def complex_form_factors(elements, q, wavelength):
    """IT92 form factors + f′ + if″, shape (n_q, n_atoms), without occupancies."""
    return form_factors(elements, q) + np.array([anomalous(e, wavelength) for e in elements])


def mean_phases(separations, cell, edges):
    """Means (n, n) of exp(2πi t·x) over voxels around 0, rows of ``edges`` in hkl, by quadrature.

    x: separations (n, n, 3) [Å] in fractions of the cell.
    """
    fractional = separations @ reciprocal_vectors(cell).T
    means = np.ones(separations.shape[:2])
    for edge in edges:
        phase = np.pi * np.einsum("ijx,x,p->ijp", fractional, edge, POINTS)
        means = means * (np.cos(phase) @ POINT_WEIGHTS / 2)
    return means


def joint_of_altlocs(occupancies, groups, alternatives):
    """⟨n_i n_j⟩ (n, n): alternatives of one group exclude each other, all else is independent.

    Written as a sum over the outcomes of each group: one alternative, or nothing.
    """
    n = len(occupancies)
    joint = np.outer(occupancies, occupancies)
    for group in set(groups) - {-1}:
        members = [i for i in range(n) if groups[i] == group]
        for i in members:
            for j in members:
                joint[i, j] = 0.0
        for outcome in {alternatives[i] for i in members}:
            present = [i for i in members if alternatives[i] == outcome]
            probability = min(occupancies[i] for i in present)
            for i in present:
                for j in present:
                    joint[i, j] = probability
    return joint


def pair_intensity(q, positions, f, v, occupancies=None, joint=None, phases=None):
    """Σ_ij f_i f_j* e^{iq·r_ij} p_ij [⟨n_i n_j⟩ e^{−½qᵀD_ij q} − o_i o_j e^{−½qᵀ(U_i+U_j)q}].

    f (n_q, n) without occupancies; v (n, n, 3, 3); p_ij: weights of the pairs' phases.
    """
    n = len(positions)
    o = np.ones(n) if occupancies is None else occupancies
    joint = np.outer(o, o) if joint is None else joint
    phases = np.ones((n, n)) if phases is None else phases
    own = v[np.arange(n), np.arange(n)]
    both = own[:, None] + own[None, :]
    relative = both - v - v.transpose(1, 0, 2, 3)
    found = []
    for vector, f_q in zip(q, f, strict=True):
        phased = f_q * np.exp(1j * positions @ vector)
        kernel = joint * np.exp(-0.5 * np.einsum("x,ijxy,y->ij", vector, relative, vector))
        kernel -= np.outer(o, o) * np.exp(-0.5 * np.einsum("x,ijxy,y->ij", vector, both, vector))
        found.append((phased @ (phases * kernel) @ phased.conj()).real)
    return np.array(found)


def whole_covariance(displacements, n):
    """V (n, n, 3, 3) of `Displacements`, independent part on its diagonal."""
    v = np.zeros((n, n, 3, 3))
    correlated = displacements.correlated
    if hasattr(correlated, "factor"):
        p = correlated.factor
        if p.ndim == 2:
            v += np.einsum("ik,jk,xy->ijxy", p, p, np.eye(3))
        else:
            v += np.einsum("ixk,jyk->ijxy", p, p)
    elif correlated is not None:
        dense = np.asarray(correlated)
        v += dense if dense.ndim == 4 else dense[:, :, None, None] * np.eye(3)
    if displacements.independent is not None:
        v[np.arange(n), np.arange(n)] += displacements.independent
    return v


def crystal_rows(q, structure, f, covariance_of, n_cells):
    """Σ over i of one cell and j of the crystal, as `pair_intensity`, per cell; f with occupancies.

    covariance_of: function of separations (…, 3) [Å], giving V (…, 3, 3) in the crystal's frame.
    Copies by gemmi's operations, cells −n_cells … n_cells along each axis.
    """
    vectors = cell_vectors(structure.cell)
    steps = np.stack(np.meshgrid(*[np.arange(-m, m + 1) for m in n_cells], indexing="ij"), axis=-1)
    shifts = steps.reshape(-1, 3) @ vectors
    unit = np.eye(3) * 0.0
    placed = [
        moved
        for moved, _ in copies(
            structure.positions,
            np.broadcast_to(unit, (structure.n_atoms, structure.n_atoms, 3, 3)),
            structure.cell,
            structure.space_group,
        )
    ]
    u = covariance_of(np.zeros(3))
    total = np.zeros(len(q))
    for here in placed:
        for there in placed:
            separations = here[:, None, None] - there[None, :, None] - shifts
            v = covariance_of(separations)
            for k, (vector, f_q) in enumerate(zip(q, f, strict=True)):
                growth = np.expm1(np.einsum("x,ijlxy,y->ijl", vector, v, vector))
                waves = np.cos(separations @ vector) * growth
                total[k] += np.exp(-vector @ u @ vector) * (f_q @ waves.sum(axis=2) @ f_q)
    return total
