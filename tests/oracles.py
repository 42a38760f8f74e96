"""Plain sums and textbook formulas that tests compare with: NumPy and gemmi's tables only.

Nothing here imports the package, so that a test and what it checks share no code.
"""

import gemmi
import numpy as np


def cell_vectors(cell):
    """Rows a, b, c [Å] of a cell: x along a, b in the xy plane (PDB convention)."""
    a, b, c = cell[:3]
    alpha, beta, gamma = np.radians(cell[3:6])
    c_x = np.cos(beta)
    c_y = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    c_z = np.sqrt(1 - c_x**2 - c_y**2)
    return np.array(
        [[a, 0, 0], [b * np.cos(gamma), b * np.sin(gamma), 0], [c * c_x, c * c_y, c * c_z]]
    )


def reciprocal_vectors(cell):
    """Rows a*, b*, c* [Å⁻¹] by cross products, without 2π."""
    a, b, c = cell_vectors(cell)
    return np.array([np.cross(b, c), np.cross(c, a), np.cross(a, b)]) / (a @ np.cross(b, c))


def q_of(hkl, cell):
    """q = 2π (h a* + k b* + l c*) [Å⁻¹]."""
    return 2 * np.pi * np.asarray(hkl, dtype=float) @ reciprocal_vectors(cell)


def form_factors(elements, q, occupancies=None):
    """IT92 form factors c + Σ a exp(−b (q/4π)²), shape (n_q, n_atoms), times occupancies."""
    stol2 = np.einsum("qx,qx->q", q, q) / (4 * np.pi) ** 2
    columns = []
    for name in elements:
        table = gemmi.Element(str(name)).it92
        terms = [a * np.exp(-b * stol2) for a, b in zip(table.a, table.b, strict=True)]
        columns.append(table.c + sum(terms))
    table = np.stack(columns, axis=1)
    return table if occupancies is None else table * occupancies


def blocks(v):
    """A covariance as (n, n, 3, 3), from (n, n), (n, n, 3, 3) or a factor of low rank."""
    if hasattr(v, "factor"):
        p = v.factor if v.factor.ndim == 3 else np.einsum("ik,xy->ixky", v.factor, np.eye(3))
        p = p.reshape(len(p), 3, -1)
        return np.einsum("iak,jbk->ijab", p, p)
    v = np.asarray(v, dtype=float)
    return v if v.ndim == 4 else v[:, :, None, None] * np.eye(3)


def structure_factor_sum(q, positions, f, u):
    """F(q) = Σ f exp(i q·r − ½ qᵀUq)."""
    exponent = 1j * q @ positions.T - 0.5 * np.einsum("qx,axy,qy->qa", q, u, q)
    return (f * np.exp(exponent)).sum(axis=1)


def diffuse_sum(q, positions, f, v):
    """I(q) as Σ_ij f_i* f_j e^{iq·(r_j − r_i)} [e^{−½qᵀD_ij q} − e^{−½qᵀ(V_ii+V_jj)q}]."""
    v = blocks(v)
    n = len(positions)
    own = v[np.arange(n), np.arange(n)]
    both = own[:, None] + own[None, :]
    relative = both - v - v.transpose(1, 0, 2, 3)
    intensity = []
    for vector, f_q in zip(q, f, strict=True):
        phased = f_q * np.exp(1j * positions @ vector)
        kernel = np.exp(-0.5 * np.einsum("x,ijxy,y->ij", vector, relative, vector))
        kernel -= np.exp(-0.5 * np.einsum("x,ijxy,y->ij", vector, both, vector))
        intensity.append((phased.conj() @ kernel @ phased).real)
    return np.array(intensity)


def copies(positions, v, cell, space_group):
    """All copies of atoms and of their covariance, [(positions, covariance), …].

    Each operation is applied by gemmi to fractional coordinates; what it does to vectors follows
    from the images of the three unit vectors.
    """
    basis = cell_vectors(cell).T  # columns: fractional → Cartesian
    fractional = np.linalg.solve(basis, np.asarray(positions).T).T
    result = []
    for operation in gemmi.SpaceGroup(space_group).operations():
        origin = np.array(operation.apply_to_xyz([0, 0, 0]))
        images = np.array([operation.apply_to_xyz(list(e)) for e in np.eye(3)]) - origin
        turn = basis @ images.T @ np.linalg.inv(basis)
        moved = np.array([operation.apply_to_xyz(list(x)) for x in fractional]) @ basis.T
        result.append((moved, turn @ blocks(v) @ turn.T))
    return result


def diffuse_of_cell(q, positions, f, v, cell, space_group):
    """Diffuse intensity of a cell whose copies move independently, one direct sum a copy."""
    return sum(
        diffuse_sum(q, moved, f, turned)
        for moved, turned in copies(positions, v, cell, space_group)
    )


def draw_displacements(rng, v, n_draws):
    """Displacements (n_draws, n, 3) with covariance v, by its eigenvectors."""
    n = len(v)
    values, vectors = np.linalg.eigh(blocks(v).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n))
    roots = vectors * np.sqrt(np.maximum(values, 0.0))
    return (rng.normal(size=(n_draws, 3 * n)) @ roots.T).reshape(n_draws, n, 3)


def flat(v):
    """A covariance as its 3n × 3n matrix, rows atom by atom."""
    v = blocks(v)
    return v.transpose(0, 2, 1, 3).reshape(3 * len(v), 3 * len(v))
