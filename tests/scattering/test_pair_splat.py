"""Splatting a whole map, its product and its gradient: against plain double sums."""

import tracemalloc
from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.lattice_oracles import (
    complex_form_factors,
    extent_to,
    joint_of_altlocs,
    mean_phases,
    nodes_within,
    pair_intensity,
    whole_covariance,
)
from tests.oracles import form_factors
from tests.strategies import CRYSTALS, random_covariance, random_structure, random_u

from offbragg.crystal.cell import Cell
from offbragg.errors import InputError
from offbragg.scattering import pair_splat, pair_terms
from offbragg.scattering.displacements import Displacements, LowRank
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pair_splat import PairSplat
from offbragg.scattering.pair_terms import PairSum
from offbragg.scattering.scatterers import Scatterers

# Largest error as a multiple of rtol times the mean: rtol bounds what one pair adds, and a few
# dozen pairs add up; 4 was the worst seen.
MARGIN = 10.0
CUT_UP = 1e-10  # of the mean: slabs and blocks only change the order of sums
DOT = 1e-9  # product and gradient are transposes of each other to rounding
# Central differences of a map of rtol 1e-6 with steps of a thousandth of V.
DIFFERENCES = 2e-4
ELEMENT = 2e-4  # the same for single elements
CHEAP, DEAR = 1e-9, 1e9  # costs of a transform, so that all products are taken, or few
N = 10
CELL = CRYSTALS["triclinic"][0]
STRUCTURE = random_structure(np.random.default_rng(8), N, CELL)
GROUPS = np.array([0, 0, 0, -1, 1, 1, -1, 1, -1, -1])
ALTERNATIVES = np.array([0, 0, 1, 0, 0, 1, 0, 1, 0, 0])
OCCUPANCIES = np.array([0.6, 0.6, 0.4, 1.0, 0.5, 0.3, 0.7, 0.3, 1.0, 1.0])
KINDS = ["isotropic", "anisotropic", "scalar factor", "tensor factor", "independent", "both"]
# Edges of a voxel sheared by hexagonal axes.
VOXELS = {"nodes": None, "box": np.diag([0.5, 1.0, 1 / 3]),
          "sheared": np.array([[0.5, -0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.1, 1 / 3]])}  # fmt: skip


def moves(kind, seed=0, n=N, u=0.2):
    rng = np.random.default_rng(seed)
    correlated = {
        "isotropic": random_covariance(rng, n, u, anisotropic=False),
        "anisotropic": random_covariance(rng, n, u),
        "scalar factor": LowRank(np.sqrt(u / 2) * rng.normal(size=(n, 2))),
        "tensor factor": LowRank(np.sqrt(u / 2) * rng.normal(size=(n, 3, 2))),
        "independent": None,
        "both": random_covariance(rng, n, u, rank=4),
    }[kind]
    own = kind in ("independent", "both", "scalar factor")
    return Displacements(correlated, random_u(rng, n, 0.1) if own else None)


def lattice_to(d_min, sampling=(2, 1, 3), voxel=None, cell=CELL):
    return HalfLattice(cell, sampling, extent_to(cell, d_min, sampling), 2 * np.pi / d_min, voxel)


def splat_of(kind="anisotropic", *, d_min=3.0, rtol=1e-4, exclusive=False, wavelength=None,
             voxel=None, sampling=(2, 1, 3), displacements=None, by_pairs=False,
             structure=STRUCTURE, cls=PairSplat, **engine):  # fmt: skip
    groups = (GROUPS, ALTERNATIVES) if exclusive else (None, None)
    occupancies = OCCUPANCIES if len(structure) == N else structure.occupancies
    s = Scatterers(structure.positions, structure.elements, occupancies, wavelength, *groups)
    lattice = lattice_to(d_min, sampling, voxel, structure.cell)
    displacements = moves(kind, n=len(s)) if displacements is None else displacements
    return cls(PairSum(lattice, s, displacements, by_pairs), Engine(rtol=rtol, **engine))


