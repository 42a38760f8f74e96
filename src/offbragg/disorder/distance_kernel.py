"""Covariances that depend on the distance of two atoms: within a unit, and across a crystal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.special

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import space_group_operations
from offbragg.runtime import iter_chunks
from offbragg.scattering.displacements import PairCovariance
from offbragg.scattering.pairs import PairBlock, Pairs, gathered

_PAIRS_AT_ONCE = 500_000


@dataclass(frozen=True, eq=False)
class DistanceKernel(PairCovariance):
    """V_ij = Γ(|r_ij|) U of the atoms of one unit.

    Attributes
    ----------
    positions : ndarray, shape (n_atoms, 3)
        [Å]
    correlation : function of distances [Å], Γ with Γ(0) = 1
    u : float or ndarray, shape (3, 3)
        Mean-square displacement per axis, or tensor [Å²].
    """

    positions: FloatArray
    correlation: Callable[[FloatArray], FloatArray]
    u: float | FloatArray

    @property
    def is_isotropic(self) -> bool:
        """Whether U is a number."""
        return np.ndim(self.u) == 0

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.positions)

    def diagonal(self) -> FloatArray:
        """V_ii [Å²]."""
        if self.is_isotropic:
            return np.full(self.n_atoms, float(self.u))
        return np.broadcast_to(np.asarray(self.u), (self.n_atoms, 3, 3)).copy()

    def block(self, first: IntArray, second: IntArray) -> FloatArray:
        """V_ij [Å²] of atoms ``first`` with atoms ``second``."""
        a, b = self.positions[first], self.positions[second]
        squares = np.zeros((len(a), len(b)))
        for axis in range(3):
            squares += (a[:, None, axis] - b[None, :, axis]) ** 2
        return self._with_tensor(self.correlation(np.sqrt(squares)))

    def pairs(self, first: IntArray, second: IntArray) -> FloatArray:
        """V_ij [Å²] of pairs (first[p], second[p])."""
        separations = self.positions[first] - self.positions[second]
        return self._with_tensor(self.correlation(np.linalg.norm(separations, axis=1)))

    def _with_tensor(self, gamma: FloatArray) -> FloatArray:
        if self.is_isotropic:
            scaled: FloatArray = gamma * self.u
            return scaled
        tensors: FloatArray = gamma[..., None, None] * np.asarray(self.u)
        return tensors


@dataclass(frozen=True, eq=False)
class DistancePairs(Pairs):
    """Pairs of atoms closer than a cut-off, within one unit or across the crystal.

    Attributes
    ----------
    structure : AtomicStructure
        The unit.
    correlation : function of distances [Å]
    u : float or ndarray, shape (3, 3)
        [Å²]; a tensor has the symmetry of the space group where pairs reach across copies.
    cutoff : float
        [Å]
    across_copies : bool
        Partners are all atoms of the crystal, not those of the unit alone.
    """

    structure: AtomicStructure
    correlation: Callable[[FloatArray], FloatArray]
    u: float | FloatArray
    cutoff: float
    across_copies: bool

    @property
    def is_isotropic(self) -> bool:
        """Whether covariances are numbers."""
        return np.ndim(self.u) == 0

    @property
    def turns(self) -> FloatArray:
        """Cartesian rotations of the copies."""
        if not self.across_copies:
            return np.eye(3)[None]
        cell = self.structure.require_cell()
        rotations = space_group_operations(self.structure.space_group).rotations
        turns: FloatArray = cell.orth_matrix @ rotations @ cell.frac_matrix
        return turns

    def blocks(self) -> Iterator[PairBlock]:
        """Yield pairs by copy and cell, in a fixed order, some 500 000 at once."""
        return gathered(self._by_copy(), _PAIRS_AT_ONCE)

    def _by_copy(self) -> Iterator[PairBlock]:
        positions = self.structure.positions
        n = len(positions)
        for operation, partners, is_own in self._copies():
            for chunk in iter_chunks(n, max(1, _PAIRS_AT_ONCE // max(1, n))):
                separations = positions[chunk, None, :] - partners[None, :, :]
                squares = np.einsum("ijx,ijx->ij", separations, separations)
                near = squares < self.cutoff**2
                if is_own:
                    rows = np.arange(chunk.start, chunk.stop)
                    near[rows - chunk.start, rows] = False
                first, second = np.nonzero(near)
                if not len(first):
                    continue
                gamma = self.correlation(np.sqrt(squares[first, second]))
                covariance = (
                    gamma * self.u
                    if self.is_isotropic
                    else gamma[:, None, None] * np.asarray(self.u)
                )
                yield PairBlock(
                    first + chunk.start, second, np.full(len(first), operation),
                    separations[first, second], covariance,
                )  # fmt: skip

    def _copies(self) -> Iterator[tuple[int, FloatArray, bool]]:
        """Operation, positions and whether it is the unit itself, of each copy within reach."""
        positions = self.structure.positions
        if not self.across_copies:
            yield 0, positions, True
            return
        cell = self.structure.require_cell()
        operations = space_group_operations(self.structure.space_group)
        frac = positions @ cell.frac_matrix.T
        low, high = positions.min(axis=0), positions.max(axis=0)
        # Cells along each axis that the cut-off and the unit's own size can reach.
        reach = self.cutoff + np.linalg.norm(high - low)
        n_cells = np.ceil(reach * np.linalg.norm(cell.frac_matrix, axis=1)).astype(int) + 1
        centre = frac.mean(axis=0)
        to_cartesian = cell.orth_matrix.T
        shifts = np.array(list(itertools.product(*(range(-m, m + 1) for m in n_cells))))
        for number, (rotation, translation) in enumerate(
            zip(operations.rotations, operations.translations, strict=True)
        ):
            image = frac @ rotation.T + translation
            image = image + np.rint(centre - image.mean(axis=0))
            # Between the boxes of the unit and of the copy in every cell, at once.
            base, moved = image @ to_cartesian, shifts @ to_cartesian
            gap = np.maximum(base.min(axis=0) + moved - high, low - base.max(axis=0) - moved)
            near = np.linalg.norm(np.maximum(gap, 0.0), axis=1) < self.cutoff
            for shift in shifts[near]:
                placed = (image + shift) @ to_cartesian
                is_own = number == 0 and np.allclose(placed, positions, atol=1e-6)
                yield number, placed, is_own


def reach_of(kernel: str, correlation_length: float, tail: float) -> float:
    """Distance [Å] beyond which a kernel holds a fraction of its integral over space.

    >>> round(reach_of("exponential", 1.0, 1e-3), 1)
    11.2
    """

    def beyond(x: float) -> float:
        if kernel == "exponential":
            return float(np.exp(-x) * (x * x + 2 * x + 2) / 2)
        return float(scipy.special.gammaincc(1.5, 0.5 * x * x))

    root = scipy.optimize.brentq(lambda x: beyond(x) - tail, 0.0, 100.0)
    return float(root) * correlation_length
