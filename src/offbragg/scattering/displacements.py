"""Second moments of displacements: what a disorder model gives and the scattering engine takes.

A covariance over n atoms comes as a dense array, as a factor (`LowRank`), or pair by pair, where
atoms of other copies and cells are correlated too (`pairs.Pairs`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.scattering.pairs import Pairs, sum_of_pairs


class PairCovariance(ABC):
    """A covariance over n atoms that is worked out where it is asked for, never as a whole."""

    @property
    @abstractmethod
    def is_isotropic(self) -> bool:
        """Whether V_ij is a multiple of the unit matrix."""

    @property
    @abstractmethod
    def n_atoms(self) -> int:
        """Number of atoms."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape that the dense covariance would have."""
        n = self.n_atoms
        return (n, n) if self.is_isotropic else (n, n, 3, 3)

    @abstractmethod
    def diagonal(self) -> FloatArray:
        """V_ii [Å²], shape (n_atoms,) or (n_atoms, 3, 3)."""

    @abstractmethod
    def block(self, first: IntArray, second: IntArray) -> FloatArray:
        """V_ij [Å²] of atoms ``first`` with atoms ``second``, (n, m) or (n, m, 3, 3)."""

    @abstractmethod
    def pairs(self, first: IntArray, second: IntArray) -> FloatArray:
        """V_ij [Å²] of pairs (first[p], second[p]), shape (n_pairs,) or (n_pairs, 3, 3)."""

    def dense(self) -> FloatArray:
        """V as an array of `shape`."""
        every = np.arange(self.n_atoms)
        return self.block(every, every)


@dataclass(frozen=True, eq=False)
class LowRank(PairCovariance):
    """A covariance of low rank, ``V = P Pᵀ``, held by its factor.

    Attributes
    ----------
    factor : ndarray, shape (n_atoms, rank) or (n_atoms, 3, rank), float64
        P [Å]; the first form is isotropic: V is then the covariance per Cartesian axis.
    """

    factor: FloatArray

    @property
    def is_isotropic(self) -> bool:
        """Whether V_ij is a multiple of the unit matrix."""
        return self.factor.ndim == 2

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.factor)

    def diagonal(self) -> FloatArray:
        """V_ii [Å²], shape (n_atoms,) or (n_atoms, 3, 3)."""
        if self.is_isotropic:
            scalars: FloatArray = np.einsum("ik,ik->i", self.factor, self.factor)
            return scalars
        blocks: FloatArray = np.einsum("iak,ibk->iab", self.factor, self.factor, optimize=True)
        return blocks

    def block(self, first: IntArray, second: IntArray) -> FloatArray:
        """V_ij [Å²] of atoms ``first`` with atoms ``second``."""
        p, r = self.factor[first], self.factor[second]
        if self.is_isotropic:
            return p @ r.T
        n, m, rank = len(p), len(r), self.factor.shape[2]
        flat = p.reshape(3 * n, rank) @ r.reshape(3 * m, rank).T
        return np.ascontiguousarray(flat.reshape(n, 3, m, 3).transpose(0, 2, 1, 3))

    def pairs(self, first: IntArray, second: IntArray) -> FloatArray:
        """V_ij [Å²] of pairs (first[p], second[p]), shape (n_pairs,) or (n_pairs, 3, 3)."""
        if self.is_isotropic:
            scalars: FloatArray = np.einsum("pk,pk->p", self.factor[first], self.factor[second])
            return scalars
        blocks: FloatArray = self.factor[first] @ self.factor[second].transpose(0, 2, 1)
        return blocks


