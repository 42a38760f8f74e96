r"""Smooth functions of direction that a Laue group allows: what no structure is needed for.

Absorption, polarisation left over, solvent that is not quite isotropic, and motion that is larger
along one axis all leave a smooth variation within shells of \|q\|. Any model with a tensor in it
follows that, whatever its atoms do; a fit that has these functions beside the model does not
mistake the one for the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.errors import InputError

#: Degrees that may be asked for.
DEGREES = (0, 2, 4, 6, 8)
# Directions that functions are told apart on; enough for degree 8.
_N_DIRECTIONS = 400
_INDEPENDENT = 1e-8


@dataclass(frozen=True, eq=False)
class Harmonics:
    """Even spherical harmonics of degrees 2 … ``degree``, averaged over a Laue group.

    Attributes
    ----------
    powers : ndarray, shape (n_monomials, 3), int64
        Exponents of the monomials x^a y^b z^c of the highest degree, which span all even ones.
    rotations : ndarray, shape (n_operations, 3, 3)
        Cartesian.
    means : ndarray, shape (n_monomials,)
        Of the monomials over the sphere.
    combinations : ndarray, shape (n_monomials, n_functions)
    """

    powers: IntArray
    rotations: FloatArray
    means: FloatArray
    combinations: FloatArray

    @classmethod
    def of(cls, cell: Cell, rotations: IntArray, degree: int) -> Harmonics:
        """Find the independent functions.

        Parameters
        ----------
        cell : Cell
        rotations : ndarray, shape (n_operations, 3, 3), int64
            Of the Laue group, as `laue_rotations` gives them.
        degree : int
            Even; 0: no function.

        Raises
        ------
        InputError
            If the degree is odd or not 0 … 8.

        Examples
        --------
        >>> from offbragg.crystal.symmetry import laue_rotations
        >>> cell = Cell(10, 10, 12, 90, 90, 90)
        >>> [Harmonics.of(cell, laue_rotations("4/m"), n).n_functions for n in (0, 2, 4, 8)]
        [0, 1, 4, 12]
        """
        if degree not in DEGREES:
            raise InputError(f"harmonics must be an even degree, 0 to 8, got {degree}")
        exponents = np.indices((degree + 1,) * 3).reshape(3, -1).T
        powers = exponents[exponents.sum(axis=1) == degree]
        cartesian = cell.orth_matrix @ rotations @ cell.frac_matrix
        directions = _sphere(_N_DIRECTIONS)
        values = _averaged(directions, powers, cartesian)
        means = values.mean(axis=0)
        _, singular, rows = np.linalg.svd(values - means, full_matrices=False)
        # Degree 0 leaves rounding alone.
        kept = singular > _INDEPENDENT * np.linalg.norm(values)
        combinations = rows[kept].T / singular[kept] * np.sqrt(_N_DIRECTIONS)
        return cls(powers, cartesian, means, combinations)

    @property
    def n_functions(self) -> int:
        """How many there are."""
        return int(self.combinations.shape[1])

    def values(self, q: FloatArray) -> FloatArray:
        """Evaluate the functions along q (n, 3): shape (n, n_functions), of root mean square 1.

        0 at q = 0, which has no direction.
        """
        lengths = np.linalg.norm(q, axis=1)[:, None]
        directions = np.divide(q, lengths, out=np.zeros_like(q), where=lengths > 0)
        monomials = _averaged(directions, self.powers, self.rotations)
        found: FloatArray = (monomials - self.means) @ self.combinations
        return np.where(lengths > 0, found, 0.0)


def _averaged(directions: FloatArray, powers: IntArray, rotations: FloatArray) -> FloatArray:
    """Monomials (n, n_monomials) of directions, averaged over operations."""
    total = np.zeros((len(directions), len(powers)))
    for rotation in rotations:
        turned = directions @ rotation
        total += np.prod(turned[:, None, :] ** powers, axis=2)
    return total / len(rotations)


def _sphere(n: int) -> FloatArray:
    """Directions (n, 3) that cover the sphere evenly: a golden spiral."""
    number = np.arange(n) + 0.5
    z = 1.0 - 2.0 * number / n
    turn = np.pi * (1.0 + np.sqrt(5.0)) * number
    across = np.sqrt(1.0 - z**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)
