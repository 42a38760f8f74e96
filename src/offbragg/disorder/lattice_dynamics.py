r"""Harmonic crystals with periodic boundaries: dynamical matrices, and covariances between cells.

The cell's sites, rigid copies (t, λ) or atoms, are tied by springs to those of cells L:

.. math:: D_{ij}(\mathbf k) = \sum_L H_{i0,jL} e^{i \mathbf k \cdot \mathbf L}, \qquad
          C_{i0,jL} = \frac{1}{N_k} \sum_{\mathbf k} [D^{-1}(\mathbf k)]_{ij}
          e^{-i \mathbf k \cdot \mathbf L}

for springs in units of k_BT. At k = 0 the three translations of the whole crystal are left out.
Wave vectors are in reciprocal cells: k·L = 2π (k_1 L_1 + k_2 L_2 + k_3 L_3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse

from offbragg.conventions import TWO_PI, BoolArray, ComplexArray, FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.bodies import lever_arms
from offbragg.disorder.contacts import Contacts, SpringClasses, find_contacts
from offbragg.disorder.network import (
    Bonds,
    NullModesError,
    check_directions,
    inverse_root,
    make_bonds,
    raise_if_in_pieces,
)
from offbragg.disorder.nodes import altloc_sites
from offbragg.errors import InputError

# Inverses of D(k) that are held at once [numbers].
_HELD = 10_000_000
# Symmetry mates of an atom nearer than this [Å] are the atom itself.
SAME_ATOM = 1.0


@dataclass(frozen=True, eq=False)
class CrystalNetwork:
    """The springs of a crystal, and what its cell's coordinates are.

    Attributes
    ----------
    unit : AtomicStructure
        All atoms of the cell, copy after copy.
    n_copies : int
    sites : ndarray, shape (n_atoms,), int64
        Site that each atom moves with: its copy, or itself (altlocs together).
    arms : ndarray, shape (n_atoms, 3, d), float64
        Displacement of each atom by the coordinates of its site.
    bonds : Bonds
    constants : ndarray
        Spring constants [k_BT Å⁻²], by ``bonds.kinds``.
    n_cells : tuple of 3 int
        Cells of the period along a, b, c: the k grid.
    """

    unit: AtomicStructure
    n_copies: int
    sites: IntArray
    arms: FloatArray
    bonds: Bonds
    constants: FloatArray
    n_cells: tuple[int, int, int]

    @property
    def n_coordinates(self) -> int:
        """Coordinates of the cell."""
        return self.bonds.n_coordinates

    # --- waves -----------------------------------------------------------

    @cached_property
    def _stiffness(self) -> Any:
        return self._stacked(self.constants)

    def _stacked(self, constants: FloatArray) -> tuple[IntArray, Any]:
        """Lattice vectors (n_L, 3), and H_{i0,jL} as the columns of a sparse matrix."""
        vectors, _ = self.bonds.lattice_vectors()
        rows, columns, cells, values = self.bonds.entries(constants)
        size = self.n_coordinates
        stacked = scipy.sparse.coo_array(
            (values, (rows * size + columns, cells)), shape=(size * size, len(vectors))
        )
        return vectors, stacked.tocsc()

    def _wave(self, stacked: tuple[IntArray, Any], k: FloatArray) -> ComplexArray:
        vectors, matrices = stacked
        phases = np.exp(1j * TWO_PI * (vectors @ k))
        wave: ComplexArray = (matrices @ phases).reshape(self.n_coordinates, -1)
        return wave

    def dynamical(self, k: FloatArray) -> ComplexArray:
        """D(k), shape (n_coordinates, n_coordinates), for k (3,) in reciprocal cells."""
        return self._wave(self._stiffness, k)

    def inverse(self, k: FloatArray) -> ComplexArray:
        """[D(k)]⁻¹; at k = 0 on all motions but translations of the crystal.

        Raises
        ------
        InputError
            If another wave costs no energy.
        """
        wave = self.dynamical(k)
        is_origin = bool(np.all(np.abs(k - np.rint(k)) < 1e-9))
        free = self._translations() if is_origin else np.zeros((self.n_coordinates, 0))
        try:
            root = inverse_root(wave.real.copy() if is_origin else wave, free)
        except NullModesError:
            at = ", ".join(f"{x:g}" for x in k)
            raise InputError(
                f"the crystal's network is under-constrained: at k = ({at}) a wave"
                f"{' other than the 3 translations' if is_origin else ''} costs no energy; raise "
                f"the cutoff (rigid copies need atoms that are not in line)"
            ) from None
        inverse: ComplexArray = (root @ root.conj().T).astype(np.complex128)
        return inverse

    def _translations(self) -> FloatArray:
        """Orthonormal translations of the whole crystal, (n_coordinates, 3)."""
        d = self.arms.shape[2]
        one = np.eye(d)[:, :3] / np.sqrt(self.bonds.n_sites)
        return np.tile(one, (self.bonds.n_sites, 1))

    def _half_grid(self) -> Iterator[tuple[FloatArray, float]]:
        """One of each k and −k of the grid, and how many of the two there are."""
        n = np.array(self.n_cells)
        for index in itertools.product(*(range(count) for count in self.n_cells)):
            opposite = tuple(-np.array(index) % n)
            if index <= opposite:
                yield np.array(index) / n, 1.0 if index == opposite else 2.0

    # --- covariances -----------------------------------------------------

    def covariances(self, vectors: IntArray, change: FloatArray | None = None) -> FloatArray:
        """C_{i0,jL} for lattice vectors, by the sum over the k grid.

        Parameters
        ----------
        vectors : ndarray, shape (n_L, 3), int64
        change : ndarray, optional
            Give the derivative for this change of the spring constants instead,
            ``−D⁻¹ dD D⁻¹`` for D⁻¹.

        Returns
        -------
        ndarray, shape (n_L, n_coordinates, n_coordinates)

        Notes
        -----
        Time O(N_k n_coordinates³), half of it saved by D(−k) = D(k)*.
        """
        size = self.n_coordinates
        total = np.zeros((len(vectors), size * size))
        moved = None if change is None else self._stacked(change)
        waves: list[ComplexArray] = []
        grid: list[tuple[FloatArray, float]] = []

        def add() -> None:
            k, weights = np.array([x for x, _ in grid]), np.array([x for _, x in grid])
            angles = TWO_PI * (vectors @ k.T)
            stack = np.stack(waves).reshape(len(waves), -1)
            total[...] += (weights * np.cos(angles)) @ stack.real
            total[...] += (weights * np.sin(angles)) @ stack.imag

        for k, weight in self._half_grid():
            inverse = self.inverse(k)
            if moved is not None:
                inverse = -inverse @ self._wave(moved, k) @ inverse
            waves.append(inverse)
            grid.append((k, weight))
            if len(waves) * size**2 >= _HELD:
                add()
                waves, grid = [], []
        if waves:
            add()
        return total.reshape(-1, size, size) / float(np.prod(self.n_cells))

    def pull(self, vectors: IntArray, gradient: FloatArray) -> FloatArray:
        """Return dO/d(spring constants) from dO/dC_{i0,jL}, the adjoint of `covariances`.

        Parameters
        ----------
        vectors : ndarray, shape (n_L, 3), int64
        gradient : ndarray, shape (n_L, n_coordinates, n_coordinates)
            By every element as if free.
        """
        size = self.n_coordinates
        bond_vectors, _ = self.bonds.lattice_vectors()
        by_stiffness = np.zeros((len(bond_vectors), size * size))
        flat = gradient.reshape(len(vectors), -1)
        for k, weight in self._half_grid():
            by_wave = (np.exp(1j * TWO_PI * (vectors @ k)) @ flat).reshape(size, size)
            inverse = self.inverse(k)
            by_d = (-weight * (inverse @ by_wave @ inverse)).ravel()
            angles = TWO_PI * (bond_vectors @ k)
            by_stiffness += np.cos(angles)[:, None] * by_d.real
            by_stiffness += np.sin(angles)[:, None] * by_d.imag
        by_stiffness /= float(np.prod(self.n_cells))
        return self.bonds.pull(by_stiffness.reshape(-1, size, size), len(self.constants))

    # --- coordinates and atoms -------------------------------------------

    @cached_property
    def _arms(self) -> Any:
        """Displacements of the atoms by the coordinates, sparse (3 n_atoms, n_coordinates)."""
        n, d = len(self.sites), self.arms.shape[2]
        columns = np.broadcast_to(
            (d * self.sites[:, None] + np.arange(d))[:, None, :], self.arms.shape
        )
        rows = np.broadcast_to(np.arange(3 * n).reshape(n, 3, 1), self.arms.shape)
        return scipy.sparse.coo_array(
            (self.arms.ravel(), (rows.ravel(), columns.ravel())), shape=(3 * n, self.n_coordinates)
        ).tocsr()

    @cached_property
    def _arms_held(self) -> dict[bytes, Any]:
        return {}

    def _arms_of(self, atoms: IntArray) -> Any:
        """Rows of `_arms`; kept, as the same atoms are asked for in every cell."""
        key = atoms.tobytes()
        if key not in self._arms_held:
            self._arms_held[key] = self._arms[(3 * atoms[:, None] + np.arange(3)).ravel()]
        return self._arms_held[key]

    def at_atoms(self, covariance: FloatArray, first: IntArray, second: IntArray) -> FloatArray:
        """``B_i C_ij B_jᵀ`` for atoms i and j of the cell, shape (n, m, 3, 3)."""
        v = self._arms_of(first) @ covariance @ self._arms_of(second).T
        blocks = v.reshape(len(first), 3, len(second), 3).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(blocks)

    def from_atoms(self, gradient: FloatArray, first: IntArray, second: IntArray) -> FloatArray:
        """Adjoint of `at_atoms`: a gradient (n, m, 3, 3) by pairs, as one by C."""
        flat = gradient.transpose(0, 2, 1, 3).reshape(3 * len(first), 3 * len(second))
        by_c: FloatArray = self._arms_of(first).T @ flat @ self._arms_of(second)
        return by_c

    def own(self, covariance: FloatArray) -> FloatArray:
        """V_ii of every atom, (n_atoms, 3, 3), from C within the cell at 0."""
        d, n = self.arms.shape[2], self.bonds.n_sites
        blocks = covariance.reshape(n, d, n, d)[self.sites, :, self.sites]
        own: FloatArray = np.matmul(np.matmul(self.arms, blocks), self.arms.transpose(0, 2, 1))
        return own

    def from_own(self, gradient: FloatArray) -> FloatArray:
        """Adjoint of `own`."""
        d, n = self.arms.shape[2], self.bonds.n_sites
        turned = np.matmul(np.matmul(self.arms.transpose(0, 2, 1), gradient), self.arms)
        blocks = np.zeros((n, d, n, d))
        np.add.at(blocks.transpose(0, 2, 1, 3), (self.sites, self.sites), turned)
        return blocks.reshape(n * d, n * d)


def build_network(
    unit: AtomicStructure,
    classes: SpringClasses,
    constants: tuple[FloatArray, FloatArray | None],
    n_cells: tuple[int, int, int],
    *,
    rigid: bool,
    axial: bool,
) -> CrystalNetwork:
    """Tie the atoms of a crystal together.

    Parameters
    ----------
    unit : AtomicStructure
        All atoms of the cell, in P 1, copy after copy.
    classes : SpringClasses
    constants : two ndarrays
        Spring constants between copies; within a copy, or None for the same.
    n_cells : tuple of 3 int
    rigid : bool
        Whether the sites are copies, each with (t, λ) about its centroid, or atoms.
    axial : bool
        Whether springs act along the contact, or isotropically.

    Raises
    ------
    InputError
        If two atoms tied by a spring coincide, the network is in pieces, or copies are not of the
        same atoms one after the other.

    Notes
    -----
    An atom less than 1 Å from a symmetry mate of its own lies on a special position: the two are
    one, and no spring ties them.
    """
    n_copies, copy_of = _numbered_copies(unit)
    length = unit.n_atoms // n_copies
    site_in_copy, point_in_copy = altloc_sites(unit.take(np.arange(length)))
    points = (length * np.arange(n_copies)[:, None] + point_in_copy).reshape(-1)
    if rigid:
        centres = unit.positions.reshape(n_copies, length, 3).mean(axis=1)
        sites, arms = copy_of, lever_arms(unit.positions - centres[copy_of])
    else:
        offsets = len(point_in_copy) * np.arange(n_copies)[:, None]
        sites = (offsets + site_in_copy).reshape(-1)
        arms = np.broadcast_to(np.eye(3), (unit.n_atoms, 3, 3))
    n_sites = n_copies if rigid else len(points)
    contacts = find_contacts(unit.positions[points], classes.cutoff, unit.require_cell())
    contacts = contacts.take(~_with_itself(contacts, len(point_in_copy)))
    copies = copy_of[points]
    internal = (copies[contacts.first] == copies[contacts.second]) & ~contacts.cells.any(axis=1)
    if rigid:
        contacts, internal = contacts.take(~internal), internal[~internal]
    if axial or classes.power != 0:
        check_directions(contacts, unit, points)
    bonds = make_bonds(contacts, classes, sites[points], arms[points], n_sites, axial=axial)
    between, within = constants
    if within is not None:
        shifted = np.repeat(internal, len(bonds.kinds) // len(internal)) * len(between)
        bonds = bonds.with_kinds(bonds.kinds + shifted)
        between = np.concatenate([between, within])
    raise_if_in_pieces(bonds, unit, length * np.arange(n_copies) if rigid else points)
    return CrystalNetwork(unit, n_copies, sites, arms, bonds, between, n_cells)


def _with_itself(contacts: Contacts, n_in_copy: int) -> BoolArray:
    """Whether each contact is of an atom with its own mate on a special position."""
    mates = contacts.first % n_in_copy == contacts.second % n_in_copy
    lengths = np.linalg.norm(contacts.separations, axis=1)
    same: BoolArray = mates & (lengths < SAME_ATOM)
    return same


def _numbered_copies(unit: AtomicStructure) -> tuple[int, IntArray]:
    """How many copies a cell has, and the number of each atom's, in the order of the copies."""
    numbers, index, counts = np.unique(unit.copies, return_inverse=True, return_counts=True)
    copy_of: IntArray = np.asarray(index, dtype=np.int64).reshape(-1)
    same = len(set(counts.tolist())) == 1 and not np.any(np.diff(copy_of) < 0)
    labels = (unit.elements, unit.chains, unit.residue_numbers, unit.names, unit.altlocs)
    for values in labels if same else ():
        by_copy = values.reshape(len(numbers), -1)
        same = same and bool(np.all(by_copy == by_copy[0]))
    if not same:
        raise InputError("copies in a cell must follow each other, all of the same atoms")
    return len(numbers), copy_of
