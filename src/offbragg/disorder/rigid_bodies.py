"""Several rigid bodies whose translations and rotations are correlated with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.tls import TlsGroup
from offbragg.disorder.base import DisorderModel, Parameter
from offbragg.disorder.basis import (
    as_direction,
    check_motion,
    covariance_in_basis,
    gradient_in_basis,
    root_of,
    symmetric_part,
)
from offbragg.disorder.bodies import as_bodies, as_origins, check_atoms_of, tls_basis
from offbragg.disorder.rigid_body import motion_matrix
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank


@dataclass(frozen=True, eq=False)
class RigidBodies(DisorderModel):
    r"""Rigid bodies, each with its own motion, correlated with those of the others.

    .. math:: V_{ij} = B_i\, M_{A(i) B(j)}\, B_j^T, \qquad B_i = [1 \mid -[r_i - r_0]_\times]

    with A(i) the body of atom i, and M the covariance of all bodies' translations t and rotations
    λ (small angles). The structure's own ADPs are not used.

    Attributes
    ----------
    bodies : sequence of arrays of atom indices, or of masks
        Atoms in none stand still.
    motion : ndarray, shape (6 n_bodies, 6 n_bodies)
        M in the order (t_x, t_y, t_z, λ_x, λ_y, λ_z) per body [Å², Å·rad, rad²], symmetric and
        positive semi-definite. The block of one body with itself is [[T, Sᵀ], [S, L]].
    origins : ndarray, shape (n_bodies, 3), or None
        r_0 of each body [Å]; None: the mean of its positions.

    Raises
    ------
    InputError
        If a shape does not match, bodies share atoms, or M is not symmetric or not positive
        semi-definite.

    Notes
    -----
    Displacements are a factor of rank 6 n_bodies.

    References
    ----------
    .. [1] Schomaker & Trueblood, Acta Cryst. B24, 63 (1968).

    Examples
    --------
    Two bodies that move against each other along x.

    >>> motion = np.zeros((12, 12))
    >>> motion[np.ix_([0, 6], [0, 6])] = [[0.1, -0.05], [-0.05, 0.1]]
    >>> RigidBodies([[0, 1], [2, 3]], motion).n_bodies
    2
    """

    bodies: Sequence[ArrayLike]
    motion: ArrayLike
    origins: ArrayLike | None = None

    def __post_init__(self) -> None:
        groups = as_bodies(self.bodies)
        object.__setattr__(self, "bodies", groups)
        motion = check_motion("motion", self.motion, 6 * len(groups))
        object.__setattr__(self, "motion", motion)
        object.__setattr__(self, "origins", as_origins(self.origins, len(groups)))

    @classmethod
    def from_tls(cls, groups: Sequence[TlsGroup], structure: AtomicStructure) -> RigidBodies:
        """Take TLS groups as independent bodies, each with its own T, L, S and origin.

        Parameters
        ----------
        groups : sequence of TlsGroup
            As `offbragg.crystal.tls.read_tls_groups` reads them for this structure.
        structure : AtomicStructure

        Raises
        ------
        InputError
            If there is no group, groups share atoms or hold atoms that are not there.

        Notes
        -----
        tr S changes no intensity and is chosen so that a group is a possible motion; a group that
        is none all the same is projected, with a warning in the log.
        """
        if not groups:
            raise InputError("expected at least one TLS group, got none")
        bodies = as_bodies([group.atoms for group in groups])
        check_atoms_of(bodies, structure.n_atoms)
        motions = [motion_matrix(g.translation, g.libration, g.screw) for g in groups]
        # Rounding of single groups that are used as given is cut here.
        roots = [root_of(motion) for motion in motions]
        motion = scipy.linalg.block_diag(*(root @ root.T for root in roots))
        return cls(bodies, motion, np.array([group.origin for group in groups]))

    @property
    def n_bodies(self) -> int:
        """Number of bodies."""
        return len(self.bodies)

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """M, all of it."""
        shape = np.shape(self.motion)
        return {"motion": Parameter("Å², Å·rad, rad²", -np.inf, np.inf, shape, is_covariance=True)}

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the factor ``B_i M^½`` of V [Å], 6 columns a body."""
        return Displacements(LowRank(self._basis(structure) @ root_of(np.asarray(self.motion))))

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return ``B_i dM B_jᵀ`` [Å²], dM the symmetric part of the direction's."""
        changes = as_direction(self, direction)
        change = changes.get("motion", np.zeros_like(np.asarray(self.motion)))
        return Displacements(covariance_in_basis(self._basis(structure), symmetric_part(change)))

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return ``dO/dM = Bᵀ (dO/dV) B``, symmetric."""
        return {"motion": symmetric_part(gradient_in_basis(self._basis(structure), gradient))}

    def _basis(self, structure: AtomicStructure) -> FloatArray:
        return tls_basis(structure, self.bodies, self.origins)
