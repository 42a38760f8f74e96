r"""Smooth functions that a fit has beside a model: of resolution, and of direction too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.inference.background import Background
from offbragg.inference.harmonics import Harmonics

# Smooth functions of resolution that each harmonic is multiplied with.
_N_RADIAL = 6


@dataclass(frozen=True, eq=False)
class SmoothFunctions:
    """Isotropic backgrounds, and smooth functions of resolution and direction.

    Attributes
    ----------
    background : Background
    radial : Background
        What harmonics are multiplied with.
    harmonics : Harmonics
    """

    background: Background
    radial: Background
    harmonics: Harmonics

    @classmethod
    def over(
        cls, q: FloatArray, cell: Cell, rotations: IntArray, kind: str, degree: int
    ) -> SmoothFunctions:
        """Choose the functions for data at q (n, 3) [Å⁻¹].

        Parameters
        ----------
        q : ndarray, shape (n, 3)
        cell : Cell
        rotations : ndarray, shape (n_operations, 3, 3), int64
            Of the Laue group.
        kind : str
            See `Background`.
        degree : int
            See `Harmonics`.
        """
        lengths = np.linalg.norm(q, axis=1)
        return cls(
            Background.over(lengths, kind),
            Background.over(lengths, "smooth", _N_RADIAL),
            Harmonics.of(cell, rotations, degree),
        )

    @property
    def n_directional(self) -> int:
        """Functions of direction times those of resolution."""
        return self.harmonics.n_functions * int(self.radial.basis(np.ones(1)).shape[1])

    def isotropic(self, q: FloatArray) -> FloatArray:
        """Functions (n, n_isotropic) of the length of q (n, 3)."""
        return self.background.basis(np.linalg.norm(q, axis=1))

    def directional(self, q: FloatArray) -> FloatArray:
        """Functions (n, n_directional) of q (n, 3)."""
        radial = self.radial.basis(np.linalg.norm(q, axis=1))
        product = radial[:, :, None] * self.harmonics.values(q)[:, None, :]
        return product.reshape(len(q), self.n_directional)

    def basis(self, q: FloatArray) -> FloatArray:
        """All of them, isotropic ones first."""
        return np.concatenate([self.isotropic(q), self.directional(q)], axis=1)
