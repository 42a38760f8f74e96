"""Covariances in a basis of collective displacements, ``V = B C Bᵀ``: few numbers, any basis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel, Parameter
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank, PairCovariance, as_scalars

# Rounding of a positive semi-definite matrix whose diagonal is scaled to 1.
_PSD_TOLERANCE = 1e-6
# Variances below this fraction of the largest are rounding, whatever their unit.
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class BasisCovariance(DisorderModel):
    r"""Motion along given collective displacements, correlated with each other in any way.

    .. math:: \delta_i = \sum_k B_{ik} c_k, \qquad V_{ij} = B_i\, C B_j^T, \quad C = ⟨c\, c^T⟩

    Attributes
    ----------
    basis : ndarray, shape (n_atoms, 3, n_modes) or (n_atoms, n_modes)
        B: displacement of each atom per unit of each coordinate c_k, in any unit; the second form
        is isotropic, V then the covariance per Cartesian axis.
    coefficients : ndarray, shape (n_modes, n_modes)
        C, symmetric and positive semi-definite; n_modes numbers mean a diagonal. ``B C Bᵀ`` is
        in Å².

    Raises
    ------
    InputError
        If a shape does not match, or C is not symmetric or not positive semi-definite.

    Notes
    -----
    Displacements are a factor of rank n_modes; a tangent is a dense array of O(n_atoms²).

    Examples
    --------
    Two atoms that move along x, together and against each other.

    >>> basis = np.zeros((2, 3, 2))
    >>> basis[:, 0] = [[1.0, 1.0], [1.0, -1.0]]
    >>> model = BasisCovariance(basis, [0.3, 0.1])
    >>> (model.basis[:, 0] @ model.coefficients @ model.basis[:, 0].T).round(3).tolist()
    [[0.4, 0.2], [0.2, 0.4]]
    """

    basis: FloatArray
    coefficients: FloatArray

    def __post_init__(self) -> None:
        basis = np.asarray(self.basis, dtype=np.float64)
        if basis.ndim not in (2, 3) or (basis.ndim == 3 and basis.shape[1] != 3):
            raise InputError(f"basis must be (n, n_modes) or (n, 3, n_modes), got {basis.shape}")
        if not np.all(np.isfinite(basis)):
            raise InputError("basis must be finite, got NaN or infinity")
        coefficients = np.asarray(self.coefficients, dtype=np.float64)
        if coefficients.ndim == 1:
            coefficients = np.diag(coefficients)
        coefficients = check_motion("coefficients", coefficients, basis.shape[-1])
        object.__setattr__(self, "basis", basis)
        object.__setattr__(self, "coefficients", coefficients)

    @classmethod
    def from_frames(cls, frames: ArrayLike, n_components: int | None = None) -> Self:
        """Principal components of frames (n_frames, n_atoms, 3) [Å], uncorrelated to begin with.

        Frames are taken as they are: not superposed. See `principal_components`.
        """
        modes, variances = principal_components(frames, n_components)
        return cls(modes, np.diag(variances))

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """C, all of it."""
        shape = self.coefficients.shape
        return {"coefficients": Parameter("Å²/basis²", -np.inf, np.inf, shape, is_covariance=True)}

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the factor ``B C^½`` [Å] of V."""
        self._check_atoms(structure)
        return Displacements(LowRank(self.basis @ root_of(self.coefficients)))

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return ``B dC Bᵀ`` [Å²], dC the symmetric part of the direction's."""
        self._check_atoms(structure)
        changes = as_direction(self, direction)
        change = changes.get("coefficients", np.zeros_like(self.coefficients))
        return Displacements(covariance_in_basis(self.basis, symmetric_part(change)))

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return ``dO/dC = Bᵀ (dO/dV) B``, symmetric."""
        self._check_atoms(structure)
        return {"coefficients": symmetric_part(gradient_in_basis(self.basis, gradient))}

    def _check_atoms(self, structure: AtomicStructure) -> None:
        if len(self.basis) != structure.n_atoms:
            raise InputError(
                f"basis must be for the structure's {structure.n_atoms} atoms, "
                f"got {len(self.basis)}"
            )


def principal_components(
    frames: ArrayLike, n_components: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Principal components of an ensemble, by singular values of the centred frames.

    Parameters
    ----------
    frames : array, shape (n_frames, n_atoms, 3)
        Cartesian [Å], superposed or not as wanted; at least two.
    n_components : int, optional
        How many, largest first; all where not given.

    Returns
    -------
    modes : ndarray, shape (n_atoms, 3, n_components)
        Orthonormal, without unit.
    variances : ndarray, shape (n_components,)
        [Å²], unbiased (divided by n_frames − 1), descending.

    Raises
    ------
    InputError
        If frames are of another shape, fewer than two or not finite.

    Examples
    --------
    >>> modes, variances = principal_components([[[0.0, 0, 0]], [[2.0, 0, 0]]])
    >>> np.abs(modes[0, :, 0]).round(6).tolist(), variances.round(6).tolist()
    ([1.0, 0.0, 0.0], [2.0])
    """
    frames = np.asarray(frames, dtype=np.float64)
    if frames.ndim != 3 or frames.shape[2] != 3 or len(frames) < 2:
        raise InputError(f"frames must be (n_frames >= 2, n_atoms, 3), got {frames.shape}")
    if not np.all(np.isfinite(frames)):
        raise InputError("frames must be finite, got NaN or infinity")
    n_frames, n_atoms, _ = frames.shape
    most = min(n_frames - 1, 3 * n_atoms)
    n_kept = most if n_components is None else n_components
    if not 1 <= n_kept <= most:
        raise InputError(f"n_components must be 1..{most}, got {n_components}")
    moves = (frames - frames.mean(axis=0)).reshape(n_frames, 3 * n_atoms)
    _, singular, rows = np.linalg.svd(moves, full_matrices=False)
    modes = np.ascontiguousarray(rows[:n_kept].T).reshape(n_atoms, 3, n_kept)
    return modes, singular[:n_kept] ** 2 / (n_frames - 1)


