"""Images of a crystal whose spots have a known shape: fitted, excluded, and what remains."""

import json
import logging

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.errors import InputError
from offbragg.made_crystal import make_experiment
from offbragg.reduction.observations_file import read_observations
from offbragg.reduction.observe import write_observations
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map
from offbragg.reduction.spot_shape import SpotShape

D_MIN, N_IMAGES, DIFFUSE = 3.0, 40, 8.0
# 0.03, 0.07 and 0.11 units along axes that are no axes of the lattice [Å⁻¹].
TURN = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
TRUE = SpotShape(TURN @ np.diag(np.square([0.0014, 0.0031, 0.0048])) @ TURN.T)
RTOL_FIT = 0.2
PLAIN = {"d_min": D_MIN, "corrections": (), "overload_margin": 0, "sampling": (3, 3, 3)}
FITTED = {**PLAIN, "bragg_shape": "fitted"}


def images(experiment, height, seed=0, stills=False):
    """Counts (n_images, 2, slow, fast) of flat diffuse scattering and Gaussian spots."""
    rng = np.random.default_rng(seed)
    heights = rng.exponential(height, (32, 32, 32))
    to_q, inverse = experiment.crystal.cell.frac_matrix, np.linalg.inv(TRUE.covariance)
    counts = []
    for image in range(experiment.n_images):
        panels = []
        for panel in experiment.detector:
            mean = np.full(panel.shape, DIFFUSE)
            for t in [0.5] if stills else (np.arange(6) + 0.5) / 6:
                hkl = experiment.hkl_of(panel.pixel_positions(), image, t)
                node = np.rint(hkl)
                x = (hkl - node) @ to_q
                peak = heights[tuple(np.moveaxis(node.astype(int) % 32, -1, 0))]
                shape = np.exp(-0.5 * np.sum((x @ inverse) * x, axis=-1))
                mean += peak * shape * node.any(axis=-1) / (1 if stills else 6)
            panels.append(rng.poisson(mean))
        counts.append(panels)
    return np.array(counts, dtype=np.int32)


@pytest.fixture(scope="module")
def crystal(tmp_path_factory):
    """Write images of spots of a mean height and give the experiment that names them."""
    folder = tmp_path_factory.mktemp("exposed")

    def make(height, n_images=N_IMAGES, **how):
        experiment = make_experiment(
            (20, 24, 22, 90, 100, 90), "P 1", d_min=D_MIN, n_images=n_images,
            oscillation_deg=2.0, n_pixels=112,
        )  # fmt: skip
        path = folder / f"{height:g}_{n_images}_{len(how)}.h5"
        with h5py.File(path, "w") as file:
            file["entry/data/data"] = images(experiment, height, **how)
        return experiment.with_images(path)

    return make


@pytest.fixture(scope="module")
def rotated(crystal):
    return crystal(3000.0)


@pytest.fixture(scope="module")
def fitted(rotated):
    return compute_map([rotated], MapOptions(**FITTED))


def relative_axes(step):
    ratios = np.linalg.eigvals(np.linalg.solve(TRUE.covariance, np.array(step["covariance"])))
    return np.sqrt(ratios.real)


def excess(found):
    """Mean of all pixels over the diffuse scattering, less 1."""
    kept = found.count > 0
    return np.average(found.intensity[kept], weights=found.count[kept]) / DIFFUSE - 1


# --- 2 independent oracle ------------------------------------------------


def test_the_shape_of_a_sweep_is_found_and_said(fitted, rotated, caplog):
    (step,) = fitted.provenance
    (shape,) = step["spot_shapes"]
    assert shape["sweep"] == 0
    assert_allclose(relative_axes(shape), 1.0, rtol=RTOL_FIT)
    assert shape["n_spots"] > 300
    assert shape["mosaic"] == shape["spread"] == 0
    json.dumps(shape)
    with caplog.at_level(logging.INFO):
        compute_map([rotated], MapOptions(**FITTED))
    assert f"sweep 0: spot shape: {shape['axes'][0]:.4f} ×" in caplog.text


def test_what_remains_is_the_diffuse_scattering(fitted, rotated):
    """A sphere that leaves as little of the peaks takes more pixels."""
    sphere = compute_map([rotated], MapOptions(**PLAIN, bragg_radius=0.3))
    small = compute_map([rotated], MapOptions(**PLAIN, bragg_radius=0.25))
    everything = compute_map([rotated], MapOptions(**PLAIN, bragg="keep"))
    assert excess(everything) > 0.2
    # Counting alone gives 0.0006.
    assert abs(excess(fitted)) < 0.003
    assert excess(sphere) < 0.003
    assert excess(small) > 0.005
    lost = [1 - m.count.sum() / everything.count.sum() for m in (fitted, sphere)]
    assert lost[0] < 0.75 * lost[1]


