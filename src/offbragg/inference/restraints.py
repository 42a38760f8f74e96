r"""What is expected of a motion beside the data: restraints, residuals that are linear in V.

.. math:: O(\theta) = \sum_q \omega r^2 + \sum_m \left[\frac{(A_m V(\theta) - b_m)}{e_m}\right]^2

Every restraint is told the departure e [Å²] that is expected, and so stands beside weighted
residuals as one more measurement; where the map has no σ, beside residuals in units of their size
at the start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements

# Neighbours are atoms closer than this: bonds, and atoms bonded to the same atom [Å].
BONDED = 2.8
# Where a structure has fewer atoms to an asymmetric unit, as Cα alone, the next along the chain.
ALONG_CHAIN = 4.2
# Pairs within a copy that are compared with the same pairs of another copy [Å].
COPY_REACH = 8.0

_ROWS, _COLUMNS = (np.array(x) for x in ((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)))
# Elements off the diagonal stand twice in a matrix.
_COUNTS = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])


class Restraint(ABC):
    """Some rows ``A V − b`` in units of the departures that are expected."""

    @property
    @abstractmethod
    def target(self) -> FloatArray:
        """B (n_rows,)."""

    @abstractmethod
    def rows(self, v: Displacements) -> FloatArray:
        """A V (n_rows,), linear in V [Å²]."""

    @abstractmethod
    def pull(self, slopes: FloatArray) -> Displacements:
        """Aᵀ times slopes (n_rows,): the derivative of their sum by every element of V."""


@dataclass(frozen=True, eq=False)
class AdpRestraint(Restraint):
    """V_ii near the structure's U_i: six rows an atom.

    Attributes
    ----------
    u : ndarray, shape (n_atoms, 3, 3)
        [Å²].
    error : float
        Departure of an element that is expected [Å²].
    """

    u: FloatArray
    error: float

    @property
    def target(self) -> FloatArray:
        """The structure's."""
        return self._elements(self.u)

    def rows(self, v: Displacements) -> FloatArray:
        """Elements of V_ii."""
        return self._elements(v.u_aniso(len(self.u)))

    def pull(self, slopes: FloatArray) -> Displacements:
        """Slopes at both places of an element off the diagonal."""
        half = slopes.reshape(-1, 6) * _COUNTS / self.error / 2.0
        by_u = np.zeros((len(self.u), 3, 3))
        by_u[:, _ROWS, _COLUMNS] += half
        by_u[:, _COLUMNS, _ROWS] += half
        return _on_diagonal(by_u)

    def _elements(self, u: FloatArray) -> FloatArray:
        return (u[:, _ROWS, _COLUMNS] * _COUNTS / self.error).reshape(-1)


@dataclass(frozen=True, eq=False)
class PairRestraint(Restraint):
    """Sums of traces, ``Σ weight · tr V_ij``, near zero: one row a combination of pairs.

    Attributes
    ----------
    n_atoms : int
    first, second : ndarray, shape (n_terms,), int64
        Atoms of each term.
    row : ndarray, shape (n_terms,), int64
        Row that the term belongs to.
    weight : ndarray, shape (n_terms,)
        [Å⁻²].
    """

    n_atoms: int
    first: IntArray
    second: IntArray
    row: IntArray
    weight: FloatArray

    @property
    def target(self) -> FloatArray:
        """Nothing."""
        return np.zeros(int(self.row.max(initial=-1)) + 1)

    def rows(self, v: Displacements) -> FloatArray:
        """Sums of traces, the independent part in those of an atom with itself."""
        if v.pairs is not None:
            raise InputError("restraints between atoms need a model of one copy or one cell")
        traces = self._correlated(v)
        if v.independent is not None:
            own = self.first == self.second
            traces[own] += np.trace(v.independent, axis1=1, axis2=2)[self.first[own]]
        sums: FloatArray = np.bincount(self.row, self.weight * traces, len(self.target)).astype(
            np.float64
        )
        return sums

    def pull(self, slopes: FloatArray) -> Displacements:
        """Slopes times weights on the diagonals of blocks, half at (i, j), half at (j, i)."""
        by_term = 0.5 * self.weight * slopes[self.row]
        traces = np.zeros((self.n_atoms, self.n_atoms))
        np.add.at(traces, (self.first, self.second), by_term)
        np.add.at(traces, (self.second, self.first), by_term)
        blocks = traces[:, :, None, None] * np.eye(3)
        every = np.arange(self.n_atoms)
        return Displacements(blocks, blocks[every, every])

    def _correlated(self, v: Displacements) -> FloatArray:
        if v.correlated is None:
            return np.zeros(len(self.first))
        if isinstance(v.correlated, np.ndarray):
            pairs = v.correlated[self.first, self.second]
        else:
            pairs = v.correlated.pairs(self.first, self.second)
        return 3.0 * pairs if pairs.ndim == 1 else np.trace(pairs, axis1=1, axis2=2)


def _on_diagonal(by_u: FloatArray) -> Displacements:
    """Derivatives by V_ii, for the correlated part of V and for the independent one."""
    n = len(by_u)
    blocks = np.zeros((n, n, 3, 3))
    every = np.arange(n)
    blocks[every, every] = by_u
    return Displacements(blocks, by_u)


