"""The Gaussians that make up a diffuse intensity, block by block: one per pair and term.

Within one coherent unit ``I = Σ_ij f_i f_j cos(q·r_ij) exp(−½ qᵀD_ij q) − |F|²`` needs one
Gaussian a pair. Where pairs reach across copies, or are weighted, the uncorrelated part goes pair
by pair too: ``exp(−½ qᵀD_ij q) − exp(−½ qᵀ(U_i + U_j) q)``, and an atom with itself
``1 − exp(−qᵀU_i q)``. Both are lists of `PairTerms`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering import _kernels
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pairs import PairBlock
from offbragg.scattering.scatterers import Scatterers

# Pairs whose Gaussians are made at once: some 120 bytes each.
PAIRS_AT_ONCE = 400_000
_ROWS, _COLUMNS = np.triu_indices(3)


class Kind(Enum):
    """What the covariance of a term's Gaussian is made of."""

    RELATIVE = "U_i + U_j - V_ij - V_ji"
    JOINT = "the same, of atoms that are there together more, or less, often than by chance"
    APART = "U_i + U_j"
    SELF = "2 U_i"


@dataclass(frozen=True, eq=False)
class PairTerms:
    """Some Gaussians of one pair class.

    Attributes
    ----------
    kind : Kind
    pair_class : int
        Index into `Scatterers.pair_classes`.
    first, second : ndarray, shape (n,), int64
        Atoms; of elements a and b of the class in this order.
    separations : ndarray, shape (n, 3)
        [Å]
    covariances : ndarray, shape (n, 6)
        xx xy xz yy yz zz [Å²]
    least : ndarray, shape (n,)
        Least eigenvalues [Å²].
    weights : ndarray, shape (n,)
        Signed: what multiplies f_a f_b* exp(iq·r) in the sum.
    turns : ndarray, shape (n, 3, 3), or None
        Rotations that bring ``second`` to its place in another copy; None: all within one unit.
    listed : ndarray, shape (n,), int64, or None
        Place of each pair in the list of `Displacements.pairs`.
    """

    kind: Kind
    pair_class: int
    first: IntArray
    second: IntArray
    separations: FloatArray
    covariances: FloatArray
    least: FloatArray
    weights: FloatArray
    turns: FloatArray | None = None
    listed: IntArray | None = None

    def take(self, which: FloatArray | IntArray) -> PairTerms:
        """Some of them."""
        return PairTerms(
            self.kind, self.pair_class, self.first[which], self.second[which],
            self.separations[which], self.covariances[which], self.least[which],
            self.weights[which], None if self.turns is None else self.turns[which],
            None if self.listed is None else self.listed[which],
        )  # fmt: skip

    def partner(self, tensors: FloatArray) -> FloatArray:
        """Tensors (n_atoms, 3, 3) of ``second``, turned to where it is."""
        own = tensors[self.second]
        if self.turns is None:
            return own
        turned: FloatArray = self.turns @ own @ self.turns.transpose(0, 2, 1)
        return turned

    def own_of_partner(self, tensors: FloatArray) -> FloatArray:
        """Tensors (n, 3, 3) at the place of ``second``, turned back to the unit."""
        if self.turns is None:
            return tensors
        turned: FloatArray = self.turns.transpose(0, 2, 1) @ tensors @ self.turns
        return turned


