r"""Motions of low rank without a guess: a factor P of ``V = P Pᵀ`` to start a fit from."""

from __future__ import annotations

from typing import Any

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.bases import basis_of
from offbragg.disorder.basis import BasisCovariance
from offbragg.disorder.covariance import Covariance
from offbragg.disorder.residues import principal_motions
from offbragg.errors import InputError
from offbragg.inference.first_order import start_from_map
from offbragg.maps.diffuse_map import DiffuseMap

# Fields at most: C of 45 has a thousand numbers, which a usual map determines.
_MOST_FIELDS = 45
# Smoothing lengths that are tried [Å], each so many times the one before.
_LEAST_SMOOTHING, _WIDER = 6.0, 1.15
# Added to C on its diagonal, as a fraction of its mean variance: a column of P that is zero has no
# slope, and would stay so.
_FLOOR = 1e-4


def low_rank_start(
    observed: DiffuseMap,
    structure: AtomicStructure,
    rank: int,
    *,
    basis: FloatArray | None = None,
    share: float = 0.7,
    **options: Any,
) -> Covariance:
    """Return the largest motions that a map shows to first order, each atom's free from there.

    Parameters
    ----------
    observed : DiffuseMap
    structure : AtomicStructure
    rank : int
        Motions.
    basis : ndarray, shape (n_atoms, 3, n_modes) or (n_atoms, n_modes), optional
        What `start_from_map` looks in; `coarse_fields` where not given.
    share : float
        Of the structure's mean U that the motions have.
    **options
        ``d_min``, ``d_max`` and ``background`` of `start_from_map`.

    Returns
    -------
    Covariance
        With its factor, (n_atoms, 3, rank).

    Raises
    ------
    InputError
        As `start_from_map`, or if the rank is below 1 or above what the basis has.

    Examples
    --------
    >>> from offbragg import HklGrid, simulate
    >>> from offbragg.made_crystal import make_peptide
    >>> peptide = make_peptide("GASM", u=0.1)
    >>> bend = np.cross([0.1, 0.0, 0.0], peptide.positions - peptide.positions.mean(axis=0))
    >>> truth = Covariance.from_factor(bend[:, :, None])
    >>> made = simulate(peptide, truth, HklGrid.from_resolution(peptide.cell, 2.0))
    >>> start = low_rank_start(made, peptide, 1, basis=basis_of(peptide, "tls"))
    >>> found = start.factor[:, :, 0]
    >>> overlap = np.sum(found * bend) / np.linalg.norm(found) / np.linalg.norm(bend)
    >>> bool(abs(overlap) > 0.9)
    True
    """
    if rank < 1:
        raise InputError(f"rank must be at least 1, got {rank}")
    b = coarse_fields(structure) if basis is None else np.asarray(basis, dtype=np.float64)
    lifted = start_from_map(observed, structure, b, share=share, **options)
    c = lifted.coefficients
    floor = _FLOOR * np.mean(np.diag(c)) * np.eye(len(c))
    displacements = BasisCovariance(b, c + floor).displacements(structure)
    motions, _ = principal_motions(displacements, structure, rank)
    if len(motions) < rank:
        raise InputError(f"rank must be at most {len(motions)}, the basis's, got {rank}")
    # All of the amplitude in the motions that are kept.
    wanted = share * float(np.trace(structure.u_aniso, axis1=1, axis2=2).sum())
    factor = motions.transpose(1, 2, 0) * np.sqrt(wanted / float(np.sum(motions**2)))
    return Covariance.from_factor(np.ascontiguousarray(factor))


def coarse_fields(structure: AtomicStructure) -> FloatArray:
    """Return smooth shifts of residues, as fine as 45 of them allow: (n_atoms, 3, n_fields)."""
    smoothing = _LEAST_SMOOTHING
    while (fields := basis_of(structure, "fields", smoothing=smoothing)).shape[2] > _MOST_FIELDS:
        smoothing *= _WIDER
    return fields