def test_stills_have_the_same_shape(crystal):
    experiment = crystal(800.0, stills=True)
    options = MapOptions(**FITTED, stills=True)
    (shape,) = compute_map([experiment], options).provenance[0]["spot_shapes"]
    assert_allclose(relative_axes(shape), 1.0, rtol=RTOL_FIT)


# --- 3 exact limits ------------------------------------------------------


def test_peaks_and_the_rest_are_the_whole(fitted, rotated):
    peaks = compute_map([rotated], MapOptions(**FITTED, bragg="only"))
    whole = compute_map([rotated], MapOptions(**PLAIN, bragg="keep"))
    assert_array_equal(fitted.count + peaks.count, whole.count)
    assert peaks.count.sum() > 0
    assert "spot_shapes" not in whole.provenance[0]


def test_a_shape_is_taken_where_it_is_found(fitted, rotated, crystal, caplog):
    """And spheres elsewhere, sweep by sweep."""
    without = crystal(1e-3, n_images=6)
    with caplog.at_level(logging.INFO):
        both = compute_map([rotated, without], MapOptions(**PLAIN))
    assert [shape["sweep"] for shape in both.provenance[0]["spot_shapes"]] == [0]
    assert "sweep 1: the shape of spots needs 100 or more" in caplog.text
    spheres = compute_map([without], MapOptions(**PLAIN, bragg_shape="sphere"))
    assert_array_equal(both.count, fitted.count + spheres.count)


def test_spheres_are_taken_where_they_are_asked_for_or_images_are_few(rotated, crystal):
    for experiment, radius in ((rotated, 0.3), (crystal(3000.0, n_images=4), None)):
        found, spheres = (
            compute_map([experiment], MapOptions(**PLAIN, bragg_shape=shape, bragg_radius=radius))
            for shape in ("auto", "sphere")
        )
        assert_array_equal(found.count, spheres.count)
        assert "spot_shapes" not in found.provenance[0]


def test_spheres_are_taken_where_spots_reach_too_far(rotated, caplog):
    with caplog.at_level(logging.INFO):
        found = compute_map([rotated], MapOptions(**PLAIN, bragg_sigmas=6.0))
    spheres = compute_map([rotated], MapOptions(**PLAIN, bragg_shape="sphere"))
    assert_array_equal(found.count, spheres.count)
    assert "of the way to the next: spheres are taken for them" in caplog.text


def test_observations_are_those_of_the_map(fitted, rotated, tmp_path):
    write_observations([rotated], MapOptions(**FITTED), tmp_path / "o.h5")
    observations = read_observations(tmp_path / "o.h5")
    columns = observations.columns
    n = np.bincount(columns["voxel"], columns["count"], fitted.grid.size)
    assert_array_equal(n.reshape(fitted.grid.shape), fitted.count)
    assert observations.provenance[0]["spot_shapes"] == fitted.provenance[0]["spot_shapes"]


# --- 4 invariances -------------------------------------------------------


def test_threads_change_nothing(fitted, rotated):
    alone = compute_map([rotated], MapOptions(**FITTED, n_workers=1))
    assert_array_equal(alone.intensity, fitted.intensity)


# --- 5 errors ------------------------------------------------------------


def test_a_sweep_without_spots_is_named(rotated, crystal):
    few = crystal(1e-3, n_images=3)
    message = r"sweep 1: the shape of spots needs 100 .* nodes; give a radius, bragg_shape 'sphere'"
    with pytest.raises(InputError, match=message):
        compute_map([rotated, few], MapOptions(**FITTED))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bragg_shape": "cube"}, "bragg_shape must be one of auto, sphere, fitted, got 'cube'"),
        ({"bragg_sigmas": 0.0}, "bragg_sigmas must be > 0, got 0.0"),
        ({"bragg_radius": 0.25}, "bragg_radius is of spheres, got 0.25 with bragg_shape 'fitted'"),
        ({"bragg_radius_unit": "1/angstrom"}, "bragg_radius_unit is of a bragg_radius, got '1/an"),
    ],
)
def test_a_wrong_option_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        MapOptions(**{**FITTED, **changes})
