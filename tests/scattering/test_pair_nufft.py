"""The pair NUFFT for isotropic displacements, its product and gradient: against double sums."""

import tracemalloc
from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.lattice_oracles import (
    extent_to,
    joint_of_altlocs,
    mean_phases,
    nodes_within,
    pair_intensity,
    whole_covariance,
)
from tests.oracles import form_factors
from tests.strategies import CRYSTALS, random_covariance, random_structure

from offbragg.crystal.cell import Cell
from offbragg.errors import InputError
from offbragg.scattering import pair_terms
from offbragg.scattering.displacements import Displacements, LowRank, PairCovariance
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pair_nufft import PairNufft
from offbragg.scattering.pair_terms import PairSum
from offbragg.scattering.pairs import PairBlock, Pairs
from offbragg.scattering.scatterers import Scatterers

# Largest error as a multiple of rtol times the mean: rtol bounds the rms over the pairs.
MARGIN = 10.0
CUT_UP = 1e-10  # of the mean: batches only change the order of sums, in double precision
SINGLE = 1e-5  # of the mean: the same in single precision
DOT = 1e-5  # product and gradient are transposes to the tolerance of the transforms
DIFFERENCES = 1e-4  # central differences with steps of a thousandth of V
N = 10
CELL = CRYSTALS["triclinic"][0]
STRUCTURE = random_structure(np.random.default_rng(8), N, CELL)
GROUPS = np.array([0, 0, 0, -1, 1, 1, -1, 1, -1, -1])
ALTERNATIVES = np.array([0, 0, 1, 0, 0, 1, 0, 1, 0, 0])
OCCUPANCIES = np.array([0.6, 0.6, 0.4, 1.0, 0.5, 0.3, 0.7, 0.3, 1.0, 1.0])
KINDS = ["dense", "factor", "independent", "both", "on demand"]
VOXELS = {"nodes": None, "box": np.diag([0.5, 1.0, 1 / 3]),
          "sheared": np.array([[0.5, -0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.1, 1 / 3]])}  # fmt: skip


class OnDemand(PairCovariance):
    """A covariance that is looked up where it is asked for."""

    is_isotropic = True

    def __init__(self, table):
        self.table = table

    @property
    def n_atoms(self):
        return len(self.table)

    def diagonal(self):
        return np.diagonal(self.table).copy()

    def block(self, first, second):
        return self.table[np.ix_(first, second)]

    def pairs(self, first, second):
        return self.table[first, second]


class Listed(Pairs):
    """The pairs of an isotropic covariance, both orders."""

    is_isotropic = True

    def __init__(self, positions, v):
        self.positions, self.v = positions, v

    def blocks(self):
        i, j = np.nonzero(~np.eye(len(self.v), dtype=bool))
        yield PairBlock(
            i, j, np.zeros(len(i), dtype=np.int64), self.positions[i] - self.positions[j],
            self.v[i, j],
        )  # fmt: skip


def still(n, values):
    return np.broadcast_to(values, n)[:, None, None] * np.eye(3)


def moves(kind, seed=0, n=N, u=0.2):
    rng = np.random.default_rng(seed)
    v = random_covariance(rng, n, u, anisotropic=False)
    own = still(n, rng.uniform(0.02, 0.3, n))
    return {
        "dense": Displacements(v),
        "factor": Displacements(LowRank(np.sqrt(u / 2) * rng.normal(size=(n, 2)))),
        "independent": Displacements(independent=own),
        "both": Displacements(v, own),
        "on demand": Displacements(OnDemand(v)),
    }[kind]


def nufft_of(kind="dense", *, d_min=3.0, rtol=1e-4, exclusive=False, voxel=None,
             sampling=(2, 1, 3), displacements=None, structure=STRUCTURE, order=None,
             **engine):  # fmt: skip
    groups = (GROUPS, ALTERNATIVES) if exclusive else (None, None)
    occupancies = OCCUPANCIES if len(structure) == N else structure.occupancies
    s = Scatterers(structure.positions, structure.elements, occupancies, None, *groups)
    extent = extent_to(structure.cell, d_min, sampling)
    lattice = HalfLattice(structure.cell, sampling, extent, 2 * np.pi / d_min, voxel)
    displacements = moves(kind, n=len(s)) if displacements is None else displacements
    return PairNufft(PairSum(lattice, s, displacements), Engine(rtol=rtol, **engine), order)


