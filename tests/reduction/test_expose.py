"""expose: a map to images: oracle, limits, invariances, errors.

Every experiment here has two tilted panels, a wavelength other than 1 Å, a goniometer with fixed
and setting rotations, and a crystal that varies along the scan.
"""

import logging
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
import xraylib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.interpolate import RegularGridInterpolator
from scipy.spatial.transform import Rotation

from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction._expose_kernels import add_mean_along_arc, interpolate_linear
from offbragg.reduction.experiment import (
    Beam,
    CrystalModel,
    Experiment,
    Goniometer,
    Panel,
    Scan,
    read_experiments,
)
from offbragg.reduction.expose import ExposeOptions, ExposeResult, expose
from offbragg.reduction.exposed_sweep import ExposedSweep
from offbragg.reduction.images import open_images
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map

RTOL_ROUNDING = 1e-12  # same numbers, other order of float64 operations
RTOL_FLOAT32 = 3e-6  # the map and noise-free images are float32: a few units of 6e-8 on sums
SIGMAS = 4.5  # two-sided chance below 1e-5 for a normal variable; the seeds are fixed

CELL = (8.0, 9.0, 10.5, 85.0, 97.0, 103.0)


def make_panel(name, origin, tilt, **others):
    turn = Rotation.from_rotvec(tilt)
    return Panel(
        name=name,
        origin=np.array(origin),
        fast_axis=turn.apply([1.0, 0.0, 0.0]),
        slow_axis=turn.apply([0.0, -1.0, 0.0]),
        pixel_size=(1.3, 1.1),
        image_size=(17, 13),
        **{"thickness": 0.4, "mu": 3.0, **others},
    )


def make_experiment(n_images=5, width_deg=2.5, **others):
    width = np.radians(width_deg)
    a_matrix = np.linalg.inv(
        Rotation.from_rotvec([0.3, -0.5, 0.8]).apply(
            HklGrid(CELL, [0], [0], [0]).cell.orth_matrix.T
        )
    )
    drift = Rotation.from_rotvec(np.linspace(0, 1, n_images + 1)[:, None] * [0.01, 0.0, 0.02])
    parts = {
        "beam": Beam(0.9763, np.array([0.01, -0.02, -1.0]), np.array([0.05, 1.0, 0.1]), 0.9),
        "detector": (
            make_panel("left", [-23.0, 8.0, -40.0], [0.02, -0.15, 0.01], gain=2.0, pedestal=9.0),
            make_panel("right", [1.0, 8.5, -41.0], [-0.03, 0.2, -0.02], trusted_range=(1, 900)),
        ),
        "goniometer": Goniometer(
            np.array([0.99, 0.05, 0.02]),
            Rotation.from_rotvec([0.1, 0.2, -0.3]).as_matrix(),
            Rotation.from_rotvec([-0.2, 0.1, 0.1]).as_matrix(),
        ),
        "scan": Scan(
            (11, 10 + n_images), 0.4 + width * np.arange(n_images), np.full(n_images, width)
        ),
        "crystal": CrystalModel(a_matrix, drift.as_matrix() @ a_matrix, "P 1"),
        "identifier": "made",
    }
    return Experiment(**{**parts, **others})


@pytest.fixture
def experiment():
    return make_experiment()


@pytest.fixture
def diffuse_map():
    """A map that is neither centred nor equally sampled, of noise with holes."""
    rng = np.random.default_rng(4)
    axes = [np.arange(-9, 8) / 2, np.arange(-10, 13) / 3, np.arange(-14, 9) / 2]
    grid = HklGrid(CELL, *axes)
    values = rng.gamma(2.0, 50.0, grid.shape)
    values[rng.random(grid.shape) < 0.05] = np.nan
    return DiffuseMap(grid, values)


def uniform(value=3.0):
    grid = HklGrid.from_resolution(CELL, 0.8)
    return DiffuseMap(grid, np.full(grid.shape, value))


