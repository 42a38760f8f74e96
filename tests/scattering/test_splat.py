"""Splatting: compiled loops against their plain twins, and transforms against Gaussians' own."""

import itertools
from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.lattice_oracles import nodes_within
from tests.oracles import blocks
from tests.strategies import CRYSTALS, cells, random_covariance, random_u

from offbragg.crystal.cell import Cell
from offbragg.errors import InputError
from offbragg.scattering import HalfLattice, _kernels, reference
from offbragg.scattering.splat import SplatPlan

RTOL_ROUNDING = 1e-11  # the same sums in another order
# A Gaussian cut at 9 standard deviations has lost 4e-17 of its weight: what is left is rounding of
# the recurrence along rows.
WIDE_RADIUS, ATOL_SPLAT = 9.0, 1e-12
UPPER = np.triu_indices(3)

TRICLINIC = CRYSTALS["triclinic"][0]
# a, b, c more than 90° apart: the sphere of q touches neighbouring aliases of a thin lattice.
OBTUSE = Cell(20.0, 20.0, 20.0, 100.0, 110.0, 118.0)


def packed(matrices):
    return np.ascontiguousarray(matrices[:, UPPER[0], UPPER[1]])


def splat(shape, centres, covariances, weights, radius, n_slabs):
    """Run the two kernels as SplatPlan.add does."""
    grid = np.zeros(shape)
    edges = np.unique(np.linspace(0, shape[0], n_slabs + 1).astype(np.int64))
    starts, members = _kernels.slab_members(centres, covariances, radius, shape[0], edges)
    _kernels.splat(grid, shape[0], centres, covariances, weights, radius, edges, starts, members)
    return grid


def transform_error(lattice, tolerance, rng, n=6, widest=1.0):
    """Largest error of the transform of n Gaussians, as a fraction of their weight."""
    plan = SplatPlan.for_tolerance(lattice, tolerance)
    centres = rng.uniform(-30, 30, (n, 3))
    covariances = random_u(rng, n, 0.2) * rng.uniform(0, widest / 0.2, n)[:, None, None]
    weights = rng.uniform(0.1, 1.0, n)
    grid = plan.real_space_grid()
    plan.add(grid, plan.place(centres, packed(covariances)), weights)
    found = (plan.transform(grid) * plan.unblur(lattice.q_squared())).ravel()
    q, index = nodes_within(lattice)
    damping = np.exp(-0.5 * np.einsum("qx,gxy,qy->qg", q, covariances, q))
    expected = (weights * np.exp(1j * q @ centres.T) * damping).sum(axis=1)
    return np.abs(found[index] - expected).max() / weights.sum()


# --- 1 reference numbers -------------------------------------------------


def test_one_gaussian_by_hand():
    # Unit covariance at a grid point: (2π)^−3/2 there, e^−½ of it one step away.
    covariance = np.array([[1.0, 0.0, 0.0, 1.0, 0.0, 1.0]])
    grid = splat((24, 24, 24), np.full((1, 3), 12.0), covariance, np.ones(1), 6.0, 3)
    assert grid[12, 12, 12] == pytest.approx((2 * np.pi) ** -1.5, rel=1e-12)
    assert grid[12, 13, 12] == pytest.approx((2 * np.pi) ** -1.5 * np.exp(-0.5), rel=1e-12)
    assert grid.sum() == pytest.approx(1.0, abs=1e-6)  # Poisson: 1 + 6 e^{−2π²}, cut at 6


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=12)
@given(
    seed=st.integers(0, 9999),
    shape=st.tuples(*[st.integers(4, 8)] * 3),
    n_slabs=st.integers(1, 12),
)
def test_splat_matches_untruncated_sum_of_images(seed, shape, n_slabs):
    # Gaussians from a fraction of a step to half the box, anywhere, wrapped.
    rng = np.random.default_rng(seed)
    n = 2
    centres = rng.uniform(-20, 20, (n, 3))
    covariances = random_u(rng, n, 0.3) * rng.uniform(0.0, 1.5, n)[:, None, None]
    covariances += 0.15 * np.eye(3)
    weights = rng.uniform(-1, 1, n)
    # Far enough images of the twin: 9 standard deviations of the widest.
    images = int(np.ceil(WIDE_RADIUS * np.sqrt(np.linalg.eigvalsh(covariances).max()) / min(shape)))
    assume(images <= 3)
    wrapped = centres % np.array(shape)
    expected = reference.splat(shape, wrapped, covariances, weights, images)
    found = splat(shape, centres, packed(covariances), weights, WIDE_RADIUS, n_slabs)
    assert_allclose(found, expected, atol=ATOL_SPLAT + 1e-13 * np.abs(expected).max())