@dataclass(frozen=True, eq=False)
class PairSum:
    """An intensity as a sum of Gaussians over pairs, a constant, and perhaps less the Bragg part.

    Attributes
    ----------
    lattice : HalfLattice
    scatterers : Scatterers
    displacements : Displacements
    by_pairs : bool
        Take the uncorrelated part off pair by pair even where |F|² would do.
    """

    lattice: HalfLattice
    scatterers: Scatterers
    displacements: Displacements
    by_pairs: bool = False

    @property
    def subtracts_bragg(self) -> bool:
        """Whether the uncorrelated part is taken off as |F|², not pair by pair."""
        return (
            not self.by_pairs
            and self.lattice.voxel is None
            and self.displacements.correlated is not None
        )

    @cached_property
    def u_aniso(self) -> FloatArray:
        """Mean-square displacements (n_atoms, 3, 3) [Å²]."""
        return self.displacements.u_aniso(len(self.scatterers))

    def constants(self) -> FloatArray:
        """Weight of the atoms with themselves, (n_classes,): what does not fall off with q."""
        s = self.scatterers
        occupancies = s.occupancies
        weights = occupancies**2
        if s.groups is not None:
            # An atom is there or not: ⟨n²⟩ = ⟨n⟩.
            weights = np.where(s.groups >= 0, occupancies, weights)
        own = np.bincount(s.index, weights, minlength=len(s.names))
        return np.array([own[a] if a == b else 0.0 for a, b in s.pair_classes])

    def terms(self, classes: Collection[int], *, apart: bool = True) -> Iterator[PairTerms]:
        """Yield the Gaussians of some pair classes, in the same order each time.

        Parameters
        ----------
        classes : collection of int
        apart : bool
            Also the uncorrelated terms (`Kind.APART`, `Kind.SELF`), where |F|² does not stand for
            them.
        """
        apart = apart and not self.subtracts_bragg
        if self.displacements.pairs is not None:
            yield from self._across_copies(classes, apart=apart)
        elif self.displacements.correlated is not None:
            yield from self._within_unit(classes, apart=apart)
        if self.scatterers.groups is not None:
            yield from self._exclusions(classes)
        if apart:
            yield from self._own(classes)

    def _within_unit(self, classes: Collection[int], *, apart: bool) -> Iterator[PairTerms]:
        s = self.scatterers
        # Of one layout, whatever was given: the loop is compiled for each anew.
        positions, u_aniso = (np.ascontiguousarray(x) for x in (s.positions, self.u_aniso))
        for number in classes:
            for first, second, triangle in _index_blocks(s, number):
                v = np.ascontiguousarray(self.displacements.block(first, second))
                v = v.reshape(*v.shape, 1, 1) if v.ndim == 2 else v
                separations, covariances, least = _kernels.pair_gaussians(
                    first, second, triangle, positions, v, u_aniso
                )
                i, j = _members(first, second, triangle)
                weights = 2.0 * s.occupancies[i] * s.occupancies[j]
                weights *= voxel_weights(self.lattice, separations)
                terms = PairTerms(
                    Kind.RELATIVE, number, i, j, separations, covariances, least, weights
                )
                yield terms
                if apart:
                    yield self._apart(terms)

    def _apart(self, terms: PairTerms) -> PairTerms:
        """The same pairs as if they were uncorrelated, with the opposite sign."""
        covariances = _packed(self.u_aniso[terms.first] + terms.partner(self.u_aniso))
        least = _kernels.least_eigenvalues(covariances)
        return replace(
            terms, kind=Kind.APART, covariances=covariances, least=least, weights=-terms.weights
        )

    def _across_copies(self, classes: Collection[int], *, apart: bool) -> Iterator[PairTerms]:
        pairs = self.displacements.pairs
        assert pairs is not None
        turns, start = pairs.turns, 0
        for block in pairs.blocks():
            for number, chosen, flipped in _classes_of(self.scatterers, block, classes):
                for chunk in iter_chunks(len(chosen), PAIRS_AT_ONCE):
                    terms = self._of_block(
                        block, number, chosen[chunk], turns, start, flipped=flipped
                    )
                    yield terms
                    if apart:
                        yield self._apart(terms)
            start += len(block.first)

    def _of_block(
        self,
        block: PairBlock,
        number: int,
        pick: IntArray,
        turns: FloatArray,
        start: int,
        *,
        flipped: bool,
    ) -> PairTerms:
        """Terms of some pairs of a block, which is the list's from ``start`` on."""
        s, u = self.scatterers, self.u_aniso
        first, second = block.first[pick], block.second[pick]
        separations = block.separation[pick]
        weights = s.occupancies[first] * s.occupancies[second]
        weights *= voxel_weights(self.lattice, separations)
        terms = PairTerms(
            Kind.RELATIVE, number, first, second, -separations if flipped else separations,
            np.zeros((len(pick), 6)), np.empty(0), weights,
            None if self.displacements.is_isotropic else turns[block.operation[pick]],
            start + pick,
        )  # fmt: skip
        v = block.covariance[pick]
        if terms.turns is None:
            scalars = u[first, 0, 0] + u[second, 0, 0] - 2.0 * v
            terms.covariances[:, [0, 3, 5]] = scalars[:, None]
            return replace(terms, least=scalars)
        v = v[:, None, None] * np.eye(3) if v.ndim == 1 else v
        covariances = _packed(u[first] + terms.partner(u) - v - v.transpose(0, 2, 1))
        return replace(
            terms, covariances=covariances, least=_kernels.least_eigenvalues(covariances)
        )

    def _exclusions(self, classes: Collection[int]) -> Iterator[PairTerms]:
        """What pairs of one group scatter more, or less, for being there together, or never."""
        s = self.scatterers
        if self.displacements.pairs is not None:
            raise InputError("exclusive altlocs need a covariance within one unit")
        first, second = _grouped_pairs(s.groups)
        alternatives = np.zeros(len(s)) if s.alternatives is None else s.alternatives
        together = alternatives[first] == alternatives[second]
        joint = np.where(together, np.minimum(s.occupancies[first], s.occupancies[second]), 0.0)
        excess = 2.0 * (joint - s.occupancies[first] * s.occupancies[second])
        class_of = _class_table(s)
        for number in classes:
            a, _ = s.pair_classes[number]
            chosen = np.flatnonzero(class_of[s.index[first], s.index[second]] == number)
            if not len(chosen):
                continue
            i, j = first[chosen], second[chosen]
            swap = s.index[i] != a
            i, j = np.where(swap, j, i), np.where(swap, i, j)
            u = self.u_aniso
            v = np.stack(
                [_single(self.displacements.block(i[n : n + 1], j[n : n + 1]))
                 for n in range(len(i))]
            )  # fmt: skip
            covariances = _packed(u[i] + u[j] - v - v.transpose(0, 2, 1))
            separations = s.positions[i] - s.positions[j]
            yield PairTerms(
                Kind.JOINT, number, i, j, separations, covariances,
                _kernels.least_eigenvalues(covariances),
                excess[chosen] * voxel_weights(self.lattice, separations),
            )  # fmt: skip

    def _own(self, classes: Collection[int]) -> Iterator[PairTerms]:
        """Atoms with themselves, uncorrelated: −f² exp(−qᵀU q)."""
        s, u = self.scatterers, self.u_aniso
        for number in classes:
            a, b = s.pair_classes[number]
            if a != b:
                continue
            atoms = np.flatnonzero(s.index == a)
            covariances = _packed(2.0 * u[atoms])
            yield PairTerms(
                Kind.SELF, number, atoms, atoms, np.zeros((len(atoms), 3)), covariances,
                _kernels.least_eigenvalues(covariances), -(s.occupancies[atoms] ** 2),
            )  # fmt: skip


