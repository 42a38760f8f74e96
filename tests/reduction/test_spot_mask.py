"""Spots of a fitted shape: which pixels come within some of their standard deviations."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg.crystal.cell import as_cell
from offbragg.crystal.centring import allowed_nodes
from offbragg.errors import InputError
from offbragg.reduction._node_kernels import is_near_node
from offbragg.reduction.bragg_mask import BraggMask
from offbragg.reduction.spot_mask import SpotMask
from offbragg.reduction.spot_shape import SpotShape

CELL = as_cell((20.0, 31.0, 44.0, 75.0, 98.0, 110.0))
ROOT = np.array([[2.0, 0.3, 0.1], [0.0, 1.2, -0.4], [0.0, 0.0, 1.6]]) * 1e-3
D_MIN = 1.5
PATH_POINTS = 121  # of the oracle


def mask(mosaic=0.0, spread=0.0, group="P 1", n_sigma=3.0, size=1.0):
    shape = SpotShape(size**2 * ROOT @ ROOT.T, mosaic, spread, 500)
    return SpotMask(CELL, group, shape, n_sigma, D_MIN)


def distance(points, mask):
    """Smallest distance of points (n, 3) from nodes around, in standard deviations of each."""
    reach = np.arange(-2, 3)
    middle = np.rint(points.mean(axis=0))
    nodes = middle + np.stack(np.meshgrid(reach, reach, reach), axis=-1).reshape(-1, 3)
    there = allowed_nodes(mask.space_group)
    nodes = nodes[there[tuple((nodes.astype(int) % len(there)).T)]]
    q = nodes @ CELL.frac_matrix
    inverse = np.linalg.inv(mask.shape.at(q))
    delta = (points - nodes[:, None]) @ CELL.frac_matrix
    return np.sqrt(np.sum((delta @ inverse) * delta, axis=-1).min())


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(
    ("mosaic", "spread", "group", "n_sigma", "size"),
    [
        (0.0, 0.0, "P 1", 3.0, 1.0),
        (0.004, 0.0, "C 1 2 1", 3.0, 1.0),
        (0.0, 0.006, "P 1", 4.0, 1.0),
        (0.003, 0.007, "I 2 3", 3.0, 1.0),
        (0.005, 0.002, "P 1", 3.0, 4.0),  # reaches beyond the next node
    ],
)
def test_the_compiled_loop_agrees_with_points_along_the_path(mosaic, spread, group, n_sigma, size):
    spots = mask(mosaic, spread, group, n_sigma, size)
    arguments = spots.kernel_arguments()
    rng = np.random.default_rng(3)
    along = np.linspace(-0.5, 0.5, PATH_POINTS)[:, None]
    found = []
    for number in range(120):
        reach = rng.choice([0.2, 0.4, 0.6]) * min(1.0, 2 * spots.index_reach)
        middle = rng.integers(-8, 9, 3) + rng.uniform(-reach, reach, 3)
        path = rng.choice([0.0, 0.1, 0.6, 1.5]) * rng.uniform(-1, 1, 3)
        expected = distance(middle + along * path, spots)
        step = np.linalg.norm(path @ CELL.frac_matrix) / 1e-3 / size / (PATH_POINTS - 1)
        if abs(expected - n_sigma) <= step**2 / n_sigma:
            continue  # the points of the oracle may miss the nearest by as much
        near = bool(is_near_node(*middle, *path, arguments))
        assert near == (expected < n_sigma), (number, expected)
        found.append(near)
    assert len(found) > 60
    assert 0.05 < np.mean(found) < 0.95


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("group", ["P 1", "F 4 3 2"])
def test_a_ball_that_does_not_grow_is_the_sphere(group):
    ball = SpotMask(CELL, group, SpotShape(1e-6 * np.eye(3)), 5.0, D_MIN).kernel_arguments()
    sphere = BraggMask(CELL, group, 0.005, "1/angstrom").kernel_arguments()
    rng = np.random.default_rng(0)
    places = rng.integers(-9, 9, (2000, 3)) + rng.uniform(-0.3, 0.3, (2000, 3))
    paths = rng.uniform(-0.2, 0.2, (2000, 3))
    near = [
        [is_near_node(*x, *d, arguments) for x, d in zip(places, paths, strict=True)]
        for arguments in (ball, sphere)
    ]
    assert_array_equal(*near)
    assert 0.01 < np.mean(near) < 0.9


def test_reach_is_that_of_the_broadest_spot():
    """A mosaic crystal's spots are broadest across q, where q is largest."""
    shape = SpotShape(1e-12 * np.eye(3), mosaic=0.01)
    spots = SpotMask(as_cell((40, 30, 20, 90, 90, 90)), "P 1", shape, 3.0, 2.0)
    assert spots.index_reach == pytest.approx(3.0 * 0.01 / 2.0 * 40, rel=1e-4)


# --- 5 errors ------------------------------------------------------------


def test_spots_that_cover_everything_are_refused():
    with pytest.raises(InputError, match=r"bragg_sigmas must reach less than 1\.45 .* got 9 of"):
        mask(n_sigma=9.0, size=3.0)
