"""Atoms that move independently, by the structure's displacement parameters (Einstein)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import REMAINDER_TOLERANCE, DisorderModel
from offbragg.scattering.displacements import Displacements

logger = logging.getLogger(__name__)


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

        Files hold U_i that are no motion (an eigenvalue below 0): the nearest that is one is
        taken, and the log tells how many and the worst.
        """
        values, vectors = np.linalg.eigh(structure.u_aniso)
        wrong = values[:, 0] < -REMAINDER_TOLERANCE
        if wrong.any():
            worst = int(np.argmin(values[:, 0]))
            logger.warning(
                "U of %d atoms is not positive semi-definite (worst: atom %s, eigenvalue %.4f Å²): "
                "the nearest that is is used",
                int(wrong.sum()),
                structure.label(worst),
                values[worst, 0],
            )
        if not np.any(values < 0):
            return Displacements(independent=structure.u_aniso)
        nearest = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1)
        return Displacements(independent=nearest)