def expected(splat, q):
    """Intensity at q (n, 3) by the double sum; with an odd part, its even part + i × odd part."""
    s, lattice = splat.pair_sum.scatterers, splat.pair_sum.lattice
    phases = joint = None
    if lattice.voxel is not None:
        separations = s.positions[:, None] - s.positions[None]
        phases = mean_phases(separations, lattice.cell, lattice.voxel)
    if s.groups is not None:
        joint = joint_of_altlocs(s.occupancies, s.groups, s.alternatives)
    v = whole_covariance(splat.pair_sum.displacements, len(s))
    rest = v, s.occupancies, joint, phases
    if s.wavelength is None:
        return pair_intensity(q, s.positions, form_factors(s.elements, q), *rest)
    f = complex_form_factors(s.elements, q, s.wavelength)
    plus, minus = (pair_intensity(x, s.positions, f, *rest) for x in (q, -q))
    return 0.5 * (plus + minus) + 0.5j * (plus - minus)


def error_of(splat, n_random=100, found=None):
    """Largest error as a fraction of the mean: random nodes and all beyond 10 Å."""
    found = splat.intensity() if found is None else found
    lattice = splat.pair_sum.lattice
    q, index = nodes_within(lattice)
    low = np.flatnonzero(np.linalg.norm(q, axis=1) < 2 * np.pi / 10)
    pick = np.union1d(np.random.default_rng(0).choice(len(q), min(n_random, len(q))), low)
    at_zero = (~q.any(axis=1)[pick]) if lattice.voxel is None else np.zeros(len(pick), bool)
    wanted = np.where(at_zero, 0.0, expected(splat, q[pick]))
    assert found.shape == lattice.shape
    assert np.all(np.isfinite(found))
    assert found.real.min() >= 0.0
    outside = np.ones(found.size, dtype=bool)
    outside[index] = False
    assert not found.ravel()[outside].any()
    return np.max(np.abs(found.ravel()[index][pick] - wanted)) / np.mean(found.real.ravel()[index])


def random_direction(like, seed):
    """A change dV of the form of `Displacements`, symmetric."""
    rng = np.random.default_rng(seed)
    correlated = like.correlated
    if correlated is not None:
        change = rng.normal(size=correlated.shape)
        turned = change.T if change.ndim == 2 else change.transpose(1, 0, 3, 2)
        correlated = change + turned
    own = rng.normal(size=(N, 3, 3))
    return Displacements(correlated, own + own.transpose(0, 2, 1))


def inner(a, b):
    """Frobenius product of two `Displacements`."""
    total = 0.0
    if a.correlated is not None and b.correlated is not None:
        total += np.sum(np.asarray(a.correlated) * np.asarray(b.correlated))
    if a.independent is not None and b.independent is not None:
        total += np.sum(a.independent * b.independent)
    return total


def shifted(splat, direction, step):
    """The same sum with V + step · dV."""
    own = splat.pair_sum.displacements
    change = Displacements(
        None if direction.correlated is None else step * np.asarray(direction.correlated),
        None if direction.independent is None else step * direction.independent,
    )
    return replace(splat, pair_sum=replace(splat.pair_sum, displacements=own + change))


def well_inside(kind, seed=1):
    """Displacements with room around them: V + a multiple of the unit matrix."""
    own = moves(kind, seed)
    return own + Displacements(independent=0.1 * np.eye(3) * np.ones((N, 1, 1)))


# --- 1 reference numbers -------------------------------------------------


def test_two_atoms_that_move_as_one_by_hand():
    # At hkl = (1, 0, 0) of a cubic cell of 10 Å with atoms at 0 and a/4: |f_C + i f_O|².
    cell = Cell(10.0, 10.0, 10.0, 90.0, 90.0, 90.0)
    s = Scatterers(np.array([[0.0, 0, 0], [2.5, 0, 0]]), np.array(["C", "O"]), np.ones(2))
    lattice = HalfLattice(cell, (1, 1, 1), (4, 4, 4), 2 * np.pi / 2.5)
    found = PairSplat(PairSum(lattice, s, Displacements(np.full((2, 2), 0.3))), Engine(rtol=1e-6))
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
    splat = splat_of(kind, voxel=VOXELS[voxel], exclusive=exclusive)
    assert error_of(splat) < MARGIN * 1e-4


