"""Bragg nodes: centring, distances from nodes and from the path that a pixel takes."""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.crystal.cell import as_cell
from offbragg.crystal.centring import allowed_nodes
from offbragg.errors import InputError
from offbragg.reduction._node_kernels import is_near_node
from offbragg.reduction.bragg_mask import BraggMask, bragg_distance

TRICLINIC = as_cell((20.0, 31.0, 44.0, 75.0, 98.0, 110.0))
PATH_POINTS = 201  # of the oracle


def distance_by_search(point, group, metric):
    """The smallest distance from the nodes of a large block, by gemmi's absences."""
    reach = np.arange(-3, 4)
    nodes = np.rint(point) + np.stack(np.meshgrid(reach, reach, reach), axis=-1).reshape(-1, 3)
    operations = gemmi.SpaceGroup(group).operations()
    centring = [np.array(t) / 24 for t in operations.cen_ops]
    there = np.all([np.abs((p := nodes @ t) - np.rint(p)) < 1e-6 for t in centring], axis=0)
    delta = nodes[there] - point
    return np.sqrt(np.einsum("nx,xy,ny->n", delta, metric, delta).min())


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("group", "n", "fraction"),
    [("P 41", 1, 1.0), ("C 1 2 1", 2, 0.5), ("I 2 3", 2, 0.5), ("F 4 3 2", 2, 0.25),
     ("R 3:H", 3, 1 / 3), ("R 3:R", 1, 1.0)],
)  # fmt: skip
def test_centring_leaves_the_right_fraction_of_nodes(group, n, fraction):
    nodes = allowed_nodes(group)
    assert nodes.shape == (n, n, n)
    assert nodes.mean() == pytest.approx(fraction)
    assert nodes[0, 0, 0]


def test_obverse_rhombohedral_by_hand():
    # −h + k + l = 3n.
    h, k, l = np.meshgrid(*[np.arange(3)] * 3, indexing="ij")  # noqa: E741
    assert_array_equal(allowed_nodes("R 3:H"), (-h + k + l) % 3 == 0)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("group", ["P 1", "C 1 2 1", "I 2 3", "F 4 3 2", "R 3:H"])
@pytest.mark.parametrize("unit", ["rlu", "1/angstrom"])
def test_distance_agrees_with_a_search(group, unit):
    metric = BraggMask(TRICLINIC, group, 0.0, unit).metric
    points = np.random.default_rng(1).uniform(-9, 9, (60, 3))
    expected = [distance_by_search(point, group, metric) for point in points]
    assert_allclose(bragg_distance(points, group, metric), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("group", "unit", "radius"),
    [
        ("P 1", "rlu", 0.25),
        ("P 1", "rlu", 0.05),
        ("C 1 2 1", "rlu", 0.4),
        ("R 3:H", "rlu", 0.8),  # reaches beyond the next node
        ("F 4 3 2", "1/angstrom", 0.008),
        ("P 1", "1/angstrom", 0.02),  # 0.88 along c
    ],
)
def test_the_compiled_loop_agrees_with_points_along_the_path(group, unit, radius):
    mask = BraggMask(TRICLINIC, group, radius, unit)
    arguments = mask.kernel_arguments()
    rng = np.random.default_rng(8)
    along = np.linspace(-0.5, 0.5, PATH_POINTS)[:, None]
    found = []
    for number in range(120):
        spread = rng.choice([0.5, 1.5 * min(0.5, mask.index_reach)])
        middle = rng.integers(-20, 20, 3) + rng.uniform(-spread, spread, 3)
        path = rng.choice([0.0, 0.1, 0.6, 2.5]) * rng.uniform(-1, 1, 3)
        expected = bragg_distance(middle + along * path, group, mask.metric).min()
        spacing = np.sqrt(path @ mask.metric @ path) / (PATH_POINTS - 1)
        if abs(expected - radius) <= spacing**2 / radius:
            continue  # the points of the oracle may miss the nearest by as much
        near = bool(is_near_node(*middle, *path, arguments))
        assert near == (expected < radius), (number, expected)
        found.append(near)
    assert 0.05 < np.mean(found) < 0.95


# --- 3 exact limits ------------------------------------------------------


def test_a_path_that_only_passes_a_node_is_near():
    arguments = BraggMask(TRICLINIC, "P 1", 0.2).kernel_arguments()
    assert not is_near_node(3.5, 2.0, 1.0, 0.0, 0.0, 0.0, arguments)
    assert is_near_node(3.5, 2.0, 1.0, 0.7, 0.0, 0.0, arguments)  # from 3.15 to 3.85
    assert not is_near_node(3.5, 2.0, 1.0, 0.5, 0.0, 0.0, arguments)


def test_an_absent_node_is_none():
    arguments = BraggMask(TRICLINIC, "I 2 3", 0.2).kernel_arguments()
    assert is_near_node(1.0, 0.0, 1.1, 0.0, 0.0, 0.0, arguments)
    assert not is_near_node(1.0, 0.0, 2.1, 0.0, 0.0, 0.0, arguments)
    assert is_near_node(-1.0, 0.0, -1.1, 0.0, 0.0, 0.0, arguments)


def test_every_space_group_of_gemmi_has_a_centring_that_fits():
    for group in gemmi.spacegroup_table():
        nodes = allowed_nodes(group)
        assert len(nodes) <= 3, group.xhm()


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    hkl=st.tuples(*[st.floats(-30, 30)] * 3),
    node=st.tuples(*[st.integers(-40, 40)] * 3),
)
def test_lattice_shifts_change_nothing(hkl, node):
    here = bragg_distance(np.array(hkl))
    assert_allclose(bragg_distance(np.array(hkl) + np.array(node)), here, atol=1e-9)
    assert here <= np.sqrt(0.75) + 1e-12


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.2, "nm"), r"bragg_radius_unit must be one of .* got 'nm'"),
        ((-0.1,), "bragg_radius must be >= 0, got -0.1"),
        ((np.nan,), "bragg_radius must be >= 0, got nan"),
        ((1.5,), "bragg_radius must reach less than 1.45 .* got 1.5 rlu"),
        ((0.2, "1/angstrom"), r"got 0.2 1/angstrom, 8\.80 units"),
    ],
)
def test_a_wrong_radius_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        BraggMask(TRICLINIC, "P 1", *arguments)