def read_images(result: ExposeResult):
    """All images as (n_images, n_panels, slow, fast), by the package's own reader."""
    experiment = read_experiments(result.experiments)[0]
    with open_images(experiment) as source:
        return np.array([source.read(index) for index in range(source.n_images)])


def run(tmp_path, diffuse_map, experiment, seed=1, name="out", **options):
    chosen = ExposeOptions(**{"photons": 5.0, "n_workers": 1, **options})
    rng = np.random.default_rng(seed)
    return expose(diffuse_map, experiment, tmp_path / name, chosen, rng)


# --- 2 independent oracle ------------------------------------------------


def test_interpolation_matches_scipy_with_zeros_all_around():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(5, 4, 6)).astype(np.float32)
    axes = [np.arange(-1, n + 1) for n in values.shape]
    oracle = RegularGridInterpolator(axes, np.pad(values, 1), bounds_error=False, fill_value=0.0)
    points = rng.uniform(-2.5, 7.5, (4000, 3))
    found = [interpolate_linear(values, *point) for point in points]
    assert_allclose(found, oracle(points), rtol=0, atol=1e-12)
    # Nodes, and points of the border, are where an index may fall off the end.
    nodes = np.argwhere(np.ones(values.shape)).astype(float)
    assert_allclose([interpolate_linear(values, *p) for p in nodes], values.ravel(), rtol=0)


def test_the_loop_over_pixels_matches_its_plain_twin():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(6, 7, 8)).astype(np.float32)
    directions, matrices = rng.normal(size=(50, 3)), rng.normal(size=(4, 3, 3))
    vectors = rng.uniform(-6, 0, (4, 3))
    indices = np.einsum("rij,pj->rpi", matrices, directions) - vectors[:, None]
    plain = np.array([[interpolate_linear(values, *p) for p in turn] for turn in indices])
    out = np.full(50, 10.0)
    add_mean_along_arc(values, directions, matrices, vectors, 0.5, out)
    assert_allclose(out, 10.0 + 0.5 * plain.mean(axis=0), rtol=RTOL_ROUNDING)


def plain_expectation(diffuse_map, experiment, n_rotation, n_pixel):
    """Expected counts up to the scale, (n_images, n_panels, slow, fast): NumPy and scipy only."""
    grid = diffuse_map.grid
    axes = [
        np.concatenate([[a[0] - a[1] + a[0]], a, [2 * a[-1] - a[-2]]])
        for a in (grid.h, grid.k, grid.l)
    ]
    look_up = RegularGridInterpolator(
        axes, np.pad(np.nan_to_num(diffuse_map.intensity), 1), bounds_error=False, fill_value=0.0
    )
    beam, gonio, scan = experiment.beam, experiment.goniometer, experiment.scan
    normal = beam.polarization_normal - beam.direction * (beam.polarization_normal @ beam.direction)
    normal /= np.linalg.norm(normal)
    images = []
    for index in range(experiment.n_images):
        panels = []
        for panel in experiment.detector:
            mean = 0.0
            for turn in (np.arange(n_rotation) + 0.5) / n_rotation:
                points = experiment.crystal.scan_points
                a_matrix = (1 - turn) * points[index] + turn * points[index + 1]
                phi = scan.oscillation_start[index] + turn * scan.oscillation_width[index]
                spin = Rotation.from_rotvec(phi * gonio.rotation_axis).as_matrix()
                ub = gonio.setting_rotation @ spin @ gonio.fixed_rotation @ a_matrix
                for x in (np.arange(n_pixel) + 0.5) / n_pixel:
                    for y in (np.arange(n_pixel) + 0.5) / n_pixel:
                        p = pixel_points(panel, x, y)
                        s1 = p / np.linalg.norm(p, axis=-1, keepdims=True) / beam.wavelength
                        r = s1 - beam.direction / beam.wavelength
                        mean = mean + look_up(np.linalg.solve(ub, r[..., None])[..., 0])
            p = pixel_points(panel, 0.5, 0.5)
            length = np.linalg.norm(p, axis=-1)
            cosine = np.abs(p @ np.cross(panel.fast_axis, panel.slow_axis)) / length
            s1 = p / length[..., None]
            fraction = beam.polarization_fraction
            polarization = fraction * (1 - (s1 @ np.cross(normal, beam.direction)) ** 2)
            polarization += (1 - fraction) * (1 - (s1 @ normal) ** 2)
            absorbed = 1 - np.exp(-panel.mu * panel.thickness / cosine)
            air = np.exp(-mu_of_air(beam.wavelength) * length)
            panels.append(mean * cosine / length**2 * polarization * absorbed * air)
        images.append(panels)
    return np.array(images)


