"""Images of a drifting beam and an absorbing crystal: scaled, their map is that of steady ones."""

import h5py
import numpy as np
import pytest

from offbragg import (
    HklGrid,
    InputError,
    LiquidLike,
    MapOptions,
    MissingFileError,
    compare,
    merge,
    simulate,
)
from offbragg.made_crystal import make_experiment, make_peptide
from offbragg.maps.statistics import statistics
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions, expose
from offbragg.reduction.observations_file import read_observations
from offbragg.reduction.pipeline import compute_map
from offbragg.reduction.reduce import reduce_images
from offbragg.reduction.scaled_map import scale_to_map
from offbragg.reduction.standard_scaling import ScalingOptions

N_PIXELS, N_IMAGES, PHOTONS = 112, 90, 60.0
OPTIONS = {"d_min": 2.6, "sampling": (2, 2, 2), "bragg": "keep"}
# Anisotropic parts: what noise of half of the photons leaves of a perfect scaling.
LEAST_CC = 0.985


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """Images of a steady beam, and their map."""
    peptide = make_peptide("GASMVL", u=0.12)
    grid = HklGrid.from_resolution(peptide.cell, 2.45, (6, 6, 6))
    made = simulate(peptide, LiquidLike(0.4, 6.0), grid)
    experiment = make_experiment(
        peptide.cell, peptide.space_group, d_min=2.6, n_pixels=N_PIXELS, n_images=N_IMAGES,
        oscillation_deg=2.0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("steady")
    exposed = expose(made, experiment, folder, ExposeOptions(PHOTONS), np.random.default_rng(0))
    experiments = read_experiments(exposed.experiments)
    return experiments, compute_map(experiments, MapOptions(**OPTIONS))


@pytest.fixture(scope="module")
def drifted(steady, tmp_path_factory):
    """The same photons, each seen with a probability that goes with rotation and direction."""
    (experiment,), _ = steady
    rng = np.random.default_rng(1)
    with h5py.File(experiment.template) as file:
        images = file["entry/data/data"][()].astype(np.int64)
    beam = experiment.beam.direction
    rays = []
    for panel in experiment.detector:
        p = panel.pixel_positions()
        rays.append(p / np.linalg.norm(p, axis=-1, keepdims=True) - beam)
    for image in range(N_IMAGES):
        turned = np.radians(2.0 * image)
        side = np.array([np.cos(turned), np.sin(turned), 0.0])
        path = np.stack(rays) @ side
        seen = 0.6 * (1 + 0.25 * np.sin(2 * turned)) * np.exp(-0.8 * path)
        images[image] = rng.binomial(images[image], np.clip(seen, 0.0, 1.0))
    path = tmp_path_factory.mktemp("drifted") / "drifted.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = images.astype(np.uint32)
    return (experiment.with_images(path),)


def cc(one, other):
    return compare(merge(one).map, merge(other).map, 10.0, 2.6).overall.cc


# --- 1 known truth -------------------------------------------------------


def test_scaling_undoes_what_drifted(steady, drifted, tmp_path):
    _, wanted = steady
    raw, none = reduce_images(drifted, MapOptions(**OPTIONS))
    assert none is None
    kept = tmp_path / "observations.h5"
    options = MapOptions(**OPTIONS, scaling="standard", wedge=4.0, observations=str(kept))
    found, how = reduce_images(drifted, options)
    assert how.figures["converged"]
    assert how.figures["r_meas_after"] < 0.8 * how.figures["r_meas_before"]
    assert cc(raw, wanted) < cc(found, wanted)
    assert cc(found, wanted) > LEAST_CC
    before, after = (statistics(x)["overall"]["r_int"] for x in (raw, found))
    assert after < 0.6 * before
    assert found.provenance[-1]["command"] == "scale"
    assert [step["command"] for step in found.provenance] == ["map", "scale"]
    # By itself, from the file that was kept, it is the same.
    again = scale_to_map(read_observations(kept), ScalingOptions())
    assert np.array_equal(again.map.intensity, found.intensity, equal_nan=True)


def test_bright_pixels_leave_without_any_scaling(steady, tmp_path):
    """Thirty pixels of 5000 photons on each image: their observations go, the others stay."""
    (experiment,), wanted = steady
    rng = np.random.default_rng(4)
    with h5py.File(experiment.template) as file:
        images = file["entry/data/data"][()].astype(np.int64)
    flat = images.reshape(N_IMAGES, -1)
    for image in flat:
        image[rng.choice(flat.shape[1], 30, replace=False)] = 5000
    path = tmp_path / "zingers.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = images.astype(np.uint32)
    spoilt = (experiment.with_images(path),)
    plain, _ = reduce_images(spoilt, MapOptions(**OPTIONS))
    found, how = reduce_images(spoilt, MapOptions(**OPTIONS, scaling="outliers", wedge=4.0))
    assert cc(plain, wanted) < 0.9
    assert cc(found, wanted) > LEAST_CC
    assert found.provenance[-1]["options"]["corrections"] == []
    # Of an observation's dozens of pixels one is bright in one of twenty.
    assert 0.03 < how.figures["n_outliers"] / how.figures["n_observations"] < 0.07


# --- 3 exact limits ------------------------------------------------------


def test_steady_images_keep_their_map(steady):
    experiments, wanted = steady
    found, how = reduce_images(experiments, MapOptions(**OPTIONS, scaling="standard", wedge=4.0))
    assert cc(found, wanted) > LEAST_CC
    assert how.figures["n_outliers"] < 0.001 * how.figures["n_observations"]


def test_what_is_equivalent_reaches_the_scaling(steady):
    options = MapOptions(**OPTIONS, scaling="outliers", wedge=4.0, friedel="apart", laue_group="-1")
    found, _ = reduce_images(steady[0], options)
    settings = found.provenance[-1]["options"]
    assert (settings["friedel"], settings["laue_group"]) == ("apart", "-1")


# --- 5 errors ------------------------------------------------------------


def test_a_group_that_is_none_is_named_before_images_are_read(steady):
    with pytest.raises(InputError, match="5/m"):
        reduce_images(steady[0], MapOptions(**OPTIONS, scaling="standard", laue_group="5/m"))
    with pytest.raises(InputError, match="laue_group 6/mmm does not fit the cell"):
        reduce_images(steady[0], MapOptions(**OPTIONS, scaling="standard", laue_group="6/mmm"))


def test_a_folder_that_is_not_there_is_named(steady, tmp_path):
    with pytest.raises(MissingFileError, match="nowhere: no such folder"):
        reduce_images(
            steady[0], MapOptions(**OPTIONS, scaling="standard"), folder=tmp_path / "nowhere"
        )


def test_options_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="corrections must be among scale, absorption, det"):
        ScalingOptions(corrections=("beam",))
    with pytest.raises(InputError, match="angle_spacing must be > 0, got 0"):
        ScalingOptions(angle_spacing=0)
