"""Held-out voxels: whole blocks of hkl, with every symmetry equivalent."""

import gemmi
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg import HklGrid, InputError
from offbragg.crystal.symmetry import laue_rotations
from offbragg.inference.held_out import (
    BLOCK_EDGES,
    canonical_equivalents,
    choose_folds,
    choose_held_out,
)

GROUPS = {
    "P 1": (21.0, 23.0, 27.0, 82.0, 95.0, 104.0),
    "P 1 21 1": (21.0, 23.0, 27.0, 90.0, 101.0, 90.0),
    "P 21 21 21": (21.0, 23.0, 27.0, 90.0, 90.0, 90.0),
    "P 41": (24.0, 24.0, 27.0, 90.0, 90.0, 90.0),
    "P 31": (24.0, 24.0, 27.0, 90.0, 90.0, 120.0),
    "P 2 3": (24.0, 24.0, 24.0, 90.0, 90.0, 90.0),
}


def voxels(group, d_min=1.7, sampling=1):
    """Miller indices (n, 3) of a sphere."""
    grid = HklGrid.from_resolution(GROUPS[group], d_min, (sampling,) * 3)
    return grid.hkl()[grid.within()]


def orbit(hkl, group):
    """All equivalents by gemmi's own operations, Friedel mates included, as tuples."""
    images = []
    for operation in gemmi.SpaceGroup(group).operations():
        # apply_to_hkl takes whole numbers: a fine multiple of the fractional index.
        image = np.array(operation.apply_to_hkl([round(12 * x) for x in hkl])) / 12
        images += [tuple(image), tuple(-image)]
    return images


def blocks_of(hkl, rotations, edge):
    """Number of the block that holds each voxel's canonical equivalent."""
    corner = np.floor(canonical_equivalents(hkl, rotations) / edge + 1e-6).astype(int)
    return np.unique(corner, axis=0, return_inverse=True)[1].ravel()


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
def test_the_canonical_equivalent_is_the_greatest_of_the_orbit(group):
    hkl = voxels(group, 6.0, 3)
    found = canonical_equivalents(hkl, laue_rotations(group))
    for own, best in zip(hkl, found, strict=True):
        expected = max(orbit(own, group), key=lambda x: (x[2], x[1], x[0]))
        assert best == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("group", GROUPS)
def test_every_equivalent_is_held_out_too(group):
    hkl = voxels(group)
    held = choose_held_out(hkl, laue_rotations(group), 0.15, np.random.default_rng(4))
    chosen = {tuple(x) for x in hkl[held]}
    assert len(chosen) > 100
    for own in chosen:
        for image in orbit(own, group):
            assert image in chosen


@pytest.mark.parametrize("group", ["P 1", "P 41"])
def test_folds_are_whole_blocks_of_equal_size_and_cover_everything(group):
    hkl, rotations = voxels(group), laue_rotations(group)
    folds = choose_folds(hkl, rotations, 5, np.random.default_rng(6))
    counts = np.bincount(folds, minlength=5)
    assert counts.sum() == len(hkl)
    assert counts.max() < 1.15 * counts.min()
    fold_of = {tuple(x): fold for x, fold in zip(hkl, folds, strict=True)}
    for own in list(fold_of)[::50]:
        assert {fold_of[image] for image in orbit(own, group)} == {fold_of[own]}
    edge = next(e for e in BLOCK_EDGES if blocks_of(hkl, rotations, e).max() + 1 >= 40)
    blocks = blocks_of(hkl, rotations, edge)
    for block in np.unique(blocks):
        assert len(np.unique(folds[blocks == block])) == 1


# --- 3 exact limits ------------------------------------------------------


def test_nothing_is_held_out_of_nothing():
    rng, rotations = np.random.default_rng(0), laue_rotations("P 1")
    assert not choose_held_out(voxels("P 1"), rotations, 0.0, rng).any()
    assert choose_held_out(np.empty((0, 3)), rotations, 0.3, rng).shape == (0,)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_about_the_fraction_is_held_out(group, fraction):
    # The blocks drawn overshoot by one block at most; with 40 or more that is a few per cent.
    hkl = voxels(group)
    rotations = laue_rotations(group)
    held = choose_held_out(hkl, rotations, fraction, np.random.default_rng(0))
    largest = max(np.bincount(blocks_of(hkl, rotations, edge)).max() for edge in BLOCK_EDGES)
    assert fraction <= held.mean() < fraction + largest / len(hkl)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("sampling", [1, 2])
