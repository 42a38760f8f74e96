"""Atoms that move independently, by the structure's displacement parameters (Einstein)."""

from __future__ import annotations

from dataclasses import dataclass

from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel
from offbragg.scattering.gaussian import Displacements


@dataclass(frozen=True)
class Uncorrelated(DisorderModel):
    r"""Every atom moves by itself, ``V_ij = 0`` for i ≠ j and ``V_ii = U_i`` of the structure.

    .. math:: I = \sum_i f_i^2 \left[1 - e^{-\mathbf q^T U_i \mathbf q}\right]

    Examples
    --------
    >>> Uncorrelated()
    Uncorrelated()
    """

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the structure's U_i as independent motions [Å²]."""
        return Displacements(independent=structure.u_aniso)
