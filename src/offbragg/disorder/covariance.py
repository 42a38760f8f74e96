"""Any covariance matrix of the atoms' displacements, as given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel, Parameter
from offbragg.disorder.basis import as_direction, correlated_gradient, covariance_in_basis
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank, check_covariance

# Rounding of a positive semi-definite matrix, as a fraction of its largest diagonal element.
PSD_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Covariance(DisorderModel):
    """A full covariance of the atoms of the structure, in the order of its atoms.

    For atoms of the whole cell give the structure ``s.to_p1()``. A covariance of low rank is
    better given by its factor, `from_factor`: whatever a fit makes of that is a covariance.

    Attributes
    ----------
    matrix : ndarray, shape (n, n) or (n, n, 3, 3), or None
        ``V_ij = ⟨δ_i δ_jᵀ⟩`` [Å²]; the first form is isotropic, per Cartesian axis. Symmetric
        (``V_ji = V_ijᵀ``) and positive semi-definite.
    factor : ndarray, shape (n, rank) or (n, 3, rank), or None
        In place of ``matrix``: P [Å] of ``V = P Pᵀ``; the first form is isotropic.

    Raises
    ------
    InputError
        If it is of another shape, not finite, not symmetric or not positive semi-definite, or
        not one of the two is given.

    Examples
    --------
    >>> Covariance([[0.2, 0.1], [0.1, 0.2]]).matrix.shape
    (2, 2)
    """

    matrix: FloatArray | None = None
    factor: FloatArray | None = None

    def __post_init__(self) -> None:
        if (self.matrix is None) == (self.factor is None):
            raise InputError("expected a covariance matrix or its factor, one of the two")
        if self.matrix is not None:
            matrix = np.asarray(self.matrix, dtype=np.float64)
            if matrix.ndim not in (2, 4):
                raise InputError(f"covariance must be (n, n) or (n, n, 3, 3), got {matrix.shape}")
            matrix = check_covariance(matrix, len(matrix))
            check_positive_semidefinite(matrix)
            object.__setattr__(self, "matrix", matrix)
            return
        factor = np.asarray(self.factor, dtype=np.float64)
        if factor.ndim not in (2, 3) or (factor.ndim == 3 and factor.shape[1] != 3):
            raise InputError(f"factor must be (n, rank) or (n, 3, rank), got {factor.shape}")
        if not np.all(np.isfinite(factor)):
            raise InputError("factor must be finite, got NaN or infinity")
        object.__setattr__(self, "factor", factor)

    @classmethod
    def from_factor(cls, factor: ArrayLike | LowRank) -> Covariance:
        """Return the covariance ``V = P Pᵀ`` of a factor P [Å], held as P.

        >>> model = Covariance.from_factor([[0.3, 0.1], [0.3, -0.1]])
        >>> sorted(model.refinable)
        ['factor']
        """
        given = factor.factor if isinstance(factor, LowRank) else factor
        return cls(factor=np.asarray(given, dtype=np.float64))

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """The matrix [Å²], or the factor [Å] where that is what the covariance is held by."""
        if self.factor is not None:
            return {"factor": Parameter("Å", -np.inf, np.inf, self.factor.shape)}
        shape = np.asarray(self.matrix).shape
        return {"matrix": Parameter("Å²", -np.inf, np.inf, shape, is_covariance=True)}

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the covariance [Å²] after checking that it has the structure's atoms."""
        held = self._held(structure)
        return Displacements(correlated=held if self.factor is None else LowRank(held))

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return dV [Å²]: the symmetric part of the direction, or ``dP Pᵀ + P dPᵀ``."""
        changes = as_direction(self, direction)
        if self.factor is None:
            change = changes.get("matrix", np.zeros(self._held(structure).shape))
            return Displacements(0.5 * (change + _mirrored(change)))
        factor = self._held(structure)
        change = changes.get("factor", np.zeros_like(factor))
        rank = factor.shape[-1]
        crossed = np.eye(2 * rank)[np.r_[rank : 2 * rank, :rank]]
        both = np.concatenate([factor, change], axis=-1)
        return Displacements(covariance_in_basis(both, crossed))

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return dO/dV, symmetric, or ``dO/dP = (G + Gᵀ) P`` with G = dO/dV."""
        held = self._held(structure)
        g = correlated_gradient(gradient, len(held), is_isotropic=held.ndim == 2)
        g = g + _mirrored(g)
        if self.factor is None:
            return {"matrix": 0.5 * g}
        if held.ndim == 2:
            return {"factor": g @ held}
        return {"factor": np.einsum("ijab,jbk->iak", g, held, optimize=True)}

    def _held(self, structure: AtomicStructure) -> FloatArray:
        """Return matrix or factor, after checking that it is for the structure's atoms."""
        held = np.asarray(self.matrix if self.factor is None else self.factor)
        if len(held) != structure.n_atoms:
            raise InputError(
                f"covariance must be for the structure's {structure.n_atoms} atoms, got {len(held)}"
            )
        return held


def _mirrored(v: FloatArray) -> FloatArray:
    """V_jiᵀ at (i, j)."""
    return v.T if v.ndim == 2 else v.transpose(1, 0, 3, 2)


def check_positive_semidefinite(matrix: FloatArray, name: str = "covariance") -> None:
    """Check a covariance (n, n) or (n, n, 3, 3), by a Cholesky factorisation.

    Raises
    ------
    InputError
        If an eigenvalue is below −10⁻⁶ of the largest diagonal element.
    """
    flat = (
        matrix
        if matrix.ndim == 2
        else matrix.transpose(0, 2, 1, 3).reshape(3 * len(matrix), 3 * len(matrix))
    )
    if not len(flat):
        return
    largest = float(np.max(np.diag(flat)))
    try:
        scipy.linalg.cholesky(flat + PSD_TOLERANCE * max(largest, 1e-12) * np.eye(len(flat)))
    except scipy.linalg.LinAlgError:
        lowest = float(scipy.linalg.eigvalsh(flat, subset_by_index=[0, 0])[0])
        raise InputError(
            f"{name} must be positive semi-definite, got an eigenvalue of {lowest:.3g} Å²"
        ) from None
