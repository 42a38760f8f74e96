"""Groups of altlocs: those of one residue of one copy exclude each other."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tests.strategies import CRYSTALS, random_structure

from offbragg.disorder.base import alternatives_of


def made(crystal="triclinic"):
    """Two residues with altlocs, A and B, of which the second is of two kinds; one atom without."""
    cell, groups = CRYSTALS[crystal]
    structure = random_structure(np.random.default_rng(1), 7, cell, groups[0])
    structure.altlocs[:] = ["", "A", "B", "A", "B", "A", "B"]
    structure.residue_numbers[:] = [1, 1, 1, 1, 1, 2, 2]
    structure.residue_names[:] = ["ALA"] * 5 + ["SER", "THR"]
    structure.names[:] = ["N", "CA", "CA", "CB", "CB", "CA", "CA"]
    return structure


# --- 1 reference numbers -------------------------------------------------


def test_two_residues_by_hand():
    groups, alternatives = alternatives_of(made())
    assert groups.tolist() == [-1, 0, 0, 0, 0, 1, 1]
    assert alternatives.tolist() == [0, 1, 2, 1, 2, 1, 2]
    assert groups.dtype == alternatives.dtype == np.int64


# --- 3 exact limits ------------------------------------------------------


def test_no_altlocs_no_groups():
    structure = made()
    structure.altlocs[:] = ""
    groups, alternatives = alternatives_of(structure)
    assert np.all(groups == -1)
    assert len(set(alternatives.tolist())) == 1


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("crystal", ["monoclinic", "trigonal"])
def test_every_copy_has_groups_of_its_own(crystal):
    structure = made(crystal)
    groups, alternatives = alternatives_of(structure)
    every = structure.to_p1()
    in_cell, of_cell = alternatives_of(every)
    has = groups >= 0
    for copy, (found, which) in enumerate(
        zip(in_cell.reshape(-1, 7), of_cell.reshape(-1, 7), strict=True)
    ):
        assert_array_equal(found[~has], -1)
        assert_array_equal(found[has], groups[has] + 2 * copy)
        assert_array_equal(which, alternatives)


def test_the_order_of_atoms_does_not_matter():
    every = made("monoclinic").to_p1()
    order = np.random.default_rng(2).permutation(every.n_atoms)
    groups, alternatives = alternatives_of(every)
    shuffled, others = alternatives_of(every.take(order))
    assert_array_equal(others, alternatives[order])
    same = groups[:, None] == groups
    assert_array_equal(shuffled[:, None] == shuffled, same[np.ix_(order, order)])
