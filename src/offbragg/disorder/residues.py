r"""How residues move together: correlations of their centroids, and the largest motions.

With the displacement of residue A the mean over its atoms, weighted by occupancy,
``δ_A = Σ_i w_i δ_i``,

.. math:: C_{AB} = \tfrac13 \langle \delta_A \cdot \delta_B \rangle
          = \tfrac13 \sum_{i \in A, j \in B} w_i w_j \operatorname{tr} V_{ij} .
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering.displacements import Displacements, LowRank

#: Copy, chain, number and name of a residue.
Residue = tuple[int, str, int, str]

_ROWS = 256  # atoms whose covariances with all others are worked out at once


@dataclass(frozen=True, eq=False)
class ResidueCorrelations:
    """Correlations of the displacements of residues' centroids.

    Attributes
    ----------
    labels : tuple of str
        Chain, name and number of each residue, in the order of the structure's atoms.
    numbers : ndarray, shape (n_residues,), int64
    chains : ndarray of str, shape (n_residues,)
    covariance : ndarray, shape (n_residues, n_residues), float64
        C per Cartesian axis [Å²].
    """

    labels: tuple[str, ...]
    numbers: IntArray
    chains: NDArray[np.str_]
    covariance: FloatArray

    @property
    def correlation(self) -> FloatArray:
        """``C_AB / √(C_AA C_BB)``, 1 on the diagonal; 0 with residues that stand still."""
        own = np.diag(self.covariance)
        sizes = np.sqrt(np.where(own > 0, own, np.inf))
        correlation: FloatArray = self.covariance / sizes[:, None] / sizes
        np.fill_diagonal(correlation, 1.0)
        return correlation


def residue_correlations(
    displacements: Displacements, structure: AtomicStructure
) -> ResidueCorrelations:
    """Correlate the centroids of residues.

    Parameters
    ----------
    displacements : Displacements
        Of the structure's atoms, within one unit.
    structure : AtomicStructure

    Returns
    -------
    ResidueCorrelations

    Raises
    ------
    InputError
        If motions reach across copies, or the displacements are of other atoms.

    Examples
    --------
    A rigid body: all residues move as one.

    >>> from offbragg.disorder import RigidBody
    >>> from offbragg.made_crystal import make_peptide
    >>> peptide = make_peptide("GAS")
    >>> found = residue_correlations(RigidBody(0.1).displacements(peptide), peptide)
    >>> found.correlation.round(6).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    _check(displacements, structure)
    n = structure.n_atoms
    residue, keys = residues_of(structure)
    weights = centroid_weights(residue, structure.occupancies)
    covariance = np.zeros((len(keys), len(keys)))
    every = np.arange(n)
    for chunk in iter_chunks(n, _ROWS):
        v = displacements.block(every[chunk], every)
        scalars = v if v.ndim == 2 else np.trace(v, axis1=2, axis2=3) / 3.0
        covariance += weights[:, chunk] @ scalars @ weights.T
    if displacements.independent is not None:
        own = np.trace(displacements.independent, axis1=1, axis2=2) / 3.0
        covariance[np.diag_indices(len(keys))] += weights**2 @ own
    return named_correlations(keys, covariance)


def residues_of(structure: AtomicStructure) -> tuple[IntArray, list[Residue]]:
    """Residue of each atom (n_atoms,), and each residue's copy, chain, number and name."""
    names = zip(
        structure.copies, structure.chains, structure.residue_numbers, structure.residue_names,
        strict=True,
    )  # fmt: skip
    found: dict[Residue, int] = {}
    residue = [
        found.setdefault((int(a), str(b), int(c), str(d)), len(found)) for a, b, c, d in names
    ]
    return np.array(residue, dtype=np.int64), list(found)


def centroid_weights(group: IntArray, occupancies: FloatArray) -> FloatArray:
    """Weights (n_groups, n_atoms) of atoms in the centroids of their groups, by occupancy."""
    shares = np.maximum(occupancies, 1e-6)
    total = np.bincount(group, shares)
    weights = np.zeros((len(total), len(group)))
    weights[group, np.arange(len(group))] = shares / total[group]
    return weights


