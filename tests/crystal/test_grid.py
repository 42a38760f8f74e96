"""HklGrid: index ↔ hkl ↔ q in any cell, resolution limits, axes of any range."""

import itertools

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import q_of
from tests.strategies import CRYSTALS, cells

from offbragg import HklGrid
from offbragg.errors import InputError

RTOL_ROUNDING = 1e-12  # the same sum in another order of operations
RTOL_CELL = 1e-9  # cosines near 60° and 120°, see test_cell

TRICLINIC = CRYSTALS["triclinic"][0]
QUICK = settings(deadline=None, derandomize=True, max_examples=40)
samplings = st.tuples(*[st.integers(1, 3)] * 3)


def axes(n=4, longest=6):
    """Axes of any start, parity and step 1/n."""
    return st.builds(
        lambda sampling, first, length: (sampling, np.arange(first, first + length) / sampling),
        st.integers(1, n),
        st.integers(-15, 15),
        st.integers(2, longest),
    )


def grids():
    """Grids of any cell and any three axes."""
    return st.builds(
        lambda cell, *three: HklGrid(cell, *[values for _, values in three]),
        cells(),
        axes(),
        axes(),
        axes(),
    )


# --- 1 reference numbers -------------------------------------------------


def test_orthorhombic_spacings_by_hand():
    grid = HklGrid((10, 20, 40, 90, 90, 90), [0, 1], [0, 1, 2], [0])
    # d = a/h, b/k; for (1, 1, 0) 1/√(0.01 + 0.0025).
    assert grid.d()[1, 0, 0] == pytest.approx(10.0)
    assert grid.d()[0, 2, 0] == pytest.approx(10.0)
    assert grid.d()[1, 1, 0] == pytest.approx(1 / np.sqrt(0.0125))
    assert_allclose(grid.q()[1, 1, 0], 2 * np.pi * np.array([0.1, 0.05, 0.0]), atol=1e-14)


def test_shape_from_resolution_by_hand():
    # a/d_min = 2, 4, 6 lattice units each way, times the sampling.
    grid = HklGrid.from_resolution((10, 20, 30, 90, 90, 90), 5.0, (3, 1, 2))
    assert grid.shape == (2 * 6 + 1, 2 * 4 + 1, 2 * 12 + 1)
    assert grid.sampling == (3, 1, 2)
    assert grid.d_min == 5.0


# --- 2 independent oracle ------------------------------------------------


@QUICK
@given(grid=grids())
def test_q_matches_textbook_vectors(grid):
    q = grid.q()
    assert q.shape == (*grid.shape, 3)
    expected = q_of(list(itertools.product(grid.h, grid.k, grid.l)), grid.cell)
    scale = np.abs(expected).max() + 1e-3
    assert_allclose(q.reshape(-1, 3), expected, atol=RTOL_CELL * scale)
    assert_allclose(
        grid.inv_d().ravel(), np.linalg.norm(expected, axis=1) / (2 * np.pi), atol=RTOL_CELL * scale
    )


def test_spacings_match_gemmi_in_a_triclinic_cell():
    grid = HklGrid(TRICLINIC, np.arange(-3, 4), np.arange(-2, 5), np.arange(-6, 1))
    oracle = gemmi.UnitCell(*TRICLINIC)
    d = grid.d()
    for i, j, k in itertools.product(*map(range, grid.shape)):
        hkl = grid.hkl()[i, j, k]
        if hkl.any():
            assert d[i, j, k] == pytest.approx(oracle.calculate_d(hkl.astype(int).tolist()))
    assert np.isinf(d[3, 2, 6])


