"""Which atoms of a structure are the nodes of a network, and which node each atom moves with."""

from __future__ import annotations

import numpy as np
import scipy.spatial.distance

from offbragg.conventions import BoolArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError

NODES = ("all", "calpha")


def altloc_sites(structure: AtomicStructure) -> tuple[IntArray, IntArray]:
    """Sites of a structure: the altlocs of an atom are one, every other atom is its own.

    Returns
    -------
    site_of_atom : ndarray, shape (n_atoms,), int64
    atom_of_site : ndarray, shape (n_sites,), int64
        The altloc of highest occupancy, the first of equals; the site is where it is.
    """
    seen: dict[tuple[object, ...], int] = {}
    places: dict[tuple[object, ...], int] = {}
    site_of_atom = np.empty(structure.n_atoms, dtype=np.int64)
    labels = zip(structure.chains, structure.residue_numbers, structure.names, strict=True)
    for atom, (place, altloc) in enumerate(zip(labels, structure.altlocs, strict=True)):
        # The second atom of the same name and altloc belongs to another copy, or has no name.
        turn = seen.get((place, altloc), 0)
        seen[place, altloc] = turn + 1
        site_of_atom[atom] = places.setdefault((place, turn), len(places))
    order = np.lexsort((np.arange(structure.n_atoms), -structure.occupancies, site_of_atom))
    _, starts = np.unique(site_of_atom[order], return_index=True)
    return site_of_atom, order[starts]


def nodes_of(structure: AtomicStructure, nodes: str) -> tuple[IntArray, IntArray]:
    """Nodes of a structure: all sites of `altloc_sites`, or the Cα atoms.

    Parameters
    ----------
    structure : AtomicStructure
    nodes : {"all", "calpha"}
        "calpha": an atom goes with its own residue's Cα, the nearest where several have its
        residue's name and number (copies, insertions); any other with the nearest Cα of all.

    Returns
    -------
    node_of_atom : ndarray, shape (n_atoms,), int64
    atom_of_node : ndarray, shape (n_nodes,), int64
        The atom where the node is.

    Raises
    ------
    InputError
        If there is no Cα.
    """
    site_of_atom, atom_of_site = altloc_sites(structure)
    if nodes == "all":
        return site_of_atom, atom_of_site
    calphas = np.flatnonzero((structure.names == "CA") & (structure.elements == "C"))
    if not len(calphas):
        raise InputError("nodes='calpha' needs carbon atoms named CA, found none: use nodes='all'")
    sites, node_of_calpha = np.unique(site_of_atom[calphas], return_inverse=True)
    atom_of_node = atom_of_site[sites]
    node_of_calpha = node_of_calpha.reshape(-1)
    at_calphas = structure.positions[atom_of_node][node_of_calpha]
    distances = scipy.spatial.distance.cdist(structure.positions, at_calphas)
    own = _same_residue(structure, calphas)
    distances[own.any(axis=1, keepdims=True) & ~own] = np.inf
    return node_of_calpha[np.argmin(distances, axis=1)], atom_of_node


def _same_residue(structure: AtomicStructure, others: IntArray) -> BoolArray:
    """Whether each atom has the residue's chain, name and number of each other, (n_atoms, n)."""
    labels = np.stack(
        [structure.chains, structure.residue_names, structure.residue_numbers.astype(str)]
    )
    _, index = np.unique(labels, axis=1, return_inverse=True)
    residue: IntArray = np.asarray(index, dtype=np.int64).reshape(-1)
    same: BoolArray = residue[:, None] == residue[others]
    return same