def neighbours_alike(structure: AtomicStructure, error: float) -> PairRestraint:
    r"""Neighbours move together: ``⟨|δ_i − δ_j|²⟩ = tr (V_ii + V_jj − V_ij − V_ji)`` near zero.

    Neighbours are atoms within 2.8 Å of each other in one copy of the structure, alternatives of
    one residue apart; or, where an atom has none, those within 4.2 Å, as in a chain of Cα.

    Parameters
    ----------
    structure : AtomicStructure
    error : float
        Mean-square displacement of neighbours against each other that is expected [Å²].

    Raises
    ------
    InputError
        If no two atoms are neighbours.
    """
    pairs = _pairs_within(structure, BONDED)
    lonely = np.bincount(pairs.reshape(-1), minlength=structure.n_atoms) == 0
    if lonely.any():
        wider = _pairs_within(structure, ALONG_CHAIN)
        pairs = np.concatenate([pairs, wider[lonely[wider].any(axis=1)]])
    if not len(pairs):
        raise InputError("neighbour_error: no two atoms of the structure are neighbours")
    i, j = pairs.T
    rows = np.tile(np.arange(len(i)), 3)
    weights = np.repeat([1.0 / error, 1.0 / error, -2.0 / error], len(i))
    return PairRestraint(
        structure.n_atoms,
        np.concatenate([i, j, i]),
        np.concatenate([i, j, j]),
        rows,
        weights,
    )


def little_motion(structure: AtomicStructure, error: float) -> PairRestraint:
    """Little motion in all: the mean U of the model near zero, so that few modes are in use.

    ``tr V`` is the nuclear norm of V: what favours low rank (Fazel, 2002).
    """
    n = structure.n_atoms
    every = np.arange(n)
    weights = np.full(n, 1.0 / (3.0 * n * error))
    return PairRestraint(n, every, every, np.zeros(n, dtype=np.int64), weights)


def copies_alike(structure: AtomicStructure, error: float) -> PairRestraint:
    """Chains of the same residues move alike within: ``⅓ tr V_ij`` of each pair the same in both.

    Of pairs within 8 Å, an atom with itself included. Traces do not depend on how a copy is turned.

    Raises
    ------
    InputError
        If no two chains have ten atoms of the same residues in common.
    """
    chains = [np.flatnonzero(structure.chains == name) for name in np.unique(structure.chains)]
    first: list[IntArray] = []
    second: list[IntArray] = []
    for k, chain in enumerate(chains):
        for other in chains[:k]:
            ours, theirs = _shared(structure, chain, other)
            near = _near(structure.positions[ours])
            first.append(np.stack([ours[near[:, 0]], ours[near[:, 1]]]))
            second.append(np.stack([theirs[near[:, 0]], theirs[near[:, 1]]]))
    n_rows = sum(x.shape[1] for x in first)
    if not n_rows:
        raise InputError("copy_error: expected two chains of the same residues, found none")
    a, b = np.concatenate(first, axis=1), np.concatenate(second, axis=1)
    weight = np.repeat([1.0, -1.0], n_rows) / (3.0 * error)
    return PairRestraint(
        structure.n_atoms,
        np.concatenate([a[0], b[0]]),
        np.concatenate([a[1], b[1]]),
        np.tile(np.arange(n_rows), 2),
        weight,
    )


def _near(positions: FloatArray) -> IntArray:
    """Pairs (n, 2) within reach, each atom with itself first."""
    own = np.repeat(np.arange(len(positions))[:, None], 2, axis=1)
    if not len(positions):
        return own
    pairs = cKDTree(positions).query_pairs(COPY_REACH, output_type="ndarray")
    return np.concatenate([own, pairs]).astype(np.int64)


def _pairs_within(structure: AtomicStructure, reach: float) -> IntArray:
    """Pairs of atoms (n, 2) that close, not of two alternatives."""
    pairs = cKDTree(structure.positions).query_pairs(reach, output_type="ndarray")
    named = structure.altlocs[pairs]
    together = (named[:, 0] == named[:, 1]) | np.any(named == "", axis=1)
    same_copy = structure.copies[pairs[:, 0]] == structure.copies[pairs[:, 1]]
    kept: IntArray = pairs[together & same_copy].astype(np.int64)
    return kept


def _shared(
    structure: AtomicStructure, chain: IntArray, other: IntArray
) -> tuple[IntArray, IntArray]:
    """Atoms of two chains that have the same residue, name and alternative; none if below ten."""

    def names(atoms: IntArray) -> dict[tuple[object, ...], int]:
        return {
            (structure.residue_numbers[i], structure.residue_names[i], structure.names[i],
             structure.altlocs[i], structure.copies[i]): int(i)
            for i in atoms
        }  # fmt: skip

    theirs = names(other)
    both = [(i, theirs[key]) for key, i in names(chain).items() if key in theirs]
    if len(both) < 10:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    pairs = np.array(both, dtype=np.int64)
    return pairs[:, 0], pairs[:, 1]


def restraints_of(
    structure: AtomicStructure,
    *,
    adp_error: float | None = None,
    neighbour_error: float | None = None,
    motion_error: float | None = None,
    copy_error: float | None = None,
) -> Sequence[Restraint]:
    """Restraints for the departures [Å²] that are given; see `AdpRestraint` and the functions."""
    found: list[Restraint] = []
    if adp_error is not None:
        found.append(AdpRestraint(structure.u_aniso, adp_error))
    if neighbour_error is not None:
        found.append(neighbours_alike(structure, neighbour_error))
    if motion_error is not None:
        found.append(little_motion(structure, motion_error))
    if copy_error is not None:
        found.append(copies_alike(structure, copy_error))
    return tuple(found)
