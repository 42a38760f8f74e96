"""Any covariance matrix of the atoms' displacements, as given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.scattering.gaussian import Displacements, check_covariance

# Rounding of a positive semi-definite matrix, as a fraction of its largest diagonal element.
PSD_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Covariance(DisorderModel):
    """A full covariance of the atoms of the structure, in the order of its atoms.

    For atoms of the whole cell give the structure ``s.to_p1()``.

    Attributes
    ----------
    matrix : ndarray, shape (n, n) or (n, n, 3, 3)
        ``V_ij = ⟨δ_i δ_jᵀ⟩`` [Å²]; the first form is isotropic, per Cartesian axis. Symmetric
        (``V_ji = V_ijᵀ``) and positive semi-definite.

    Raises
    ------
    InputError
        If it is of another shape, not finite, not symmetric or not positive semi-definite.

    Examples
    --------
    >>> Covariance([[0.2, 0.1], [0.1, 0.2]]).matrix.shape
    (2, 2)
    """

    matrix: FloatArray

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, dtype=np.float64)
        if matrix.ndim not in (2, 4):
            raise InputError(f"covariance must be (n, n) or (n, n, 3, 3), got {matrix.shape}")
        matrix = check_covariance(matrix, len(matrix))
        check_positive_semidefinite(matrix)
        object.__setattr__(self, "matrix", matrix)

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the matrix [Å²] after checking that it has the structure's number of atoms."""
        if len(self.matrix) != structure.n_atoms:
            raise InputError(
                f"covariance must be for the structure's {structure.n_atoms} atoms, "
                f"got {len(self.matrix)}"
            )
        return Displacements(correlated=self.matrix)


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
