r"""Penalised least squares by whole blocks: how well each is predicted by a fit without it.

.. math:: O(\theta) = |y - A\theta|^2 + \lambda \sum_{k \text{ penalised}} \theta_k^2

The residual of a block b in the fit without it needs no other fit: with
``S_b = A_b (AᵀA + λP)⁻¹ A_bᵀ`` it is ``(1 − S_b)⁻¹ r_b``, r_b its residual in the fit to all, and
the solution without it is ``θ − (AᵀA + λP)⁻¹ A_bᵀ (1 − S_b)⁻¹ r_b``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.runtime import iter_chunks

# Added to the diagonal, as a fraction of it: columns that depend on each other share their work.
_JITTER = 1e-10
_ROWS = 2000


@dataclass(frozen=True, eq=False)
class BlockRidge:
    """A design and data, both multiplied with the roots of weights.

    Attributes
    ----------
    columns : ndarray, shape (n, n_columns), float32 or float64
    data : ndarray, shape (n,)
    is_penalised : ndarray, shape (n_columns,), bool
    block : ndarray, shape (n,), int64
        Block of each row.
    gram, moments : ndarray
        ``AᵀA`` (n_columns, n_columns) and ``Aᵀy``.

    Notes
    -----
    A solution takes O(n_columns³) time, predictions without each block O(n n_columns²).
    """

    columns: NDArray[np.floating]
    data: FloatArray
    is_penalised: BoolArray
    block: IntArray
    gram: FloatArray
    moments: FloatArray

    @classmethod
    def of(
        cls,
        columns: NDArray[np.floating],
        data: FloatArray,
        is_penalised: BoolArray,
        block: IntArray,
    ) -> BlockRidge:
        """Form the normal equations.

        >>> rng = np.random.default_rng(0)
        >>> a, block = rng.normal(size=(6, 2)), np.array([0, 0, 1, 1, 2, 2])
        >>> ridge = BlockRidge.of(a, a @ [1.0, 2.0], np.array([False, True]), block)
        >>> ridge.solve(0.0).round(6).tolist()
        [1.0, 2.0]
        """
        gram, moments = _normal_equations(columns, data)
        return cls(columns, data, is_penalised, block, gram, moments)

    @property
    def n_columns(self) -> int:
        """Columns, penalised or not."""
        return len(self.moments)

    @property
    def unit_penalty(self) -> float:
        """Mean square norm of a penalised column: a penalty of this size halves it, alone."""
        return float(np.mean(np.diag(self.gram)[self.is_penalised]))

    def solve(self, penalty: float, weights: FloatArray | None = None) -> FloatArray:
        """Solve for θ (n_columns,), each row counted so many times; once where not given."""
        if weights is None:
            gram, moments = self.gram, self.moments
        else:
            gram, moments = _normal_equations(self.columns, self.data, np.sqrt(weights))
        theta: FloatArray = scipy.linalg.cho_solve((self._factor(gram, penalty), True), moments)
        return theta

    def predict_left_out(self, penalty: float, counted: BoolArray | None = None) -> FloatArray:
        """Predict each block (n,) by the fit without it, from some of the columns or all."""
        factor = self._factor(self.gram, penalty)
        inverse = scipy.linalg.cho_solve((factor, True), np.eye(self.n_columns))
        theta = inverse @ self.moments
        every = np.ones(self.n_columns, dtype=bool) if counted is None else counted
        predicted = np.empty(len(self.data))
        # One product for many blocks: single ones may be as small as a row.
        for several in self._blocks():
            a = self.columns[np.concatenate(several)].astype(np.float64)
            spread = a @ inverse
            end = 0
            for rows in several:
                part = slice(end, end + len(rows))
                end = part.stop
                residual = self.data[rows] - a[part] @ theta
                share = np.eye(len(rows)) - spread[part] @ a[part].T
                without = theta - spread[part].T @ np.linalg.solve(share, residual)
                predicted[rows] = a[part][:, every] @ without[every]
        return predicted

    def take(self, rows: BoolArray) -> BlockRidge:
        """Return the problem of some of the rows."""
        gram, moments = _normal_equations(self.columns[~rows], self.data[~rows])
        return BlockRidge(
            self.columns[rows], self.data[rows], self.is_penalised, self.block[rows],
            self.gram - gram, self.moments - moments,
        )  # fmt: skip

    def keep(self, columns: BoolArray) -> BlockRidge:
        """Return the problem of some of the columns."""
        return BlockRidge(
            self.columns[:, columns], self.data, self.is_penalised[columns], self.block,
            self.gram[np.ix_(columns, columns)], self.moments[columns],
        )  # fmt: skip

    def with_data(self, data: FloatArray) -> BlockRidge:
        """Return the same design with other data."""
        return BlockRidge.of(self.columns, data, self.is_penalised, self.block)

    def spectrum(self, penalty: float) -> FloatArray:
        """Share (n_penalised,) that the data have in each independent penalised combination.

        ``s/(s + λ)``, s the eigenvalues of the penalised columns' ``AᵀA`` beside the others; 1:
        the data alone decide, 0: the penalty. Their sum is the effective number of parameters.
        """
        free, held = ~self.is_penalised, self.is_penalised
        cross = self.gram[np.ix_(free, held)]
        own = self.gram[np.ix_(free, free)]
        own = own + np.diag(_JITTER * np.diag(own))
        left = self.gram[np.ix_(held, held)] - cross.T @ scipy.linalg.solve(own, cross)
        values: FloatArray = np.asarray(np.linalg.eigvalsh(left), dtype=np.float64)[::-1]
        values = np.maximum(values, 0.0)
        return values / (values + penalty)

    def _factor(self, gram: FloatArray, penalty: float) -> FloatArray:
        own = np.diag(gram)
        # A column may have lost all of its rows: it gets the size of the others.
        diagonal = penalty * self.is_penalised + _JITTER * np.where(own > 0, own, own.mean())
        lower: FloatArray = np.asarray(
            np.linalg.cholesky(gram + np.diag(diagonal)), dtype=np.float64
        )
        return lower

    def _blocks(self) -> Iterator[list[IntArray]]:
        """Rows of each block, blocks of some thousand rows together."""
        order = np.argsort(self.block, kind="stable")
        edges = np.flatnonzero(np.diff(self.block[order])) + 1
        several: list[IntArray] = []
        for rows in np.split(order, edges):
            several.append(rows)
            if sum(len(x) for x in several) >= _ROWS:
                yield several
                several = []
        if several:
            yield several


def _normal_equations(
    columns: NDArray[np.floating], data: FloatArray, roots: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """``AᵀA`` and ``Aᵀy`` in double precision, a few rows at a time, rows times roots."""
    n_columns = columns.shape[1]
    gram, moments = np.zeros((n_columns, n_columns)), np.zeros(n_columns)
    for rows in iter_chunks(len(data), _ROWS):
        some: FloatArray = np.ones(1) if roots is None else roots[rows]
        a = some[:, None] * columns[rows].astype(np.float64)
        gram += a.T @ a
        moments += a.T @ (some * data[rows])
    return gram, moments