@pytest.mark.parametrize("kind", ["isotropic", "both", "independent"])
@pytest.mark.parametrize("voxel", ["nodes", "sheared"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_anomalous_intensity_is_the_double_sum(kind, voxel, exclusive):
    splat = splat_of(kind, voxel=VOXELS[voxel], exclusive=exclusive, wavelength=1.9)
    found = splat.intensity()
    assert np.iscomplexobj(found)
    assert error_of(splat, found=found) < MARGIN * 1e-4
    is_even = np.abs(found.imag).max() < 10 * MARGIN * 1e-4 * found.real.mean()
    assert is_even == (kind == "independent" and not exclusive)


@pytest.mark.parametrize("rtol", [1e-3, 1e-4, 1e-5, 1e-6, 1e-8])
@pytest.mark.parametrize("kind", ["isotropic", "both"])
def test_errors_fall_with_rtol(rtol, kind):
    assert error_of(splat_of(kind, rtol=rtol)) < MARGIN * rtol


@pytest.mark.parametrize("voxel", ["nodes", "box"])
def test_a_box_smaller_than_the_molecule(voxel):
    small = replace(STRUCTURE, cell=Cell(4.0, 5.0, 6.0, 80.0, 95.0, 105.0))
    edges = None if voxel == "nodes" else np.eye(3)
    splat = splat_of("both", structure=small, sampling=(1, 1, 1), d_min=1.5, voxel=edges)
    assert error_of(splat) < MARGIN * 1e-4


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("voxel", ["nodes", "box"])
def test_taking_the_uncorrelated_part_off_by_pairs_is_the_same(exclusive, voxel):
    one, two = (
        splat_of("both", by_pairs=by, exclusive=exclusive, voxel=VOXELS[voxel]).intensity()
        for by in (False, True)
    )
    assert_allclose(one, two, rtol=0, atol=MARGIN * 1e-4 * one.mean())


@settings(deadline=None, derandomize=True, max_examples=8)
@given(
    seed=st.integers(0, 999), u=st.floats(1e-4, 3.0), rank=st.integers(1, 6),
    system=st.sampled_from(["triclinic", "monoclinic", "trigonal", "rhombohedral"]),
)  # fmt: skip
def test_any_covariance_in_any_cell(seed, u, rank, system):
    rng = np.random.default_rng(seed)
    structure = random_structure(rng, 6, CRYSTALS[system][0])
    v = Displacements(random_covariance(rng, 6, u, rank))
    splat = splat_of(structure=structure, displacements=v, sampling=(1, 1, 1))
    assert error_of(splat) < MARGIN * 1e-4


# Bases of few products -------------------------------------------------


def with_transforms_of(monkeypatch, cost):
    monkeypatch.setattr(pair_splat, "_TRANSFORM_COST", cost)


@pytest.mark.parametrize("kind", ["isotropic", "both", "independent"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("rtol", [1e-3, 1e-5])
def test_a_basis_of_few_products_gives_the_same_map(monkeypatch, kind, exclusive, rtol):
    with_transforms_of(monkeypatch, CHEAP)
    plain = splat_of(kind, exclusive=exclusive, rtol=rtol)
    own = plain.intensity()
    n_classes = len(plain.pair_sum.scatterers.pair_classes)
    assert len(plain.basis.members) == n_classes
    with_transforms_of(monkeypatch, DEAR)
    few = splat_of(kind, exclusive=exclusive, rtol=rtol)
    assert len(few.basis.members) < n_classes
    found = few.intensity()
    assert error_of(few, found=found) < MARGIN * rtol
    assert_allclose(found, own, rtol=0, atol=2 * MARGIN * rtol * own.mean())


def test_a_basis_of_few_products_leaves_nothing_at_low_q(monkeypatch):
    # Half of the elements' products are combinations; a rigid body scatters as q² at low q.
    with_transforms_of(monkeypatch, DEAR)
    splat = splat_of(displacements=Displacements(LowRank(np.full((N, 1), 0.5))), rtol=1e-3,
                     sampling=(6, 6, 6), d_min=4.0)  # fmt: skip
    assert len(splat.basis.members) < len(splat.pair_sum.scatterers.pair_classes)
    found = splat.intensity().ravel()
    q, index = nodes_within(splat.pair_sum.lattice)
    low = np.flatnonzero(np.linalg.norm(q, axis=1) < 2 * np.pi / 10)
    wanted = expected(splat, q[low])
    assert np.max(np.abs(found[index][low] - wanted)) < MARGIN * 1e-3 * found[index].mean()


@pytest.mark.parametrize("kind", ["isotropic", "both"])
def test_derivatives_in_a_basis_of_few_products(monkeypatch, kind):
    with_transforms_of(monkeypatch, CHEAP)
    plain = splat_of(kind, rtol=1e-5)
    direction = random_direction(plain.pair_sum.displacements, 2)
    weights = np.random.default_rng(3).normal(size=plain.pair_sum.lattice.shape)
    change, slope = plain.product(direction), plain.gradient(weights)
    with_transforms_of(monkeypatch, DEAR)
    few = splat_of(kind, rtol=1e-5)
    assert len(few.basis.members) < len(plain.basis.members)
    found = few.product(direction)
    assert_allclose(found, change, rtol=0, atol=1e-4 * np.abs(change).max())
    by_few = few.gradient(weights)
    assert inner(by_few, direction) == pytest.approx(np.sum(weights * found), rel=DOT, abs=1e-6)
    top = np.abs(slope.correlated).max()
    assert_allclose(by_few.correlated, slope.correlated, rtol=0, atol=1e-4 * top)


# Derivatives -----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("voxel", "exclusive"), [("nodes", False), ("sheared", True)])
def test_product_is_the_change_of_the_intensity(kind, voxel, exclusive):
    splat = splat_of(displacements=well_inside(kind), voxel=VOXELS[voxel], exclusive=exclusive,
                     rtol=1e-6)  # fmt: skip
    direction = random_direction(splat.pair_sum.displacements, 5)
    step = 1e-4
    q, index = nodes_within(splat.pair_sum.lattice)
    pick = np.random.default_rng(1).choice(len(q), 60)
    ends = [expected(shifted(splat, direction, s), q[pick]) for s in (step, -step)]
    slope = (ends[0] - ends[1]) / (2 * step)
    found = splat.product(direction).ravel()[index][pick]
    assert_allclose(found, slope, rtol=0, atol=DIFFERENCES * np.abs(slope).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("voxel", ["nodes", "sheared"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_gradient_is_the_transpose_of_product(kind, voxel, exclusive):
    splat = splat_of(kind, voxel=VOXELS[voxel], exclusive=exclusive, rtol=1e-4)
    weights = np.random.default_rng(7).normal(size=splat.pair_sum.lattice.shape)
    direction = random_direction(splat.pair_sum.displacements, 4)
    change = splat.product(direction)
    size = np.linalg.norm(weights) * np.linalg.norm(change)
    assert abs(inner(splat.gradient(weights), direction) - np.sum(weights * change)) < DOT * size


@pytest.mark.parametrize("exclusive", [False, True])
def test_single_elements_of_v_by_differences(exclusive):
    splat = splat_of(displacements=well_inside("both"), exclusive=exclusive, rtol=1e-6)
    q, index = nodes_within(splat.pair_sum.lattice)
    pick = np.random.default_rng(2).choice(len(q), 40, replace=False)
    weights = np.zeros(splat.pair_sum.lattice.shape)
    weights.ravel()[index[pick]] = np.random.default_rng(3).normal(size=40)
    slope = splat.gradient(weights)
    own = weights.ravel()[index[pick]]
    top = np.abs(slope.correlated).max()
    for i, j, a, b in [(0, 1, 0, 2), (4, 5, 1, 1), (2, 2, 0, 1), (7, 7, 2, 2), (9, 3, 2, 0)]:
        change = np.zeros((N, N, 3, 3))
        change[i, j, a, b] += 1.0
        change[j, i, b, a] += 1.0
        direction, step = Displacements(change), 1e-4
        ends = [own @ expected(shifted(splat, direction, s), q[pick]) for s in (step, -step)]
        found = np.sum(slope.correlated * change)
        assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=ELEMENT * top)
    for i, a, b in [(0, 0, 0), (5, 1, 2)]:
        change = np.zeros((N, 3, 3))
        change[i, a, b] += 1.0
        change[i, b, a] += 1.0
        direction = Displacements(independent=change)
        ends = [own @ expected(shifted(splat, direction, s), q[pick]) for s in (step, -step)]
        found = np.sum(slope.independent * change)
        assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=ELEMENT * top)


@pytest.mark.parametrize("kind", ["isotropic", "both", "independent"])
def test_first_order_is_the_sum_over_amplitudes(kind):
    # Σ_ij a_i* a_j qᵀV_ij q with a_i = f_i o_i exp(iq·r_i − ½qᵀU_i q).
    whole = splat_of(kind)
    u = whole.pair_sum.u_aniso
    apart = Displacements(LowRank(np.zeros((N, 1))), u)
    splat = splat_of(displacements=apart, by_pairs=True)
    found = splat.first_order(whole.pair_sum.displacements).ravel()
    q, index = nodes_within(splat.pair_sum.lattice)
    pick = np.random.default_rng(0).choice(len(q), 100)
    s = splat.pair_sum.scatterers
    a = form_factors(s.elements, q[pick]) * s.occupancies * np.exp(1j * q[pick] @ s.positions.T)
    a = a * np.exp(-0.5 * np.einsum("qx,nxy,qy->qn", q[pick], u, q[pick]))
    v = whole_covariance(whole.pair_sum.displacements, N)
    forms = np.einsum("qx,ijxy,qy->qij", q[pick], v, q[pick], optimize=True)
    wanted = np.einsum("qi,qij,qj->q", a.conj(), forms, a, optimize=True).real
    assert_allclose(found[index][pick], wanted, rtol=0, atol=MARGIN * 1e-4 * np.mean(wanted))


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("by_pairs", [False, True])
def test_atoms_that_stand_still_scatter_nothing(by_pairs):
    still = Displacements(np.zeros((N, N)))
    found = splat_of(displacements=still, by_pairs=by_pairs).intensity()
    assert found.max() < 1e-3 * np.sum(form_factors(STRUCTURE.elements, np.zeros((1, 3))) ** 2)


def test_one_atom():
    one = STRUCTURE.take(np.array([3]))
    splat = splat_of("both", structure=one)
    assert error_of(splat) < MARGIN * 1e-4
    slope = splat.gradient(np.ones(splat.pair_sum.lattice.shape))
    assert slope.correlated.shape == (1, 1, 3, 3)


def test_atoms_on_top_of_each_other():
    positions = STRUCTURE.positions.copy()
    positions[1:4] = positions[0]
    splat = splat_of("both", structure=replace(STRUCTURE, positions=positions))
    assert error_of(splat) < MARGIN * 1e-4


def test_atoms_that_are_not_there_change_nothing():
    gone = np.where(np.arange(N) < 4, 0.0, OCCUPANCIES)
    v = random_covariance(np.random.default_rng(0), N, 0.2)
    lattice = lattice_to(2.5)
    s = STRUCTURE
    whole = PairSplat(
        PairSum(lattice, Scatterers(s.positions, s.elements, gone), Displacements(v)), Engine()
    )
    rest = PairSplat(
        PairSum(lattice, Scatterers(s.positions[4:], s.elements[4:], gone[4:]),
                Displacements(v[4:, 4:])), Engine())  # fmt: skip
    one, two = whole.intensity(), rest.intensity()
    assert_allclose(one, two, rtol=0, atol=2 * MARGIN * 1e-4 * two.mean())


def test_the_origin_is_zero_at_nodes_and_not_beyond_q_max():
    splat = splat_of("both", exclusive=True)
    extent = splat.pair_sum.lattice.extent
    assert splat.intensity()[extent[0], extent[1], 0] == 0.0


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("kind", ["isotropic", "both"])
def test_nothing_depends_on_the_number_of_threads(kind):
    splat = splat_of(kind, exclusive=True)
    direction = random_direction(splat.pair_sum.displacements, 0)
    weights = np.random.default_rng(7).normal(size=splat.pair_sum.lattice.shape)
    before = numba.get_num_threads()
    results = []
    try:
        for n_threads in (1, before):
            numba.set_num_threads(n_threads)
            fresh = splat_of(kind, exclusive=True)
            results.append((fresh.intensity(), fresh.product(direction), fresh.gradient(weights)))
    finally:
        numba.set_num_threads(before)
    (i_1, p_1, g_1), (i_n, p_n, g_n) = results
    assert_array_equal(i_1, i_n)
    assert_array_equal(p_1, p_n)
    assert_array_equal(g_1.correlated, g_n.correlated)
    assert_array_equal(g_1.independent, g_n.independent)


def test_slabs_and_blocks_give_the_same_map(monkeypatch):
    whole = splat_of("both", exclusive=True)
    own = whole.intensity()
    change = whole.product(random_direction(whole.pair_sum.displacements, 0))
    n_slabs = len(list(splat_of("both", exclusive=True, max_memory=2e5)._slabs()))
    assert n_slabs > 3
    assert len(list(whole._slabs())) == 1
    monkeypatch.setattr(pair_terms, "PAIRS_AT_ONCE", 25)
    cut = splat_of("both", exclusive=True, max_memory=2e5)
    assert_allclose(cut.intensity(), own, rtol=0, atol=CUT_UP * own.mean())
    found = cut.product(random_direction(whole.pair_sum.displacements, 0))
    assert_allclose(found, change, rtol=0, atol=CUT_UP * np.abs(change).mean())


def test_less_memory_is_taken_where_less_is_given():
    # A large box: the grid is most of what is needed.
    few = replace(STRUCTURE.take(np.arange(3)), elements=np.array(["C"] * 3))
    big = replace(few, cell=Cell(80.0, 30.0, 30.0, 90.0, 90.0, 90.0))
    peaks = {}
    for memory in (2e9, 1e5):
        splat = splat_of("both", structure=big, sampling=(2, 2, 2), d_min=2.5, by_pairs=True,
                         max_memory=memory)  # fmt: skip
        _ = splat.basis
        tracemalloc.start()
        splat.intensity()
        peaks[memory] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    grid = 8 * np.prod(splat.groups[0].plan.shape)
    assert peaks[1e5] < peaks[2e9] - 0.5 * grid


def test_a_shift_of_everything_changes_nothing():
    shift = np.array([7.3, -2.2, 11.9])
    moved = replace(STRUCTURE, positions=STRUCTURE.positions + shift)
    one, two = splat_of("both").intensity(), splat_of("both", structure=moved).intensity()
    assert_allclose(one, two, rtol=0, atol=2 * MARGIN * 1e-4 * one.mean())


def test_the_order_of_atoms_changes_nothing():
    order = np.random.default_rng(0).permutation(N)
    whole = splat_of("both")
    own = whole.pair_sum.displacements
    s = whole.pair_sum.scatterers
    mixed = PairSplat(
        PairSum(
            whole.pair_sum.lattice,
            Scatterers(s.positions[order], s.elements[order], s.occupancies[order]),
            Displacements(own.correlated[np.ix_(order, order)], own.independent[order]),
        ),
        whole.engine,
    )
    one, two = whole.intensity(), mixed.intensity()
    assert_allclose(one, two, rtol=0, atol=2 * MARGIN * 1e-4 * one.mean())


def test_groups_by_width_change_nothing(monkeypatch):
    # Wide Gaussians may go to a plan of their own, where that is cheaper.
    v = random_covariance(np.random.default_rng(0), N, 1.5)
    whole = splat_of(displacements=Displacements(v))
    monkeypatch.setattr(pair_splat, "_TRANSFORM_COST", CHEAP)
    two = splat_of(displacements=Displacements(v))
    assert len(two.groups) == 2
    assert error_of(two) < MARGIN * 1e-4
    own = whole.intensity()
    assert_allclose(two.intensity(), own, rtol=0, atol=2 * MARGIN * 1e-4 * own.mean())
    weights = np.random.default_rng(7).normal(size=own.shape)
    direction = random_direction(two.pair_sum.displacements, 0)
    change = two.product(direction)
    size = np.linalg.norm(weights) * np.linalg.norm(change)
    assert abs(inner(two.gradient(weights), direction) - np.sum(weights * change)) < DOT * size


def test_inputs_are_not_changed():
    splat = splat_of("both", exclusive=True)
    own, s = splat.pair_sum.displacements, splat.pair_sum.scatterers
    kept = [x.copy() for x in (own.correlated, own.independent, s.positions, s.occupancies)]
    weights = np.ones(splat.pair_sum.lattice.shape)
    splat.intensity()
    splat.product(own)
    splat.gradient(weights)
    for before, after in zip(
        kept, (own.correlated, own.independent, s.positions, s.occupancies), strict=True
    ):
        assert_array_equal(before, after)
    assert np.all(weights == 1.0)


# --- 5 errors ------------------------------------------------------------


def test_derivatives_with_a_wavelength_are_refused():
    splat = splat_of("both", wavelength=1.0)
    with pytest.raises(InputError, match="derivatives by the covariance need real form factors"):
        splat.product(splat.pair_sum.displacements)
    with pytest.raises(InputError, match="derivatives by the covariance need real form factors"):
        splat.gradient(np.zeros(splat.pair_sum.lattice.shape))
