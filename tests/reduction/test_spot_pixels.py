"""Pixels of drawn nodes: the compiled loop against plain integers, and how many it draws."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg.crystal.cell import as_cell
from offbragg.made_crystal import make_experiment
from offbragg.reduction._spot_kernels import draw_pixels
from offbragg.reduction.corrections import PIXEL_CORRECTIONS
from offbragg.reduction.pixel_table import PixelTable

CELL = (40.0, 50.0, 60.0, 80.0, 95.0, 100.0)
BITS = 2**64 - 1


def drawn_one_by_one(directions, matrix, vector, image, fraction):
    """The same draw in whole numbers of Python, modulo 2**64."""
    found = []
    for pixel, ray in enumerate(directions.astype(float)):
        h, k, l = (int(x) & BITS for x in np.rint(matrix @ ray - vector))  # noqa: E741
        mixed = (h * 73856093 & BITS) ^ (k * 19349663 & BITS) ^ (l * 83492791 & BITS)
        mixed = (mixed + image) * 0x9E3779B97F4A7C15 & BITS
        mixed ^= mixed >> 29
        mixed = mixed * 0xBF58476D1CE4E5B9 & BITS
        if mixed >> 32 < int(fraction * 2**32) and (h, k, l) != (0, 0, 0):
            found.append(pixel)
    return found


def draw(directions, transform, image, fraction, d_min=0.1):
    pixels, codes = np.empty((2, len(directions)), dtype=np.int64)
    offsets = np.empty_like(directions)
    reach = (as_cell(CELL).frac_matrix, d_min**-2, np.ones((1, 1, 1), dtype=bool))
    number = (image, np.uint64(fraction * 2**32))
    n = draw_pixels(directions, transform, reach, number, pixels, codes, offsets)
    return pixels[:n]


@pytest.fixture(scope="module")
def made():
    experiment = make_experiment(CELL, "P 1", d_min=3.0, n_images=8, n_pixels=100)
    panel = experiment.detector[0]
    table = PixelTable.of_panel(
        panel, experiment.beam, PIXEL_CORRECTIONS, 1e-3, np.zeros(panel.shape, bool)
    )
    return table.directions, experiment.hkl_transform(3)


def test_they_are_those_of_plain_integers(made):
    directions, transform = made
    for image, fraction in ((0, 0.3), (7, 0.05)):
        expected = drawn_one_by_one(directions, *transform, image, fraction)
        assert_array_equal(draw(directions, transform, image, fraction), expected)
        assert 0.5 * fraction < len(expected) / len(directions) < 2 * fraction


def test_all_are_drawn_or_whole_nodes(made):
    directions, transform = made
    node = np.rint(directions.astype(float) @ transform[0].T - transform[1])
    inv_d = np.linalg.norm(node @ as_cell(CELL).frac_matrix, axis=1)
    for d_min in (0.1, 5.0):
        expected = np.flatnonzero((inv_d > 0) & (inv_d < 1 / d_min))
        assert len(expected) > 100
        assert_array_equal(draw(directions, transform, 2, 1.0, d_min), expected)
    inside = np.zeros(len(node), dtype=bool)
    inside[draw(directions, transform, 2, 0.4)] = True
    _, number = np.unique(node, axis=0, return_inverse=True)
    number = np.where(inv_d > 0, number.ravel(), -1)
    inside, number = inside[number >= 0], number[number >= 0]
    share = np.bincount(number.ravel(), inside) / np.bincount(number.ravel())
    assert set(share) == {0.0, 1.0}