@settings(deadline=None, derandomize=True, max_examples=25)
@given(cell=cells(5.0, 15.0), d_min=st.floats(2.0, 5.0), sampling=samplings)
def test_from_resolution_holds_every_voxel_within_d_min(cell, d_min, sampling):
    grid = HklGrid.from_resolution(cell, d_min, sampling)
    assert all(n % 2 == 1 for n in grid.shape)
    assert all(
        np.array_equal(a, -a[::-1]) and np.allclose(np.diff(a) * n, 1.0)
        for a, n in zip((grid.h, grid.k, grid.l), sampling, strict=True)
    )
    # Oracle: every node of a box that is twice as far out, by textbook vectors.
    far = [np.arange(-2 * (n // 2) - 2, 2 * (n // 2) + 3) for n in grid.shape]
    m = np.array(list(itertools.product(*far)))
    within = np.linalg.norm(q_of(m / np.array(sampling), cell), axis=1) <= 2 * np.pi / d_min
    assert grid.index_of(m[within] / np.array(sampling))[1].all()
    assert grid.within().sum() == within.sum()


# --- 3 exact limits ------------------------------------------------------


def test_a_voxel_on_the_limit_is_within_it():
    grid = HklGrid.from_resolution((10, 10, 10, 90, 90, 90), 10 / 3, 3)
    assert grid.h[-1] == 3.0
    assert grid.within()[-1, 9, 9]
    assert grid.within(d_max=10 / 3)[-1, 9, 9]
    assert not grid.within(d_max=3.0)[-1, 9, 9]


def test_limits_are_the_narrower_of_the_grids_and_the_given():
    grid = HklGrid.from_resolution((20, 20, 20, 90, 90, 90), 4.0, 1)
    d = grid.d()
    assert np.array_equal(grid.within(), d >= 4.0 - 1e-9)
    assert np.array_equal(grid.within(d_min=2.0), d >= 4.0 - 1e-9)
    assert np.array_equal(grid.within(d_min=6.0), d >= 6.0)
    assert np.array_equal(grid.within(d_max=9.0), (d >= 4.0 - 1e-9) & (d <= 9.0))
    assert not grid.within(d_max=9.0)[5, 5, 5]
    assert grid.within()[5, 5, 5]


def test_without_a_limit_every_voxel_is_part_of_the_grid():
    assert HklGrid(TRICLINIC, [5, 6], [7], [-20]).within().all()


def test_nodes_are_the_voxels_of_whole_indices():
    grid = HklGrid(TRICLINIC, np.arange(-3, 4) / 3, np.arange(1, 4) / 2, [2.0])
    hkl = grid.hkl()
    assert np.array_equal(grid.is_node(), np.isclose(hkl, np.rint(hkl)).all(axis=-1))
    assert grid.is_node().sum() == 3


@pytest.mark.parametrize(
    ("axis", "sampling"),
    [
        ([0.0], 1),
        ([3.0], 1),
        ([0.5], 2),
        ([1 / 3], 3),
        ([-2.25], 4),
        ([0.0, 1.0], 1),
        ([-0.5, 0.0, 0.5, 1.0], 2),
        (np.arange(-30, 31, dtype=np.float32) / np.float32(3), 3),
        (np.round(np.arange(7, 11) / 3, 5), 3),
        (np.arange(12) / 7 - 1, 7),
    ],
)
def test_the_sampling_follows_from_the_axis(axis, sampling):
    grid = HklGrid(TRICLINIC, axis, [0], [0])
    assert grid.sampling == (sampling, 1, 1)
    # Axes of rounded numbers are put on the exact nodes.
    assert_allclose(grid.h * sampling, np.rint(grid.h * sampling), atol=1e-12)
    assert_allclose(grid.h, np.asarray(axis, dtype=float), atol=1e-5)


def test_a_single_plane_keeps_the_sampling_that_is_given():
    grid = HklGrid(TRICLINIC, [0], [0], [1], sampling=(3, 2, 4))
    assert grid.sampling == (3, 2, 4)
    assert grid.first_index.tolist() == [0, 0, 4]
    assert (grid.shape, grid.size) == ((1, 1, 1), 1)


# --- 4 invariances -------------------------------------------------------


@QUICK
@given(grid=grids(), where=st.tuples(*[st.floats(-0.499, 0.499)] * 3), data=st.data())
def test_a_point_in_a_voxel_finds_that_voxel(grid, where, data):
    index = np.array([data.draw(st.integers(0, n - 1)) for n in grid.shape])
    centre = grid.hkl()[tuple(index)]
    found, inside = grid.index_of(centre + np.array(where) / np.array(grid.sampling))
    assert inside
    assert np.array_equal(found, index)


@QUICK
@given(grid=grids(), axis=st.integers(0, 2), beyond=st.integers(1, 5), low=st.booleans())
def test_points_outside_the_grid_are_told(grid, axis, beyond, low):
    hkl = grid.hkl()[0, 0, 0].copy()
    steps = -beyond if low else grid.shape[axis] - 1 + beyond
    hkl[axis] += steps / grid.sampling[axis]
    assert not grid.index_of(hkl)[1]


def test_indices_of_many_points_keep_their_shape():
    grid = HklGrid(TRICLINIC, [0, 0.5, 1], [-1, 0], [4, 5])
    index, inside = grid.index_of(np.zeros((4, 2, 3)))
    assert (index.shape, inside.shape) == ((4, 2, 3), (4, 2))
    assert not inside.any()
    assert index.dtype == np.int64


def test_grids_of_other_cells_may_have_the_same_voxels():
    axis = np.arange(-3, 4) / 2
    one = HklGrid(TRICLINIC, axis, axis, axis)
    assert one.same_voxels(HklGrid((40, 40, 40, 90, 90, 90), axis, axis, axis))
    assert not one.same_voxels(HklGrid(TRICLINIC, axis + 0.5, axis, axis))
    assert not one.same_voxels(HklGrid(TRICLINIC, axis[1:], axis, axis))
    assert not one.same_voxels(HklGrid(TRICLINIC, axis * 2, axis, axis))


def test_the_given_axes_are_not_changed():
    axis = np.round(np.arange(3) / 3, 5)
    before = axis.copy()
    HklGrid(TRICLINIC, axis, axis, axis)
    assert np.array_equal(axis, before)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ([], "axis k must be finite numbers in one dimension"),
        ([0.0, np.nan], "axis k must be finite numbers in one dimension"),
        ([[0.0, 1.0]], "axis k must be finite numbers in one dimension"),
        ([1.0, 0.0], "axis k must rise in equal steps of 1/n"),
        ([0.0, 0.0], "axis k must rise in equal steps of 1/n"),
        ([0.0, 2.0, 4.0], "axis k must rise in equal steps of 1/n"),
        ([0.0, 0.5, 1.5], "axis k must rise in equal steps of 1/n"),
        ([0.0, 0.4, 0.8], "axis k must rise in equal steps of 1/n"),
        ([-0.5, 0.5], "axis k must rise in equal steps of 1/n"),
        ([0.1, 0.6], "axis k must rise in equal steps of 1/n"),
    ],
)
def test_a_wrong_axis_is_named(axis, message):
    with pytest.raises(InputError, match=message):
        HklGrid(TRICLINIC, [0, 1], axis, [0])


def test_a_sampling_that_does_not_fit_its_axis_is_refused():
    with pytest.raises(InputError, match="axis h must rise in equal steps"):
        HklGrid(TRICLINIC, [0, 1, 2], [0], [0], sampling=(2, 1, 1))
    with pytest.raises(InputError, match="sampling along l must be >= 1, got -2"):
        HklGrid(TRICLINIC, [0, 1, 2], [0], [0], sampling=(1, 1, -2))


@pytest.mark.parametrize("d_min", [0.0, -1.0, np.nan])
def test_a_resolution_limit_must_be_positive(d_min):
    with pytest.raises(InputError, match="d_min must be > 0 Å"):
        HklGrid.from_resolution(TRICLINIC, d_min)
    with pytest.raises(InputError, match="d_min must be > 0 Å"):
        HklGrid(TRICLINIC, [0], [0], [1], d_min=d_min)


@pytest.mark.parametrize("sampling", [0, -1, 1.5, (1, 2), (1, 2, 3, 4), (1, 1, 0), "a"])
def test_a_sampling_must_be_three_whole_numbers(sampling):
    with pytest.raises(InputError, match="sampling must be three whole numbers >= 1"):
        HklGrid.from_resolution(TRICLINIC, 2.0, sampling)


def test_a_wrong_cell_is_named():
    with pytest.raises(InputError, match="cell must be six numbers"):
        HklGrid((10, 20, 30), [0], [0], [1])
