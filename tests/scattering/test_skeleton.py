"""A family of functions from its values at a few points."""

import numpy as np
import pytest

from offbragg.scattering.skeleton import skeleton_of


@pytest.mark.parametrize("rtol", [1e-2, 1e-5, 1e-8])
def test_every_member_follows_from_its_values_at_the_nodes(rtol):
    grid = np.linspace(0.0, 10.0, 120)
    rng = np.random.default_rng(1)
    family = np.expm1(-grid[:, None] * rng.uniform(0.0, 0.3, 200)) * np.exp(-0.2 * grid[:, None])
    nodes, functions, error = skeleton_of(family, grid, rtol)
    assert error <= 0.1 * rtol
    rows = np.searchsorted(grid, nodes)
    missed = functions @ family[rows] - family
    scale = np.sqrt(np.mean(family**2, axis=1, keepdims=True))
    assert np.sqrt(np.mean(missed**2, axis=1)).max() <= 0.11 * rtol * scale.max()


def test_smaller_tolerances_take_more_nodes():
    grid = np.linspace(0.0, 10.0, 120)
    family = np.exp(-grid[:, None] * np.linspace(0.0, 0.5, 50))
    counts = [len(skeleton_of(family, grid, rtol)[0]) for rtol in (1e-1, 1e-3, 1e-6)]
    assert counts == sorted(set(counts))


def test_one_function_takes_one_node():
    grid = np.linspace(1.0, 2.0, 30)
    nodes, functions, error = skeleton_of(np.outer(grid**2, [1.0, -3.0, 0.5]), grid, 1e-6)
    assert len(nodes) == 1
    assert error < 1e-12
    assert functions[:, 0] == pytest.approx(grid**2 / nodes[0] ** 2)


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_takes_no_node(n):
    nodes, functions, error = skeleton_of(np.zeros((20, n)), np.linspace(0, 1, 20), 1e-4)
    assert len(nodes) == 0
    assert functions.shape == (20, 0)
    assert error == 0.0
