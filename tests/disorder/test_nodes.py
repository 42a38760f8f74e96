"""Nodes of networks: altlocs are one site, atoms go with their residue's Cα."""

from dataclasses import replace

import numpy as np
from numpy.testing import assert_allclose
from tests.networks import cluster, joined, made, peptide

from offbragg.disorder.nodes import altloc_sites, nodes_of

# --- 3 exact limits ------------------------------------------------------


def test_sites_of_copies_and_of_nameless_atoms_stay_apart():
    structure = cluster(3)
    twice = joined(structure, structure)
    assert altloc_sites(twice)[0].tolist() == [0, 1, 2, 3, 4, 5]
    nameless = replace(structure, names=np.full(3, ""))
    assert altloc_sites(nameless)[0].tolist() == [0, 1, 2]


def test_an_atom_goes_with_its_own_residue_not_with_the_nearest_calpha():
    structure = peptide(6)
    positions = structure.positions.copy()
    calphas = np.flatnonzero(structure.names == "CA")
    positions[4] = positions[calphas[3]] + 0.1  # CB of residue 1, at the Cα of residue 4
    node_of, _ = nodes_of(replace(structure, positions=positions), "calpha")
    assert node_of[4] == 0


def test_calpha_nodes_of_copies_and_calcium():
    one, other = peptide(4), peptide(4, shift=30.0)
    node_of, at = nodes_of(joined(one, other), "calpha")
    half = one.n_atoms
    assert len(at) == 8
    assert node_of[:half].tolist() == [*np.repeat(np.arange(4), 5), node_of[half - 1]]
    assert_allclose(node_of[half:], node_of[:half] + 4)
    calcium = joined(one, made([[0, 0, 3.0]], names=np.array(["CA"]), elements=np.array(["Ca"])))
    assert len(nodes_of(calcium, "calpha")[1]) == 4
