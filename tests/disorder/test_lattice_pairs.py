"""Pairs of a vibrating crystal: each once, nearest images, ties shared, none beyond reach."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.oracles import cell_vectors
from tests.strategies import random_structure
from tests.supercell import (
    CUTOFF,
    SETTINGS,
    by_group,
    by_level,
    common_supercell,
    listed,
    model_of,
    structure_of,
)

from offbragg.crystal.cell import Cell
from offbragg.disorder.lattice_vibrations import LatticeVibrations

RTOL_ROUNDING = 1e-9  # of the largest element: two ways to invert matrices of condition 1e4


# --- 2 independent oracle ------------------------------------------------


@by_group
@by_level
def test_pairs_are_those_of_the_supercell_each_once(group, level):
    structure, n_cells = structure_of(group), SETTINGS[group][1]
    model, oracle = model_of(group, level), common_supercell(group, level)
    unit = model.coherent_unit(structure)
    displacements = model.displacements(unit)
    n, size = unit.n_atoms, np.abs(oracle.v).max()
    own = oracle.v[range(n), range(n)]
    assert_allclose(displacements.independent, own, rtol=0, atol=RTOL_ROUNDING * size)
    vectors = cell_vectors(structure.cell)
    seen = set()
    for block in displacements.pairs.blocks():
        assert not block.operation.any()
        for i, j, separation, v in zip(
            block.first, block.second, block.separation, block.covariance, strict=True
        ):
            cell = np.linalg.solve(vectors.T, unit.positions[i] - unit.positions[j] - separation)
            assert_allclose(cell, np.rint(cell), atol=1e-9)
            cell = np.rint(cell).astype(int)
            expected = oracle.between(cell, n_cells)[i, j]
            assert_allclose(v, expected, rtol=0, atol=RTOL_ROUNDING * size)
            seen.add((int(i), int(j), *(cell % n_cells).tolist()))
    assert len(seen) == sum(len(block.first) for block in displacements.pairs.blocks())
    assert len(seen) == n * (n * np.prod(n_cells) - 1)


# --- 3 exact limits ------------------------------------------------------


def test_reach_leaves_out_what_is_further():
    group = "P 1 21 1"
    model = model_of(group, "rigid")
    unit = model.coherent_unit(structure_of(group))
    every = listed(model, unit)
    for reach in (3.0, 8.0):
        kept = listed(replace(model, reach=reach), unit)
        expected = {
            (i, j, *np.round(r, 6))
            for block in every
            for i, j, r in zip(block.first, block.second, block.separation, strict=True)
            if np.linalg.norm(r) <= reach
        }
        found = {
            (i, j, *np.round(r, 6))
            for block in kept
            for i, j, r in zip(block.first, block.second, block.separation, strict=True)
        }
        assert found == expected
        assert 0 < len(found) < sum(len(block.first) for block in every)


# --- 4 invariances -------------------------------------------------------


def test_partners_are_nearest_images_and_ties_are_shared():
    # Cells L = ±N/2 along a are equally near in a right-angled cell: one order of a pair has one,
    # the other order the other, so that in the even part each has half of the weight.
    cell = Cell(7.0, 8.0, 7.5, 90.0, 90.0, 90.0)
    structure = random_structure(np.random.default_rng(11), 3, cell, spread=1.6)
    model = LatticeVibrations((4, 3, 1), cutoff=8.5)
    vectors, found = cell_vectors(cell), {}
    for block in model.displacements(structure).pairs.blocks():
        for i, j, r in zip(block.first, block.second, block.separation, strict=True):
            shift = structure.positions[i] - structure.positions[j] - r
            found.setdefault((int(i), int(j)), set()).add(
                tuple(np.rint(np.linalg.solve(vectors.T, shift)).astype(int).tolist())
            )
    every = {(x, y, 0) for x in (-1, 0, 1, 2) for y in (-1, 0, 1)}
    assert found == {
        (i, j): every - ({(0, 0, 0)} if i == j else set()) for i in range(3) for j in range(3)
    }


@pytest.mark.parametrize("group", ["P 1", "P -1"])
def test_both_orders_of_a_pair_are_mirrors_where_there_are_no_ties(group):
    model = LatticeVibrations((3, 3, 3), cutoff=CUTOFF)
    unit = model.coherent_unit(structure_of(group))
    pairs = {
        (i, j, *np.round(r, 6))
        for block in listed(model, unit)
        for i, j, r in zip(block.first, block.second, block.separation, strict=True)
    }
    assert {(j, i, *(-np.array(r))) for i, j, *r in pairs} == pairs