@pytest.mark.parametrize("group", ["P 1", "P 21 21 21", "P 41", "P 31"])
def test_whole_blocks_are_held_out(group, sampling):
    hkl = voxels(group, 2.4, sampling)
    rotations = laue_rotations(group)
    for edge in (3, 5):
        held = choose_held_out(hkl, rotations, 0.2, np.random.default_rng(1), edge)
        block = blocks_of(hkl, rotations, edge)
        share = np.bincount(block, held) / np.bincount(block)
        assert set(share.tolist()) == {0.0, 1.0}


def test_neighbours_of_a_held_out_voxel_are_held_out():
    # Single voxels drawn at random would have a tenth of their neighbours held out.
    hkl = voxels("P 1 21 1", 1.7).astype(int)
    held = choose_held_out(
        hkl.astype(float), laue_rotations("P 1 21 1"), 0.1, np.random.default_rng(2)
    )
    is_held = {tuple(x): y for x, y in zip(hkl, held, strict=True)}
    steps = [tuple(sign * e) for e in np.eye(3, dtype=int) for sign in (1, -1)]
    neighbours = [
        is_held[image]
        for own, chosen in is_held.items()
        if chosen
        for step in steps
        if (image := tuple(np.add(own, step))) in is_held
    ]
    assert np.mean(neighbours) > 0.7


def test_the_largest_blocks_that_leave_enough_are_taken():
    rng, rotations = np.random.default_rng(0), laue_rotations("P 1")
    hkl = voxels("P 1", 1.7)  # 13 × 14 × 16 each way: far more than 40 blocks of 6
    assert_array_equal(
        choose_held_out(hkl, rotations, 0.1, np.random.default_rng(9)),
        choose_held_out(hkl, rotations, 0.1, np.random.default_rng(9), 6),
    )
    few = voxels("P 1", 7.0)  # 3 × 3 × 4 each way: blocks of 2
    assert choose_held_out(few, rotations, 0.1, rng).any()
    assert_array_equal(
        choose_held_out(few, rotations, 0.1, np.random.default_rng(9)),
        choose_held_out(few, rotations, 0.1, np.random.default_rng(9), 2),
    )


def test_the_seed_decides():
    hkl, rotations = voxels("P 41"), laue_rotations("P 41")
    first = choose_held_out(hkl, rotations, 0.1, np.random.default_rng(7))
    again = choose_held_out(hkl, rotations, 0.1, np.random.default_rng(7))
    other = choose_held_out(hkl, rotations, 0.1, np.random.default_rng(8))
    assert_array_equal(first, again)
    assert (first != other).any()


def test_which_equivalent_stands_for_an_orbit_does_not_matter():
    # A merged and an unmerged map name different members: the same are held out.
    rotations = laue_rotations("P 31")
    canonical = np.unique(canonical_equivalents(voxels("P 31", 2.0), rotations), axis=0)
    which = np.random.default_rng(0).integers(0, len(rotations), len(canonical))
    others = np.stack([x @ rotations[n] for x, n in zip(canonical, which, strict=True)])
    noise = np.random.default_rng(1).uniform(-1e-9, 1e-9, others.shape)
    assert_array_equal(
        choose_held_out(canonical, rotations, 0.2, np.random.default_rng(3)),
        choose_held_out(others + noise, rotations, 0.2, np.random.default_rng(3)),
    )


def test_inputs_are_not_changed():
    hkl, rotations = voxels("P 41", 4.0), laue_rotations("P 41")
    before = hkl.copy()
    choose_held_out(hkl, rotations, 0.2, np.random.default_rng(0))
    assert_array_equal(hkl, before)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, np.nan])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match="held_out must be at least 0 and below 1, got"):
        choose_held_out(np.zeros((3, 3)), laue_rotations("P 1"), fraction, np.random.default_rng(0))