def mu_of_air(wavelength):
    """Attenuation of dry air [mm⁻¹], element by element: 1.205 mg/cm³, weights of NIST."""
    weights = {6: 0.000124, 7: 0.755267, 8: 0.231781, 18: 0.012827}
    energy = 12.398419843 / wavelength
    return 1.205e-4 * sum(w * xraylib.CS_Total(z, energy) for z, w in weights.items())


def pixel_points(panel, x, y):
    n_fast, n_slow = panel.image_size
    fast = ((np.arange(n_fast) + x) * panel.pixel_size[0])[None, :, None] * panel.fast_axis
    slow = ((np.arange(n_slow) + y) * panel.pixel_size[1])[:, None, None] * panel.slow_axis
    return panel.origin + fast + slow


@pytest.mark.parametrize(("n_rotation", "n_pixel"), [(1, 1), (3, 2)])
def test_expected_counts_match_a_plain_calculation(
    tmp_path, diffuse_map, experiment, n_rotation, n_pixel
):
    options = {"noise": False, "background": 0.5, "n_rotation": n_rotation, "n_pixel": n_pixel}
    result = run(tmp_path, diffuse_map, experiment, **options)
    plain = plain_expectation(diffuse_map, experiment, n_rotation, n_pixel)
    expected = 5.0 * plain / plain.mean() + 0.5
    assert np.ptp(expected) > 5  # the map is seen, not the background alone
    assert_allclose(read_images(result), expected, rtol=RTOL_FLOAT32)


def test_counts_are_poisson_numbers_of_the_expectation(tmp_path, diffuse_map):
    experiment = make_experiment(n_images=60)
    options = {"background": 0.3, "n_rotation": 1}
    drawn = read_images(run(tmp_path, diffuse_map, experiment, **options)).astype(float)
    plain = run(tmp_path, diffuse_map, experiment, name="plain", noise=False, **options)
    expected = read_images(plain).astype(float)
    residual = (drawn - expected) / np.sqrt(expected)
    n = residual.size
    assert abs(residual.mean()) < SIGMAS / np.sqrt(n)
    # var of (x − μ)²/μ for Poisson x is 2 + 1/μ.
    spread = np.sqrt(np.mean(2 + 1 / expected) / n)
    assert abs((residual**2).mean() - 1) < SIGMAS * spread
    # Neighbouring images are independent draws.
    flat = residual.reshape(len(residual), -1)
    assert abs((flat[1:] * flat[:-1]).mean()) < SIGMAS / np.sqrt(flat[1:].size)


# --- 3 exact limits ------------------------------------------------------


def test_a_uniform_map_shows_solid_angle_polarisation_and_air_alone(tmp_path):
    # Untilted, unpolarised, all absorbed: (1 + cos²2θ)/2 · cos³2θ, and the air to the pixel.
    panel = Panel(
        "flat", np.array([-20.0, 20.0, -60.0]), [1, 0, 0], [0, -1, 0], (1.0, 1.0), (40, 40)
    )
    experiment = make_experiment(
        beam=Beam(1.2, np.array([0, 0, -1.0]), np.array([0, 1.0, 0]), 0.5), detector=(panel,)
    )
    result = run(tmp_path, uniform(), experiment, noise=False)
    position = panel.pixel_positions()
    cosine = 60.0 / np.linalg.norm(position, axis=-1)
    expected = (1 + cosine**2) / 2 * cosine**3 * np.exp(-mu_of_air(1.2) * 60.0 / cosine)
    images = read_images(result)[:, 0]
    assert_allclose(images, np.tile(5 * expected / expected.mean(), (5, 1, 1)), rtol=RTOL_FLOAT32)
    # The scale is that of a pixel of mean solid angle that loses nothing.
    assert_allclose(
        images[0] / (expected / (cosine**3).mean()), result.scale * 3.0, rtol=RTOL_FLOAT32
    )


