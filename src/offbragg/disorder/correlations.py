"""How correlated the atoms of a model are: their covariance as a function of their distance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.runtime import SILENT, Progress, iter_chunks
from offbragg.scattering.displacements import Displacements, LowRank

_TILE_ATOMS = 384  # a tile of 3×3 blocks takes 11 MB
_QUANTITIES = ("distance", "covariance", "correlation", "longitudinal", "transverse")


@dataclass(frozen=True, eq=False)
class CovarianceByDistance:
    """Means over pairs of atoms in bins of their distance, and the spread within a bin.

    Attributes
    ----------
    edges : ndarray, shape (n_bins + 1,), float64
        Distances [Å]. A bin holds its lower edge, the last one its upper edge too.
    n_pairs : ndarray, shape (n_bins,), int64
        Pairs of different atoms in each bin, each pair once. Where atoms of other copies and
        cells are correlated: the partners of each atom of one unit that the model lists.
    distance : ndarray, shape (n_bins,), float64
        Mean distance of the pairs [Å].
    covariance, covariance_std : ndarray, shape (n_bins,), float64
        ``v_ij = tr V_ij / 3`` [Å²], per Cartesian axis: mean and standard deviation.
    correlation, correlation_std : ndarray, shape (n_bins,), float64
        ``v_ij / √(v_ii v_jj)``, v_ii the whole mean-square displacement, motion of each atom by
        itself included. Over the pairs of which both atoms move.
    longitudinal, longitudinal_std : ndarray, shape (n_bins,), float64
        ``r̂ᵀ V_ij r̂`` [Å²]: along the line between the two atoms.
    transverse, transverse_std : ndarray, shape (n_bins,), float64
        ``(tr V_ij − r̂ᵀ V_ij r̂) / 2`` [Å²]: per axis across that line.

    Notes
    -----
    NaN where a bin is empty. Standard deviations are of the pairs' values (÷ n), not errors of
    the means.
    """

    edges: FloatArray
    n_pairs: IntArray
    distance: FloatArray
    covariance: FloatArray
    covariance_std: FloatArray
    correlation: FloatArray
    correlation_std: FloatArray
    longitudinal: FloatArray
    longitudinal_std: FloatArray
    transverse: FloatArray
    transverse_std: FloatArray

    @property
    def centres(self) -> FloatArray:
        """Middles of the bins [Å], shape (n_bins,)."""
        return (self.edges[:-1] + self.edges[1:]) / 2


def covariance_by_distance(
    displacements: Displacements | LowRank | FloatArray,
    positions: FloatArray,
    *,
    width: float = 1.0,
    edges: ArrayLike | None = None,
    progress: Progress = SILENT,
) -> CovarianceByDistance:
    r"""Average the covariance of pairs of atoms in bins of their distance, tile by tile.

    .. math:: v(r) = \Big\langle \tfrac13 \operatorname{tr} V_{ij} \Big\rangle_{r_{ij} \approx r},
              \qquad C(r) = \Big\langle \frac{v_{ij}}{\sqrt{v_{ii} v_{jj}}} \Big\rangle

    Parameters
    ----------
    displacements : Displacements, LowRank or ndarray
        Of a model (``model.displacements(structure)``), or V [Å²] itself: (n, n), isotropic, or
        (n, n, 3, 3).
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    width : float
        Width of the bins [Å], from 0 to the longest distance; not used where ``edges`` is given.
    edges : array_like, shape (n_bins + 1,), optional
        Rising distances [Å]; pairs outside are left out.
    progress : Progress, optional
        Told of each tile of pairs.

    Returns
    -------
    CovarianceByDistance

    Raises
    ------
    InputError
        If a shape does not match, a value is not finite, or the bins are not possible ones.

    Notes
    -----
    Time O(n_atoms²), for a factor of low rank times its rank; memory beyond the input is that of
    a tile of some hundred atoms squared. Two atoms at one place (altlocs) have no direction
    between them: their longitudinal and transverse parts are the mean over all directions.

    Examples
    --------
    >>> v = np.array([[0.4, 0.1, 0.0], [0.1, 0.4, 0.2], [0.0, 0.2, 0.4]])
    >>> positions = np.array([[0.0, 0, 0], [1.5, 0, 0], [3.0, 0, 0]])
    >>> table = covariance_by_distance(v, positions, edges=[1, 2, 4])
    >>> table.n_pairs.tolist(), table.correlation.round(3).tolist()
    ([2, 1], [0.375, 0.0])
    """
    positions = np.asarray(positions, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise InputError(f"positions must be (n_atoms, 3), got {positions.shape}")
    if not np.all(np.isfinite(positions)):
        raise InputError("positions must be finite, got NaN or infinity")
    if not isinstance(displacements, Displacements):
        if not isinstance(displacements, LowRank):
            displacements = np.asarray(displacements, dtype=np.float64)
        displacements = Displacements(displacements)
    n_atoms = len(positions)
    displacements.check_shapes(n_atoms)
    bins = _checked_edges(edges) if edges is not None else None
    if bins is None:
        bins = _edges_of_width(width, _longest_distance(displacements, positions))
    with np.errstate(invalid="ignore"):  # what is not finite is refused just below
        own = np.trace(displacements.u_aniso(n_atoms), axis1=1, axis2=2) / 3.0
    if not np.all(np.isfinite(own) & (own >= 0)):
        raise InputError("V_ii must be finite and >= 0 Å²")
    moments = {name: _Moments(len(bins) - 1) for name in _QUANTITIES}
    n_chunks = sum(1 for _ in iter_chunks(n_atoms, _TILE_ATOMS))
    progress.start("pairs", n_chunks * (n_chunks + 1) // 2)
    for first, second, separation, covariance in _pair_tiles(displacements, positions):
        progress.step()
        if not np.all(np.isfinite(covariance)):
            raise InputError("covariance must be finite, got NaN or infinity")
        _add_tile(moments, bins, (separation, covariance, own[first], own[second]))
    columns = {"distance": moments["distance"].mean()}
    for name in _QUANTITIES[1:]:
        columns[name] = moments[name].mean()
        columns[f"{name}_std"] = moments[name].standard_deviation()
    return CovarianceByDistance(bins, moments["distance"].count.astype(np.int64), **columns)


class _Moments:
    """Number, mean and sum of squared deviations in each bin, gathered tile by tile."""

    def __init__(self, n_bins: int) -> None:
        self.count = np.zeros(n_bins)
        self._mean = np.zeros(n_bins)
        self._squares = np.zeros(n_bins)

    def add(self, bin_index: IntArray, values: FloatArray) -> None:
        """Add values (n,) that lie in bins (n,): two passes here, then one merge of the moments."""
        n_bins = len(self.count)
        count = np.bincount(bin_index, minlength=n_bins).astype(np.float64)
        some = np.maximum(count, 1.0)
        mean = np.bincount(bin_index, values, n_bins) / some
        squares = np.bincount(bin_index, (values - mean[bin_index]) ** 2, n_bins)
        total = np.maximum(self.count + count, 1.0)
        step = np.where(count > 0, mean - self._mean, 0.0)
        self._squares += squares + step**2 * self.count * count / total
        self._mean += step * count / total
        self.count += count

    def mean(self) -> FloatArray:
        return np.where(self.count > 0, self._mean, np.nan)

    def standard_deviation(self) -> FloatArray:
        deviation = np.sqrt(self._squares / np.maximum(self.count, 1.0))
        return np.where(self.count > 0, deviation, np.nan)


def _add_tile(
    moments: dict[str, _Moments],
    edges: FloatArray,
    tile: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
) -> None:
    """Add the pairs (m,) of a tile: separations (m, 3), V (m,) or (m, 3, 3), and both v_ii."""
    separation, covariance, first_own, second_own = tile
    distance = np.sqrt(np.einsum("px,px->p", separation, separation))
    index = np.searchsorted(edges, distance, side="right") - 1
    index[distance == edges[-1]] = len(edges) - 2
    inside = (index >= 0) & (index < len(edges) - 1)
    index, distance = index[inside], distance[inside]
    covariance, separation = covariance[inside], separation[inside]
    norm = np.sqrt(first_own[inside] * second_own[inside])
    if covariance.ndim == 1:
        scalars = longitudinal = transverse = covariance
    else:
        scalars = np.trace(covariance, axis1=1, axis2=2) / 3.0
        along = np.einsum("px,pxy,py->p", separation, covariance, separation)
        apart = distance > 0
        longitudinal = scalars.copy()
        longitudinal[apart] = along[apart] / distance[apart] ** 2
        transverse = (3.0 * scalars - longitudinal) / 2.0
    moves = norm > 0
    moments["distance"].add(index, distance)
    moments["covariance"].add(index, scalars)
    moments["correlation"].add(index[moves], scalars[moves] / norm[moves])
    moments["longitudinal"].add(index, longitudinal)
    moments["transverse"].add(index, transverse)


def _pair_tiles(
    displacements: Displacements, positions: FloatArray
) -> Iterator[tuple[IntArray, IntArray, FloatArray, FloatArray]]:
    """Yield first and second atom (m,), separation (m, 3) and V (m,) or (m, 3, 3) of pairs."""
    if displacements.pairs is not None:
        for block in displacements.pairs.blocks():
            yield block.first, block.second, block.separation, block.covariance
        return
    every = np.arange(len(positions))
    chunks = list(iter_chunks(len(positions), _TILE_ATOMS))
    for number, rows in enumerate(chunks):
        for columns in chunks[number:]:
            first, second = every[rows], every[columns]
            i, j = np.nonzero(first[:, None] < second[None, :])
            covariance = displacements.block(first, second)[i, j]
            yield first[i], second[j], positions[first[i]] - positions[second[j]], covariance


def _longest_distance(displacements: Displacements, positions: FloatArray) -> float:
    """Longest distance [Å] of any pair."""
    longest = 0.0
    if displacements.pairs is not None:
        for block in displacements.pairs.blocks():
            squares = np.einsum("px,px->p", block.separation, block.separation)
            longest = max(longest, float(np.max(squares, initial=0.0)))
        return float(np.sqrt(longest))
    chunks = list(iter_chunks(len(positions), _TILE_ATOMS))
    for number, rows in enumerate(chunks):
        for columns in chunks[number:]:
            apart = positions[rows, None, :] - positions[None, columns, :]
            longest = max(longest, float(np.max(np.einsum("ijx,ijx->ij", apart, apart))))
    return float(np.sqrt(longest))


def _checked_edges(edges: ArrayLike) -> FloatArray:
    values = np.asarray(edges, dtype=np.float64)
    possible = values.ndim == 1 and len(values) > 1 and np.all(np.isfinite(values))
    if not possible or values[0] < 0 or np.any(np.diff(values) <= 0):
        raise InputError(f"edges must be two or more rising distances >= 0 Å, got {edges!r}")
    return values


def _edges_of_width(width: float, longest: float) -> FloatArray:
    """Bins from 0 that hold the longest distance."""
    if not (np.isfinite(width) and width > 0):
        raise InputError(f"width must be > 0 Å, got {width}")
    n_bins = int(np.floor(longest / width)) + 1
    if n_bins > 1_000_000:
        raise InputError(f"width must make at most 1000000 bins, got {n_bins} of {width} Å")
    edges: FloatArray = np.arange(n_bins + 1) * np.float64(width)
    return edges