def expected(found, q):
    s, lattice = found.pair_sum.scatterers, found.pair_sum.lattice
    phases = joint = None
    if lattice.voxel is not None:
        separations = s.positions[:, None] - s.positions[None]
        phases = mean_phases(separations, lattice.cell, lattice.voxel)
    if s.groups is not None:
        joint = joint_of_altlocs(s.occupancies, s.groups, s.alternatives)
    moved = found.pair_sum.displacements
    if isinstance(moved.correlated, OnDemand):
        moved = Displacements(moved.correlated.table, moved.independent)
    v = whole_covariance(moved, len(s))
    f = form_factors(s.elements, q)
    return pair_intensity(q, s.positions, f, v, s.occupancies, joint, phases)


def error_of(nufft, n_random=100, found=None):
    """Largest error as a fraction of the mean: random nodes and all beyond 10 Å."""
    found = nufft.intensity() if found is None else found
    lattice = nufft.pair_sum.lattice
    q, index = nodes_within(lattice)
    low = np.flatnonzero(np.linalg.norm(q, axis=1) < 2 * np.pi / 10)
    pick = np.union1d(np.random.default_rng(0).choice(len(q), min(n_random, len(q))), low)
    at_zero = (~q.any(axis=1)[pick]) if lattice.voxel is None else np.zeros(len(pick), bool)
    wanted = np.where(at_zero, 0.0, expected(nufft, q[pick]))
    assert found.shape == lattice.shape
    assert np.all(np.isfinite(found))
    assert found.min() >= 0.0
    outside = np.ones(found.size, dtype=bool)
    outside[index] = False
    assert not found.ravel()[outside].any()
    return np.max(np.abs(found.ravel()[index][pick] - wanted)) / np.mean(found.ravel()[index])


def random_direction(like, seed):
    rng = np.random.default_rng(seed)
    correlated = None
    if like.correlated is not None:
        correlated = rng.normal(size=(N, N))
        correlated = correlated + correlated.T
    return Displacements(correlated, still(N, rng.normal(size=N)))


def inner(a, b):
    total = 0.0
    if a.correlated is not None and b.correlated is not None:
        total += np.sum(np.asarray(a.correlated) * np.asarray(b.correlated))
    if a.independent is not None and b.independent is not None:
        total += np.sum(a.independent * b.independent)
    return total


def shifted(nufft, direction, step):
    own = nufft.pair_sum.displacements
    if isinstance(own.correlated, OnDemand):
        own = Displacements(own.correlated.table, own.independent)
    change = Displacements(
        None if direction.correlated is None else step * direction.correlated,
        None if direction.independent is None else step * direction.independent,
    )
    return replace(nufft, pair_sum=replace(nufft.pair_sum, displacements=own + change))


# --- 1 reference numbers -------------------------------------------------


def test_two_atoms_that_move_as_one_by_hand():
    # At hkl = (1, 0, 0) of a cubic cell of 10 Å with atoms at 0 and a/4: |f_C + i f_O|².
    cell = Cell(10.0, 10.0, 10.0, 90.0, 90.0, 90.0)
    s = Scatterers(np.array([[0.0, 0, 0], [2.5, 0, 0]]), np.array(["C", "O"]), np.ones(2))
    lattice = HalfLattice(cell, (1, 1, 1), (4, 4, 4), 2 * np.pi / 2.5)
    found = PairNufft(PairSum(lattice, s, Displacements(np.full((2, 2), 0.3))), Engine(rtol=1e-6))
    q2 = (2 * np.pi / 10) ** 2
    f_c, f_o = form_factors(["C", "O"], np.array([[np.sqrt(q2), 0, 0]]))[0]
    hand = (1 - np.exp(-0.3 * q2)) * (f_c**2 + f_o**2)
    assert found.intensity()[5, 4, 0] == pytest.approx(hand, rel=1e-5)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("voxel", "exclusive"),
    [("nodes", False), ("nodes", True), ("box", False), ("sheared", True)],
)
def test_intensity_is_the_double_sum(kind, voxel, exclusive):
    found = nufft_of(kind, voxel=VOXELS[voxel], exclusive=exclusive)
    assert error_of(found) < MARGIN * 1e-4


@pytest.mark.parametrize("rtol", [1e-3, 1e-4, 2e-5, 1e-6, 1e-8])
@pytest.mark.parametrize(("kind", "exclusive"), [("dense", False), ("both", True)])
def test_errors_fall_with_rtol(rtol, kind, exclusive):
    assert error_of(nufft_of(kind, rtol=rtol, exclusive=exclusive)) < MARGIN * rtol


