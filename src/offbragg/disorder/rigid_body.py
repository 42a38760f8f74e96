"""Rigid bodies: groups of atoms that translate, librate and screw as one (TLS)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel
from offbragg.disorder.covariance import PSD_TOLERANCE
from offbragg.errors import InputError
from offbragg.scattering.gaussian import DEFAULT_RTOL, Displacements, uncorrelated_on_lattice
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.structure_factors import structure_factors_on_lattice

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RigidBody(DisorderModel):
    r"""Rigid bodies that move independently of each other, all by the same T, L and S.

    ``V_ij = B_i M B_jᵀ`` for two atoms of one body, with ``B_i = [1 | −[r_i − r_0]×]`` and
    ``M = [[T, Sᵀ], [S, L]]`` (small angles); the structure's own ADPs are not used. One body that
    only translates has the closed form ``[1 − exp(−qᵀTq)] |F_0|²``.

    Attributes
    ----------
    translation : ndarray, shape (3, 3)
        T [Å²]; a number means that number times the unit matrix.
    libration : ndarray, shape (3, 3), or None
        L [rad²].
    screw : ndarray, shape (3, 3), or None
        S [Å·rad], ``S_ij = ⟨λ_i t_j⟩``. Its trace changes no intensity; where the given one makes
        M indefinite another is chosen, or else M is projected, with a warning in the log.
    origin : ndarray, shape (3,), or None
        r_0 [Å]; None: the centroid of each body.
    bodies : sequence of arrays of atom indices, or None
        None: all atoms are one body. Atoms in no body stand still.

    Raises
    ------
    InputError
        If a tensor is not symmetric, T or L is not positive semi-definite, or bodies overlap.

    References
    ----------
    .. [1] Schomaker & Trueblood, Acta Cryst. B24, 63 (1968).
    .. [2] Moore, Structure 17, 1307 (2009).

    Examples
    --------
    >>> RigidBody(translation=0.1).translation.tolist()
    [[0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]]
    """

    translation: ArrayLike = 0.0
    libration: ArrayLike | None = None
    screw: ArrayLike | None = None
    origin: ArrayLike | None = None
    bodies: Sequence[ArrayLike] | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "translation", _as_tensor("translation", self.translation))
        if self.libration is not None:
            set_field(self, "libration", _as_tensor("libration", self.libration))
        if self.screw is not None:
            screw = np.asarray(self.screw, dtype=np.float64)
            if screw.shape != (3, 3) or not np.all(np.isfinite(screw)):
                raise InputError(f"screw must be a (3, 3) matrix, got shape {screw.shape}")
            set_field(self, "screw", screw)
        if self.origin is not None:
            origin = np.asarray(self.origin, dtype=np.float64)
            if origin.shape != (3,):
                raise InputError(f"origin must be three numbers, got shape {origin.shape}")
            set_field(self, "origin", origin)
        if self.bodies is not None:
            set_field(self, "bodies", tuple(np.asarray(b, dtype=np.int64) for b in self.bodies))
            members = np.concatenate(self.bodies) if len(self.bodies) else np.empty(0, np.int64)
            if len(np.unique(members)) != len(members):
                raise InputError("bodies must not share atoms")

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return ``B_i M B_jᵀ`` within bodies, 0 between them, shape (n, n, 3, 3) [Å²]."""
        motion = _motion_matrix(self.translation, self.libration, self.screw)
        n = structure.n_atoms
        correlated = np.zeros((n, n, 3, 3))
        for body in self._bodies(n):
            positions = structure.positions[body]
            origin = positions.mean(axis=0) if self.origin is None else np.asarray(self.origin)
            arms = lever_arms(positions - origin)
            correlated[np.ix_(body, body)] = np.einsum(
                "iax,xy,jby->ijab", arms, motion, arms, optimize=True
            )
        return Displacements(correlated)

    def diffuse_on_lattice(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        adps: str = "model",
        rtol: float = DEFAULT_RTOL,
    ) -> FloatArray:
        """Diffuse intensity [e²] of one copy; closed form for one body that only translates."""
        only_translates = self.bodies is None and self.libration is None and self.screw is None
        if lattice.voxel is not None or not only_translates:
            return super().diffuse_on_lattice(lattice, structure, adps, rtol)
        translation = np.asarray(self.translation)
        atoms = (structure.elements, structure.occupancies)
        u_model = np.broadcast_to(translation, (structure.n_atoms, 3, 3))
        independent = np.zeros_like(u_model)
        if adps != "model":
            independent = self.with_adps(structure, adps).u_aniso(structure.n_atoms) - u_model
        f_calc = structure_factors_on_lattice(
            lattice, structure.positions, *atoms, independent, 1e-4 * rtol
        )
        damped = -np.expm1(-lattice.quadratic_form(translation))
        intensity = damped * (f_calc.real**2 + f_calc.imag**2)
        if np.any(independent):
            intensity += uncorrelated_on_lattice(lattice, *atoms, independent, rtol)
        return intensity

    def _bodies(self, n_atoms: int) -> tuple[IntArray, ...]:
        if self.bodies is None:
            return (np.arange(n_atoms),)
        bodies = tuple(np.asarray(body) for body in self.bodies)
        for number, body in enumerate(bodies):
            if len(body) and not (0 <= body.min() and body.max() < n_atoms):
                raise InputError(
                    f"bodies[{number}] must hold atom indices 0..{n_atoms - 1}, "
                    f"got {body.min()}..{body.max()}"
                )
        return bodies


