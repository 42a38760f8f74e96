"""Correlated pairs of atoms across copies and cells, block by block: places and covariances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError


@dataclass(frozen=True, eq=False)
class PairBlock:
    """Some pairs of an atom of the unit with an atom anywhere in the crystal.

    Attributes
    ----------
    first : ndarray, shape (n_pairs,), int64
        Atom of the unit.
    second : ndarray, shape (n_pairs,), int64
        Atom of the unit that the partner is a copy of: gives element, occupancy and, turned, U.
    operation : ndarray, shape (n_pairs,), int64
        Which of the source's ``turns`` brings ``second`` to the partner's place.
    separation : ndarray, shape (n_pairs, 3), float64
        r_first − r_partner, Cartesian [Å].
    covariance : ndarray, shape (n_pairs,) or (n_pairs, 3, 3), float64
        ⟨δ_first δ_partnerᵀ⟩ [Å²] in the crystal's frame; the first form is isotropic.
    """

    first: IntArray
    second: IntArray
    operation: IntArray
    separation: FloatArray
    covariance: FloatArray


def gathered(blocks: Iterable[PairBlock], n_pairs: int) -> Iterator[PairBlock]:
    """Join consecutive blocks until they have so many pairs: each costs as much as thousands."""
    held: list[PairBlock] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block.first)
        if n_held >= n_pairs:
            yield _joined(held)
            held, n_held = [], 0
    if held:
        yield _joined(held)


def _joined(blocks: list[PairBlock]) -> PairBlock:
    if len(blocks) == 1:
        return blocks[0]
    names = [field.name for field in fields(PairBlock)]
    return PairBlock(**{name: np.concatenate([getattr(b, name) for b in blocks]) for name in names})


class Pairs(ABC):
    """Correlated pairs, block by block, each *ordered* pair once and no atom with itself.

    Every pair that is not listed is uncorrelated. The intensity of a crystal is the sum over its
    operations of the unit's rows: ``Σ_{i ∈ unit} Σ_{j ∈ crystal}``.
    """

    @property
    @abstractmethod
    def is_isotropic(self) -> bool:
        """Whether covariances are given as (n_pairs,)."""

    @property
    def turns(self) -> FloatArray:
        """Rotations (n_operations, 3, 3), Cartesian, that `PairBlock.operation` counts."""
        return np.eye(3)[None]

    @abstractmethod
    def blocks(self) -> Iterator[PairBlock]:
        """Yield the pairs in blocks of some hundred thousand, in the same order each time."""


@dataclass(frozen=True, eq=False)
class PairValues(Pairs):
    """The pairs of another list with other values: a change of its covariances, or slopes by them.

    Attributes
    ----------
    source : Pairs
    values : ndarray, shape (n_pairs,) or (n_pairs, 3, 3), float64
        In the order of the source.
    """

    source: Pairs
    values: FloatArray

    @property
    def is_isotropic(self) -> bool:
        """Whether values are numbers."""
        return self.values.ndim == 1

    @property
    def turns(self) -> FloatArray:
        """Rotations of the source."""
        return self.source.turns

    def blocks(self) -> Iterator[PairBlock]:
        """Yield the source's blocks with these values.

        Raises
        ------
        InputError
            If there are not as many values as pairs.
        """
        start = 0
        for block in self.source.blocks():
            stop = start + len(block.first)
            if stop > len(self.values):
                break
            yield replace(block, covariance=self.values[start:stop])
            start = stop
        else:
            if start == len(self.values):
                return
        raise InputError(f"values must be one a pair, got {len(self.values)}")


def values_of(pairs: Pairs) -> FloatArray:
    """Covariances of all pairs of a list in its order, (n_pairs,) or (n_pairs, 3, 3)."""
    if isinstance(pairs, PairValues):
        return pairs.values
    values = [block.covariance for block in pairs.blocks()]
    if values:
        return np.concatenate(values)
    return np.empty(0) if pairs.is_isotropic else np.empty((0, 3, 3))


def sum_of_pairs(a: Pairs | None, b: Pairs | None) -> Pairs | None:
    """Add the covariances of independent motions; of one list of pairs, if both have pairs.

    Raises
    ------
    InputError
        If they are of two lists.
    """
    if a is None or b is None:
        return b if a is None else a
    # Values of one list can be added; two lists are of other pairs.
    if isinstance(a, PairValues) and isinstance(b, PairValues) and a.source is b.source:
        return PairValues(a.source, a.values + b.values)
    raise InputError("two motions that reach across copies cannot be summed")
