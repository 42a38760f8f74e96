"""Which of several indexings a map has: crystals of one lattice may be indexed in several ways.

Where the lattice has more symmetry than the intensities (P 4₁, P 3, C 2 with β near 90° …) every
crystal may come out in one of several orientations that its spots cannot tell apart. Maps must
agree on one before they are merged, and a structure may be in another than a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.symmetry import lattice_rotations, laue_rotations
from offbragg.errors import InputError
from offbragg.maps.comparison import compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.symmetrize import apply_operation, merge

# Standard errors that another indexing must be ahead by.
_SURE = 4.0
# Rounds of coming to terms: in the second each map is judged by all others.
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class IndexingMatch:
    """How well a map agrees with a reference in each way that it may be indexed.

    Attributes
    ----------
    operations : tuple of str
        ``"k,h,-l"``: what the map's indices are to be called; "h,k,l" first.
    rotations : ndarray, shape (n, 3, 3), int64
        The same as R, with I'(h) = I(h R) for `apply_operation`.
    cc : ndarray, shape (n,)
        Correlation of the anisotropic parts.
    n_unique : ndarray, shape (n,), float64
        How many different voxels that is over, equivalents counted as one.
    """

    operations: tuple[str, ...]
    rotations: IntArray
    cc: FloatArray
    n_unique: FloatArray

    @property
    def best(self) -> int:
        """Which of them agrees best."""
        return int(np.nanargmax(self.cc))

    @property
    def lead(self) -> float:
        """How far its correlation is ahead of the next; infinite where there is no other."""
        if len(self.cc) < 2:
            return float("inf")
        first, second = np.sort(self.cc)[::-1][:2]
        return float(first - second)

    @property
    def sure(self) -> int:
        """Which is to be taken: the best, where it is ahead of "h,k,l" by four standard errors.

        Those are errors for independent voxels, (1 − CC²)/√n. A map that cannot tell stays as it
        is.
        """
        best = self.best
        errors = (1.0 - self.cc**2) / np.sqrt(np.maximum(self.n_unique, 1.0))
        ahead = self.cc[best] - self.cc[0]
        return best if ahead > _SURE * float(np.hypot(errors[best], errors[0])) else 0


def indexing_choices(cell: Cell, space_group: object) -> IntArray:
    """Ways to index a crystal that its lattice allows and its Laue group tells apart.

    Parameters
    ----------
    cell : Cell
    space_group : str

    Returns
    -------
    ndarray, shape (n, 3, 3), int64
        One rotation R of each coset of the Laue group in the lattice's group, acting on row
        vectors of indices; the identity first. Of lattices within 3 % of higher symmetry too.

    Examples
    --------
    >>> len(indexing_choices(Cell(50, 50, 60, 90, 90, 90), "P 41"))
    2
    >>> len(indexing_choices(Cell(50, 55, 60, 90, 90, 90), "P 21 21 21"))
    1
    """
    laue = laue_rotations(space_group)
    every = lattice_rotations(cell)
    identity = np.eye(3, dtype=np.int64)
    proper = [identity, *every[np.rint(np.linalg.det(every)) > 0]]
    chosen: list[IntArray] = []
    seen: set[bytes] = set()
    for rotation in proper:
        if rotation.tobytes() not in seen:
            chosen.append(rotation)
            seen |= {np.ascontiguousarray(r @ rotation).tobytes() for r in laue}
    return np.array(chosen)


def match_indexing(
    observed: DiffuseMap,
    reference: DiffuseMap,
    *,
    d_max: float | None = None,
    d_min: float | None = None,
) -> IndexingMatch:
    """Compare a map with a reference in each of the ways it may be indexed.

    Parameters
    ----------
    observed, reference : DiffuseMap
        The reference may be a model's map. Both are merged first, by the map's own Laue group.
    d_max, d_min : float, optional
        Limits of resolution [Å].

    Raises
    ------
    InputError
        If the maps have no hkl in common, or a way does not fit the sampling.
    """
    merged = merge(observed).map
    other = merge(reference, merged.laue_group).map
    rotations = indexing_choices(merged.cell, merged.space_group)
    found = [
        compare(apply_operation(merged, rotation), other, d_max, d_min).overall
        for rotation in rotations
    ]
    return IndexingMatch(
        tuple(_named(r) for r in rotations),
        rotations,
        np.array([x.cc for x in found]),
        np.array([x.n for x in found]) / len(laue_rotations(merged.laue_group)),
    )


def agree_on_indexing(
    maps: Sequence[DiffuseMap],
    *,
    d_max: float | None = None,
    d_min: float | None = None,
) -> list[IndexingMatch]:
    """Find for each map how it is to be indexed for all of them to agree.

    The first keeps its indexing; each next is matched with those before it, then, twice more, each
    with all others.

    Parameters
    ----------
    maps : sequence of DiffuseMap
        Of one sampling and space group.
    d_max, d_min : float, optional
        Limits of resolution [Å].

    Returns
    -------
    list of IndexingMatch
        One a map, against the others as they are indexed in the end.

    Raises
    ------
    InputError
        As `match_indexing`; if there is no map.
    """
    if not maps:
        raise InputError("agree_on_indexing: expected at least one map, got none")
    merged = [merge(x).map for x in maps]
    turned = [merged[0]]
    for x in merged[1:]:
        match = match_indexing(x, merge(turned).map, d_max=d_max, d_min=d_min)
        turned.append(apply_operation(x, match.rotations[match.sure]))
    matches: list[IndexingMatch] = []
    for _ in range(_ROUNDS):
        matches = []
        for number, x in enumerate(merged):
            others = [y for n, y in enumerate(turned) if n != number] or [x]
            match = match_indexing(x, merge(others).map, d_max=d_max, d_min=d_min)
            matches.append(match)
            if number:  # the first says what the others agree on
                turned[number] = apply_operation(x, match.rotations[match.sure])
    return matches


def _named(rotation: IntArray) -> str:
    """The operation in h, k, l, as `apply_operation` reads it."""
    operation = gemmi.Op()
    operation.rot = (24 * rotation).tolist()
    operation.tran = [0, 0, 0]
    return str(operation.triplet("x")).replace("x", "h").replace("y", "k").replace("z", "l")
