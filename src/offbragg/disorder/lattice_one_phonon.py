r"""One-phonon scattering of a harmonic crystal, ``I = Σ_ij a_i* a_j qᵀ[D⁻¹(k = q)]_ij q``.

With the arms B_j, which turn the coordinates of a site into displacements, every site scatters with
``g_A(q) = Σ_{j ∈ A} a_j B_jᵀ q``, and ``I = g† D⁻¹(k) g``, where k is the fractional part of hkl:
D(k) holds exp(ik·L), and exp(iq·L) = exp(ik·L).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import scipy.sparse

from offbragg.conventions import ComplexArray, FloatArray
from offbragg.disorder.lattice_dynamics import CrystalNetwork
from offbragg.runtime import iter_chunks
from offbragg.scattering.engine import Engine
from offbragg.scattering.form_factors import compute_form_factors
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.structure_factors import structure_factors_on_lattice

Slices = tuple[slice, slice, slice]


def one_phonon_on_lattice(
    lattice: HalfLattice, network: CrystalNetwork, u_aniso: FloatArray, engine: Engine
) -> FloatArray:
    """One-phonon intensity [e²] of a cell for springs in kT, on every node of a lattice.

    Parameters
    ----------
    lattice : HalfLattice
        Its sampling sets the k; any will do.
    network : CrystalNetwork
    u_aniso : ndarray, shape (n_atoms, 3, 3)
        V_ii [Å²], which damps the atoms of the cell.
    engine : Engine
        Tolerance and memory.

    Returns
    -------
    ndarray, ``lattice.shape``, float64
        0 beyond ``lattice.q_max``.
    """
    if network.arms.shape[2] == 6:
        return _of_rigid_copies(lattice, network, u_aniso, engine)
    return _of_atoms(lattice, network, u_aniso, engine)


def _waves(lattice: HalfLattice) -> Iterator[tuple[FloatArray, Slices]]:
    """Every k of a lattice, in reciprocal cells, and the nodes that have it."""
    starts = (lattice.extent[0], lattice.extent[1], 0)
    for index in itertools.product(*(range(n) for n in lattice.sampling)):
        parts = [
            slice((m + start) % n, None, n)
            for m, start, n in zip(index, starts, lattice.sampling, strict=True)
        ]
        yield np.array(index) / np.array(lattice.sampling), (parts[0], parts[1], parts[2])


def _q_of(lattice: HalfLattice, nodes: Slices) -> FloatArray:
    """Scattering vectors [Å⁻¹] of some nodes, (n, m, l, 3)."""
    axes = [m.ravel()[part] for m, part in zip(lattice.indices(), nodes, strict=True)]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float64)
    q: FloatArray = indices @ lattice.reciprocal_vectors
    return q


def _of_rigid_copies(
    lattice: HalfLattice, network: CrystalNetwork, u_aniso: FloatArray, engine: Engine
) -> FloatArray:
    """Sum over pairs of copies; as many copies at once as their transforms leave memory for."""
    n_copies = network.n_copies
    per_copy = 4 * 16 * int(np.prod(lattice.shape))
    at_once = int(np.clip(engine.max_memory / (2.5 * per_copy), 1, n_copies))
    chunks = list(iter_chunks(n_copies, at_once))
    total = np.zeros(lattice.shape)
    for number, rows in enumerate(chunks):
        left = _moments(lattice, network, u_aniso, rows, engine)
        for columns in chunks[number:]:
            is_same = columns == rows
            right = left if is_same else _moments(lattice, network, u_aniso, columns, engine)
            block = (
                slice(6 * rows.start, 6 * rows.stop),
                slice(6 * columns.start, 6 * columns.stop),
            )
            for k, nodes in _waves(lattice):
                q = _q_of(lattice, nodes)
                bra, ket = (_forces(moments, nodes, q) for moments in (left, right))
                moved = network.inverse(k)[block] @ ket
                part = np.einsum("xn,xn->n", bra.conj(), moved).real
                total[nodes] += (1.0 if is_same else 2.0) * part.reshape(q.shape[:3])
    return total


def _moments(
    lattice: HalfLattice,
    network: CrystalNetwork,
    u_aniso: FloatArray,
    copies: slice,
    engine: Engine,
) -> ComplexArray:
    """Σ a_j and Σ a_j ρ_j of copies, ρ from the centroid, shape (n, 4, *lattice.shape)."""
    unit = network.unit
    length = unit.n_atoms // network.n_copies
    moments = np.empty((copies.stop - copies.start, 4, *lattice.shape), dtype=np.complex128)
    for row, copy in zip(moments, range(copies.start, copies.stop), strict=True):
        atoms = slice(copy * length, (copy + 1) * length)
        arms = unit.positions[atoms] - unit.positions[atoms].mean(axis=0)
        for out, weights in zip(row, (np.ones(length), *arms.T), strict=True):
            out[...] = structure_factors_on_lattice(
                lattice, unit.positions[atoms], unit.elements[atoms],
                weights * unit.occupancies[atoms], u_aniso[atoms], 1e-4 * engine.rtol,
            )  # fmt: skip
    return moments


def _forces(moments: ComplexArray, nodes: Slices, q: FloatArray) -> ComplexArray:
    """Σ a_j B_jᵀ q = (q Σ a_j, Σ a_j ρ_j × q) at some nodes, shape (6 n_copies, n_nodes)."""
    n, q = len(moments), q.reshape(-1, 3).T
    flat = moments[:, :, nodes[0], nodes[1], nodes[2]].reshape(n, 4, -1)
    shift = flat[:, :1] * q
    turn = np.cross(flat[:, 1:], q[None], axis=1)
    forces: ComplexArray = np.concatenate([shift, turn], axis=1).reshape(6 * n, -1)
    return forces


def _of_atoms(
    lattice: HalfLattice, network: CrystalNetwork, u_aniso: FloatArray, engine: Engine
) -> FloatArray:
    """The double sum over sites, as one matrix product per k."""
    unit, n_sites = network.unit, network.bonds.n_sites
    joined = scipy.sparse.coo_array(
        (np.ones(unit.n_atoms), (network.sites, np.arange(unit.n_atoms))),
        shape=(n_sites, unit.n_atoms),
    ).tocsr()
    at_once = max(1, int(engine.max_memory / (16 * 10 * unit.n_atoms)))
    total = np.zeros(lattice.shape)
    for k, nodes in _waves(lattice):
        q = _q_of(lattice, nodes).reshape(-1, 3)
        intensity = np.zeros(len(q))
        wanted = np.flatnonzero(np.einsum("nx,nx->n", q, q) <= lattice.q_max**2 * (1 + 1e-9))
        if not len(wanted):
            continue
        inverse = network.inverse(k)
        for chunk in iter_chunks(len(wanted), at_once):
            here = q[wanted[chunk]]
            f = compute_form_factors(unit.elements, here, unit.occupancies)
            # qᵀUq by the nine products of q with itself.
            squares = (here[:, :, None] * here[:, None, :]).reshape(-1, 9)
            damped = -0.5 * squares @ u_aniso.reshape(-1, 9).T
            waves = joined @ (f * np.exp(1j * (here @ unit.positions.T) + damped)).T
            forces = (waves[:, None, :] * here.T).reshape(3 * n_sites, -1)
            moved = inverse @ forces
            intensity[wanted[chunk]] = np.einsum("xn,xn->n", forces.conj(), moved).real
        total[nodes] = intensity.reshape(total[nodes].shape)
    return total
