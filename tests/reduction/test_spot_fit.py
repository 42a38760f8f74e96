"""The shape of spots, fitted to pixels drawn around nodes of a known shape."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr

from offbragg.crystal.cell import as_cell
from offbragg.errors import InputError
from offbragg.made_crystal import make_experiment
from offbragg.reduction.pixel_table import PixelTable
from offbragg.reduction.spot_fit import fit_spot_shape
from offbragg.reduction.spot_pixels import SpotPixels, pixels_of_spots
from offbragg.reduction.spot_shape import SpotShape

CELL = as_cell((20.0, 31.0, 44.0, 75.0, 98.0, 110.0))
TO_Q = CELL.frac_matrix
AXES = np.array([0.05, 0.09, 0.06])  # standard deviations of spots along the axes of the lattice
# A thousand spots, of exponential intensities, seen in slices: errors are of 3 to 8 %.
RTOL_FIT = 0.2
RTOL_HALO = 0.4  # a halo that holds as many photons as the spots does widen them a little


def drawn(shape, *, n=4000, path=0.0, n_pixels=120, height=300.0, level=2.0, seed=0):
    """Pixels on planes through the surroundings of nodes, Poisson counts of a known shape."""
    rng = np.random.default_rng(seed)
    node = rng.integers(-8, 9, (n, 3))
    node = node[node.any(axis=1)]
    q, to_hkl = node @ TO_Q, np.linalg.inv(TO_Q)
    normal = rng.normal(size=q.shape) @ TO_Q
    points = rng.uniform(-1, 1, (len(q), n_pixels, 3)) @ TO_Q
    middle = (rng.uniform(-0.5, 0.5, q.shape) @ TO_Q)[:, None]
    square = np.sum(normal**2, axis=1)[:, None, None]
    above = np.sum((points - middle) * normal[:, None], axis=2, keepdims=True)
    offsets = points - above * normal[:, None] / square
    kept = np.all(np.abs(offsets @ to_hkl) < 0.5, axis=2)
    paths = path * rng.uniform(-1, 1, q.shape) @ TO_Q
    # The mean of the Gaussian over x + t p, t from −½ to ½, in closed form.
    inverse = np.linalg.inv(shape.at(q))
    squares = np.sum((offsets @ inverse) * offsets, axis=2)
    mean = np.exp(-0.5 * squares)
    if path > 0:
        own = np.sum((paths[:, None] @ inverse)[:, 0] * paths, axis=1)[:, None]
        both = np.sum((offsets @ inverse) * paths[:, None], axis=2)
        ends = [ndtr((both + t * own) / np.sqrt(own)) for t in (-0.5, 0.5)]
        mean = np.exp(-0.5 * (squares - both**2 / own))
        mean *= np.sqrt(2 * np.pi / own) * (ends[1] - ends[0])
    photons = rng.poisson(rng.exponential(height, (len(q), 1)) * mean + level)
    spot = np.broadcast_to(np.arange(len(q))[:, None], kept.shape)
    return SpotPixels(
        offsets[kept].astype(np.float32), photons[kept].astype(np.float32), spot[kept], q, paths
    )


def along_axes(found, true, q):
    """Standard deviations (3,) of a shape at q, relative to those of another."""
    ratios = np.linalg.eigvals(np.linalg.solve(true.at(q), found.at(q)))
    return np.sqrt(ratios.real)


def of_axes(scale=1.0, **growth):
    return SpotShape(TO_Q.T @ np.diag((scale * AXES) ** 2) @ TO_Q, **growth)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(
    ("path", "growth"),
    [(0.0, {}), (0.3, {}), (0.1, {"mosaic": 0.008}), (0.2, {"mosaic": 0.003, "spread": 0.006})],
)
def test_the_shape_is_found(path, growth):
    true = of_axes(**growth)
    found = fit_spot_shape(drawn(true, path=path), CELL)
    for direction in np.vstack([np.eye(3), -np.ones(3) / np.sqrt(3)]):
        assert_allclose(along_axes(found, true, 0.25 * direction), 1.0, rtol=RTOL_FIT)
    assert 200 < found.n_spots < 4000


def test_a_halo_around_spots_is_not_their_shape():
    """Scattering around nodes, four times as wide, that holds as many photons."""
    true, halo = of_axes(0.6), of_axes(2.4)
    spots = drawn(true, level=1.0)
    around = drawn(halo, level=1.0, height=300.0 / 4**3)
    assert_array_equal(spots.offsets, around.offsets)
    both = SpotPixels(
        spots.offsets, spots.photons + around.photons, spots.spot, spots.q, spots.paths
    )
    assert_allclose(along_axes(fit_spot_shape(both, CELL), true, np.zeros(3)), 1.0, rtol=RTOL_HALO)


def test_pixels_are_those_that_geometry_puts_around_nodes():
    experiment = make_experiment((20, 24, 22, 90, 100, 90), "C 1 2 1", d_min=3.0, n_pixels=128)
    rng = np.random.default_rng(0)
    # A value of its own for each pixel, by which both are brought into one order.
    shapes = [panel.shape for panel in experiment.detector]
    values = np.split(
        rng.permutation(sum(map(np.prod, shapes))), np.cumsum(list(map(np.prod, shapes)))[:-1]
    )
    photons = [v.reshape(s).astype(np.float32) for v, s in zip(values, shapes, strict=True)]
    photons[1][40, 30] = np.nan
    tables = [
        PixelTable.of_panel(panel, experiment.beam, (), 1.0, np.zeros(panel.shape, bool))
        for panel in experiment.detector
    ]
    found = pixels_of_spots(tables, photons, experiment, 7, d_min=3.0)
    to_q = experiment.crystal.cell.frac_matrix
    hkl = np.concatenate(
        [experiment.hkl_of(p.pixel_positions(), 7).reshape(-1, 3) for p in experiment.detector]
    )
    values = np.concatenate([image.ravel() for image in photons])
    node = np.rint(hkl)
    broken = node[~np.isfinite(values)]
    inv_d = np.linalg.norm(node @ to_q, axis=1)
    used = (inv_d > 0) & (inv_d < 1 / 3) & ((node[:, 0] + node[:, 1]) % 2 == 0)
    used &= ~(node[:, None] == broken).all(axis=2).any(axis=1)
    _, group, n = np.unique(node[used], axis=0, return_inverse=True, return_counts=True)
    used[np.flatnonzero(used)[n[group.ravel()] < 12]] = False
    order, expected = np.argsort(found.photons), np.argsort(values[used])
    assert used.sum() > 3000
    assert_array_equal(found.photons[order], values[used][expected])
    assert_allclose(found.offsets[order], ((hkl - node)[used] @ to_q)[expected], atol=1e-6)
    assert_allclose(found.q[found.spot[order]], (node[used] @ to_q)[expected], atol=1e-12)
    still = pixels_of_spots(tables, photons, experiment, 7, d_min=3.0, stills=True)
    assert_array_equal(still.paths, 0.0)
    some = pixels_of_spots(tables, photons, experiment, 7, d_min=3.0, fraction=0.3)
    assert 0.15 < len(some.q) / len(found.q) < 0.45


# --- 3 exact limits ------------------------------------------------------


def test_covariance_grows_along_and_across_q():
    shape = SpotShape(np.diag([1e-6, 4e-6, 9e-6]), mosaic=0.01, spread=0.02)
    assert_allclose(shape.at(np.array([0.0, 0.5, 0.0])), np.diag([26e-6, 104e-6, 34e-6]))
    assert_allclose(shape.axes, [3e-3, 2e-3, 1e-3])
    assert str(shape).startswith("0.0030 × 0.0020 × 0.0010 Å⁻¹, mosaic spread 0.573°")


# --- 4 invariances -------------------------------------------------------


def test_brightness_changes_nothing():
    pixels = drawn(of_axes(), n=2000)
    brighter = SpotPixels(pixels.offsets, 4 * pixels.photons, pixels.spot, pixels.q, pixels.paths)
    one, other = (fit_spot_shape(p, CELL).covariance for p in (pixels, brighter))
    assert_allclose(one, other, rtol=1e-9)


# --- 5 errors ------------------------------------------------------------


def test_images_without_spots_are_refused():
    pixels = drawn(of_axes(), n=300, height=1e-3)
    message = r"the shape of spots needs 100 or more that stand out, got \d+ of \d+ nodes"
    with pytest.raises(InputError, match=message):
        fit_spot_shape(pixels, CELL)


def test_spots_that_run_into_each_other_are_refused():
    with pytest.raises(InputError, match="needs those that stand apart, got standard deviations"):
        fit_spot_shape(drawn(of_axes(4.0), n=1000), CELL)
