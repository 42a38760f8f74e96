"""Lists of correlated pairs: blocks joined, values replaced, sums of motions."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.pairs import PairBlock, Pairs, PairValues, gathered, values_of

LENGTHS = (3, 1, 4, 2)


def made_blocks(seed=0):
    rng = np.random.default_rng(seed)
    return [
        PairBlock(
            rng.integers(0, 9, n), rng.integers(0, 9, n), rng.integers(0, 4, n),
            rng.normal(size=(n, 3)), rng.normal(size=(n, 3, 3)),
        )
        for n in LENGTHS
    ]  # fmt: skip


class Held(Pairs):
    """The pairs of given blocks."""

    is_isotropic = False

    def __init__(self, blocks):
        self.held = blocks

    def blocks(self):
        yield from self.held


@pytest.fixture
def pairs():
    return Held(made_blocks())


# --- 3 exact limits ------------------------------------------------------


def test_pairs_of_one_copy_turn_by_nothing(pairs):
    assert_array_equal(pairs.turns, np.eye(3)[None])
    assert_array_equal(PairValues(pairs, np.zeros(10)).turns, np.eye(3)[None])


def test_no_pairs_have_no_values():
    assert values_of(Held([])).shape == (0, 3, 3)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize(("n_pairs", "lengths"), [(1, [3, 1, 4, 2]), (4, [4, 4, 2]), (99, [10])])
def test_joined_blocks_are_the_same_pairs_in_their_order(n_pairs, lengths):
    given_blocks = made_blocks()
    found = list(gathered(iter(given_blocks), n_pairs))
    assert [len(block.first) for block in found] == lengths
    for name in ("first", "second", "operation", "separation", "covariance"):
        before, after = ([getattr(b, name) for b in bs] for bs in (given_blocks, found))
        assert_array_equal(np.concatenate(after), np.concatenate(before))
    assert list(gathered([], n_pairs)) == []


def test_values_come_back_in_their_order_at_the_places_of_their_source(pairs):
    values = np.arange(10.0)
    changed = PairValues(pairs, values)
    assert changed.is_isotropic
    assert_array_equal(values_of(Held(list(changed.blocks()))), values)
    for before, after in zip(pairs.blocks(), changed.blocks(), strict=True):
        for name in ("first", "second", "operation", "separation"):
            assert_array_equal(getattr(after, name), getattr(before, name))
    # Values of their own are no change.
    assert_array_equal(values_of(PairValues(pairs, values_of(pairs))), values_of(pairs))


def test_values_of_one_list_are_added(pairs):
    one, other = PairValues(pairs, np.arange(10.0)), PairValues(pairs, np.ones(10))
    total = (Displacements(pairs=one) + Displacements(pairs=other)).pairs
    assert_array_equal(values_of(total), np.arange(1.0, 11.0))
    assert (Displacements(pairs=one) + Displacements()).pairs is one


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("n", [9, 11])
def test_values_are_as_many_as_pairs(pairs, n):
    with pytest.raises(InputError, match=f"values must be one a pair, got {n}"):
        list(PairValues(pairs, np.zeros(n)).blocks())


def test_motions_of_two_lists_are_not_added(pairs):
    other = Held(made_blocks(1))
    with pytest.raises(InputError, match="two motions that reach across copies cannot be summed"):
        Displacements(pairs=pairs) + Displacements(pairs=other)
