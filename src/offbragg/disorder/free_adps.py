"""Atoms that move independently by mean-square displacements of their own, which a fit may change.

Beside a covariance of low rank or of collective motions it is their diagonal: what each atom does
by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel, Parameter
from offbragg.disorder.basis import as_direction
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements

# Where a fit may go: logarithms need an end, and no atom that is seen moves by more [Å²].
LEAST_U, MOST_U = 1e-4, 10.0


@dataclass(frozen=True, eq=False)
class FreeAdps(DisorderModel):
    r"""Every atom moves by itself, isotropically, by a U_i of this model.

    .. math:: V_{ii} = U_i \mathbf 1, \qquad V_{ij} = 0

    Attributes
    ----------
    u : ndarray, shape (n_atoms,)
        U_i [Å²]; a fit starts from, and stays at, 10⁻⁴ and more.

    Raises
    ------
    InputError
        If a U_i is out of range.

    Examples
    --------
    >>> sorted(FreeAdps([0.1, 0.2]).refinable)
    ['u']
    """

    u: FloatArray

    def __post_init__(self) -> None:
        u = np.asarray(self.u, dtype=np.float64)
        if u.ndim != 1:
            raise InputError(f"u must be (n_atoms,), got {u.shape}")
        if not np.all((u >= 0) & (u <= MOST_U)):
            wrong = u[~((u >= 0) & (u <= MOST_U))][0]
            raise InputError(f"u must be between 0 and {MOST_U:g} Å², got {wrong:g}")
        object.__setattr__(self, "u", u)

    @classmethod
    def of(cls, structure: AtomicStructure, share: float = 1.0) -> FreeAdps:
        """Start from a share of the structure's own, their isotropic part.

        >>> from offbragg.made_crystal import make_peptide
        >>> peptide = make_peptide("GA", u=0.2)
        >>> bool(np.allclose(FreeAdps.of(peptide, 0.5).u, 0.1))
        True
        """
        own = np.trace(structure.u_aniso, axis1=1, axis2=2) / 3.0
        return cls(np.clip(share * own, LEAST_U, MOST_U))

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """Every U_i."""
        return {"u": Parameter("Å²", LEAST_U, MOST_U, self.u.shape)}

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return U_i times the unit matrix [Å²] as independent motions."""
        self._check_atoms(structure)
        return Displacements(independent=self.u[:, None, None] * np.eye(3))

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return dU_i times the unit matrix [Å²]."""
        self._check_atoms(structure)
        change = as_direction(self, direction).get("u", np.zeros_like(self.u))
        return Displacements(independent=change[:, None, None] * np.eye(3))

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return the trace of dO/dU_i."""
        self._check_atoms(structure)
        by_u = gradient.independent
        if by_u is None:
            by_u = gradient.own_diagonal(len(self.u))
        return {"u": np.trace(by_u, axis1=1, axis2=2)}

    def _check_atoms(self, structure: AtomicStructure) -> None:
        if len(self.u) != structure.n_atoms:
            raise InputError(
                f"u must be for the structure's {structure.n_atoms} atoms, got {len(self.u)}"
            )
