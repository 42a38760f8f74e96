"""Correlated pairs of a crystal with a period of some cells: nearest images, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.disorder.lattice_dynamics import CrystalNetwork
from offbragg.errors import InputError
from offbragg.scattering.pairs import PairBlock, Pairs, gathered

_PAIRS_AT_ONCE = 300_000


@dataclass(frozen=True, eq=False)
class Images:
    """Where the partners of a copy's atoms are: the nearest image of every cell of the period.

    Attributes
    ----------
    network : CrystalNetwork
    reach : float or None
        Pairs further apart [Å] are left out.
    """

    network: CrystalNetwork
    reach: float | None = None

    @cached_property
    def centres(self) -> FloatArray:
        """Centroids of the copies (n_copies, 3) [Å]."""
        by_copy = self.network.unit.positions.reshape(self.network.n_copies, -1, 3)
        centres: FloatArray = by_copy.mean(axis=1)
        return centres

    @cached_property
    def radii(self) -> FloatArray:
        """Distance of the outermost atom of each copy from its centroid (n_copies,) [Å]."""
        by_copy = self.network.unit.positions.reshape(self.network.n_copies, -1, 3)
        radii: FloatArray = np.linalg.norm(by_copy - self.centres[:, None], axis=2).max(axis=1)
        return radii

    @cached_property
    def vectors(self) -> IntArray:
        """Cells of the period (n_L, 3), 0 first, that hold a pair within reach."""
        every = np.array(list(itertools.product(*(range(n) for n in self.network.n_cells))))
        if self.reach is None:
            return every
        copies = range(self.network.n_copies)
        near = np.zeros(len(every), dtype=np.bool_)
        for a, b in itertools.product(copies, repeat=2):
            near |= self._is_near(a, b, self._nearest(a, b, every))
        return every[near]

    def rectangles(self) -> Iterator[Rectangle]:
        """Pairs of atoms of one copy with atoms of another, each ordered pair once."""
        unit, n_copies = self.network.unit, self.network.n_copies
        length = unit.n_atoms // n_copies
        orth = unit.require_cell().orth_matrix
        rows = max(1, _PAIRS_AT_ONCE // length)
        for a, b in itertools.product(range(n_copies), repeat=2):
            images = self._nearest(a, b, self.vectors)
            for index in np.flatnonzero(self._is_near(a, b, images)):
                for start in range(0, length, rows):
                    first = np.arange(start, min(start + rows, length)) + a * length
                    second = np.arange(length) + b * length
                    separations = unit.positions[first][:, None] - unit.positions[second]
                    separations -= orth @ images[index]
                    present = np.ones(separations.shape[:2], dtype=np.bool_)
                    if self.reach is not None:
                        present = np.linalg.norm(separations, axis=2) <= self.reach
                    if not images[index].any():
                        present &= first[:, None] != second
                    if present.any():
                        yield Rectangle(int(index), first, second, present, separations)

    def _is_near(self, a: int, b: int, images: IntArray) -> BoolArray:
        if self.reach is None:
            return np.ones(len(images), dtype=np.bool_)
        shifts = images @ self.network.unit.require_cell().orth_matrix.T
        apart = np.linalg.norm(self.centres[a] - self.centres[b] - shifts, axis=1)
        near: BoolArray = apart <= self.reach + self.radii[a] + self.radii[b]
        return near

    def _nearest(self, a: int, b: int, vectors: IntArray) -> IntArray:
        """Images L + N·m of cells with the centroid of copy b nearest to that of a, (n_L, 3).

        Of equally near ones (L = ±N/2) the largest: as pairs come in both orders, (i, j, N/2) and
        (j, i, N/2), and an intensity takes the even part, each sign has half of the weight.
        """
        cell = self.network.unit.require_cell()
        n = np.array(self.network.n_cells)
        fractional = cell.frac_matrix @ (self.centres[a] - self.centres[b])
        nearby = vectors + n * np.rint((fractional - vectors) / n).astype(np.int64)
        # In lexicographic order, so that the first of equals is the largest.
        steps = np.array(list(itertools.product((1, 0, -1), repeat=3)))
        candidates = nearby[:, None, :] + n * steps
        lengths = np.linalg.norm((fractional - candidates) @ cell.orth_matrix.T, axis=2)
        ties = lengths <= lengths.min(axis=1, keepdims=True) + 1e-6
        chosen: IntArray = candidates[np.arange(len(nearby)), np.argmax(ties, axis=1)]
        return chosen


@dataclass(frozen=True, eq=False)
class Rectangle:
    """Atoms ``first`` of one copy with atoms ``second`` of another, in the cell ``vectors[index]``.

    ``present`` (n, m) tells which pairs count; ``separations`` (n, m, 3) are
    ``r_first − r_second − L`` [Å].
    """

    index: int
    first: IntArray
    second: IntArray
    present: BoolArray
    separations: FloatArray


@dataclass(frozen=True, eq=False)
class CrystalPairs(Pairs):
    """Pairs of the cell's atoms with atoms of all cells of the period, nearest images.

    Attributes
    ----------
    images : Images
    covariances : ndarray, shape (n_L, n_coordinates, n_coordinates)
        C_{i0,jL} of ``images.vectors``.
    """

    images: Images
    covariances: FloatArray

    @property
    def is_isotropic(self) -> bool:
        """False: covariances are given as (n_pairs, 3, 3)."""
        return False

    def blocks(self) -> Iterator[PairBlock]:
        """Yield the pairs, copy by copy of the cell, some 300 000 at once."""
        return gathered(self._rectangles(), _PAIRS_AT_ONCE)

    def _rectangles(self) -> Iterator[PairBlock]:
        for part in self.images.rectangles():
            i, j = np.nonzero(part.present)
            v = self.images.network.at_atoms(self.covariances[part.index], part.first, part.second)
            yield PairBlock(
                first=part.first[i],
                second=part.second[j],
                operation=np.zeros_like(i),
                separation=part.separations[i, j],
                covariance=v[i, j],
            )

    def pull(self, gradient: Pairs) -> FloatArray:
        """Gradient by ``covariances`` from one by the covariance of each pair, in the same order.

        Raises
        ------
        InputError
            If the gradient is not for the same number of pairs.
        """
        values = np.concatenate([block.covariance for block in gradient.blocks()])
        total, start = np.zeros_like(self.covariances), 0
        for part in self.images.rectangles():
            stop = start + int(part.present.sum())
            by_pairs = np.zeros((*part.present.shape, 3, 3))
            if stop <= len(values):
                by_pairs[part.present] = values[start:stop]
            total[part.index] += self.images.network.from_atoms(by_pairs, part.first, part.second)
            start = stop
        if start != len(values):
            raise InputError(f"gradient must be for the model's {start} pairs, got {len(values)}")
        return total