def test_the_reference_sum_itself_against_a_product_of_lines():
    # A diagonal Gaussian is a product of one-dimensional sums over images.
    shape, centre, variances = (5, 7, 6), np.array([1.3, 2.2, 4.9]), np.array([0.5, 2.0, 1.1])
    found = reference.splat(shape, centre[None], np.diag(variances)[None], np.array([2.0]), 4)
    lines = []
    for n, c, v in zip(shape, centre, variances, strict=True):
        d = np.arange(n)[:, None] - c - n * np.arange(-8, 9)
        lines.append((np.exp(-(d**2) / (2 * v)) / np.sqrt(2 * np.pi * v)).sum(axis=1))
    assert_allclose(found, 2 * np.einsum("i,j,k->ijk", *lines), rtol=1e-10)


@pytest.mark.parametrize("form", ["isotropic", "anisotropic", "none"])
@pytest.mark.parametrize("triangle", [True, False])
def test_pair_gaussians_match_their_definition(form, triangle):
    rng = np.random.default_rng(11)
    n = 7
    v = {
        "isotropic": blocks(random_covariance(rng, n, anisotropic=False)),
        "anisotropic": random_covariance(rng, n),
        "none": np.zeros((n, n, 3, 3)),
    }[form]
    u_aniso = v[range(n), range(n)] + random_u(rng, n)
    positions = rng.normal(size=(n, 3))
    first = np.array([4, 1, 6])
    second = first if triangle else np.array([0, 5])
    given = v[np.ix_(first, second)]
    if form == "isotropic":
        given = given[:, :, :1, :1].copy()
    if form == "none":
        given = np.empty((0, 0, 1, 1))
    found = _kernels.pair_gaussians(first, second, triangle, positions, given, u_aniso)
    pairs = [(i, j) for n_i, i in enumerate(first) for j in second[n_i + 1 if triangle else 0 :]]
    for (i, j), separation, relative, least in zip(pairs, *found, strict=True):
        d = u_aniso[i] + u_aniso[j] - v[i, j] - v[j, i]
        assert_allclose(separation, positions[i] - positions[j], rtol=1e-13)
        assert_allclose(relative, d[UPPER], rtol=1e-12, atol=1e-13)
        assert least == pytest.approx(np.linalg.eigvalsh(d)[0], abs=1e-10)
        assert least == pytest.approx(_kernels.least_eigenvalues(relative[None])[0], abs=1e-12)


def test_slab_members_are_those_that_reach_each_slab():
    rng = np.random.default_rng(2)
    n_x, radius, edges = 23, 2.5, np.array([0, 4, 5, 11, 23])
    centres = rng.uniform(-40, 40, (200, 3))
    covariances = packed(random_u(rng, 200, 1.0) * rng.uniform(0.01, 30, 200)[:, None, None])
    starts, members = _kernels.slab_members(centres, covariances, radius, n_x, edges)
    for slab in range(4):
        expected = []
        for g in range(200):
            half = radius * np.sqrt(covariances[g, 0])
            rows = np.arange(np.ceil(centres[g, 0] - half), np.floor(centres[g, 0] + half) + 1)
            rows = rows.astype(int) % n_x
            if np.any((rows >= edges[slab]) & (rows < edges[slab + 1])):
                expected.append(g)
        assert members[starts[slab] : starts[slab + 1]].tolist() == expected


