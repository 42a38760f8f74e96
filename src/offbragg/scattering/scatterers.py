"""`Scatterers`: where the atoms are and how strongly each scatters, with tables over q²."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.scattering.form_factors import (
    anomalous_form_factor,
    element_form_factor,
    unique_elements,
)

# Points of a table over 0 ≤ q² ≤ q_max²; between them tables are cubic. Form factors and the
# factors that undo blurs bend so little that this is good to 1e-12 of them.
TABLE_POINTS = 1 << 13
_COARSE_POINTS = 200
# Combinations that nearly cancel would magnify the errors of the transforms.
_LARGEST_COEFFICIENT = 30.0


@dataclass(frozen=True, eq=False)
class Scatterers:
    """The atoms of a coherent unit.

    Attributes
    ----------
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    elements : ndarray, shape (n_atoms,), str
    occupancies : ndarray, shape (n_atoms,), float64
    wavelength : float or None
        [Å]. Given: form factors include f′ + if″.
    groups : ndarray, shape (n_atoms,), int64, or None
        Atoms of one group ≥ 0 have alternatives that exclude each other; −1: in no group. None:
        all altlocs scatter together.
    alternatives : ndarray, shape (n_atoms,), int64, or None
        Which alternative of its group an atom belongs to.
    """

    positions: FloatArray
    elements: NDArray[np.str_]
    occupancies: FloatArray
    wavelength: float | None = None
    groups: IntArray | None = None
    alternatives: IntArray | None = None

    def __post_init__(self) -> None:
        n = len(self.positions)
        for name, shape in (("positions", (n, 3)), ("elements", (n,)), ("occupancies", (n,))):
            values = np.asarray(getattr(self, name))
            if values.shape != shape:
                raise InputError(f"{name} must have shape {shape}, got {values.shape}")
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def _unique(self) -> tuple[list[str], IntArray]:
        return unique_elements(self.elements)

    @property
    def names(self) -> list[str]:
        """Elements that occur, sorted."""
        return self._unique[0]

    @property
    def index(self) -> IntArray:
        """Which of ``names`` each atom is, shape (n_atoms,)."""
        return self._unique[1]

    def form_factors(self, q_squared: FloatArray) -> NDArray[np.complex128]:
        """Form factor of each element of ``names``, shape (n_elements, *q_squared.shape)."""
        rows = np.empty((len(self.names), *np.shape(q_squared)), dtype=np.complex128)
        for row, name in zip(rows, self.names, strict=True):
            row[...] = element_form_factor(name, q_squared)
            if self.wavelength is not None:
                row += anomalous_form_factor(name, self.wavelength)
        return rows

    @property
    def pair_classes(self) -> list[tuple[int, int]]:
        """Pairs of elements (a, b), a ≤ b, as indices of ``names``."""
        n = len(self.names)
        return [(a, b) for a in range(n) for b in range(a, n)]

    def pair_products(self, q_squared: FloatArray) -> NDArray[np.complex128]:
        """Products f_a f_b* of each pair class, shape (n_classes, *q_squared.shape)."""
        f = self.form_factors(q_squared)
        return np.stack([f[a] * np.conj(f[b]) for a, b in self.pair_classes])

    def class_counts(self) -> IntArray:
        """How many pairs of atoms i < j each pair class has."""
        counts = np.bincount(self.index, minlength=len(self.names))
        return np.array(
            [n * (n - 1) // 2 if a == b else n * counts[b]
             for a, b in self.pair_classes for n in (counts[a],)],
            dtype=np.int64,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ProductBasis:
    """Products of form factors as combinations of a few of them.

    Attributes
    ----------
    members : tuple of int
        Pair classes that are the basis.
    coefficients : ndarray, shape (n_classes, n_members)
        f_a f_b ≈ Σ_k coefficients[c, k] · (product of member k).
    error : float
        Largest relative error of a product over 0 ≤ q ≤ q_max.
    """

    members: tuple[int, ...]
    coefficients: FloatArray
    error: float

    @classmethod
    def choose(
        cls, scatterers: Scatterers, q_max: float, tolerance: float, pairs_a_transform: float
    ) -> ProductBasis:
        """Choose the basis that costs least among those good to a tolerance.

        Parameters
        ----------
        scatterers : Scatterers
        q_max : float
            [Å⁻¹]
        tolerance : float
            Largest relative error of a product.
        pairs_a_transform : float
            How many pairs can be splatted in the time of one transform: a pair outside the basis
            is splatted once for each member.
        """
        grid = np.linspace(0.0, q_max**2, _COARSE_POINTS)
        products = scatterers.pair_products(grid)
        counts = scatterers.class_counts().astype(np.float64)
        n = len(counts)
        everything = cls(tuple(range(n)), np.eye(n), 0.0)
        if scatterers.wavelength is not None or n == 1:
            return everything
        relative = (products.real / products.real[:, :1]).T
        # Classes with many pairs come first, where the error allows.
        scaled = relative * np.sqrt(counts + 1.0)
        _, r, order = scipy.linalg.qr(scaled, mode="economic", pivoting=True)
        best, best_cost = everything, float(n) * pairs_a_transform
        for size in range(1, n):
            members, others = order[:size], order[size:]
            cost = size * pairs_a_transform + (size - 1) * float(np.sum(counts[others]))
            if cost >= best_cost:
                continue
            solved = scipy.linalg.solve_triangular(r[:size, :size], r[:size, size:])
            solved *= np.sqrt(counts[others] + 1.0) ** -1 * np.sqrt(counts[members] + 1.0)[:, None]
            missed = np.abs(relative[:, members] @ solved - relative[:, others])
            error = float(np.max(missed / relative[:, others]))
            if error <= tolerance and np.max(np.abs(solved)) < _LARGEST_COEFFICIENT:
                coefficients = np.zeros((n, size))
                coefficients[members] = np.eye(size)
                at_zero = products.real[:, 0]
                coefficients[others] = solved.T * at_zero[others, None] / at_zero[members]
                best = cls(tuple(int(c) for c in members), coefficients, error)
                best_cost = cost
        return best