@pytest.mark.parametrize("parallax", [False, True])
def test_a_uniform_map_comes_back_uniform(parallax, tmp_path):
    # Long waves, so that air takes a tenth; without its correction the map is not flat.
    made = make_experiment(beam=Beam(2.0, [0.01, -0.02, -1.0], [0.05, 1.0, 0.1], 0.9))
    detector = tuple(replace(panel, parallax=parallax) for panel in made.detector)
    result = run(tmp_path, uniform(), replace(made, detector=detector), noise=False)
    experiments = read_experiments(result.experiments)
    assert experiments[0].detector[0].parallax is parallax
    options = MapOptions(d_min=1.5, sampling=(3, 3, 3), bragg="keep", oversample=(1, 3))
    found = compute_map(experiments, options).intensity
    some = np.isfinite(found)
    assert some.sum() > 100
    assert_allclose(found[some], 3.0 * result.scale, rtol=RTOL_FLOAT32)
    without = replace(options, air_fraction=0.0)
    assert np.ptp(np.log(compute_map(experiments, without).intensity[some])) > 0.01


def test_the_mean_is_the_photons_asked_for(tmp_path, diffuse_map, experiment):
    exact = run(tmp_path, diffuse_map, experiment, name="exact", noise=False, photons=0.25)
    assert_allclose(read_images(exact).mean(dtype=float), 0.25, rtol=RTOL_FLOAT32)
    assert_allclose(exact.mean_counts, 0.25, rtol=RTOL_FLOAT32)
    result = run(tmp_path, diffuse_map, experiment, photons=0.25, background=0.75)
    images = read_images(result)
    assert images.size == result.n_pixels
    assert_allclose(result.mean_counts, images.mean(dtype=float), rtol=RTOL_ROUNDING)
    assert abs(result.mean_counts - 1.0) < SIGMAS / np.sqrt(result.n_pixels)


def test_several_experiments_share_one_scale(tmp_path, diffuse_map):
    sweeps = [make_experiment(3), make_experiment(4, identifier="other")]
    result = run(tmp_path, diffuse_map, sweeps, noise=False, n_rotation=2)
    read = read_experiments(result.experiments)
    assert [one.identifier for one in read] == ["made", "other"]
    assert [path.name for path in result.images] == ["exposed_1.h5", "exposed_2.h5"]
    means = []
    for sweep, one in zip(sweeps, read, strict=True):
        with open_images(one) as source:
            found = np.array([source.read(index) for index in range(source.n_images)])
        plain = plain_expectation(diffuse_map, sweep, 2, 1)
        means.append((found.sum(dtype=float), plain.sum(), found.size))
        assert_allclose(found, plain * found.sum(dtype=float) / plain.sum(), rtol=RTOL_FLOAT32)
    (counts_1, plain_1, n_1), (counts_2, plain_2, n_2) = means
    assert_allclose(counts_1 / plain_1, counts_2 / plain_2, rtol=RTOL_FLOAT32)
    assert_allclose((counts_1 + counts_2) / (n_1 + n_2), 5.0, rtol=RTOL_FLOAT32)


def test_longer_exposures_count_more(tmp_path):
    experiment = make_experiment()
    times = np.array([1.0, 2.0, 1.0, 4.0, 2.0])
    timed = replace(experiment, scan=replace(experiment.scan, exposure_times=times))
    images = read_images(run(tmp_path, uniform(), timed, noise=False, background=2.0))
    assert_allclose(images.mean(axis=(1, 2, 3)), 7.0 * times / 2.0, rtol=RTOL_FLOAT32)


