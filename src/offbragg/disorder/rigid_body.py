"""Rigid bodies: groups of atoms that translate, librate and screw as one (TLS)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike

from offbragg.conventions import ComplexArray, FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import ENGINE, DisorderModel, Parameter
from offbragg.disorder.basis import (
    as_direction,
    covariance_in_basis,
    gradient_in_basis,
    root_of,
    symmetric_part,
)
from offbragg.disorder.bodies import as_bodies, check_atoms_of, lever_arms
from offbragg.disorder.covariance import PSD_TOLERANCE
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.on_lattice import uncorrelated_on_lattice
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
            set_field(self, "bodies", as_bodies(self.bodies))

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """T, and those of L and S that the model has, as whole tensors."""
        tensors = {"translation": "Å²", "libration": "rad²", "screw": "Å·rad"}
        return {
            name: Parameter(unit, -np.inf, np.inf, (3, 3), is_covariance=name != "screw")
            for name, unit in tensors.items()
            if getattr(self, name) is not None
        }

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the factor ``B_i M^½`` of V [Å]: 6 columns a body, 3 if it only translates."""
        root = root_of(self._motion()[: self._n_columns, : self._n_columns])
        bodies, n = self._bodies(structure.n_atoms), self._n_columns
        factor = np.zeros((structure.n_atoms, 3, n * max(len(bodies), 1)))
        for number, body in enumerate(bodies):
            factor[body, :, n * number : n * (number + 1)] = self._arms(structure, body) @ root
        return Displacements(LowRank(factor))

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return ``B_i dM B_jᵀ`` [Å²]: of T and L the symmetric part of the direction counts.

        Where another trace of S is chosen, how that choice changes is left out: it changes no
        intensity.

        Raises
        ------
        InputError
            If T, L and S are no possible motion, whatever the trace of S: V is then of another M.
        """
        changes = as_direction(self, direction)
        if not _with_best_trace(self.translation, self.libration, self.screw)[1]:
            raise InputError("T, L, S are not a possible motion: no derivative by them")
        change = np.zeros((6, 6))
        if "translation" in changes:
            change[:3, :3] = symmetric_part(changes["translation"])
        if "libration" in changes:
            change[3:, 3:] = symmetric_part(changes["libration"])
        if "screw" in changes:
            change[3:, :3] = changes["screw"]
            change[:3, 3:] = changes["screw"].T
        change = change[: self._n_columns, : self._n_columns]
        correlated = np.zeros((structure.n_atoms, structure.n_atoms, 3, 3))
        for body in self._bodies(structure.n_atoms):
            arms = self._arms(structure, body)
            correlated[np.ix_(body, body)] = covariance_in_basis(arms, change)
        return Displacements(correlated)

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return dO/dT and dO/dL, symmetric, and dO/dS, all nine."""
        by_motion = np.zeros((6, 6))
        n = self._n_columns
        bodies = self._bodies(structure.n_atoms)
        for body in bodies if gradient.correlated is not None else ():
            block = Displacements(gradient.block(body, body))
            by_motion[:n, :n] += gradient_in_basis(self._arms(structure, body), block)
        result = {"translation": symmetric_part(by_motion[:3, :3])}
        if self.libration is not None:
            result["libration"] = symmetric_part(by_motion[3:, 3:])
        if self.screw is not None:
            result["screw"] = by_motion[3:, :3] + by_motion[:3, 3:].T
        return result

    def diffuse_on_lattice(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        adps: str = "model",
        engine: Engine = ENGINE,
    ) -> FloatArray | ComplexArray:
        """Diffuse intensity [e²] of one copy; closed form for one body that only translates."""
        plain = engine.method == "auto" and engine.wavelength is None
        plain = plain and engine.altlocs == "together" and lattice.voxel is None
        if not (plain and self.bodies is None and self._n_columns == 3):
            return super().diffuse_on_lattice(lattice, structure, adps, engine)
        translation = np.asarray(self.translation)
        atoms = (structure.elements, structure.occupancies)
        u_model = np.broadcast_to(translation, (structure.n_atoms, 3, 3))
        independent = np.zeros_like(u_model)
        if adps != "model":
            independent = self.with_adps(structure, adps).u_aniso(structure.n_atoms) - u_model
        f_calc = structure_factors_on_lattice(
            lattice, structure.positions, *atoms, independent, 1e-4 * engine.rtol
        )
        damped = -np.expm1(-lattice.quadratic_form(translation))
        intensity = damped * (f_calc.real**2 + f_calc.imag**2)
        if np.any(independent):
            intensity += uncorrelated_on_lattice(lattice, *atoms, independent, engine).real
        return intensity

    @property
    def _n_columns(self) -> int:
        return 3 if self.libration is None and self.screw is None else 6

    def _motion(self) -> FloatArray:
        return motion_matrix(self.translation, self.libration, self.screw)

    def _arms(self, structure: AtomicStructure, body: IntArray) -> FloatArray:
        """B_i of a body's atoms, shape (n_members, 3, 6), or (n_members, 3, 3)."""
        positions = structure.positions[body]
        if self.origin is not None:
            return lever_arms(positions - np.asarray(self.origin))[:, :, : self._n_columns]
        centroid = positions.mean(axis=0) if len(positions) else np.zeros(3)
        return lever_arms(positions - centroid)[:, :, : self._n_columns]

    def _bodies(self, n_atoms: int) -> tuple[IntArray, ...]:
        if self.bodies is None:
            return (np.arange(n_atoms),)
        bodies = tuple(np.asarray(body) for body in self.bodies)
        check_atoms_of(bodies, n_atoms)
        return bodies


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


def motion_matrix(
    translation: ArrayLike, libration: ArrayLike | None = None, screw: ArrayLike | None = None
) -> FloatArray:
    """M = [[T, Sᵀ], [S, L]] (6, 6), with a trace of S, or a projection, that makes it PSD.

    Where the tensors are no possible motion whatever the trace of S, negative eigenvalues are set
    to zero, with a warning in the log.
    """
    motion, is_possible = _with_best_trace(translation, libration, screw)
    if is_possible:
        return motion
    logger.warning("T, L, S are not a possible motion: the nearest that is one is used")
    values, vectors = np.linalg.eigh(motion)
    projected: FloatArray = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return projected


def _with_best_trace(
    translation: ArrayLike, libration: ArrayLike | None, screw: ArrayLike | None
) -> tuple[FloatArray, bool]:
    """M with tr S as given, or else as makes its lowest eigenvalue highest; whether M is PSD."""
    t = np.asarray(translation, dtype=np.float64)
    l = np.zeros((3, 3)) if libration is None else np.asarray(libration)  # noqa: E741
    s = np.zeros((3, 3)) if screw is None else np.asarray(screw)

    def assembled(shift: float) -> FloatArray:
        shifted = s + shift * np.eye(3)
        return np.block([[t, shifted.T], [shifted, l]])

    def lowest(shift: float) -> float:
        return float(np.linalg.eigvalsh(assembled(shift))[0])

    tolerance = PSD_TOLERANCE * float(np.max(np.abs(t)) + np.max(np.abs(l)))
    if lowest(0.0) >= -tolerance:
        return assembled(0.0), True
    reach = float(np.max(np.abs(s))) * 3
    best = float(scipy.optimize.minimize_scalar(lambda x: -lowest(x), bounds=(-reach, reach)).x)
    return assembled(best), lowest(best) >= -tolerance
