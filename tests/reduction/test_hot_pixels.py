"""Hot and dead pixels from made images: peaks that move, few photons, shadows with steep edges."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage
from scipy.stats import poisson

from offbragg.errors import InputError
from offbragg.reduction.hot_pixels import find_hot_pixels, sample_images

SIZE = 200


def exposures(mean, n_images, seed=0, hot=(), dead=(), peaks=0.0, masked=()):
    """Poisson images of a mean, with peaks of 3 × 3 pixels at random places on each."""
    rng = np.random.default_rng(seed)
    mean = np.broadcast_to(np.asarray(mean, dtype=float), (SIZE, SIZE))
    for _ in range(n_images):
        image = mean.copy()
        for row, column in rng.integers(0, SIZE - 3, (rng.poisson(peaks * SIZE**2), 2)):
            image[row : row + 3, column : column + 3] += [[8, 8, 8], [8, 40, 8], [8, 8, 8]]
        for row, column, rate in hot:
            image[row, column] += rate
        for row, column in dead:
            image[row, column] = 0
        image = rng.poisson(image).astype(np.float32)
        for row, column in masked:
            image[row, column] = np.nan
        yield (image,)


def find(mean, n_images=40, **arguments):
    return find_hot_pixels(exposures(mean, n_images, **arguments), n_images)


def places(mask):
    return list(map(tuple, np.argwhere(mask)))


# --- 1 reference numbers -------------------------------------------------


def test_what_is_hot_and_what_is_dead():
    hot = [(10, 10, 6.0), (60, 150, 20.0), (0, 0, 5.0), (100, 100, 300.0), (100, 101, 90.0)]
    dead = [(33, 44), (199, 199), (120, 20)]
    found = find(2.0, hot=hot, dead=dead, peaks=0.003)
    assert places(found.hot[0]) == sorted((y, x) for y, x, _ in hot)
    assert places(found.dead[0]) == sorted(dead)
    assert (found.n_hot, found.n_dead, found.n_images) == (5, 3, 40)


def test_a_sample_is_spread_evenly():
    assert sample_images(5, 10) == [0, 1, 2, 3, 4]
    chosen = np.array(sample_images(1000, 100))
    assert_array_equal(np.diff(chosen), 10)
    assert (chosen[0], chosen[-1]) == (5, 995)


# --- 2 independent oracle ------------------------------------------------


def by_definition(images, n_images):
    """The same rule with scipy's filters, on sums of ten blocks."""
    stack = np.array([image[0] for image in images])
    ends = np.linspace(0, n_images, 11).round().astype(int)
    blocks = np.array([stack[a:b].sum(axis=0) for a, b in pairwise(ends)])
    mean, lowest = blocks.mean(axis=0), blocks.min(axis=0)
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False

    def ranked(values, rank):
        return ndimage.rank_filter(values, rank, footprint=ring)

    high, spread = ranked(mean, 24 - 1 - 6), ranked(mean - lowest, 24 - 1 - 6)
    expected = np.maximum(high, 0.1)
    chance = poisson.sf(lowest - 1, expected) ** 10
    hot = (lowest > 2 * expected) & (lowest > expected + spread) & (chance < 1e-8)
    low = ranked(lowest, 6)
    dead = (2 * mean < low) & (poisson.cdf(mean * 10, low * 10) < 1e-8)
    return hot, dead


@pytest.mark.parametrize("mean", [0.2, 3.0])
def test_the_rule_agrees_with_its_definition(mean):
    rng = np.random.default_rng(5)
    hot = [(*rng.integers(0, SIZE, 2), rate) for rate in np.geomspace(0.3, 30, 60)]
    dead = list(map(tuple, rng.integers(0, SIZE, (40, 2))))
    arguments = {"hot": hot, "dead": dead, "peaks": 0.002, "seed": 1}
    found = find_hot_pixels(exposures(mean, 40, **arguments), 40)
    expected_hot, expected_dead = by_definition(exposures(mean, 40, **arguments), 40)
    inside = (slice(2, -2), slice(2, -2))  # at the border there are fewer neighbours
    assert expected_hot[inside].sum() > 15
    assert_array_equal(found.hot[0][inside], expected_hot[inside])
    assert_array_equal(found.dead[0][inside], expected_dead[inside])


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 0.01, 0.2, 3.0, 500.0])
@pytest.mark.parametrize("n_images", [5, 12, 60])
def test_good_pixels_are_good(mean, n_images):
    found = find(mean, n_images)
    assert (found.n_hot, found.n_dead) == (0, 0)