@pytest.mark.parametrize("voxel", [None, np.eye(3)])
def test_a_box_smaller_than_the_molecule(voxel):
    small = replace(STRUCTURE, cell=Cell(4.0, 5.0, 6.0, 80.0, 95.0, 105.0))
    found = nufft_of("both", structure=small, sampling=(1, 1, 1), d_min=1.5, voxel=voxel)
    assert error_of(found) < MARGIN * 1e-4


@settings(deadline=None, derandomize=True, max_examples=15)
@given(
    seed=st.integers(0, 999), u=st.floats(1e-4, 3.0), rank=st.integers(1, 6),
    system=st.sampled_from(["triclinic", "monoclinic", "trigonal", "rhombohedral"]),
)  # fmt: skip
def test_any_covariance_in_any_cell(seed, u, rank, system):
    rng = np.random.default_rng(seed)
    structure = random_structure(rng, 6, CRYSTALS[system][0])
    v = Displacements(random_covariance(rng, 6, u, rank, anisotropic=False))
    found = nufft_of(structure=structure, displacements=v, sampling=(1, 1, 1))
    assert error_of(found) < MARGIN * 1e-4


def test_listed_pairs_are_their_covariance():
    v = moves("dense").correlated
    own = still(N, np.diagonal(v))
    listed = Displacements(independent=own, pairs=Listed(STRUCTURE.positions, v))
    one, two = nufft_of("dense"), nufft_of(displacements=listed)
    assert_allclose(two.intensity(), one.intensity(), rtol=0,
                    atol=2 * MARGIN * 1e-4 * one.intensity().mean())  # fmt: skip


@pytest.mark.parametrize("order", [1, 2, 5])
def test_a_series_is_its_terms(order):
    found = nufft_of("dense", order=order, rtol=1e-5)
    v = found.pair_sum.displacements.correlated
    q, index = nodes_within(found.pair_sum.lattice)
    q, index = q[::23], index[::23]
    s = found.pair_sum.scatterers
    a = form_factors(s.elements, q) * s.occupancies * np.exp(1j * q @ s.positions.T)
    q2 = np.sum(q**2, axis=1)
    a = a * np.exp(-0.5 * q2[:, None] * np.diagonal(v))
    term, wanted = np.ones((len(q), N, N)), 0.0
    for n in range(1, order + 1):
        term = term * q2[:, None, None] * v / n
        wanted = wanted + np.einsum("qi,qij,qj->q", a.conj(), term, a, optimize=True).real
    values = found.intensity()
    assert_allclose(values.ravel()[index], np.maximum(wanted, 0), rtol=0,
                    atol=MARGIN * 1e-5 * values.mean())  # fmt: skip


def test_altlocs_of_many_atoms():
    # More pairs of carbon than are looked at to choose the q²: those of altlocs must be seen too.
    n = 36
    rng = np.random.default_rng(1)
    structure = random_structure(rng, n, CELL, spread=5.0)
    half = np.where(np.arange(n) >= n - 4, 0.5, 1.0)
    structure = replace(structure, elements=np.full(n, "C"), occupancies=half)
    groups = np.where(half < 1, 0, -1)
    s = Scatterers(structure.positions, structure.elements, half, None, groups, np.arange(n) % 2)
    lattice = HalfLattice(CELL, (1, 1, 1), extent_to(CELL, 2.5), 2 * np.pi / 2.5)
    v = random_covariance(rng, n, 0.02, anisotropic=False)
    found = PairNufft(PairSum(lattice, s, Displacements(v)), Engine())
    assert error_of(found) < MARGIN * 1e-4


def test_atoms_unlike_those_that_are_looked_at(monkeypatch):
    # The q² are chosen from the first block of pairs; the others move far more.
    monkeypatch.setattr(pair_terms, "PAIRS_AT_ONCE", 400)
    n = 60
    rng = np.random.default_rng(1)
    structure = random_structure(rng, n, CELL, spread=6.0)
    structure = replace(structure, elements=np.full(n, "C"), occupancies=np.ones(n))
    root = np.sqrt(np.where(np.arange(n) < 30, 0.02, 1.5))
    kernel = np.exp(-np.linalg.norm(structure.positions[:, None] - structure.positions, axis=2) / 5)
    v = Displacements(root[:, None] * root * kernel)
    found = nufft_of(structure=structure, displacements=v, sampling=(1, 1, 1), d_min=2.0)
    assert error_of(found) < MARGIN * 1e-4


