"""Second moments of displacements: sums, factors, blocks, against dense arrays by einsum."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import blocks
from tests.strategies import random_covariance, random_u

from offbragg.errors import InputError
from offbragg.scattering.displacements import (
    Displacements,
    LowRank,
    PairCovariance,
    as_blocks,
    as_scalars,
    check_covariance,
)
from offbragg.scattering.pairs import Pairs

ROUNDING = 1e-13  # of numbers near 1: a few operations each
N = 6
EVERY = np.arange(N)


class HeldBack(PairCovariance):
    """A covariance given pair by pair from a table that the test keeps."""

    def __init__(self, table):
        self.table = table

    @property
    def is_isotropic(self):
        return self.table.ndim == 2

    @property
    def n_atoms(self):
        return len(self.table)

    def diagonal(self):
        return self.table[np.arange(self.n_atoms), np.arange(self.n_atoms)]

    def block(self, first, second):
        return self.table[first][:, second]

    def pairs(self, first, second):
        return self.table[first, second]


class NoPairs(Pairs):
    """Pairs of nobody."""

    def __init__(self, is_isotropic=True):
        self._is_isotropic = is_isotropic

    @property
    def is_isotropic(self):
        return self._is_isotropic

    def blocks(self):
        yield from ()


def factor(seed, *, isotropic, rank=3):
    rng = np.random.default_rng(seed)
    return LowRank(0.3 * rng.normal(size=(N, rank) if isotropic else (N, 3, rank)))


def parts(seed=0):
    """One correlated part of every kind."""
    rng = np.random.default_rng(seed)
    scalar = random_covariance(rng, N, 0.2, anisotropic=False)
    tensor = random_covariance(rng, N, 0.2)
    return {
        "none": None,
        "scalars": scalar,
        "tensors": tensor,
        "scalar factor": factor(seed, isotropic=True),
        "tensor factor": factor(seed, isotropic=False, rank=2),
        "scalar pairs": HeldBack(scalar * 0.7),
        "tensor pairs": HeldBack(tensor * 0.7),
    }


def expected(part):
    """V as (n, n, 3, 3), whatever holds it."""
    if part is None:
        return np.zeros((N, N, 3, 3))
    return blocks(part.table if isinstance(part, HeldBack) else part).copy()


KINDS = sorted(parts())


# --- 1 reference numbers -------------------------------------------------


def test_a_factor_by_hand():
    low = LowRank(np.array([[1.0, 2.0], [3.0, 0.0]]))
    assert low.dense().tolist() == [[5.0, 3.0], [3.0, 9.0]]
    assert low.diagonal().tolist() == [5.0, 9.0]
    assert low.shape == (2, 2)


def test_a_factor_of_tensors_by_hand():
    # Two atoms move along x and y by the same amount: V_12 has its row from the first atom.
    low = LowRank(np.array([[[2.0], [0.0], [0.0]], [[0.0], [3.0], [0.0]]]))
    assert low.shape == (2, 2, 3, 3)
    assert low.pairs(np.array([0]), np.array([1]))[0].tolist() == [[0, 6, 0], [0, 0, 0], [0, 0, 0]]
    assert low.pairs(np.array([1]), np.array([0]))[0].tolist() == [[0, 0, 0], [6, 0, 0], [0, 0, 0]]


def test_a_whole_by_hand():
    moves = Displacements(np.array([[0.2, 0.1], [0.1, 0.3]]), np.stack([np.eye(3), 2 * np.eye(3)]))
    assert_allclose(moves.dense(2), [[1.2, 0.1], [0.1, 2.3]], rtol=ROUNDING)
    assert_allclose(moves.u_aniso(2)[1], 2.3 * np.eye(3), rtol=ROUNDING)
    assert_allclose(moves.own_diagonal(2)[0], 0.2 * np.eye(3), rtol=ROUNDING)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("rank", [1, 4, 25])
def test_a_factor_is_its_dense_matrix(isotropic, rank):
    low = factor(rank, isotropic=isotropic, rank=rank)
    whole = blocks(low)  # by einsum, 3 × 3 blocks
    dense = low.dense() if not isotropic else low.dense()[:, :, None, None] * np.eye(3)
    assert_allclose(dense, whole, atol=ROUNDING * rank)
    first, second = np.array([3, 0, 0, 5]), np.array([1, 0, 4])
    block = low.block(first, second)
    assert block.shape == ((4, 3) if isotropic else (4, 3, 3, 3))
    picked = whole[first][:, second]
    assert_allclose(as_blocks(block), picked, atol=ROUNDING * rank)
    i, j = np.array([0, 2, 5]), np.array([1, 2, 0])
    pairs = low.pairs(i, j)
    assert_allclose(pairs if not isotropic else pairs[:, None, None] * np.eye(3), whole[i, j],
                    atol=ROUNDING * rank)  # fmt: skip
    own = low.diagonal()
    assert_allclose(own if not isotropic else own[:, None, None] * np.eye(3), whole[EVERY, EVERY],
                    atol=ROUNDING * rank)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("still", ["none", "isotropic", "anisotropic"])
def test_every_kind_gives_its_dense_matrix_and_diagonal(kind, still):
    part = parts()[kind]
    u = {
        "none": None,
        "isotropic": np.linspace(0.1, 0.4, N)[:, None, None] * np.eye(3),
        "anisotropic": random_u(np.random.default_rng(2), N),
    }[still]
    moves = Displacements(part, u)
    whole = expected(part)
    if u is not None:
        whole[EVERY, EVERY] += u
    found = moves.dense(N)
    assert (found.ndim == 2) == moves.is_isotropic
    assert moves.is_isotropic == ("tensor" not in kind and still != "anisotropic")
    assert_allclose(as_blocks(found), whole, atol=ROUNDING)
    assert_allclose(moves.u_aniso(N), whole[EVERY, EVERY], atol=ROUNDING)
    first, second = np.array([4, 1]), np.array([1, 2, 5])
    assert_allclose(as_blocks(moves.block(first, second)), expected(part)[first][:, second],
                    atol=ROUNDING)  # fmt: skip


@pytest.mark.parametrize(("a", "b"), list(itertools.product(KINDS, KINDS)))
def test_sums_of_every_two_kinds_are_sums_of_matrices(a, b):
    one, two = parts(1)[a], parts(2)[b]
    u = random_u(np.random.default_rng(4), N)
    total = Displacements(one, u) + Displacements(two)
    whole = expected(one) + expected(two)
    whole[EVERY, EVERY] += u
    assert_allclose(as_blocks(total.dense(N)), whole, atol=ROUNDING)
    again = Displacements(two) + Displacements(one, u)
    assert_allclose(again.dense(N), total.dense(N), atol=ROUNDING)


# --- 3 exact limits ------------------------------------------------------


def test_nothing_moves():
    nothing = Displacements()
    assert nothing.is_isotropic
    assert not nothing.dense(3).any()
    assert not nothing.u_aniso(3).any()
    assert not nothing.block(EVERY, EVERY[:2]).any()
    assert (nothing + nothing).correlated is None
    nothing.check_shapes(3)


def test_a_factor_of_rank_none_is_no_motion():
    assert_array_equal(LowRank(np.empty((N, 0))).dense(), np.zeros((N, N)))
    assert_array_equal(LowRank(np.empty((N, 3, 0))).dense(), np.zeros((N, N, 3, 3)))
    assert_array_equal(LowRank(np.empty((N, 3, 0))).diagonal(), np.zeros((N, 3, 3)))


def test_factors_of_one_form_stay_factors():
    total = Displacements(factor(0, isotropic=False)) + Displacements(factor(1, isotropic=False))
    assert isinstance(total.correlated, LowRank)
    assert total.correlated.factor.shape == (N, 3, 6)


def test_isotropic_but_for_rounding_is_isotropic():
    nearly = 0.2 * np.eye(3) * np.ones((N, 1, 1))
    nearly[0, 0, 1] = nearly[0, 1, 0] = 1e-14
    assert Displacements(independent=nearly).is_isotropic
    nearly[0, 0, 1] = nearly[0, 1, 0] = 1e-6
    assert not Displacements(independent=nearly).is_isotropic


def test_pairs_that_are_not_isotropic_make_the_whole_so():
    u = 0.2 * np.eye(3) * np.ones((N, 1, 1))
    assert Displacements(independent=u, pairs=NoPairs()).is_isotropic
    assert not Displacements(independent=u, pairs=NoPairs(is_isotropic=False)).is_isotropic


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=25)
@given(kinds=st.tuples(*[st.sampled_from(KINDS)] * 3), seed=st.integers(0, 99))
def test_the_order_of_sums_does_not_matter(kinds, seed):
    a, b, c = (Displacements(parts(seed + n)[kind]) for n, kind in enumerate(kinds))
    assert_allclose(
        as_blocks(((a + b) + c).dense(N)), as_blocks((c + (b + a)).dense(N)), atol=ROUNDING
    )


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seed=st.integers(0, 999))
def test_the_trace_is_the_transpose_of_times_the_unit_matrix(seed):
    rng = np.random.default_rng(seed)
    v, g = rng.normal(size=(4, 5)), rng.normal(size=(4, 5, 3, 3))
    assert np.sum(as_blocks(v) * g) == pytest.approx(np.sum(v * as_scalars(g)), abs=1e-12)
    assert_array_equal(as_scalars(v), v)


def test_a_factor_turned_within_its_rank_is_the_same_motion():
    low = factor(3, isotropic=False, rank=4)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    assert_allclose(LowRank(low.factor @ turn).dense(), low.dense(), atol=ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_is_not_what_was_given(kind):
    part = parts()[kind]
    u = random_u(np.random.default_rng(2), N)
    before = expected(part), u.copy()
    moves = Displacements(part, u)
    for made in (moves.dense(N), moves.u_aniso(N), (moves + moves).dense(N)):
        made += 1.0
    if isinstance(part, np.ndarray):
        as_blocks(part)[...] = 7.0
        moves.block(EVERY, EVERY)[...] = 7.0
    assert_array_equal(expected(part), before[0])
    assert_array_equal(u, before[1])


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("moves", "message"),
    [
        (Displacements(np.zeros((N, N + 1))), r"correlated .* must be \(6, 6\) or \(6, 6, 3, 3\)"),
        (Displacements(np.zeros((N, N, 3))), r"got \(6, 6, 3\)"),
        (Displacements(LowRank(np.zeros((N + 1, 2)))), r"got \(7, 7\)"),
        (Displacements(independent=np.zeros((N, 6))), r"independent .* must be \(6, 3, 3\)"),
    ],
)
def test_a_wrong_shape_is_named(moves, message):
    with pytest.raises(InputError, match=message):
        moves.check_shapes(N)


def test_motions_across_copies_do_not_mix_with_those_within():
    across = Displacements(pairs=NoPairs())
    with pytest.raises(InputError, match="within a unit and across units cannot be summed"):
        Displacements(np.eye(N), pairs=NoPairs())
    with pytest.raises(InputError, match="within a unit and across units cannot be summed"):
        across + Displacements(np.eye(N))
    with pytest.raises(InputError, match="reach across copies cannot be summed"):
        across + across
    with pytest.raises(InputError, match="no matrix over one unit"):
        across.dense(N)
    assert (Displacements(independent=np.zeros((N, 3, 3))) + across).pairs is across.pairs


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_covariance_that_is_not_finite_is_refused(bad):
    v = np.eye(N)
    v[2, 2] = bad
    with pytest.raises(InputError, match="covariance must be finite"):
        check_covariance(v, N)