def voxel_weights(lattice: HalfLattice, separations: FloatArray) -> FloatArray:
    """Weights (n,) of pairs in means over voxels, ``Π_k sinc(e_k · x_ij)``; 1 without a voxel.

    x_ij: fractional separation; e_k: the voxel's edges in hkl. This is the transform of a voxel,
    taken at the middle of the pair's Gaussian.
    """
    weights = np.ones(len(separations))
    if lattice.voxel is not None:
        along_edges = separations @ lattice.cell.frac_matrix.T @ lattice.voxel.T
        for edge in along_edges.T:
            weights *= np.sinc(edge)
    return weights


def _index_blocks(s: Scatterers, number: int) -> Iterator[tuple[IntArray, IntArray, bool]]:
    """Blocks (first, second, triangle) of the pairs of a class, each a bounded number."""
    a, b = s.pair_classes[number]
    first, second = np.flatnonzero(s.index == a), np.flatnonzero(s.index == b)
    rows = max(1, PAIRS_AT_ONCE // max(1, len(second)))
    if a != b:
        for chunk in iter_chunks(len(first), rows):
            yield first[chunk], second, False
        return
    rows = max(rows, min(len(first), int(np.sqrt(2 * PAIRS_AT_ONCE))))
    for chunk in iter_chunks(len(first), rows):
        yield first[chunk], first[chunk], True
        for rest in iter_chunks(len(first) - chunk.stop, rows) if chunk.stop < len(first) else ():
            yield first[chunk], first[chunk.stop :][rest], False


def _members(first: IntArray, second: IntArray, triangle: bool) -> tuple[IntArray, IntArray]:
    """Atoms of each pair in the order in which the kernel lists pairs."""
    if triangle:
        i, j = np.triu_indices(len(first), 1)
        return first[i], first[j]
    return np.repeat(first, len(second)), np.tile(second, len(first))


def _class_table(s: Scatterers) -> IntArray:
    """Pair class of two elements, in either order, (n_elements, n_elements)."""
    table = np.empty((len(s.names), len(s.names)), dtype=np.int64)
    for number, (a, b) in enumerate(s.pair_classes):
        table[a, b] = table[b, a] = number
    return table


def _classes_of(
    s: Scatterers, block: PairBlock, classes: Collection[int]
) -> Iterator[tuple[int, IntArray, bool]]:
    """Pairs of a block by class, those in the class's order of elements and those against it."""
    a_of, b_of = s.index[block.first], s.index[block.second]
    found = _class_table(s)[a_of, b_of]
    for number in classes:
        a, b = s.pair_classes[number]
        for flipped in (False, True) if a != b else (False,):
            chosen = np.flatnonzero((found == number) & (a_of == (b if flipped else a)))
            if len(chosen):
                yield number, chosen, flipped


def _grouped_pairs(groups: IntArray | None) -> tuple[IntArray, IntArray]:
    """Pairs i < j of atoms of the same group."""
    empty = np.empty(0, dtype=np.int64)
    firsts, seconds = [empty], [empty]
    if groups is None:
        return empty, empty
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero(groups == group)
        i, j = np.triu_indices(len(members), 1)
        firsts.append(members[i])
        seconds.append(members[j])
    return np.concatenate(firsts), np.concatenate(seconds)


def _single(block: FloatArray) -> FloatArray:
    """The one entry of a block, as a matrix (3, 3)."""
    entry = block[0, 0]
    matrix: FloatArray = entry * np.eye(3) if entry.ndim == 0 else entry
    return matrix


def _packed(matrices: FloatArray) -> FloatArray:
    """Upper triangles (n, 6) of symmetric matrices (n, 3, 3)."""
    return np.ascontiguousarray(matrices[:, _ROWS, _COLUMNS])
