"""Atoms that move independently, by the structure's displacement parameters (Einstein)."""

from __future__ import annotations

from dataclasses import dataclass

from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel, positive_displacements
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
        """Return the structure's U_i as independent motions [Å²].

        Raises
        ------
        InputError
            If a U_i is no motion (an eigenvalue below 0): names the atom.
        """
        u_aniso = positive_displacements(structure, structure.u_aniso, "atom {}: U")
        return Displacements(independent=u_aniso)