@dataclass(frozen=True, eq=False)
class Displacements:
    """Second moments of the displacements of the n atoms of a coherent unit.

    Attributes
    ----------
    correlated : ndarray, PairCovariance or None
        (n, n): covariance per Cartesian axis, isotropic; or (n, n, 3, 3): ``V_ij = ⟨δ_i δ_jᵀ⟩``
        [Å²]. The diagonal holds the mean-square displacements of this part.
    independent : ndarray, shape (n, 3, 3), or None
        Mean-square displacements U [Å²] of a further motion of each atom by itself.
    pairs : Pairs or None
        In place of ``correlated``: correlated pairs that reach across copies and cells. The
        diagonal V_ii is then in ``independent``.
    """

    correlated: FloatArray | PairCovariance | None = None
    independent: FloatArray | None = None
    pairs: Pairs | None = None

    def __post_init__(self) -> None:
        if self.correlated is not None and self.pairs is not None:
            raise InputError("displacements within a unit and across units cannot be summed")

    @property
    def is_isotropic(self) -> bool:
        """Whether every pair's covariance and every U is a multiple of the unit matrix."""
        if self.correlated is not None and len(self.correlated.shape) != 2:
            return False
        if self.pairs is not None and not self.pairs.is_isotropic:
            return False
        if self.independent is None:
            return True
        scalars = np.trace(self.independent, axis1=1, axis2=2) / 3.0
        return bool(
            np.all(
                np.abs(self.independent - scalars[:, None, None] * np.eye(3))
                <= 1e-12 + 1e-9 * np.abs(scalars[:, None, None])
            )
        )

    def check_shapes(self, n_atoms: int) -> None:
        """Check that every part is for a number of atoms.

        Raises
        ------
        InputError
            If a part has another shape.
        """
        n = n_atoms
        for name, allowed in (
            ("correlated", ((n, n), (n, n, 3, 3))),
            ("independent", ((n, 3, 3),)),
        ):
            part = getattr(self, name)
            if part is not None and part.shape not in allowed:
                expected = " or ".join(str(shape) for shape in allowed)
                raise InputError(f"{name} displacements must be {expected}, got {part.shape}")

    def own_diagonal(self, n_atoms: int) -> FloatArray:
        """V_ii of the correlated part, shape (n_atoms, 3, 3) [Å²]."""
        if self.correlated is None:
            return np.zeros((n_atoms, 3, 3))
        if isinstance(self.correlated, PairCovariance):
            own = self.correlated.diagonal()
        else:
            own = self.correlated[np.arange(n_atoms), np.arange(n_atoms)]
        return own if own.ndim == 3 else own[:, None, None] * np.eye(3)

    def u_aniso(self, n_atoms: int) -> FloatArray:
        """Total mean-square displacements U = V_ii, shape (n_atoms, 3, 3) [Å²]."""
        total = self.own_diagonal(n_atoms)
        return total if self.independent is None else total + self.independent

    def block(self, first: IntArray, second: IntArray) -> FloatArray:
        """V_ij [Å²] of the correlated part, shape (n, m) or (n, m, 3, 3)."""
        if self.correlated is None:
            return np.zeros((len(first), len(second)))
        if isinstance(self.correlated, PairCovariance):
            return self.correlated.block(first, second)
        return np.ascontiguousarray(self.correlated[np.ix_(first, second)])

    def dense(self, n_atoms: int) -> FloatArray:
        """Whole covariance V as an array (n, n) or (n, n, 3, 3) [Å²], independent part included.

        Raises
        ------
        InputError
            If atoms of other copies are correlated: no matrix over the unit holds that.
        """
        if self.pairs is not None:
            raise InputError("displacements across copies have no matrix over one unit's atoms")
        every = np.arange(n_atoms)
        if self.is_isotropic:
            v = self.block(every, every).copy()
            if self.independent is not None:
                v[every, every] += self.independent[:, 0, 0]
            return v
        v = as_blocks(self.block(every, every))
        if self.independent is not None:
            v[every, every] += self.independent
        return v

    def __add__(self, other: Displacements) -> Displacements:
        """Second moments of the sum of two independent motions."""
        return Displacements(
            _sum_of_correlated(self.correlated, other.correlated),
            _sum_or_none(self.independent, other.independent),
            sum_of_pairs(self.pairs, other.pairs),
        )


def as_blocks(covariance: FloatArray) -> FloatArray:
    """Return a covariance as a new array of 3×3 blocks: (n, m) times the unit matrix.

    >>> as_blocks(np.array([[0.5]]))[0, 0, 2].tolist()
    [0.0, 0.0, 0.5]
    """
    if covariance.ndim == 2:
        blocks: FloatArray = covariance[:, :, None, None] * np.eye(3)
        return blocks
    return covariance.copy()


def as_scalars(gradient: FloatArray) -> FloatArray:
    """Return a gradient with respect to isotropic covariances: the trace of blocks (n, m, 3, 3)."""
    if gradient.ndim == 2:
        return gradient
    traces: FloatArray = np.trace(gradient, axis1=2, axis2=3)
    return traces


def check_covariance(covariance: FloatArray, n_atoms: int) -> FloatArray:
    """Return a covariance as a contiguous array after checking its shape and symmetry.

    Raises
    ------
    InputError
        If it is neither (n, n) nor (n, n, 3, 3), not finite, or ``V_ji ≠ V_ijᵀ``.
    """
    v = np.ascontiguousarray(covariance, dtype=np.float64)
    if v.shape not in ((n_atoms, n_atoms), (n_atoms, n_atoms, 3, 3)):
        raise InputError(
            f"covariance must be {(n_atoms, n_atoms)} or {(n_atoms, n_atoms, 3, 3)}, got {v.shape}"
        )
    if not np.all(np.isfinite(v)):
        raise InputError("covariance must be finite, got NaN or infinity")
    mirrored = v.T if v.ndim == 2 else v.transpose(1, 0, 3, 2)
    if n_atoms and np.max(np.abs(v - mirrored)) > 1e-8 * max(float(np.max(np.abs(v))), 1e-30):
        raise InputError("covariance must be symmetric (V_ji = transpose of V_ij)")
    return v


def _sum_of_correlated(
    a: FloatArray | PairCovariance | None, b: FloatArray | PairCovariance | None
) -> FloatArray | PairCovariance | None:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, LowRank) and isinstance(b, LowRank) and a.is_isotropic == b.is_isotropic:
        # Factors of independent motions stand side by side.
        return LowRank(np.concatenate([a.factor, b.factor], axis=-1))
    a = a.dense() if isinstance(a, PairCovariance) else a
    b = b.dense() if isinstance(b, PairCovariance) else b
    if a.ndim == b.ndim:
        return a + b
    return as_blocks(a) + as_blocks(b)


def _sum_or_none(a: FloatArray | None, b: FloatArray | None) -> FloatArray | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