def test_enough_orientations_are_taken_by_default(tmp_path, diffuse_map):
    experiment = make_experiment(width_deg=12.0)
    # More steps than the default's change little; the middle alone is visibly different.
    few, default, many = (
        run(tmp_path, diffuse_map, experiment, name=str(n), noise=False, n_rotation=n)
        for n in (1, None, 40)
    )
    truth = read_images(many)
    error_few = np.abs(read_images(few) - truth).mean()
    error_default = np.abs(read_images(default) - truth).mean()
    assert default.n_rotation[0] > 1
    assert error_default < 0.2 * error_few


# --- 4 invariances -------------------------------------------------------


def test_counts_follow_the_seed_and_not_the_workers(tmp_path, diffuse_map, experiment, monkeypatch):
    first = read_images(run(tmp_path, diffuse_map, experiment, name="a", n_workers=1))
    other = read_images(run(tmp_path, diffuse_map, experiment, name="b", seed=2))
    assert (first != other).mean() > 0.3

    # Every other image is held up, so that the threads do not finish in the order of images.
    at_once = ExposedSweep.expected_counts

    def with_delay(sweep, image_index):
        time.sleep(0.02 * (image_index % 2 == 0))
        return at_once(sweep, image_index)

    monkeypatch.setattr(ExposedSweep, "expected_counts", with_delay)
    again = read_images(run(tmp_path, diffuse_map, experiment, name="c", n_workers=3))
    assert_array_equal(first, again)


@settings(deadline=None, derandomize=True, max_examples=5)
@given(factor=st.floats(0.01, 1e4))
def test_the_maps_unit_drops_out(tmp_path_factory, factor):
    tmp_path = tmp_path_factory.mktemp("unit")
    experiment = make_experiment(2)
    here = run(tmp_path, uniform(1.0), experiment, name="a", noise=False)
    there = run(tmp_path, uniform(factor), experiment, name="b", noise=False)
    assert_allclose(read_images(there), read_images(here), rtol=RTOL_FLOAT32)
    assert_allclose(there.scale * factor, here.scale, rtol=RTOL_FLOAT32)


def test_geometry_comes_back_from_the_files(tmp_path, diffuse_map, experiment):
    result = run(tmp_path, diffuse_map, experiment)
    (back,) = read_experiments(result.experiments)
    assert back.template == str(result.images[0])
    assert back.image_numbers.tolist() == [1, 2, 3, 4, 5]
    assert [panel.name for panel in back.detector] == ["left", "right"]
    for panel, before in zip(back.detector, experiment.detector, strict=True):
        assert (panel.gain, panel.pedestal, panel.trusted_range) == (1.0, 0.0, (-1.0, 65534.0))
        assert_allclose(panel.pixel_positions(), before.pixel_positions(), rtol=RTOL_ROUNDING)
        for index in range(5):
            for fraction in (0.0, 0.3, 1.0):
                assert_allclose(
                    back.hkl_of(panel.pixel_positions(), index, fraction),
                    experiment.hkl_of(before.pixel_positions(), index, fraction),
                    rtol=0,
                    atol=1e-11,
                )


def test_bright_images_take_more_bits(tmp_path, experiment):
    images = read_images(run(tmp_path, uniform(), experiment, photons=1e5))
    assert images.dtype == np.uint32
    assert abs(images.mean() / 1e5 - 1) < SIGMAS / np.sqrt(1e5 * images.size)


def test_missing_and_negative_values_are_said_once(tmp_path, experiment, diffuse_map, caplog):
    with caplog.at_level(logging.INFO):
        run(tmp_path, diffuse_map, experiment)
    n_missing = np.count_nonzero(np.isnan(diffuse_map.intensity))
    lines = [record.getMessage() for record in caplog.records]
    text = f"map: {n_missing} of {diffuse_map.intensity.size} voxels have no value"
    assert len(lines) == 1
    assert lines[0].startswith(text)

    caplog.clear()
    below = uniform(1.0)
    below.intensity[below.grid.h < 0] = -5.0
    images = read_images(run(tmp_path, below, experiment, name="below", noise=False))
    assert images.min() == 0.0
    assert_allclose(images.mean(dtype=float), 5.0, rtol=RTOL_FLOAT32)
    assert [r.getMessage() for r in caplog.records] == [
        "map: values below 0 count as 0, they are in 5 images"
    ]