def test_gather_sums_the_images_of_each_node():
    rng = np.random.default_rng(6)
    extent = np.array([3, 4, 2])
    half = rng.normal(size=(7, 9, 3))
    rotations = np.array([np.eye(3), [[0, -1, 0], [1, -1, 0], [0, 0, 1]], -np.eye(3)]).astype(int)
    first, shape = np.array([-2, -1, -3]), (4, 5, 6)

    def at(m):
        x, y, z = m if m[2] >= 0 else -m
        inside = abs(x) <= 3 and abs(y) <= 4 and z <= 2
        return half[x + 3, y + 4, z] if inside else 0.0

    expected = np.empty(shape)
    for index in itertools.product(*map(range, shape)):
        expected[index] = sum(at((first + np.array(index)) @ r) for r in rotations)
    found = np.empty(shape)
    _kernels.gather_orbit(half, np.empty((0, 0, 0)), extent, first, rotations, found)
    assert_allclose(found, expected, rtol=RTOL_ROUNDING)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    cell=cells(6.0, 14.0),
    sampling=st.tuples(*[st.integers(1, 3)] * 3),
    tolerance=st.sampled_from([1e-3, 1e-5, 1e-8]),
    seed=st.integers(0, 9999),
)
def test_the_tolerance_is_kept_in_any_cell(cell, sampling, tolerance, seed):
    rng = np.random.default_rng(seed)
    d_min = rng.uniform(2.0, 4.0)
    extent = tuple(int(x / d_min * n) for x, n in zip(cell, sampling, strict=False))
    lattice = HalfLattice(cell, sampling, extent, 2 * np.pi / d_min)
    assert transform_error(lattice, tolerance, rng) < tolerance


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    cell=cells(8.0, 14.0),
    thin=st.sets(st.integers(0, 2), min_size=1, max_size=2),
    seed=st.integers(0, 9999),
)
def test_the_tolerance_is_kept_on_thin_lattices(cell, thin, seed):
    # Sections and rows: the lattice holds but a part of the sphere.
    rng = np.random.default_rng(seed)
    d_min = 2.5
    extent = [int(x / d_min) for x in cell[:3]]
    for axis in thin:
        extent[axis] = int(rng.integers(0, 2))
    lattice = HalfLattice(cell, (1, 1, 1), tuple(extent), 2 * np.pi / d_min)
    assert transform_error(lattice, 1e-6, rng) < 1e-6


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_tolerance_is_kept_on_sections_of_obtuse_cells(axis, tolerance):
    extent = [16, 16, 16]
    extent[axis] = 0
    lattice = HalfLattice(OBTUSE, (2, 2, 2), tuple(extent), 2 * np.pi / 2.5)
    assert transform_error(lattice, tolerance, np.random.default_rng(axis)) < tolerance


# --- 3 exact limits ------------------------------------------------------


def test_no_gaussians_leave_the_grid_empty():
    plan = SplatPlan.for_tolerance(HalfLattice(TRICLINIC, (1, 1, 1), (3, 3, 3), 1.5), 1e-4)
    grid = plan.real_space_grid()
    plan.add(grid, plan.place(np.empty((0, 3)), np.empty((0, 6))), np.empty(0))
    assert not grid.any()
    assert grid.shape == plan.shape


def test_the_weight_arrives_whole_at_the_origin():
    lattice = HalfLattice(TRICLINIC, (1, 1, 1), (3, 4, 5), 1.8)
    plan = SplatPlan.for_tolerance(lattice, 1e-6)
    grid = plan.real_space_grid()
    plan.add(grid, plan.place(np.array([[0.3, 0.4, 0.5]]), np.zeros((1, 6))), np.array([3.0]))
    assert plan.transform(grid)[3, 4, 0] == pytest.approx(3.0, abs=3e-6)


