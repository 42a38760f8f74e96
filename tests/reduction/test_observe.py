"""Observations: unmerged, they hold what the map holds; file and memory."""

import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import FormatError, InputError, MissingFileError
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.geometry import Beam
from offbragg.reduction.image_tasks import list_tasks
from offbragg.reduction.observations import COLUMNS, axes_across
from offbragg.reduction.observations_file import read_observations
from offbragg.reduction.observe import make_wedges, write_observations
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map
from offbragg.reduction.scaled import scale_observations
from offbragg.reduction.scaled_map import map_of, scaling_data
from offbragg.reduction.scaling_model import Scaling

N_IMAGES = 6
RTOL_FLOAT32 = 3e-6  # columns are float32
PLAIN = {"d_min": 4.0, "bragg": "keep", "overload_margin": 0}


@pytest.fixture
def sweep(expt_content, write_expt, tmp_path):
    """Six images of few photons, and the experiment that names them."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    with h5py.File(tmp_path / "images" / "made.h5", "w") as file:
        file["entry/data/data"] = rng.poisson(0.7, (N_IMAGES, 2, 20, 30)).astype(np.int32)
    expt_content["imageset"][0] = {
        "__id__": "ImageSequence",
        "template": "images/made.h5",
        "single_file_indices": list(range(N_IMAGES)),
    }
    return read_experiments(write_expt(expt_content))


def observed(sweep, path, **options):
    write_observations(sweep, MapOptions(**PLAIN | options), path)
    return read_observations(path)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("oversample", [(1, 1), (2, 3)])
def test_averaged_they_are_the_map(sweep, tmp_path, oversample):
    options = {"oversample": oversample, "corrections": ("exposure",)}
    observations = observed(sweep, tmp_path / "o.h5", wedge=1e-3, **options)
    expected = compute_map(sweep, MapOptions(**PLAIN | options))
    data = scaling_data(observations)
    scaled = scale_observations(data, Scaling.none(), outlier_probability=0.0)
    # Weighted by Σ w, as the map is, not by what variances are expected.
    scaled = replace(scaled, weight=observations.columns["weight"].astype(float))
    found = map_of(observations, scaled)
    assert_allclose(found.intensity, expected.intensity, rtol=RTOL_FLOAT32, atol=1e-6)
    assert_array_equal(found.count, expected.count)
    (step,), (wanted,) = found.provenance, expected.provenance
    assert step["masked_pixels"] == wanted["masked_pixels"] != []
    for half in ("half_1", "half_2"):
        assert_allclose(getattr(found, half), getattr(expected, half), rtol=1e-5, atol=1e-6)


def test_variances_are_those_of_their_photons(sweep, tmp_path):
    """Whole pixels of κ = 1: n photons in m pixels have the variance n/m²."""
    columns = observed(sweep, tmp_path / "o.h5", corrections=()).columns
    photons = columns["intensity"] * columns["count"]
    assert_allclose(photons, np.rint(photons), atol=1e-4)
    assert_allclose(columns["variance"], photons / columns["count"] ** 2, rtol=1e-5)
    assert_allclose(columns["one_photon"], 1 / columns["count"] ** 2, rtol=1e-5)
    assert_allclose(columns["per_intensity"], 1 / columns["count"], rtol=1e-5)


def test_directions_are_those_of_the_voxels(sweep, tmp_path):
    """The two components across the beam say |q|: q = k |s₁ − s₀|."""
    observations = observed(sweep, tmp_path / "o.h5", wedge=1e-3, sampling=(3, 3, 3))
    x, y = (observations.columns[name].astype(float) for name in "xy")
    cosine = np.sqrt(1 - x**2 - y**2)
    inv_d = np.sqrt(2 - 2 * cosine) / sweep[0].beam.wavelength
    expected = observations.grid.inv_d().ravel()[observations.columns["voxel"]]
    # A voxel of a third of a unit is 0.5 · √3 / 3 · 0.05 Å⁻¹ wide from its centre.
    assert np.abs(inv_d - expected).max() < 0.02


# --- 3 exact limits ------------------------------------------------------


def test_a_wedge_of_everything_is_one_half_map(sweep):
    tasks_of = MapOptions(**PLAIN, wedge=1e6)
    tasks = list_tasks(sweep, tasks_of, np.random.default_rng(0))
    wedges, wedge_of = make_wedges(sweep, tasks, tasks_of)
    assert len(wedges) == len({wedge_of[t] for t in tasks})
    for task in tasks:
        assert wedges.half[wedge_of[task]] == task.half
    alone, _ = make_wedges(sweep, tasks, MapOptions(**PLAIN, wedge=1e-3))
    assert len(alone) == N_IMAGES
    stills, _ = make_wedges(sweep, tasks, MapOptions(**PLAIN, wedge=1e6, stills=True))
    assert len(stills) == N_IMAGES
    of_one, _ = make_wedges(sweep, tasks, MapOptions(**PLAIN, wedge=1e6, still_sweeps=(0,)))
    assert_array_equal(of_one.angle, stills.angle)


def test_one_sweep_of_stills_among_others(sweep):
    """Each sweep is taken as its own number says."""
    still = compute_map(sweep, MapOptions(**PLAIN, stills=True))
    turning = compute_map(sweep, MapOptions(**PLAIN))
    both = compute_map([*sweep, *sweep], MapOptions(**PLAIN, still_sweeps=(1,)))
    assert_array_equal(both.count, still.count + turning.count)
    with pytest.raises(InputError, match="still_sweeps must be 0 to 0, got 1"):
        compute_map(sweep, MapOptions(**PLAIN, still_sweeps=(1,)))


def test_axes_lie_across_the_beam():
    axes = axes_across(Beam(1.0, np.array([0.1, -0.2, 0.9]), np.array([0.0, 1.0, 0.0])))
    direction = np.array([0.1, -0.2, 0.9]) / np.linalg.norm([0.1, -0.2, 0.9])
    assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    assert_allclose(axes @ direction, 0.0, atol=1e-12)


# --- 4 invariances -------------------------------------------------------


def test_threads_do_not_change_what_is_written(sweep, tmp_path):
    one, other = (
        observed(sweep, tmp_path / f"{n}.h5", wedge=1e-3, n_workers=n).columns for n in (1, 4)
    )
    for name in COLUMNS:
        assert_array_equal(one[name], other[name])


# --- 5 errors ------------------------------------------------------------


def test_files_that_are_none_are_named(sweep, tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_observations(tmp_path / "nothing.h5")
    other = tmp_path / "images" / "made.h5"
    message = f"{other}: expected 'offbragg observations 3', found 'another kind of file'"
    with pytest.raises(FormatError, match=f"^{re.escape(message)}$"):
        read_observations(other)
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(FormatError, match="expected a file of observations"):
        read_observations(tmp_path / "text.h5")
    observed(sweep, tmp_path / "o.h5")
    with h5py.File(tmp_path / "o.h5", "r+") as file:
        file["observations/x"].resize((3,))
    with pytest.raises(FormatError, match="columns of one length"):
        read_observations(tmp_path / "o.h5")


def test_nothing_is_written_where_nothing_is_seen(sweep, tmp_path):
    with pytest.raises(InputError, match="no pixel falls in the grid"):
        observed(sweep, tmp_path / "o.h5", d_min=400.0)
    assert not (tmp_path / "o.h5").exists()
    with pytest.raises(InputError, match="observations are kept with scaling alone"):
        MapOptions(**PLAIN, observations="o.h5")
    with pytest.raises(InputError, match="wedge must be > 0 degrees"):
        MapOptions(**PLAIN, wedge=0)
