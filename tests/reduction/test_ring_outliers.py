"""Rings on some images: found as wholes, bright or dark; noise and smooth errors are none."""

import numpy as np
import pytest

from offbragg.reduction.ring_outliers import RING, find_rings
from offbragg.reduction.scaled import scale_observations
from offbragg.reduction.scaling_model import Scaling, ScalingData

N_WEDGES, N_RINGS, IN_EACH = 60, 50, 12
NOISE = 0.05
# Of a ring that adds this much hardly an observation stands out of noise of 5 %; twelve do.
FAINT = 0.15


def made(seed=0):
    """Wedges, resolutions in the middle of rings, and noisy intensities of 1."""
    rng = np.random.default_rng(seed)
    wedge, ring, _ = (x.ravel() for x in np.indices((N_WEDGES, N_RINGS, IN_EACH)))
    order = rng.permutation(len(wedge))
    seen = 1.0 + NOISE * rng.normal(size=len(wedge))
    return wedge[order], ring[order], seen


def found(wedge, ring, seen, weight=None):
    one = np.ones(len(wedge))
    weight = one if weight is None else weight
    return find_rings(wedge, (ring + 20.5) * RING, seen, one, NOISE**2 * one, weight)


# --- 1 known truth -------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_a_faint_ring_is_found_with_its_wings(sign):
    wedge, ring, seen = made()
    bad = (wedge == 17) & (ring == 30)
    gone = found(wedge, ring, seen + sign * FAINT * bad)
    assert np.array_equal(gone, (wedge == 17) & (np.abs(ring - 30) <= 1))


def test_a_broad_one_is_found_by_the_images_beside_it():
    wedge, ring, seen = made()
    bad = (wedge % 10 == 3) & (ring >= 20) & (ring < 38)
    assert found(wedge, ring, seen + FAINT * bad)[bad].all()


def test_one_on_many_images_is_found_by_the_rings_beside_it():
    wedge, ring, seen = made()
    bad = (wedge >= 20) & (ring == 30)
    assert found(wedge, ring, seen + FAINT * bad)[bad].all()


# --- 3 exact limits ------------------------------------------------------


def test_noise_is_no_ring():
    for seed in range(5):
        assert not found(*made(seed)).any()


def test_smooth_errors_are_no_rings():
    wedge, ring, seen = made()
    smooth = 0.1 * np.cos(2 * np.pi * wedge / N_WEDGES) * np.cos(np.pi * ring / N_RINGS)
    assert not found(wedge, ring, seen + smooth).any()


def test_what_is_left_out_says_nothing():
    wedge, ring, seen = made()
    bad = (wedge == 17) & (ring == 30)
    assert not found(wedge, ring, seen + 5.0 * bad, np.where(bad, 0.0, 1.0)).any()


# --- 4 with the rest -----------------------------------------------------


def test_scaling_leaves_them_out():
    """Of equivalents on 60 images: the ring goes, and the means are right again."""
    wedge, ring, seen = made(3)
    bad = (wedge % 6 == 0) & (ring == 30)
    # Each orbit is seen once on every image.
    place = np.empty(len(wedge), dtype=np.int64)
    order = np.lexsort((ring, wedge))
    place[order] = np.arange(len(wedge)) % (N_RINGS * IN_EACH)
    n = len(wedge)
    data = ScalingData(
        100.0 * (seen + FAINT * bad), np.full(n, 100 * NOISE**2), np.zeros(n), place,
        {"wedge": wedge.astype(float), "inv_d": (ring + 20.5) * RING},
    )  # fmt: skip
    scaled = scale_observations(data, Scaling.none())
    assert scaled.is_outlier[bad].all()
    assert np.mean(scaled.is_outlier[wedge % 6 != 0]) < 1e-4
