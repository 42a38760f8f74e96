"""LatticeCovariance: pairs across cells against explicit crystals, waves, errors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import blocks, cell_vectors, diffuse_sum, flat, form_factors, q_of
from tests.strategies import CRYSTALS, random_covariance, random_structure

from offbragg import HklGrid, simulate
from offbragg.disorder import lattice_covariance
from offbragg.disorder.lattice_covariance import LatticeCovariance
from offbragg.errors import InputError

MAP_ERROR = 1e-3  # of the mean, the project's own figure; 8e-7 seen
RTOL_ROUNDING = 1e-10  # sums of terms that cancel, other order
N = 4
CELL = CRYSTALS["triclinic"][0]
STRUCTURE = random_structure(np.random.default_rng(1), N, CELL)


def neighbours(seed=2, offset=(1, 0, 0), isotropic=False, n=N):
    """V(0) and V(R) of a possible crystal, V(R) not symmetric, from a covariance of 2n atoms."""
    rng = np.random.default_rng(seed)
    two = random_covariance(rng, 2 * n, 0.2, anisotropic=not isotropic)
    # With [p; r] a root of it: δ_m = p ξ_m + r ξ_{m−R} has V(0) = ppᵀ + rrᵀ and V(R) = prᵀ.
    return {(0, 0, 0): two[:n, :n] + two[n:, n:], offset: two[:n, n:]}


def pair_sum(moves, q, f):
    """Σ over i of the cell, j of the crystal, self terms included, pair by pair."""
    u = moves.u_aniso(len(f[0]))
    total = []
    for vector, f_q in zip(q, f, strict=True):
        damped = f_q * np.exp(-0.5 * np.einsum("x,ixy,y->i", vector, u, vector))
        value = np.sum(f_q**2 - damped**2) + 0j
        for block in moves.pairs.blocks():
            v = block.covariance
            v = v[:, None, None] * np.eye(3) if v.ndim == 1 else v
            grown = np.expm1(np.einsum("x,pxy,y->p", vector, v, vector))
            phase = np.exp(1j * block.separation @ vector)
            value += np.sum(damped[block.first] * damped[block.second] * grown * phase)
        assert abs(value.imag) <= 1e-9 * abs(value)
        total.append(value.real)
    return np.array(total)


def some_q(n=12, largest=2.5, seed=3):
    q = np.random.default_rng(seed).normal(size=(n, 3))
    return q / np.linalg.norm(q, axis=1)[:, None] * np.linspace(0.3, largest, n)[:, None]


def listed_pairs(moves):
    rows = []
    for block in moves.pairs.blocks():
        rows += list(zip(block.first, block.second, block.separation, block.covariance,
                         strict=True))  # fmt: skip
    return rows


# --- 1 reference numbers -------------------------------------------------


def test_one_atom_and_its_neighbour_by_hand():
    # Two neighbours at ±a with covariance c: f² [1 − e^{−q²u} + 2 e^{−q²u} (e^{q²c} − 1) cos q·a].
    structure = random_structure(np.random.default_rng(0), 1, CELL)
    model = LatticeCovariance({(0, 0, 0): [[0.3]], (1, 0, 0): [[0.1]]})
    q = some_q(5)
    f = form_factors(structure.elements, q, structure.occupancies)
    q2, along = (q**2).sum(axis=1), q @ cell_vectors(CELL)[0]
    expected = 1 - np.exp(-q2 * 0.3) + 2 * np.exp(-q2 * 0.3) * np.expm1(q2 * 0.1) * np.cos(along)
    found = pair_sum(model.displacements(structure), q, f)
    assert_allclose(found, f[:, 0] ** 2 * expected, rtol=RTOL_ROUNDING)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("offset", [(1, 0, 0), (0, -1, 0), (1, -1, 2)])
@pytest.mark.parametrize("isotropic", [True, False])
def test_two_explicit_cells_show_the_sign(offset, isotropic):
    # A crystal of two cells, the second R further on, written out atom by atom: its intensity is
    # 2 × (a cell by itself) + the pairs from 0 to R and from R to 0; the model has, per cell, one
    # cell by itself and the pairs to +R and to −R, which are the same.
    given_v = neighbours(4, offset, isotropic)
    v_0, v_r = blocks(given_v[0, 0, 0]), blocks(given_v[offset])
    shift = np.array(offset) @ cell_vectors(CELL)
    q = some_q()
    f = form_factors(STRUCTURE.elements, q, STRUCTURE.occupancies)
    mirrored = v_r.transpose(1, 0, 3, 2)
    both = np.concatenate(
        [np.concatenate([v_0, v_r], axis=1), np.concatenate([mirrored, v_0], axis=1)]
    )
    places = np.concatenate([STRUCTURE.positions, STRUCTURE.positions + shift])
    one = diffuse_sum(q, STRUCTURE.positions, f, v_0)
    expected = diffuse_sum(q, places, np.hstack([f, f]), both) - one
    moves = LatticeCovariance(given_v).displacements(STRUCTURE)
    found = pair_sum(moves, q, f)
    assert_allclose(found, expected, rtol=RTOL_ROUNDING, atol=1e-9 * expected.mean())
    # Neither V(R) transposed nor the shift the other way would do.
    swapped = {(0, 0, 0): given_v[0, 0, 0], tuple(-x for x in offset): given_v[offset]}
    wrong = pair_sum(LatticeCovariance(swapped).displacements(STRUCTURE), q, f)
    assert np.abs(wrong - expected).max() > 1e-3 * expected.mean()


def test_a_ring_of_cells_at_its_own_nodes():
    # Five cells in a ring, δ_m = Σ_s P(s) ξ_{m−s} with s = 0, 1, 2 and ξ of unit variance, so that
    # V(R) = Σ_s P(s) P(s + R)ᵀ reaches two cells: at q·(5 a) = 2πn the ring is as a crystal.
    n_cells, rng = 5, np.random.default_rng(5)
    p = [0.15 * rng.normal(size=(3 * N, 6)) for _ in range(3)]
    v_of = [sum(p[s] @ p[s + r].T for s in range(3 - r)) for r in range(3)]
    v_of += [v_of[2].T, v_of[1].T]
    as_tensor = [v.reshape(N, 3, N, 3).transpose(0, 2, 1, 3) for v in v_of]
    model = LatticeCovariance({(0, 0, 0): as_tensor[0], (1, 0, 0): as_tensor[1],
                               (2, 0, 0): as_tensor[2]})  # fmt: skip
    a = cell_vectors(CELL)[0]
    places = np.concatenate([STRUCTURE.positions + m * a for m in range(n_cells)])
    every = np.block([[v_of[(m - k) % n_cells] for m in range(n_cells)] for k in range(n_cells)])
    hkl = np.random.default_rng(6).integers(-4, 5, (10, 3)).astype(float)
    hkl[:, 0] += np.arange(10) % n_cells / n_cells
    q = q_of(hkl, CELL)
    f = form_factors(STRUCTURE.elements, q, STRUCTURE.occupancies)
    whole = every.reshape(n_cells * N, 3, n_cells * N, 3).transpose(0, 2, 1, 3)
    expected = diffuse_sum(q, places, np.tile(f, n_cells), whole) / n_cells
    found = pair_sum(model.displacements(STRUCTURE), q, f)
    assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * expected.mean())


def test_the_map_matches_the_sum_over_pairs():
    model = LatticeCovariance(neighbours(14))
    grid = HklGrid.from_resolution(CELL, 2.5, (2, 1, 1))
    found = simulate(STRUCTURE, model, grid).intensity[grid.within()][::23]
    q = grid.q()[grid.within()][::23]
    f = form_factors(STRUCTURE.elements, q, STRUCTURE.occupancies)
    expected = pair_sum(model.displacements(STRUCTURE), q, f)
    assert np.abs(found - expected).max() < MAP_ERROR * expected.mean()


# --- 3 exact limits ------------------------------------------------------


def test_without_other_cells_it_is_the_covariance_of_one():
    v = random_covariance(np.random.default_rng(7), N, 0.2)
    q = some_q()
    f = form_factors(STRUCTURE.elements, q, STRUCTURE.occupancies)
    found = pair_sum(LatticeCovariance({(0, 0, 0): v}).displacements(STRUCTURE), q, f)
    assert_allclose(found, diffuse_sum(q, STRUCTURE.positions, f, v), rtol=RTOL_ROUNDING)


def test_every_ordered_pair_once_and_none_of_zero():
    v_0, v_r = np.eye(3) * 0.5, np.zeros((3, 3))
    v_0[0, 2] = v_0[2, 0] = 0.1
    v_r[0, 0], v_r[1, 2] = 0.05, 0.02
    structure = random_structure(np.random.default_rng(8), 3, CELL)
    moves = LatticeCovariance({(0, 0, 0): v_0, (0, 0, 1): v_r}).displacements(structure)
    found = [(int(i), int(j), round(float(c), 9)) for i, j, _, c in listed_pairs(moves)]
    assert sorted(found) == sorted(
        [(0, 0, 0.05), (2, 1, 0.02), (0, 2, 0.1), (2, 0, 0.1), (0, 0, 0.05), (1, 2, 0.02)]
    )
    c = cell_vectors(CELL)[2]
    places = {(int(i), int(j)): s for i, j, s, _ in listed_pairs(moves)}
    assert_allclose(places[1, 2], structure.positions[1] - structure.positions[2] - c)
    assert_allclose(places[2, 1], structure.positions[2] - structure.positions[1] + c)
    assert_allclose(moves.independent, 0.5 * np.tile(np.eye(3), (3, 1, 1)))
    assert moves.is_isotropic


def test_the_unit_is_the_whole_cell():
    cell, groups = CRYSTALS["monoclinic"]
    structure = random_structure(np.random.default_rng(9), 2, cell, groups[0])
    model = LatticeCovariance({(0, 0, 0): 0.1 * np.eye(4)})
    unit = model.coherent_unit(structure)
    assert (unit.n_atoms, unit.space_group, model.n_atoms) == (4, "P 1", 4)
    assert model.displacements(unit).u_aniso(4).shape == (4, 3, 3)


def test_the_files_adps_fill_up_the_diagonal():
    model = LatticeCovariance(neighbours(10))
    own = model.displacements(STRUCTURE).u_aniso(N)
    roomy = replace(STRUCTURE, u_aniso=own + 0.1 * np.eye(3))
    assert_allclose(model.with_adps(roomy, "file").u_aniso(N), roomy.u_aniso, atol=1e-12)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999), isotropic=st.booleans())
def test_the_opposite_cell_may_be_given_instead(seed, isotropic):
    v = neighbours(seed, (0, 1, -1), isotropic)
    there = v[0, 1, -1]
    back = there.T if isotropic else there.transpose(1, 0, 3, 2)
    one = LatticeCovariance(v).covariances
    for given_v in ({(0, 0, 0): v[0, 0, 0], (0, -1, 1): back}, {**v, (0, -1, 1): back}):
        other = LatticeCovariance(given_v).covariances
        assert set(one) == set(other)
        for offset, value in one.items():
            assert np.array_equal(value, other[offset])


def test_shapes_may_be_mixed():
    v = neighbours(11, isotropic=True)
    mixed = {(0, 0, 0): blocks(v[0, 0, 0]), (1, 0, 0): v[1, 0, 0]}
    model = LatticeCovariance(mixed)
    assert not model.displacements(STRUCTURE).pairs.is_isotropic
    assert_allclose(model.covariances[1, 0, 0], blocks(v[1, 0, 0]), rtol=0)


def test_blocks_are_cut_and_hold_the_same_pairs(monkeypatch):
    moves = LatticeCovariance(neighbours(12)).displacements(STRUCTURE)
    whole = listed_pairs(moves)
    monkeypatch.setattr(lattice_covariance, "_PAIRS_AT_ONCE", 7)
    cut = listed_pairs(moves)
    assert max(len(b.first) for b in moves.pairs.blocks()) == 7
    assert len(whole) == len(cut) == N * (N - 1) + 2 * N * N
    for one, other in zip(whole, cut, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(c=st.floats(0.0, 0.5), axis=st.integers(0, 2))
def test_a_chain_may_move_like_this_if_its_waves_may(c, axis):
    # One atom, u = 0.4: the wave at k has u + 2 c cos k, lowest at k = π, a point of the grid.
    offset = tuple(int(x) for x in np.eye(3)[axis])
    given_v = {(0, 0, 0): [[0.4]], offset: [[c]]}
    if c <= 0.2:
        LatticeCovariance(given_v)
    elif 0.4 - 2 * c < -1e-6:
        with pytest.raises(InputError, match="positive semi-definite as waves"):
            LatticeCovariance(given_v)


def test_the_waves_of_a_possible_crystal_are_its_own():
    # The largest correlation that neighbours can have is taken, a little more is not.
    v = neighbours(13)
    same, apart = flat(v[0, 0, 0]), flat(v[1, 0, 0])

    def matrix(k):
        wave = np.exp(2j * np.pi * k)
        return same + wave * apart + apart.T / wave

    lowest = min(np.linalg.eigvalsh(matrix(k))[0] for k in np.arange(8) / 8)
    assert lowest > 0
    for excess, possible in ((0.9, True), (1.1, False)):
        moved = v[0, 0, 0].copy()
        moved[range(N), range(N)] -= excess * lowest * np.eye(3)
        if possible:
            LatticeCovariance({**v, (0, 0, 0): moved})
        else:
            with pytest.raises(InputError, match="as waves, got an eigenvalue of -"):
                LatticeCovariance({**v, (0, 0, 0): moved})


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("covariances", "message"),
    [
        ({(1, 0, 0): [[0.1]]}, r"covariances must have \(0, 0, 0\), those within a cell"),
        ({(0, 0, 0): [[0.1]], (1, 0): [[0.1]]}, r"named by three whole numbers, got \(1, 0\)"),
        ({(0, 0, 0): [[0.1]], (0.5, 0, 0): [[0.1]]}, "named by three whole numbers, got"),
        ({(0, 0, 0): [[0.1]], (1, 0, 0): np.eye(2)}, r"V\(1, 0, 0\) must be .* got \(2, 2\)"),
        ({(0, 0, 0): [0.1, 0.2]}, r"V\(0, 0, 0\) must be \(2, 2\) or \(2, 2, 3, 3\), got \(2,\)"),
        ({(0, 0, 0): [[np.nan]]}, r"V\(0, 0, 0\) must be finite"),
        ({(0, 0, 0): [[1, 0.5], [0.4, 1]]}, r"V\(0, 0, 0\) must be the transpose of V\(0, 0, 0\)"),
        (
            {(0, 0, 0): np.eye(2), (0, 1, 0): [[0, 0.1], [0, 0]], (0, -1, 0): [[0, 0.1], [0, 0]]},
            r"V\(0, -1, 0\) must be the transpose of V\(0, 1, 0\)",
        ),
        (
            {(0, 0, 0): [[0.1]], (0, 1, 0): [[0.06]]},
            r"an eigenvalue of -0\.02 Å² at k = 2π \(0, 0\.5, 0\) in reciprocal cells",
        ),
        ({(0, 0, 0): [[-0.1]]}, r"an eigenvalue of -0\.1 Å² at k = 2π \(0, 0, 0\)"),
    ],
)  # fmt: skip
def test_a_crystal_that_cannot_be_is_refused(covariances, message):
    with pytest.raises(InputError, match=message):
        LatticeCovariance(covariances)


def test_the_number_of_atoms_must_be_the_cells():
    with pytest.raises(InputError, match=r"for the cell.s 4 atoms, got 5"):
        LatticeCovariance({(0, 0, 0): np.eye(5)}).displacements(STRUCTURE)
