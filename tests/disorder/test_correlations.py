"""Covariance by distance: kernels given back, a known tensor, plain loops over pairs, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import blocks
from tests.strategies import CRYSTALS, random_covariance, random_structure, random_u

from offbragg import LiquidLike, RigidBody
from offbragg.disorder.correlations import _TILE_ATOMS, covariance_by_distance
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, LowRank
from offbragg.scattering.pairs import PairBlock, Pairs

RTOL_ROUNDING = 1e-12  # same sums, other order
COLUMNS = ("distance", "covariance", "correlation", "longitudinal", "transverse")


def lattice_points(n_x, n_y, n_z, spacing=2.0):
    """Points of a cubic lattice: few distinct distances, known exactly."""
    steps = np.meshgrid(*[np.arange(n) for n in (n_x, n_y, n_z)], indexing="ij")
    return spacing * np.stack(steps, axis=-1).reshape(-1, 3).astype(float)


def table_by_loops(v, positions, edges, independent=None):
    """Means and standard deviations, one pair at a time."""
    v = blocks(v)
    own = [np.trace(v[i, i]) / 3 for i in range(len(v))]
    if independent is not None:
        own = [a + np.trace(u) / 3 for a, u in zip(own, independent, strict=True)]
    rows = [[] for _ in edges[:-1]]
    for i in range(len(v)):
        for j in range(i):
            apart = positions[i] - positions[j]
            distance = np.linalg.norm(apart)
            for number in range(len(edges) - 1):
                last = number == len(edges) - 2 and distance == edges[-1]
                if edges[number] <= distance < edges[number + 1] or last:
                    mean = np.trace(v[i, j]) / 3
                    along = apart @ v[i, j] @ apart / distance**2
                    across = [  # two directions at right angles to the line
                        unit @ v[i, j] @ unit for unit in np.linalg.svd(apart[None])[2][1:]
                    ]
                    correlation = mean / np.sqrt(own[i] * own[j])
                    rows[number].append((distance, mean, correlation, along, np.mean(across)))
    means = [np.mean(row, axis=0) if row else np.full(5, np.nan) for row in rows]
    spreads = [np.std(row, axis=0) if row else np.full(5, np.nan) for row in rows]
    return [len(row) for row in rows], np.transpose(means), np.transpose(spreads)


class ListedPairs(Pairs):
    """Given pairs, in two blocks."""

    def __init__(self, *blocks_of_pairs):
        self._blocks = blocks_of_pairs

    @property
    def is_isotropic(self):
        return self._blocks[0].covariance.ndim == 1

    def blocks(self):
        yield from self._blocks


# --- 1 reference numbers -------------------------------------------------


def test_three_atoms_by_hand():
    v = np.array([[0.4, 0.1, 0.0], [0.1, 0.4, 0.2], [0.0, 0.2, 0.9]])
    positions = np.array([[0.0, 0, 0], [1.5, 0, 0], [3.0, 0, 0]])
    table = covariance_by_distance(v, positions)
    assert_array_equal(table.edges, [0, 1, 2, 3, 4])
    assert_array_equal(table.centres, [0.5, 1.5, 2.5, 3.5])
    assert_array_equal(table.n_pairs, [0, 2, 0, 1])
    nan = np.nan
    assert_allclose(table.distance, [nan, 1.5, nan, 3.0])
    assert_allclose(table.covariance, [nan, 0.15, nan, 0.0])
    assert_allclose(table.covariance_std, [nan, 0.05, nan, 0.0])
    assert_allclose(table.correlation, [nan, (0.25 + 0.2 / 0.6) / 2, nan, 0.0])


def test_the_last_bin_holds_its_upper_edge():
    positions = np.array([[0.0, 0, 0], [2.0, 0, 0], [3.0, 0, 0]])
    table = covariance_by_distance(np.eye(3), positions, edges=[1.0, 2.0, 3.0])
    assert_array_equal(table.n_pairs, [1, 2])


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seed=st.integers(0, 9999), n=st.integers(2, 12), anisotropic=st.booleans())
def test_as_loops_over_pairs(seed, n, anisotropic):
    rng = np.random.default_rng(seed)
    v = random_covariance(rng, n, 0.3, anisotropic=anisotropic)
    independent = random_u(rng, n) if seed % 2 else None
    positions = rng.uniform(-6, 6, (n, 3))
    edges = np.array([0.5, 2.0, 5.0, 6.0, 9.0])
    found = covariance_by_distance(Displacements(v, independent), positions, edges=edges)
    n_pairs, means, spreads = table_by_loops(v, positions, edges, independent)
    assert_array_equal(found.n_pairs, n_pairs)
    for name, mean, spread in zip(COLUMNS, means, spreads, strict=True):
        assert_allclose(getattr(found, name), mean, rtol=1e-10, atol=1e-13)
        if name != "distance":
            assert_allclose(getattr(found, f"{name}_std"), spread, rtol=1e-8, atol=1e-13)


def test_many_tiles_give_what_the_whole_matrix_gives():
    rng = np.random.default_rng(4)
    n = 2 * _TILE_ATOMS + 57
    positions = rng.uniform(0, 30, (n, 3))
    factor = rng.normal(size=(n, 3))
    i, j = np.triu_indices(n, 1)
    v = factor @ factor.T
    distance = np.linalg.norm(positions[i] - positions[j], axis=1)
    edges = np.array([0.0, 4.0, 12.0, 60.0])
    found = covariance_by_distance(v, positions, edges=edges)
    own = np.sqrt(np.diag(v))
    for number in range(3):
        inside = (distance >= edges[number]) & (distance < edges[number + 1])
        values = v[i, j][inside]
        assert found.n_pairs[number] == inside.sum()
        assert_allclose(found.covariance[number], values.mean(), rtol=1e-9)
        assert_allclose(found.covariance_std[number], values.std(), rtol=1e-9)
        correlations = values / (own[i] * own[j])[inside]
        assert_allclose(found.correlation[number], correlations.mean(), rtol=1e-9)


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("kernel", ["exponential", "gaussian"])
def test_a_liquid_like_kernel_comes_back(kernel):
    # On a lattice every bin of 0.05 Å holds one distance, so the mean is the kernel there.
    structure = random_structure(np.random.default_rng(1), 60, CRYSTALS["triclinic"][0])
    points = lattice_points(5, 4, 3)
    structure = type(structure)(
        **{**vars(structure), "positions": points}  # the rest does not matter
    )
    model = LiquidLike(0.5, 4.0, kernel)
    table = covariance_by_distance(model.displacements(structure), points, width=0.05)
    filled = table.n_pairs > 0
    assert table.n_pairs.sum() == 60 * 59 // 2
    scaled = table.distance[filled] / 4.0
    gamma = np.exp(-scaled) if kernel == "exponential" else np.exp(-(scaled**2) / 2)
    assert_allclose(table.covariance[filled], 0.25 * gamma, rtol=RTOL_ROUNDING)
    assert_allclose(table.correlation[filled], gamma, rtol=RTOL_ROUNDING)
    assert_allclose(table.longitudinal[filled], 0.25 * gamma, rtol=RTOL_ROUNDING)
    assert_allclose(table.transverse[filled], 0.25 * gamma, rtol=RTOL_ROUNDING)
    assert_allclose(table.correlation_std[filled], 0.0, atol=1e-7)
    assert np.all(np.isnan(table.covariance[~filled]))


def test_longitudinal_and_transverse_parts_of_a_known_tensor():
    # V_ij = α r̂r̂ᵀ + β (1 − r̂r̂ᵀ): an isotropic medium's two functions of distance.
    rng = np.random.default_rng(12)
    positions = rng.uniform(0, 10, (30, 3))
    apart = positions[:, None] - positions[None, :]
    distance = np.linalg.norm(apart, axis=-1) + np.eye(30)
    unit = apart / distance[..., None]
    projector = unit[..., :, None] * unit[..., None, :]
    along, across = np.exp(-distance / 5), 0.5 * np.exp(-distance / 3)
    v = along[..., None, None] * projector
    v += across[..., None, None] * (np.eye(3) - projector)
    v[np.arange(30), np.arange(30)] = np.eye(3)
    table = covariance_by_distance(v, positions, width=0.01)
    single = table.n_pairs == 1
    assert single.sum() > 200
    r = table.distance[single]
    assert_allclose(table.longitudinal[single], np.exp(-r / 5), rtol=1e-10)
    assert_allclose(table.transverse[single], 0.5 * np.exp(-r / 3), rtol=1e-10)
    third = (np.exp(-r / 5) + np.exp(-r / 3)) / 3
    assert_allclose(table.covariance[single], third, rtol=1e-10)


def test_a_rigid_body_is_fully_correlated_and_independent_atoms_are_not():
    structure = random_structure(np.random.default_rng(3), 12, CRYSTALS["triclinic"][0])
    rigid = RigidBody(translation=0.2 * np.eye(3)).displacements(structure)
    table = covariance_by_distance(rigid, structure.positions, width=2.0)
    filled = table.n_pairs > 0
    assert_allclose(table.correlation[filled], 1.0, rtol=1e-10)
    alone = Displacements(independent=structure.u_aniso)
    table = covariance_by_distance(alone, structure.positions, width=2.0)
    assert_array_equal(table.covariance[table.n_pairs > 0], 0.0)
    # Half of each motion: correlation 1/2.
    both = Displacements(0.2 * np.ones((12, 12)), 0.2 * np.tile(np.eye(3), (12, 1, 1)))
    table = covariance_by_distance(both, structure.positions, width=2.0)
    assert_allclose(table.correlation[table.n_pairs > 0], 0.5, rtol=1e-12)


def test_atoms_at_one_place_and_atoms_at_rest():
    v = random_covariance(np.random.default_rng(2), 3, 0.3)
    v[2] = v[:, 2] = 0.0
    table = covariance_by_distance(v, np.zeros((3, 3)))
    assert_array_equal(table.n_pairs, [3])
    third = np.trace(v[0, 1]) / 3
    assert_allclose(table.longitudinal, third / 3, rtol=1e-12)
    assert_allclose(table.transverse, third / 3, rtol=1e-12)
    own = np.trace(v[0, 0]) * np.trace(v[1, 1]) / 9
    assert_allclose(table.correlation, third / np.sqrt(own), rtol=1e-12)


def test_no_pair_at_all():
    table = covariance_by_distance(np.eye(1), np.zeros((1, 3)))
    assert_array_equal(table.n_pairs, [0])
    assert np.isnan(table.covariance[0])
    assert np.isnan(table.covariance_std[0])


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 4), (40, 3, 5)])
def test_low_rank_is_as_dense(shape):
    rng = np.random.default_rng(6)
    factor = LowRank(rng.normal(size=shape))
    positions = rng.uniform(0, 9, (40, 3))
    one = covariance_by_distance(factor, positions)
    other = covariance_by_distance(factor.dense(), positions)
    for name, column in vars(other).items():
        assert_allclose(getattr(one, name), column, rtol=1e-9, atol=1e-12)


def test_listed_pairs_are_as_the_matrix():
    # Every ordered pair of a unit in two blocks: twice the number, the same means.
    rng = np.random.default_rng(9)
    v, positions = random_covariance(rng, 8, 0.3), rng.uniform(0, 9, (8, 3))
    i, j = np.nonzero(~np.eye(8, dtype=bool))
    every = [
        PairBlock(i[part], j[part], 0 * i[part], (positions[i] - positions[j])[part], v[i, j][part])
        for part in (slice(0, 30), slice(30, None))
    ]
    own = v[np.arange(8), np.arange(8)]
    listed = Displacements(independent=own, pairs=ListedPairs(*every))
    one = covariance_by_distance(listed, positions, width=2.0)
    other = covariance_by_distance(v, positions, width=2.0)
    assert_array_equal(one.n_pairs, 2 * other.n_pairs)
    for name in (*COLUMNS, "covariance_std", "longitudinal_std"):
        assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(seed=st.integers(0, 999))
def test_turns_and_shifts_of_everything_change_nothing(seed):
    rng = np.random.default_rng(seed)
    v, positions = random_covariance(rng, 7, 0.3), rng.uniform(0, 9, (7, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    edges = [0.0, 3.0, 6.0, 20.0]
    one = covariance_by_distance(v, positions, edges=edges)
    order = rng.permutation(7)
    moved = (turn @ v @ turn.T)[np.ix_(order, order)]
    there = covariance_by_distance(moved, (positions @ turn.T + 5.0)[order], edges=edges)
    for name, column in vars(one).items():
        assert_allclose(getattr(there, name), column, rtol=1e-7, atol=1e-9)


def test_inputs_are_not_changed():
    rng = np.random.default_rng(9)
    v, positions = random_covariance(rng, 8, 0.3), rng.uniform(0, 9, (8, 3))
    before = v.copy(), positions.copy()
    covariance_by_distance(v, positions)
    assert_array_equal(v, before[0])
    assert_array_equal(positions, before[1])


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": np.zeros((3, 2))}, r"positions must be \(n_atoms, 3\), got \(3, 2\)"),
        ({"positions": np.full((3, 3), np.nan)}, "positions must be finite"),
        ({"displacements": np.eye(2)}, r"correlated displacements must be \(3, 3\) or .*\(2, 2\)"),
        ({"displacements": np.full((3, 3), np.inf)}, "V_ii must be finite and >= 0"),
        ({"displacements": -np.eye(3)}, "V_ii must be finite and >= 0"),
        (
            {"displacements": np.eye(3) + np.diag([np.nan, 0.0], 1)},
            "covariance must be finite, got NaN",
        ),
        ({"width": 0.0}, "width must be > 0 Å, got 0.0"),
        ({"width": 1e-9}, "width must make at most 1000000 bins"),
        ({"edges": [1.0]}, "edges must be two or more rising distances"),
        ({"edges": [0.0, 2.0, 2.0]}, "edges must be two or more rising distances"),
        ({"edges": [-1.0, 2.0]}, "edges must be two or more rising distances"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    good = {"displacements": np.eye(3), "positions": np.arange(9.0).reshape(3, 3)}
    with pytest.raises(InputError, match=message):
        covariance_by_distance(**{**good, **arguments})