def test_the_map_and_the_generator_may_be_used_again(tmp_path, diffuse_map, experiment):
    before = diffuse_map.intensity.copy()
    rng = np.random.default_rng(1)
    options = ExposeOptions(photons=5.0, overwrite=True)
    first = read_images(expose(diffuse_map, experiment, tmp_path, options, rng))
    second = read_images(expose(diffuse_map, experiment, tmp_path, options, rng))
    assert_array_equal(diffuse_map.intensity, before)
    assert (first != second).mean() > 0.3


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"photons": 0.0}, r"photons must be > 0 a pixel, got 0.0"),
        ({"photons": np.nan}, r"photons must be > 0 a pixel, got nan"),
        ({"background": -1.0}, r"background must be >= 0 photons a pixel, got -1.0"),
        ({"n_rotation": 0}, r"n_rotation must be >= 1, got 0"),
        ({"n_pixel": 0}, r"n_pixel must be >= 1, got 0"),
        ({"n_workers": 0}, r"n_workers must be >= 1, got 0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(InputError, match=message):
        ExposeOptions(**{"photons": 1.0, **options})


def test_earlier_images_are_kept_unless_told_otherwise(tmp_path, diffuse_map, experiment):
    first = read_images(run(tmp_path, diffuse_map, experiment))
    with pytest.raises(InputError, match=r"exposed.expt: exists; choose another folder"):
        run(tmp_path, diffuse_map, experiment, seed=2)
    result = run(tmp_path, diffuse_map, experiment, seed=2, overwrite=True)
    assert (read_images(result) != first).any()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["exposed.expt", "exposed.h5"]


def test_wrong_input_is_refused_before_anything_is_written(tmp_path, diffuse_map, experiment):
    small = replace(experiment.detector[0], image_size=(5, 5))
    cases = [
        (diffuse_map, replace(experiment, detector=(*experiment.detector, small)), {},
         r"panels must all have one size, got \(slow, fast\) \[\(5, 5\), \(13, 17\)\]"),
        (uniform(0.0), experiment, {}, r"map must be above 0 somewhere that the images reach"),
        (uniform(), experiment, {"photons": 1e10}, r"photons must give counts below 2\^32"),
        (diffuse_map, (), {}, r"experiments must hold at least one, got none"),
        (replace(diffuse_map, grid=replace(diffuse_map.grid, cell=(8.5, *CELL[1:]))), experiment,
         {}, r"map and experiment: cell a differs by 6.25 %"),
    ]  # fmt: skip
    for bad_map, bad_experiment, options, message in cases:
        with pytest.raises(InputError, match=message):
            run(tmp_path, bad_map, bad_experiment, **options)
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_no_half_written_images(tmp_path, diffuse_map, experiment):
    class Stopping:
        def start(self, what, total):
            self.left = total - 2

        def step(self, n=1):
            self.left -= n
            if self.left == 0:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expose(
            diffuse_map,
            experiment,
            tmp_path,
            ExposeOptions(photons=1.0, n_workers=2),
            np.random.default_rng(1),
            Stopping(),
        )
    assert list(tmp_path.iterdir()) == []


def test_what_made_the_images_is_in_the_file(tmp_path, diffuse_map, experiment):
    result = run(tmp_path, diffuse_map, experiment)
    with h5py.File(result.images[0]) as file:
        process = file["entry/process"]
        assert process["command"].asstr()[()] == "expose"
        assert process["scale"][()] == result.scale
        assert '"photons": 5.0' in process["options"].asstr()[()]
