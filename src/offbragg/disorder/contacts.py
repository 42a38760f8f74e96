"""Contacts between points, across cell borders too, and how stiff a spring is by its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.spatial
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.errors import InputError

# A length this fraction above an edge is still at the edge: lattice translations often are.
EDGE_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Contacts:
    """Pairs of points nearer than a cutoff, each unordered pair once.

    Attributes
    ----------
    first, second : ndarray, shape (n_contacts,), int64
    cells : ndarray, shape (n_contacts, 3), int64
        Cell L that the second point is in; the first is in cell 0.
    separations : ndarray, shape (n_contacts, 3), float64
        ``r_first − r_second − L`` [Å].
    """

    first: IntArray
    second: IntArray
    cells: IntArray
    separations: FloatArray

    def take(self, kept: NDArray[Any]) -> Contacts:
        """Return some of the contacts, by mask or index."""
        return Contacts(
            self.first[kept], self.second[kept], self.cells[kept], self.separations[kept]
        )


def find_contacts(positions: FloatArray, cutoff: float, cell: Cell | None = None) -> Contacts:
    """Find all pairs of points within a cutoff, across cell borders where there is a cell.

    Parameters
    ----------
    positions : ndarray, shape (n, 3), float64
        Cartesian [Å]; with a cell, the points of one cell, which may reach beyond it.
    cutoff : float
        [Å], inclusive.
    cell : Cell, optional
        None: the points stand alone.

    Examples
    --------
    >>> line = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    >>> find_contacts(line, 4.0).separations.tolist()
    [[-3.0, 0.0, 0.0]]
    >>> find_contacts(line, 4.0, Cell(6.0, 20.0, 20.0, 90.0, 90.0, 90.0)).cells.tolist()
    [[-1, 0, 0], [0, 0, 0]]
    """
    # Points exactly at the cutoff are in, whatever the last digit says.
    cutoff *= 1 + EDGE_TOLERANCE
    tree = scipy.spatial.KDTree(positions)
    pairs = tree.query_pairs(cutoff, output_type="ndarray").astype(np.int64)
    found = [(pairs[:, 0], pairs[:, 1], np.zeros((len(pairs), 3), dtype=np.int64))]
    orth = np.zeros((3, 3)) if cell is None else cell.orth_matrix
    if cell is not None:
        spread = np.ptp(positions @ cell.frac_matrix.T, axis=0)
        reach = np.floor(spread + cutoff * cell.reciprocal_lengths + 1e-9).astype(np.int64)
        for shift in _half_of(reach):
            moved = scipy.spatial.KDTree(positions + orth @ shift)
            near = tree.sparse_distance_matrix(moved, cutoff, output_type="ndarray")
            cells = np.broadcast_to(shift, (len(near), 3))
            found.append((near["i"].astype(np.int64), near["j"].astype(np.int64), cells))
    first, second, cells = (np.concatenate(parts) for parts in zip(*found, strict=True))
    separations = positions[first] - positions[second] - cells @ orth.T
    order = np.lexsort((second, first, *cells.T))
    return Contacts(first, second, cells, separations).take(order)


def _half_of(reach: IntArray) -> IntArray:
    """Lattice vectors within ±reach, one of each pair ±L, without 0."""
    axes = [np.arange(-n, n + 1) for n in reach]
    every = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    half: IntArray = every[: len(every) // 2]
    return half


@dataclass(frozen=True, eq=False)
class SpringClasses:
    """How stiff a spring is by its length: classes of distance, and a power.

    Attributes
    ----------
    edges : ndarray, shape (n_classes,), float64
        Upper ends [Å] of the classes, increasing; the last is the cutoff.
    power : float
        A spring of length r has its class's constant times ``(r / 1 Å)^−power``.
    """

    edges: FloatArray
    power: float = 0.0

    @classmethod
    def checked(
        cls, cutoff: float | None, distance_edges: ArrayLike | None, power: float, default: float
    ) -> SpringClasses:
        """Make the classes from a model's fields; one class where there are no edges.

        Raises
        ------
        InputError
            If edges do not increase from above 0, or do not end at the cutoff.
        """
        if not np.isfinite(power):
            raise InputError(f"power must be a finite number, got {power}")
        if cutoff is not None and not (np.isfinite(cutoff) and cutoff > 0):
            raise InputError(f"cutoff must be a positive number of Å, got {cutoff}")
        if distance_edges is None:
            return cls(np.array([default if cutoff is None else cutoff], np.float64), float(power))
        edges = np.asarray(distance_edges, dtype=np.float64)
        increase = edges.ndim == 1 and len(edges) > 0 and np.all(np.diff(edges, prepend=0.0) > 0)
        if not (increase and np.all(np.isfinite(edges))):
            raise InputError(f"distance_edges must increase from above 0 Å, got {edges.tolist()}")
        if cutoff is not None and edges[-1] != cutoff:
            raise InputError(
                f"distance_edges must end at the cutoff, {cutoff} Å, got {edges.tolist()}"
            )
        return cls(edges, float(power))

    @property
    def cutoff(self) -> float:
        """Length [Å] of the longest springs."""
        return float(self.edges[-1])

    def check_constants(self, name: str, constants: ArrayLike) -> FloatArray:
        """Return spring constants as an array after checking one positive number a class.

        Raises
        ------
        InputError
            If they are of another number, or not positive.
        """
        values = np.array(constants, dtype=np.float64, ndmin=1)
        if values.shape != self.edges.shape:
            raise InputError(
                f"{name} must be one number for each of {len(self.edges)} classes of distance, "
                f"got shape {values.shape}"
            )
        if not (np.all(np.isfinite(values)) and np.all(values > 0)):
            raise InputError(f"{name} must be positive, got {values.tolist()}")
        return values

    def class_of(self, lengths: FloatArray) -> IntArray:
        """Class of each length [Å]; an edge belongs to the class below it."""
        within = self.edges * (1 + EDGE_TOLERANCE)
        index: IntArray = np.searchsorted(within, lengths).astype(np.int64)
        return np.minimum(index, len(self.edges) - 1)
