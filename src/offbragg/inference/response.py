"""The design of a linear inference: how a map's voxels answer to the covariance of groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from offbragg.conventions import TWO_PI, FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import space_group_operations
from offbragg.disorder.fields import smooth_fields
from offbragg.disorder.residues import centroid_weights
from offbragg.runtime import iter_chunks
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.form_factors import compute_form_factors
from offbragg.scattering.group_response import group_response

# Atoms whose covariances with all others are averaged over groups at once; bytes of a chunk of
# amplitudes.
_ROWS, _CHUNK = 256, 100e6


@dataclass(frozen=True, eq=False)
class GroupFields:
    """Changes of the covariance of groups of atoms, in a basis.

    ``dV_rs = w_rs Σ_αβ B_rα C_αβ B_sβ`` with smooth fields B over the groups' centroids and a
    window ``w_rs = exp(−d_rs² / 2 reach²)``, so that a change fades with distance.

    Attributes
    ----------
    group : ndarray, shape (n_atoms,), int64
    centroids : ndarray, shape (n_groups, 3)
    fields : ndarray, shape (n_groups, n_fields)
    window : ndarray, shape (n_groups, n_groups)
    """

    group: IntArray
    centroids: FloatArray
    fields: FloatArray
    window: FloatArray

    @classmethod
    def of(
        cls,
        structure: AtomicStructure,
        group: IntArray,
        smoothing: float,
        reach: float,
        n_most: int | None = None,
    ) -> GroupFields:
        """Make the fields over a structure's groups; lengths in Å."""
        centroids = centroid_weights(group, structure.occupancies) @ structure.positions
        window = np.exp(-0.5 * (cdist(centroids, centroids) / reach) ** 2)
        return cls(group, centroids, smooth_fields(centroids, smoothing, n_most), window)

    @property
    def n_numbers(self) -> int:
        """Numbers of the symmetric C."""
        n = 3 * int(self.fields.shape[1])
        return n * (n + 1) // 2

    @property
    def scales(self) -> FloatArray:
        """Standard deviation (n_numbers,) of each number where C is that of random fields.

        C = (Z + Zᵀ)/√2 of independent Z has twice the variance on its diagonal.
        """
        rows, columns = np.triu_indices(3 * self.fields.shape[1])
        return np.where(rows == columns, np.sqrt(2.0), 1.0)

    def covariance(self, numbers: FloatArray) -> FloatArray:
        """Return dV (n_groups, n_groups, 3, 3) [Å²] for the numbers of C, upper triangle."""
        n_fields = self.fields.shape[1]
        c = np.zeros((3 * n_fields, 3 * n_fields))
        rows, columns = np.triu_indices(3 * n_fields)
        c[rows, columns] = numbers
        c[columns, rows] = numbers
        blocks = c.reshape(n_fields, 3, n_fields, 3)
        changed = np.einsum("rj,jakb,sk->rsab", self.fields, blocks, self.fields, optimize=True)
        return np.asarray(self.window[:, :, None, None] * changed)


def group_covariance(
    displacements: Displacements, group: IntArray, occupancies: FloatArray
) -> FloatArray:
    """Covariance (n_groups, n_groups, 3, 3) [Å²] of the groups' centroids."""
    weights = centroid_weights(group, occupancies)
    n, n_groups = len(group), len(weights)
    total = np.zeros((n_groups, n_groups, 3, 3))
    every = np.arange(n)
    for chunk in iter_chunks(n, _ROWS):
        v = displacements.block(every[chunk], every)
        if v.ndim == 2:
            part = weights[:, chunk] @ v @ weights.T
            total += part[:, :, None, None] * np.eye(3)
        else:
            total += np.einsum("ri,ijab,sj->rsab", weights[:, chunk], v, weights, optimize=True)
    if displacements.independent is not None:
        own = np.einsum("ri,iab->rab", weights**2, displacements.independent)
        total[np.arange(n_groups), np.arange(n_groups)] += own
    return total


def response_columns(
    structure: AtomicStructure,
    displacements: Displacements,
    hkl: FloatArray,
    fields: GroupFields,
) -> NDArray[np.float32]:
    """Derivatives of a cell's diffuse intensity by the numbers of C, times their `scales`.

    Parameters
    ----------
    structure : AtomicStructure
        One asymmetric unit; its cell gives q, its space group the copies.
    displacements : Displacements
        About which the intensity is linearised.
    hkl : ndarray, shape (n, 3)
    fields : GroupFields

    Returns
    -------
    ndarray, shape (n, fields.n_numbers), float32
        [e² / Å²]

    Notes
    -----
    Atoms of a group are taken to answer alike; see `group_response`.
    """
    covariance = group_covariance(displacements, fields.group, structure.occupancies)
    u_aniso = displacements.u_aniso(structure.n_atoms)
    rotations = space_group_operations(structure.space_group).rotations
    to_q = TWO_PI * structure.require_cell().frac_matrix
    n_groups = len(fields.centroids)
    member = np.zeros((structure.n_atoms, n_groups), dtype=np.float32)
    member[np.arange(structure.n_atoms), fields.group] = 1.0
    out = np.empty((len(hkl), fields.n_numbers), dtype=np.float32)
    at_once = max(1, int(_CHUNK / (len(rotations) * structure.n_atoms * 16)))
    scales = fields.scales.astype(np.float32)
    for rows in iter_chunks(len(hkl), at_once):
        q = np.stack([hkl[rows] @ rotation @ to_q for rotation in rotations], axis=1)
        flat = q.reshape(-1, 3)
        f = compute_form_factors(structure.elements, flat, structure.occupancies)
        f = f * np.exp(-0.5 * np.einsum("qa,iab,qb->qi", flat, u_aniso, flat, optimize=True))
        phase = flat @ structure.positions.T
        re = (f * np.cos(phase)).astype(np.float32) @ member
        im = (f * np.sin(phase)).astype(np.float32) @ member
        amplitudes = (re + 1j * im).reshape(*q.shape[:2], n_groups)
        answered = group_response(q, amplitudes, covariance, fields.fields, fields.window)
        out[rows] = answered * scales
    return out
