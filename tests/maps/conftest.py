"""Oracles for symmetry, by dictionaries and gemmi's own operations, one voxel at a time."""

import gemmi
import numpy as np
import pytest

from offbragg.crystal.grid import HklGrid
from offbragg.maps.diffuse_map import DiffuseMap

#: One of each kind: triclinic, C-centred, screw axes, hexagonal in both Laue classes, cubic.
CRYSTALS = {
    "P 1": (11.0, 13.0, 17.0, 82.0, 95.0, 104.0),
    "C 1 2 1": (11.0, 13.0, 17.0, 90.0, 101.0, 90.0),
    "P 21 21 21": (11.0, 13.0, 17.0, 90.0, 90.0, 90.0),
    "P 41": (11.0, 11.0, 17.0, 90.0, 90.0, 90.0),
    "P 31": (11.0, 11.0, 17.0, 90.0, 90.0, 120.0),
    "P 31 1 2": (11.0, 11.0, 17.0, 90.0, 90.0, 120.0),
    "P 32 2 1": (11.0, 11.0, 17.0, 90.0, 90.0, 120.0),
    "R 3:R": (11.0, 11.0, 11.0, 70.0, 70.0, 70.0),
    "P 21 3": (11.0, 11.0, 11.0, 90.0, 90.0, 90.0),
}

#: First node and number of voxels along h, k, l: centred, even, and away from the origin.
BOXES = (((-3, -3, -3), (7, 7, 7)), ((-2, -3, -1), (5, 6, 4)), ((0, -2, 1), (4, 5, 3)))


def make_grid(space_group, box, sampling=1):
    (first, shape) = box
    axes = [(a + np.arange(n)) / sampling for a, n in zip(first, shape, strict=True)]
    return HklGrid(CRYSTALS[space_group], *axes, (sampling,) * 3)


def group_orbits(grid, space_group):
    """Voxels of each orbit: lists of flat indices, in the order of their first voxels."""
    operations = list(gemmi.SpaceGroup(space_group).operations())
    orbits = {}
    nodes = [tuple(int(x) for x in node) for node in np.ndindex(grid.shape)]
    for flat, place in enumerate(nodes):
        node = [int(p + f) for p, f in zip(place, grid.first_index, strict=True)]
        moved = [tuple(op.apply_to_hkl(node)) for op in operations]
        moved += [tuple(-x for x in m) for m in moved]
        orbits.setdefault(min(moved), []).append(flat)
    return list(orbits.values())


def make_map(space_group, box, sampling=1, seed=0, holes=0.3):
    """A map of made-up numbers with all optional arrays and voxels that were not measured."""
    rng = np.random.default_rng(seed)
    grid = make_grid(space_group, box, sampling)
    missing = rng.uniform(size=grid.shape) < holes
    arrays = {name: rng.normal(10, 3, grid.shape) for name in ("intensity", "half_1", "half_2")}
    arrays["sigma"] = rng.uniform(0.5, 2, grid.shape)
    for values in arrays.values():
        values[missing] = np.nan
    arrays["half_1"][rng.uniform(size=grid.shape) < 0.2] = np.nan
    arrays["half_2"][rng.uniform(size=grid.shape) < 0.2] = np.nan
    count = np.where(missing, 0, rng.integers(1, 9, grid.shape)).astype(np.int32)
    return DiffuseMap(grid, space_group=space_group, count=count, **arrays)


@pytest.fixture(params=list(CRYSTALS))
def space_group(request):
    """Each of the groups in turn."""
    return request.param


@pytest.fixture(params=BOXES, ids=["centred", "even", "off-centre"])
def box(request):
    """Each of the boxes in turn."""
    return request.param


@pytest.fixture
def grid_of():
    return make_grid


@pytest.fixture
def orbits_of():
    return group_orbits


@pytest.fixture(scope="session")
def map_of():
    return make_map