def test_unblurring_leaves_nothing_beyond_q_max():
    lattice = HalfLattice(TRICLINIC, (1, 1, 1), (5, 6, 8), 2.0)
    plan = SplatPlan.for_tolerance(lattice, 1e-5)
    q2 = lattice.q_squared()
    factor = plan.unblur(q2)
    assert np.array_equal(factor == 0, q2 > 4.0 * (1 + 1e-9))
    assert_allclose(factor[q2 <= 4.0], np.exp(0.5 * plan.blur * q2[q2 <= 4.0]))


def test_a_gaussian_wider_than_the_box_lands_on_itself():
    # Variance 60 Å² in a cell of 6 Å: only q = 0 is left, and it is exact.
    cell = TRICLINIC._replace(a=6.0, b=6.0, c=7.0)
    lattice = HalfLattice(cell, (1, 1, 1), (2, 2, 3), 2.0)
    plan = SplatPlan.for_tolerance(lattice, 1e-6)
    grid = plan.real_space_grid()
    placed = plan.place(np.array([[1.0, 2.0, 3.0]]), packed(60 * np.eye(3)[None]))
    plan.add(grid, placed, np.ones(1))
    found = plan.transform(grid) * plan.unblur(lattice.q_squared())
    assert found[2, 2, 0] == pytest.approx(1.0, abs=1e-6)
    found[2, 2, 0] = 0
    assert np.abs(found).max() < 1e-6


# --- 4 invariances -------------------------------------------------------


def test_grids_do_not_depend_on_threads_or_on_the_box_of_an_atom():
    rng = np.random.default_rng(9)
    plan = SplatPlan.for_tolerance(HalfLattice(TRICLINIC, (2, 1, 1), (6, 4, 5), 1.8), 1e-5)
    centres, weights = rng.uniform(-20, 60, (40, 3)), rng.uniform(0, 1, 40)
    placed = plan.place(np.zeros((40, 3)), packed(random_u(rng, 40)))

    def filled(shift):
        grid = plan.real_space_grid()
        plan.add(grid, replace(placed, centres=centres + shift), weights)
        return grid

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = filled(0)
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(filled(0), one)
    boxes = np.array(plan.shape) * np.array([1, -2, 3])
    assert_allclose(filled(boxes), one, atol=1e-10 * one.max())


def test_adding_twice_adds():
    plan = SplatPlan.for_tolerance(HalfLattice(TRICLINIC, (1, 1, 1), (3, 3, 3), 1.5), 1e-4)
    one, two = plan.real_space_grid(), plan.real_space_grid()
    gaussian = plan.place(np.ones((1, 3)), np.zeros((1, 6))), np.ones(1)
    plan.add(one, *gaussian)
    plan.add(two, *gaussian)
    plan.add(two, *gaussian)
    assert_allclose(two, 2 * one, rtol=1e-14)


def test_inputs_are_not_changed():
    plan = SplatPlan.for_tolerance(HalfLattice(TRICLINIC, (1, 1, 1), (3, 3, 3), 1.5), 1e-4)
    rng = np.random.default_rng(1)
    arguments = rng.uniform(0, 9, (5, 3)), packed(random_u(rng, 5)), rng.uniform(0, 1, 5)
    before = [x.copy() for x in arguments]
    grid = plan.real_space_grid()
    plan.add(grid, plan.place(*arguments[:2]), arguments[2])
    kept = grid.copy()
    plan.transform(grid)
    assert all(np.array_equal(a, b) for a, b in zip(arguments, before, strict=True))
    assert np.array_equal(grid, kept)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1.0, np.nan])
def test_a_tolerance_must_be_a_fraction(tolerance):
    with pytest.raises(InputError, match="tolerance must be between 0 and 1, got"):
        SplatPlan.for_tolerance(HalfLattice(TRICLINIC, (1, 1, 1), (3, 3, 3), 1.5), tolerance)