# Derivatives -----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("voxel", "exclusive"), [("nodes", False), ("sheared", True)])
def test_product_is_the_change_of_the_intensity(kind, voxel, exclusive):
    base = moves(kind, 1)
    if kind != "both":
        base = base + Displacements(independent=still(N, 0.1))
    nufft = nufft_of(displacements=base, voxel=VOXELS[voxel], exclusive=exclusive, rtol=1e-6)
    direction = random_direction(base, 5)
    step = 1e-4
    q, index = nodes_within(nufft.pair_sum.lattice)
    pick = np.random.default_rng(1).choice(len(q), 60)
    ends = [expected(shifted(nufft, direction, s), q[pick]) for s in (step, -step)]
    slope = (ends[0] - ends[1]) / (2 * step)
    found = nufft.product(direction).ravel()[index][pick]
    assert_allclose(found, slope, rtol=0, atol=DIFFERENCES * np.abs(slope).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("voxel", ["nodes", "sheared"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_gradient_is_the_transpose_of_product(kind, voxel, exclusive):
    nufft = nufft_of(kind, voxel=VOXELS[voxel], exclusive=exclusive, rtol=1e-6)
    weights = np.random.default_rng(7).normal(size=nufft.pair_sum.lattice.shape)
    direction = random_direction(nufft.pair_sum.displacements, 4)
    change = nufft.product(direction)
    size = np.linalg.norm(weights) * np.linalg.norm(change)
    found = inner(nufft.gradient(weights), direction)
    assert abs(found - np.sum(weights * change)) < DOT * size


@pytest.mark.parametrize("exclusive", [False, True])
def test_single_elements_of_v_by_differences(exclusive):
    nufft = nufft_of("both", exclusive=exclusive, rtol=1e-6)
    q, index = nodes_within(nufft.pair_sum.lattice)
    pick = np.random.default_rng(2).choice(len(q), 40, replace=False)
    weights = np.zeros(nufft.pair_sum.lattice.shape)
    weights.ravel()[index[pick]] = np.random.default_rng(3).normal(size=40)
    own = weights.ravel()[index[pick]]
    slope = nufft.gradient(weights)
    top, step = np.abs(slope.correlated).max(), 1e-4
    for i, j in [(0, 1), (4, 5), (2, 2), (7, 7), (9, 3)]:
        change = np.zeros((N, N))
        change[i, j] += 1.0
        change[j, i] += 1.0
        ends = [
            own @ expected(shifted(nufft, Displacements(change), s), q[pick]) for s in (step, -step)
        ]
        found = np.sum(slope.correlated * change)
        assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=DIFFERENCES * top)
    assert_allclose(
        np.trace(slope.independent, axis1=1, axis2=2), np.diagonal(slope.correlated),
        rtol=0, atol=1e-12 * top,
    )  # fmt: skip


# --- 3 exact limits ------------------------------------------------------


def test_one_atom():
    found = nufft_of("both", structure=STRUCTURE.take(np.array([3])))
    assert error_of(found) < MARGIN * 1e-4
    assert len(found.skeleton[0]) == 0
    assert found.gradient(np.ones(found.pair_sum.lattice.shape)).correlated.shape == (1, 1)


def test_a_unit_without_correlations():
    found = nufft_of("independent")
    assert found.gradient(np.ones(found.pair_sum.lattice.shape)).correlated is None
    zero = nufft_of(displacements=Displacements(np.zeros((N, N))))
    assert zero.intensity().max() == 0.0


def test_atoms_on_top_of_each_other():
    positions = STRUCTURE.positions.copy()
    positions[1:4] = positions[0]
    found = nufft_of("both", structure=replace(STRUCTURE, positions=positions))
    assert error_of(found) < MARGIN * 1e-4


def test_a_high_order_is_the_exact_form():
    exact, series = nufft_of("dense"), nufft_of("dense", order=25)
    assert_allclose(series.intensity(), exact.intensity(), rtol=0,
                    atol=2 * MARGIN * 1e-4 * exact.intensity().mean())  # fmt: skip


def test_low_q_is_right_to_a_part_of_itself():
    # Against each other: I ~ q⁴ near the origin, differences of large numbers anywhere else.
    v = np.array([[1.0, -1.0], [-1.0, 1.0]]) * 0.1
    two = replace(STRUCTURE.take(np.array([0, 4])), occupancies=np.ones(2))
    found = nufft_of(structure=two, displacements=Displacements(v), sampling=(8, 8, 8), d_min=5.0)
    values = found.intensity().ravel()
    q, index = nodes_within(found.pair_sum.lattice)
    low = np.flatnonzero((np.linalg.norm(q, axis=1) < 0.25) & q.any(axis=1))
    wanted = expected(found, q[low])
    assert np.max(np.abs(values[index][low] - wanted)) < 1e-3 * wanted.max()


# --- 4 invariances -------------------------------------------------------


def test_nothing_depends_on_the_number_of_threads():
    before = numba.get_num_threads()
    results = []
    try:
        for n_threads in (1, before):
            numba.set_num_threads(n_threads)
            fresh = nufft_of("both", exclusive=True, rtol=1e-6)
            direction = random_direction(fresh.pair_sum.displacements, 0)
            results.append((fresh.intensity(), fresh.product(direction)))
    finally:
        numba.set_num_threads(before)
    for one, n in zip(*results, strict=True):
        assert_allclose(one, n, rtol=0, atol=CUT_UP * np.abs(one).mean())


@pytest.mark.parametrize(("rtol", "same"), [(1e-6, CUT_UP), (1e-4, SINGLE)])
def test_batches_give_the_same_map(monkeypatch, rtol, same):
    whole = nufft_of("both", exclusive=True, rtol=rtol)
    own = whole.intensity()
    direction = random_direction(whole.pair_sum.displacements, 0)
    change = whole.product(direction)
    weights = np.random.default_rng(7).normal(size=own.shape)
    slope = whole.gradient(weights)
    assert len(list(whole._batches())) == 1
    monkeypatch.setattr(pair_terms, "PAIRS_AT_ONCE", 4)
    cut = nufft_of("both", exclusive=True, rtol=rtol, max_memory=2e3)
    # From the same q²: chosen from the same pairs in another order they would differ a little.
    object.__setattr__(cut, "skeleton", whole.skeleton)
    assert len(list(cut._batches())) > 3
    assert_allclose(cut.intensity(), own, rtol=0, atol=same * own.mean())
    found = cut.product(direction)
    assert_allclose(found, change, rtol=0, atol=same * np.abs(change).mean())
    found = cut.gradient(weights).correlated
    assert_allclose(found, slope.correlated, rtol=0, atol=same * np.abs(slope.correlated).max())


def test_less_memory_is_taken_where_less_is_given(monkeypatch):
    n = 300
    rng = np.random.default_rng(1)
    cell = Cell(30.0, 30.0, 30.0, 90.0, 90.0, 90.0)
    s = Scatterers(30 * rng.uniform(size=(n, 3)), np.full(n, "C"), np.ones(n))
    lattice = HalfLattice(cell, (1, 1, 1), extent_to(cell, 4.0), 2 * np.pi / 4.0)
    v = Displacements(LowRank(0.3 * rng.normal(size=(n, 2))))
    monkeypatch.setattr(pair_terms, "PAIRS_AT_ONCE", 2000)
    peaks, maps = {}, {}
    for memory in (2e9, 2e6):
        nufft = PairNufft(PairSum(lattice, s, v), Engine(max_memory=memory, rtol=1e-6))
        _ = nufft.skeleton
        tracemalloc.start()
        maps[memory] = nufft.intensity()
        peaks[memory] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[2e6] < 0.5 * peaks[2e9]
    assert_allclose(maps[2e6], maps[2e9], rtol=0, atol=CUT_UP * maps[2e9].mean())


def test_a_shift_of_everything_changes_nothing():
    moved = replace(STRUCTURE, positions=STRUCTURE.positions + np.array([7.3, -2.2, 11.9]))
    one, two = nufft_of("both").intensity(), nufft_of("both", structure=moved).intensity()
    assert_allclose(one, two, rtol=0, atol=2 * MARGIN * 1e-4 * one.mean())


def test_the_skeleton_is_as_good_as_asked_for_and_short():
    for rtol in (1e-3, 1e-5):
        nodes, functions, error = nufft_of("both", rtol=rtol).skeleton
        assert len(nodes) == len(functions) < 20
        assert error <= rtol


# --- 5 errors ------------------------------------------------------------


def test_what_it_cannot_do_is_refused():
    anisotropic = Displacements(random_covariance(np.random.default_rng(0), N))
    with pytest.raises(InputError, match="'pair-nufft' needs isotropic displacements"):
        nufft_of(displacements=anisotropic)
    plain = nufft_of("dense").pair_sum
    anomalous = replace(plain, scatterers=replace(plain.scatterers, wavelength=1.0))
    with pytest.raises(InputError, match="'pair-nufft' has no anomalous scattering"):
        PairNufft(anomalous, Engine())
    series = nufft_of("dense", order=2)
    with pytest.raises(InputError, match="derivatives need order='exact'"):
        series.product(series.pair_sum.displacements)