def named_correlations(residues: list[Residue], covariance: FloatArray) -> ResidueCorrelations:
    """Put a covariance (n_residues, n_residues) [Å²] beside the names of its residues."""
    return ResidueCorrelations(
        labels=tuple(f"{chain} {kind} {number}".strip() for _, chain, number, kind in residues),
        numbers=np.array([residue[2] for residue in residues], dtype=np.int64),
        chains=np.array([residue[1] for residue in residues]),
        covariance=covariance,
    )


def labelled_correlations(labels: Sequence[str], covariance: ArrayLike) -> ResidueCorrelations:
    """Put labels, as `ResidueCorrelations` has them, and a covariance [Å²] together again.

    Raises
    ------
    InputError
        If a label does not end in a number, or the covariance is not one of so many residues.

    Examples
    --------
    >>> labelled_correlations(["A GLY 1", "A ALA 2"], [[0.1, 0.0], [0.0, 0.2]]).numbers.tolist()
    [1, 2]
    """
    parts = [str(label).split() for label in labels]
    try:
        numbers = np.array([int(part[-1]) for part in parts], dtype=np.int64)
        matrix = np.array(covariance, dtype=np.float64)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"residues: expected labels that end in a number, {error}") from None
    if matrix.shape != (len(parts), len(parts)):
        raise InputError(f"covariance must be {(len(parts),) * 2}, got {matrix.shape}")
    # A chain may have no name.
    chains = np.array([part[0] if len(part) > 2 else "" for part in parts])
    return ResidueCorrelations(tuple(map(str, labels)), numbers, chains, matrix)


def principal_motions(
    displacements: Displacements, structure: AtomicStructure, n_motions: int = 3
) -> tuple[FloatArray, FloatArray]:
    """Return the largest independent motions of a covariance: its leading eigenvectors.

    Parameters
    ----------
    displacements : Displacements
        Of the structure's atoms, within one unit; motion of each atom by itself counts too.
    structure : AtomicStructure
    n_motions : int

    Returns
    -------
    motions : ndarray, shape (n_motions, n_atoms, 3), float64
        Displacements of one standard deviation [Å]: eigenvectors times the roots of their
        eigenvalues, largest first. Fewer where V has a lower rank.
    shares : ndarray, shape (n_motions,)
        Of the sum of all eigenvalues, ``Σ tr V_ii``. An isotropic V has each motion three times,
        once along every axis.

    Raises
    ------
    InputError
        As `residue_correlations`, or if no motion is asked for.
    """
    _check(displacements, structure)
    if n_motions < 1:
        raise InputError(f"n_motions must be at least 1, got {n_motions}")
    n = structure.n_atoms
    total = float(np.trace(displacements.u_aniso(n), axis1=1, axis2=2).sum())
    if total == 0:
        return np.empty((0, n, 3)), np.empty(0)
    factor = displacements.correlated
    if isinstance(factor, LowRank) and displacements.independent is None:
        flat = factor.factor
        if factor.is_isotropic:
            flat = np.einsum("ik,ab->iakb", flat, np.eye(3)).reshape(n, 3, -1)
        left, sizes, _ = np.linalg.svd(flat.reshape(3 * n, -1), full_matrices=False)
        values, vectors = sizes**2, left
    else:
        v = displacements.dense(n)
        v = v[:, :, None, None] * np.eye(3) if v.ndim == 2 else v
        matrix = v.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
        if n_motions < 3 * n - 1:
            values, vectors = scipy.sparse.linalg.eigsh(
                matrix, k=n_motions, v0=np.ones(3 * n) / np.arange(1, 3 * n + 1)
            )
        else:
            values, vectors = np.linalg.eigh(matrix)
        values, vectors = values[::-1], vectors[:, ::-1]
    kept = values[:n_motions] > 1e-12 * total
    values, vectors = values[:n_motions][kept], vectors[:, :n_motions][:, kept]
    motions = (vectors * np.sqrt(values)).T.reshape(-1, n, 3)
    # A sign that does not depend on how they were found: the largest component is positive.
    largest = np.abs(motions.reshape(len(motions), -1)).argmax(axis=1)
    signs = np.sign(motions.reshape(len(motions), -1)[np.arange(len(motions)), largest])
    return motions * signs[:, None, None], values / total


def _check(displacements: Displacements, structure: AtomicStructure) -> None:
    if displacements.pairs is not None:
        raise InputError("correlations of residues need a covariance within one unit")
    displacements.check_shapes(structure.n_atoms)
