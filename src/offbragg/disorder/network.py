r"""Elastic networks: sites, springs between them, stiffness matrices and their inverses.

Every spring is a sum of elongations ``e = l·x_A − r·x_B`` between two sites of d coordinates each:

============================  ===  =====================================================
nodes that move along r̂       d=3  l = r = r̂ (anisotropic network, ANM)
nodes of isotropic springs    d=1  l = r = 1 (Gaussian network, GNM), the same for x, y, z
atoms of rigid bodies         d=6  l = B_iᵀ r̂, r = B_jᵀ r̂, with the bodies' lever arms B
============================  ===  =====================================================

The energy ``½ Σ k e²`` makes the stiffness (Hessian, or Kirchhoff matrix)
``H = Σ k (l; −r)(l; −r)ᵀ``, linear in the spring constants. With k in units of k_BT Å⁻² the
covariance of the coordinates is H⁺, the inverse on all motions that cost energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.contacts import Contacts, SpringClasses
from offbragg.errors import InputError

KINDS = ("gnm", "anm")
# Nodes nearer than this [Å] lie on top of each other: their spring has no direction.
LEAST_DISTANCE = 1e-4
# A motion costs no energy where its eigenvalue is this share of the mean diagonal element.
NO_STIFFNESS = 1e-9
# Matrices of a worse reciprocal condition number are looked at for such motions. Proteins have
# 1e-4 to 1e-7, a null mode has 1e-16.
SUSPECT_CONDITION = 1e-11


@dataclass(frozen=True, eq=False)
class Bonds:
    """Springs between sites of d coordinates each, as elongations ``l·x_A − r·x_B``.

    Attributes
    ----------
    first, second : ndarray, shape (n_bonds,), int64
        Sites A and B.
    cells : ndarray, shape (n_bonds, 3), int64
        Cell of B.
    left, right : ndarray, shape (n_bonds, d), float64
        l and r.
    kinds : ndarray, shape (n_bonds,), int64
        Which spring constant.
    weights : ndarray, shape (n_bonds,), float64
        Factor on it.
    n_sites : int
    """

    first: IntArray
    second: IntArray
    cells: IntArray
    left: FloatArray
    right: FloatArray
    kinds: IntArray
    weights: FloatArray
    n_sites: int

    @property
    def n_coordinates(self) -> int:
        """Number of coordinates of all sites, the size of the stiffness matrix."""
        return self.n_sites * int(self.left.shape[1])

    def with_kinds(self, kinds: IntArray) -> Bonds:
        """Return the same springs of other kinds."""
        return replace(self, kinds=kinds)

    def lattice_vectors(self) -> tuple[IntArray, IntArray]:
        """Return the distinct ±L (n_L, 3), 0 included, and the index of 0, L and −L of each bond.

        The second array is (3, n_bonds).
        """
        n = len(self.cells)
        zero = np.zeros((1, 3), dtype=np.int64)
        every = np.concatenate([zero, self.cells, -self.cells])
        vectors, index = np.unique(every, axis=0, return_inverse=True)
        index = index.reshape(-1)
        which = np.stack([np.full(n, index[0]), index[1 : n + 1], index[n + 1 :]])
        return vectors, which.astype(np.int64)

    def entries(self, constants: FloatArray) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """Elements of H_{i0,jL} for spring constants: row, column, index of L, value; to be summed.

        Parameters
        ----------
        constants : ndarray
            By `kinds`; or any change of them: H is linear.
        """
        d = self.left.shape[1]
        _, (zero, plus, minus) = self.lattice_vectors()
        k = (constants[self.kinds] * self.weights)[:, None, None]
        a, b = (d * site[:, None] + np.arange(d) for site in (self.first, self.second))
        blocks = []
        for row, column, left, right, cell in (
            (a, a, self.left, self.left, zero),
            (b, b, self.right, self.right, zero),
            (a, b, self.left, -self.right, plus),
            (b, a, -self.right, self.left, minus),
        ):
            shape = (len(row), d, d)
            blocks.append(
                (
                    np.broadcast_to(row[:, :, None], shape).ravel(),
                    np.broadcast_to(column[:, None, :], shape).ravel(),
                    np.broadcast_to(cell[:, None, None], shape).ravel(),
                    (k * left[:, :, None] * right[:, None, :]).ravel(),
                )
            )
        rows, columns, cells, values = (np.concatenate(x) for x in zip(*blocks, strict=True))
        return rows, columns, cells, values

    def stiffness(self, constants: FloatArray) -> Any:
        """H of a network without lattice translations, sparse (n_coordinates, n_coordinates)."""
        rows, columns, _, values = self.entries(constants)
        size = self.n_coordinates
        return scipy.sparse.coo_array((values, (rows, columns)), shape=(size, size)).tocsr()

    def pull(self, gradient: FloatArray, n_constants: int) -> FloatArray:
        """Return dO/dk (n_constants,) from dO/dH, every element as if free.

        Parameters
        ----------
        gradient : ndarray, shape (n_L, n_coordinates, n_coordinates)
            In the order of `lattice_vectors`; n_L = 1 without lattice translations.
        """
        d, n = self.left.shape[1], self.n_sites
        _, (zero, plus, minus) = self.lattice_vectors()
        blocks = gradient.reshape(len(gradient), n, d, n, d)
        a, b, l, r = self.first, self.second, self.left, self.right  # noqa: E741
        total = np.zeros(len(a))
        for cell, row, column, left, right in (
            (zero, a, a, l, l),
            (zero, b, b, r, r),
            (plus, a, b, l, -r),
            (minus, b, a, -r, l),
        ):
            total += np.einsum("nx,nxy,ny->n", left, blocks[cell, row, :, column, :], right)
        by_constants = np.zeros(n_constants)
        np.add.at(by_constants, self.kinds, self.weights * total)
        return by_constants


def make_bonds(
    contacts: Contacts,
    classes: SpringClasses,
    sites: IntArray,
    arms: FloatArray,
    n_sites: int,
    *,
    axial: bool,
) -> Bonds:
    """Tie contacts together by springs.

    Parameters
    ----------
    contacts : Contacts
        None of length 0 where a direction or a power of the length is needed.
    classes : SpringClasses
    sites : ndarray, shape (n_points,), int64
        Site that each point moves with.
    arms : ndarray, shape (n_points, m, d), float64
        Displacement of each point, m coordinates, per coordinate of its site.
    n_sites : int
    axial : bool
        True: one elongation along the contact (m = 3). False: one along each of the m axes.
    """
    lengths = np.linalg.norm(contacts.separations, axis=1)
    left, right = arms[contacts.first], arms[contacts.second]
    if axial:
        along = contacts.separations / lengths[:, None]
        left = np.einsum("nx,nxd->nd", along, left)[:, None, :]
        right = np.einsum("nx,nxd->nd", along, right)[:, None, :]
    repeats = left.shape[1]
    weights = np.ones(len(lengths)) if classes.power == 0 else lengths**-classes.power

    def each(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values, repeats, axis=0)

    return Bonds(
        first=each(sites[contacts.first]),
        second=each(sites[contacts.second]),
        cells=each(contacts.cells),
        left=left.reshape(-1, left.shape[2]),
        right=right.reshape(-1, right.shape[2]),
        kinds=each(classes.class_of(lengths)),
        weights=each(weights),
        n_sites=n_sites,
    )


def check_directions(contacts: Contacts, structure: AtomicStructure, atoms: IntArray) -> None:
    """Check that no contact has length 0; ``atoms`` are the atoms that stand for the points.

    Raises
    ------
    InputError
        If two points lie on top of each other: names the atoms.
    """
    lengths = np.linalg.norm(contacts.separations, axis=1)
    if len(lengths) and lengths.min() < LEAST_DISTANCE:
        worst = int(np.argmin(lengths))
        one, other = (structure.label(atoms[x[worst]]) for x in (contacts.first, contacts.second))
        raise InputError(
            f"atoms {one} and {other} lie on top of each other (or of their symmetry mates): a "
            f"spring has no direction there; leave one out"
        )


class NullModesError(Exception):
    """A stiffness matrix has motions without energy beside those that are known."""


def inverse_root(stiffness: NDArray[Any], free: NDArray[Any]) -> NDArray[Any]:
    """Return P with ``P P† = H⁺``, by a Cholesky factorisation of H with its null space filled.

    Parameters
    ----------
    stiffness : ndarray, shape (n, n), real symmetric or complex Hermitian
        H, positive semi-definite.
    free : ndarray, shape (n, n_free)
        Orthonormal basis of the motions that cost no energy.

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    NullModesError
        If other motions cost no energy.

    Notes
    -----
    Time O(n³), about n³ multiplications; memory 3 matrices.
    """
    size = len(stiffness)
    if free.shape[1] == size:
        return np.zeros_like(stiffness)
    level = float(np.trace(stiffness).real) / size
    if not level > 0:
        raise NullModesError
    filled = stiffness + level * (free @ free.conj().T)
    scales = 1.0 / np.sqrt(np.maximum(np.diagonal(filled).real, NO_STIFFNESS * level))
    filled *= scales[:, None] * scales
    norm = float(np.linalg.norm(filled, 1))
    functions: Any = scipy.linalg.get_lapack_funcs(("potrf", "pocon", "trtri"), (filled,))
    factorise, estimate, invert = functions
    factor, failed = factorise(filled, lower=True, clean=True)
    if failed:
        raise NullModesError
    if estimate(factor, norm, uplo="L")[0] < SUSPECT_CONDITION:
        values = np.linalg.eigvalsh(stiffness)
        if np.sum(values < NO_STIFFNESS * level) > free.shape[1]:
            raise NullModesError
    inverse, _ = invert(factor, lower=True)
    root: NDArray[Any] = scales[:, None] * inverse.conj().T
    root -= free @ (free.conj().T @ root)
    return root


def raise_if_in_pieces(bonds: Bonds, structure: AtomicStructure, atoms: IntArray) -> None:
    """Check that springs tie all sites together; ``atoms`` stand for the sites in the message.

    Raises
    ------
    InputError
        If they do not: tells the sizes of the pieces and an atom of the smallest.
    """
    n = bonds.n_sites
    graph = scipy.sparse.coo_array(
        (np.ones(len(bonds.first)), (bonds.first, bonds.second)), shape=(n, n)
    )
    n_pieces, piece_of = scipy.sparse.csgraph.connected_components(graph, directed=False)
    if n_pieces == 1:
        return
    sizes = np.bincount(piece_of)
    smallest = int(np.argmin(sizes))
    stray = structure.label(atoms[int(np.argmax(piece_of == smallest))])
    listed = ", ".join(str(size) for size in np.sort(sizes)[::-1][:6])
    more = ", …" if n_pieces > 6 else ""
    raise InputError(
        f"the network is in {n_pieces} pieces, of {listed}{more} nodes: atom {stray} is not tied "
        f"to the largest; raise the cutoff or leave it out"
    )


def named_changes(
    shapes: Mapping[str, tuple[int, ...]], direction: Mapping[str, ArrayLike]
) -> dict[str, FloatArray]:
    """Return changes of parameters as arrays, 0 for those that do not change.

    Raises
    ------
    InputError
        If there is no such parameter, or its shape is another.
    """
    changes = {name: np.zeros(shape) for name, shape in shapes.items()}
    for name, value in direction.items():
        if name not in shapes:
            raise InputError(f"the model has parameters {', '.join(shapes)}, got {name!r}")
        array = np.asarray(value, dtype=np.float64)
        if array.shape != shapes[name]:
            raise InputError(f"{name} must have shape {shapes[name]}, got {array.shape}")
        changes[name] = array
    return changes
