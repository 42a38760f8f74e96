r"""Smooth functions of several variables: products of B-splines, kept smooth by penalties.

.. math:: s(x) = \sum_k c_k \prod_a B_{k_a}(x_a)

Every correction of a scaling is one of these, whatever it depends on: a rotation angle, a direction
and an angle, a place on the detector, or a category (a crystal, a chip), for which a spline of
degree 0 has one number each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from offbragg.conventions import FloatArray
from offbragg.errors import InputError


@dataclass(frozen=True)
class Axis:
    """One variable of a smooth function.

    Attributes
    ----------
    low, high : float
        Range; beyond it the function is as at its end.
    n_intervals : int
        Between knots, evenly spaced.
    degree : int
        Of the splines; 0 for categories, numbered ``low`` + ½ and so on.
    """

    low: float
    high: float
    n_intervals: int
    degree: int = 2

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.high > self.low):
            raise InputError(f"axis must go from low to high, got {self.low} to {self.high}")
        if self.n_intervals < 1 or self.degree < 0:
            raise InputError(
                f"axis needs at least one interval and a degree >= 0, got {self.n_intervals} and "
                f"{self.degree}"
            )

    @classmethod
    def over(cls, values: ArrayLike, spacing: float, degree: int = 2) -> Axis:
        """Cover values with intervals of about a spacing.

        >>> Axis.over([0.0, 10.0], 3.0).n_intervals
        3
        """
        x = np.asarray(values, dtype=np.float64)
        low, high = float(x.min()), float(x.max())
        if not high > low:
            return cls(low - 0.5, low + 0.5, 1, 0)
        return cls(low, high, max(1, round((high - low) / spacing)), degree)

    @classmethod
    def of_categories(cls, n: int) -> Axis:
        """One number for each of n categories, 0 … n − 1."""
        return cls(-0.5, n - 0.5, n, 0)

    @property
    def n_splines(self) -> int:
        """Coefficients along this axis."""
        return self.n_intervals + self.degree

    def places(self) -> FloatArray:
        """Where to look at a function along this axis: four points an interval, or categories."""
        n = self.n_intervals * (1 if self.degree == 0 else 4)
        step = (self.high - self.low) / n
        return np.asarray(self.low + step * (np.arange(n) + 0.5), dtype=np.float64)

    def design(self, values: ArrayLike) -> sparse.csr_array:
        """Splines (n, n_splines) at values (n,)."""
        x = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        along = (x - self.low) * (self.n_intervals / (self.high - self.low))
        first = np.clip(np.floor(along).astype(np.int64), 0, self.n_intervals - 1)
        f = along - first
        # Cox and de Boor for even knots: N_j of a degree d from N_(j-1) and N_j of d - 1.
        splines = [np.ones_like(f)]
        for d in range(1, self.degree + 1):
            lower = [np.zeros_like(f), *splines, np.zeros_like(f)]
            splines = [
                ((f + d - j) * lower[j] + (j + 1.0 - f) * lower[j + 1]) / d for j in range(d + 1)
            ]
        n, n_each = len(x), self.degree + 1
        places = first[:, None] + np.arange(n_each)
        starts = np.arange(n + 1) * n_each
        return sparse.csr_array(
            (np.stack(splines, axis=-1).ravel(), places.ravel(), starts), shape=(n, self.n_splines)
        )

    def differences(self) -> sparse.csr_array:
        """Second differences of neighbouring coefficients; first ones where there are but two.

        None, (0, n_splines), of categories: nothing makes those alike.
        """
        n = self.n_splines
        if self.degree == 0 or n < 2:
            return sparse.csr_array((0, n))
        order = min(2, n - 1)
        return sparse.csr_array(np.diff(np.eye(n), order, axis=0))


@dataclass(frozen=True, eq=False)
class SmoothFunction:
    """A product basis of splines over axes, and its penalty.

    Attributes
    ----------
    name : str
    axes : tuple of Axis

    Examples
    --------
    >>> of_angle = SmoothFunction("scale", (Axis(0.0, 90.0, 9),))
    >>> of_angle.n_coefficients
    11
    >>> of_angle.design(np.array([[0.0], [45.0]])).sum(axis=1).tolist()
    [1.0, 1.0]
    """

    name: str
    axes: tuple[Axis, ...]

    @property
    def n_coefficients(self) -> int:
        """Product of the axes' numbers of splines."""
        return int(np.prod([axis.n_splines for axis in self.axes]))

    def design(self, points: FloatArray) -> sparse.csr_array:
        """Products of splines (n, n_coefficients) at points (n, n_axes); each row sums to 1."""
        if points.ndim != 2 or points.shape[1] != len(self.axes):
            raise InputError(
                f"{self.name}: points must be (n, {len(self.axes)}), got {points.shape}"
            )
        parts = [axis.design(points[:, a]) for a, axis in enumerate(self.axes)]
        whole = parts[0]
        for part in parts[1:]:
            whole = _row_products(whole, part)
        return whole

    def roughness_along(self, a: int) -> sparse.csr_array:
        """Second differences of the coefficients along an axis, (n_rows, n_coefficients)."""
        factors = [
            axis.differences() if b == a else sparse.csr_array(sparse.eye_array(axis.n_splines))
            for b, axis in enumerate(self.axes)
        ]
        return reduce(_kron, factors)


def _kron(left: sparse.csr_array, right: sparse.csr_array) -> sparse.csr_array:
    return sparse.csr_array(sparse.kron(left, right))


def _row_products(left: sparse.csr_array, right: sparse.csr_array) -> sparse.csr_array:
    """Kronecker product of each row with the same row (n, n_left · n_right).

    Every row of a design has as many entries as any other.
    """
    n = left.shape[0]
    a, b = left.nnz // max(n, 1), right.nnz // max(n, 1)
    values = left.data.reshape(n, a, 1) * right.data.reshape(n, 1, b)
    places = left.indices.reshape(n, a, 1) * right.shape[1] + right.indices.reshape(n, 1, b)
    starts = np.arange(n + 1) * (a * b)
    return sparse.csr_array(
        (values.ravel(), places.ravel(), starts), shape=(n, left.shape[1] * right.shape[1])
    )
