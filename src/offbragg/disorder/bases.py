"""Bases of collective displacements for `BasisCovariance`, from a structure alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.basis import BasisCovariance
from offbragg.disorder.bodies import bodies_of, tls_basis
from offbragg.disorder.elastic_network import ElasticNetwork
from offbragg.disorder.fields import smooth_fields
from offbragg.disorder.residues import centroid_weights, principal_motions, residues_of
from offbragg.errors import InputError

#: Kinds that `basis_of` knows.
KINDS_OF_BASES = ("modes", "tls", "fields")
# Without ADPs in the file: a mean-square displacement that proteins have [Å²].
_USUAL_U = 0.2


def basis_of(
    structure: AtomicStructure,
    kind: str,
    *,
    n_modes: int = 10,
    bodies: Sequence[ArrayLike] | None = None,
    smoothing: float = 12.0,
) -> FloatArray:
    """Return collective displacements of a structure's atoms.

    Parameters
    ----------
    structure : AtomicStructure
    kind : {"modes", "tls", "fields"}
        "modes": the largest motions of an elastic network, of root mean square 1 Å. "tls": shifts
        [Å] and turns [rad] of rigid bodies. "fields": residues shifted along x, y and z by smooth
        fields, see `smooth_fields`.
    n_modes : int
        For "modes".
    bodies : sequence of arrays of atom indices, optional
        For "tls"; chains where not given.
    smoothing : float
        For "fields" [Å].

    Returns
    -------
    ndarray, shape (n_atoms, 3, n)

    Raises
    ------
    InputError
        If the kind is none of these, or no mode is asked for.

    Examples
    --------
    >>> from offbragg.made_crystal import make_peptide
    >>> peptide = make_peptide("GASM")
    >>> [basis_of(peptide, kind, n_modes=2).shape[2] for kind in ("modes", "tls", "fields")]
    [2, 6, 9]
    """
    if kind == "modes":
        network = ElasticNetwork(nodes="all").displacements(structure)
        motions, _ = principal_motions(network, structure, n_modes)
        sizes = np.sqrt(np.mean(np.sum(motions**2, axis=2), axis=1))
        return np.ascontiguousarray((motions / sizes[:, None, None]).transpose(1, 2, 0))
    if kind == "tls":
        return tls_basis(structure, bodies_of(structure) if bodies is None else bodies)
    if kind == "fields":
        residue, _ = residues_of(structure)
        centroids = centroid_weights(residue, structure.occupancies) @ structure.positions
        fields = smooth_fields(centroids, smoothing)[residue]
        shifts: FloatArray = np.einsum("ij,ab->iajb", fields, np.eye(3))
        return shifts.reshape(structure.n_atoms, 3, -1)
    raise InputError(f"basis must be one of {' '.join(KINDS_OF_BASES)} or an array, got {kind!r}")


def start_in_basis(structure: AtomicStructure, basis: FloatArray) -> BasisCovariance:
    """Return a covariance in a basis to start a fit from: half of the ADPs, each mode its share.

    Raises
    ------
    InputError
        If the basis is for other atoms, or has a mode that moves none.
    """
    if len(basis) != structure.n_atoms:
        raise InputError(
            f"basis must be for the structure's {structure.n_atoms} atoms, got {len(basis)}"
        )
    n_axes = 1 if basis.ndim == 2 else 3
    squares = np.sum(basis.reshape(structure.n_atoms, n_axes, -1) ** 2, axis=(0, 1))
    if not np.all(squares > 0):
        raise InputError(f"basis: mode {int(np.argmin(squares))} moves no atom")
    u = float(np.trace(structure.u_aniso, axis1=1, axis2=2).mean()) / 3.0 or _USUAL_U
    share = 0.5 * u * n_axes * structure.n_atoms / len(squares)
    return BasisCovariance(basis, share / squares)