def root_of(matrix: FloatArray) -> FloatArray:
    """R with ``R Rᵀ = matrix``; eigenvalues below zero, left by rounding, count as zero.

    The diagonal is scaled to 1 before eigenvectors are taken: coordinates of small unit lose no
    digits beside others.
    """
    variances = np.diag(matrix)
    scale = np.sqrt(np.where(variances > 0, variances, 1.0))
    values, vectors = np.linalg.eigh(matrix / scale[:, None] / scale[None, :])
    root: FloatArray = scale[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def symmetric_part(matrix: FloatArray) -> FloatArray:
    """½ (M + Mᵀ)."""
    return 0.5 * (matrix + matrix.T)


def covariance_in_basis(basis: FloatArray, coefficients: FloatArray) -> FloatArray:
    """``B C Bᵀ`` as a dense array (n, n) or (n, n, 3, 3)."""
    if basis.ndim == 2:
        return basis @ coefficients @ basis.T
    n, _, rank = basis.shape
    flat = basis.reshape(3 * n, rank)
    blocks = (flat @ coefficients @ flat.T).reshape(n, 3, n, 3)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))


def gradient_in_basis(basis: FloatArray, gradient: Displacements) -> FloatArray:
    """``Bᵀ G B``: adjoint of `covariance_in_basis`, G by every element of V."""
    n, is_isotropic = len(basis), basis.ndim == 2
    g = correlated_gradient(gradient, n, is_isotropic=is_isotropic)
    if is_isotropic:
        return basis.T @ g @ basis
    flat = basis.reshape(3 * n, basis.shape[2])
    return flat.T @ g.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n) @ flat


def correlated_gradient(gradient: Displacements, n_atoms: int, *, is_isotropic: bool) -> FloatArray:
    """Derivatives by every element of V, (n, n) for isotropic V, else (n, n, 3, 3).

    Raises
    ------
    InputError
        If they are for another number of atoms, or (n, n) where V has 3×3 blocks.
    """
    n, given = n_atoms, gradient.correlated
    if given is None:
        return np.zeros((n, n) if is_isotropic else (n, n, 3, 3))
    g = given.dense() if isinstance(given, PairCovariance) else given
    if g.shape != (n, n, 3, 3) and not (is_isotropic and g.shape == (n, n)):
        expected = f"{(n, n)} or {(n, n, 3, 3)}" if is_isotropic else f"{(n, n, 3, 3)}"
        raise InputError(f"gradient must be {expected}, got {g.shape}")
    return as_scalars(g) if is_isotropic else g


def as_direction(model: DisorderModel, direction: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
    """Changes of a model's parameters as arrays of their shapes.

    Raises
    ------
    InputError
        If the model has no such parameter, or the change is of another shape.
    """
    changes = {}
    for name, value in direction.items():
        if name not in model.refinable:
            known = ", ".join(model.refinable) or "none"
            raise InputError(f"{type(model).__name__} has parameters {known}, got {name!r}")
        change = np.asarray(value, dtype=np.float64)
        shape = model.refinable[name].shape
        if change.shape != shape:
            raise InputError(f"direction of {name} must be {shape}, got {change.shape}")
        changes[name] = change
    return changes


def check_motion(name: str, matrix: ArrayLike, size: int) -> FloatArray:
    """Return a covariance of coordinates of any units, made exactly symmetric.

    Raises
    ------
    InputError
        If it is not (size, size), not finite, not symmetric, or, with its diagonal scaled to 1,
        has an eigenvalue below −10⁻⁶.
    """
    m = np.asarray(matrix, dtype=np.float64)
    if m.shape != (size, size):
        raise InputError(f"{name} must be {(size, size)}, got {m.shape}")
    if not np.all(np.isfinite(m)):
        raise InputError(f"{name} must be finite, got NaN or infinity")
    if not size or not np.any(m):
        return m
    least = _LEAST_VARIANCE * float(np.max(np.abs(np.diag(m))))
    scale = np.sqrt(np.maximum(np.diag(m), max(least, 1e-300)))
    scaled = m / scale[:, None] / scale[None, :]
    if np.max(np.abs(scaled - scaled.T)) > 1e-8 * max(1.0, float(np.max(np.abs(scaled)))):
        raise InputError(f"{name} must be symmetric")
    m = symmetric_part(m)
    lowest = float(np.linalg.eigvalsh(symmetric_part(scaled))[0])
    if lowest < -_PSD_TOLERANCE:
        raise InputError(
            f"{name} must be positive semi-definite, got an eigenvalue of {lowest:.3g} "
            "with its diagonal scaled to 1"
        )
    return m