@pytest.mark.parametrize("mean", [0.02, 0.2, 2.0])
@pytest.mark.parametrize("n_images", [10, 50])
def test_peaks_that_move_are_no_hot_pixels(mean, n_images):
    found = find(mean, n_images, peaks=0.008)  # on 7 % of all pixels of each image
    assert (found.n_hot, found.n_dead) == (0, 0)


@pytest.mark.parametrize("width", [0.05, 0.5, 2.0])
def test_the_edge_of_a_shadow_is_no_find(width):
    # A round beam stop and a straight arm in bright air scatter, 500 to 1.
    rows, columns = np.indices((SIZE, SIZE)) - 90
    radius = np.hypot(rows, columns)
    light = 1 / (1 + np.exp(-(radius - 25) / width)) * np.exp(-radius / 60)
    arm = (np.abs(rows + 0.3 * columns) < 4) & (columns > 0)
    for n_images in (10, 60):
        found = find(0.02 + 10 * np.where(arm, 0.0, light), n_images)
        assert (found.n_hot, found.n_dead) == (0, 0)


def test_pixels_without_neighbours_are_not_judged():
    # All but a row are masked: two neighbours to either side are fewer than eight.
    masked = [(row, column) for row in range(SIZE) if row != 50 for column in range(SIZE)]
    found = find(0.5, 10, hot=[(50, 60, 100.0)], masked=masked)
    assert (found.n_hot, found.n_dead) == (0, 0)


def test_a_masked_pixel_is_not_found_and_does_not_disturb():
    found = find(0.5, 20, hot=[(50, 60, 100.0), (51, 61, 40.0)], masked=[(50, 60)])
    assert places(found.hot[0]) == [(51, 61)]


def test_noise_of_an_amplifier_is_no_find():
    # Not Poisson: 0.1 photons a pixel, read with a noise of 1.5 photons.
    rng = np.random.default_rng(4)
    images = [(rng.normal(0.1, 1.5, (SIZE, SIZE)).astype(np.float32),) for _ in range(50)]
    found = find_hot_pixels(images, 50)
    assert (found.n_hot, found.n_dead) == (0, 0)


# --- 4 invariances -------------------------------------------------------


def test_panels_are_judged_by_themselves():
    hot = [(10, 10, 5.0)]
    pairs = zip(exposures(1.0, 20, hot=hot), exposures(9.0, 20, seed=3), strict=True)
    found = find_hot_pixels((one + two for one, two in pairs), 20)
    assert (places(found.hot[0]), places(found.hot[1])) == ([(10, 10)], [])


def test_turned_images_have_turned_pixels():
    images = [image[0] for image in exposures(1.0, 20, hot=[(10, 30, 5.0), (77, 99, 4.0)])]
    upright = find_hot_pixels([(image,) for image in images], 20).hot[0]
    turned = find_hot_pixels([(np.ascontiguousarray(image.T),) for image in images], 20).hot[0]
    assert upright.sum() == 2
    assert_array_equal(turned, upright.T)


# --- 5 errors ------------------------------------------------------------


def test_what_cannot_be():
    with pytest.raises(InputError, match="hot pixels need 5 images or more, got 4"):
        find(1.0, 4)
    with pytest.raises(InputError, match="images must be 7, got 6"):
        find_hot_pixels(exposures(1.0, 6), 7)
    with pytest.raises(InputError, match="ratio must be > 1 and significance 0 to 1, got 1 and"):
        find_hot_pixels(exposures(1.0, 6), 6, ratio=1.0)