def lever_arms(offsets: FloatArray) -> FloatArray:
    """Matrices B_i = [1 | −[r_i − r_0]×], shape (n, 3, 6), that turn (t, λ) into displacements.

    >>> lever_arms(np.array([[0.0, 0.0, 2.0]]))[0, :, 3:].tolist()
    [[0.0, 2.0, -0.0], [-2.0, 0.0, 0.0], [0.0, -0.0, 0.0]]
    """
    arms = np.zeros((len(offsets), 3, 6))
    arms[:, :, :3] = np.eye(3)
    x, y, z = offsets.T
    arms[:, 0, 4], arms[:, 0, 5] = z, -y
    arms[:, 1, 3], arms[:, 1, 5] = -z, x
    arms[:, 2, 3], arms[:, 2, 4] = y, -x
    return arms


def _as_tensor(name: str, value: ArrayLike) -> FloatArray:
    tensor = np.asarray(value, dtype=np.float64)
    if tensor.ndim == 0:
        tensor = float(tensor) * np.eye(3)
    if tensor.shape != (3, 3) or not np.all(np.isfinite(tensor)):
        raise InputError(f"{name} must be a number or a (3, 3) matrix, got shape {tensor.shape}")
    if not np.allclose(tensor, tensor.T, rtol=1e-8, atol=1e-12):
        raise InputError(f"{name} must be symmetric, got {tensor.tolist()}")
    lowest = float(np.linalg.eigvalsh(tensor)[0])
    if lowest < -PSD_TOLERANCE * float(np.max(np.abs(tensor))):
        raise InputError(f"{name} must be positive semi-definite, got an eigenvalue {lowest:.3g}")
    return tensor


def _motion_matrix(
    translation: ArrayLike, libration: ArrayLike | None, screw: ArrayLike | None
) -> FloatArray:
    """M = [[T, Sᵀ], [S, L]] (6, 6), with a trace of S, or a projection, that makes it PSD."""
    t = np.asarray(translation)
    l = np.zeros((3, 3)) if libration is None else np.asarray(libration)  # noqa: E741
    s = np.zeros((3, 3)) if screw is None else np.asarray(screw)

    def assembled(shift: float) -> FloatArray:
        shifted = s + shift * np.eye(3)
        return np.block([[t, shifted.T], [shifted, l]])

    def lowest(shift: float) -> float:
        return float(np.linalg.eigvalsh(assembled(shift))[0])

    tolerance = PSD_TOLERANCE * float(np.max(np.abs(t)) + np.max(np.abs(l)))
    if lowest(0.0) >= -tolerance:
        return assembled(0.0)
    reach = float(np.max(np.abs(s))) * 3
    best = scipy.optimize.minimize_scalar(lambda x: -lowest(x), bounds=(-reach, reach))
    if lowest(best.x) >= -tolerance:
        return assembled(float(best.x))
    logger.warning("T, L, S are not a possible motion: the nearest that is one is used")
    values, vectors = np.linalg.eigh(assembled(float(best.x)))
    projected: FloatArray = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return projected
