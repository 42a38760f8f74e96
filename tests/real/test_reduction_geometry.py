"""Geometry against 5497 Bragg spots of real images: the indexed hkl is where the spot is."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.reduction.experiment import read_experiments

pytestmark = pytest.mark.real

CLOSE = 0.2  # in each index: the criterion of the data's own survey, 98.1 % of the stills
PIXELS = 1.2  # rms of observed − predicted positions; 0.96 (stills) and 0.8 px in the survey


@pytest.fixture(scope="module")
def spots(shared_data):
    path = shared_data / "snase" / "snase_spots.csv"
    return np.genfromtxt(path, delimiter=",", names=True, skip_header=1, dtype=None, encoding=None)


def reversed_axis(experiment):
    goniometer = experiment.goniometer
    return replace(
        experiment, goniometer=replace(goniometer, rotation_axis=-goniometer.rotation_axis)
    )


def positions(panel, x, y):
    along = np.stack([x * panel.pixel_size[0], y * panel.pixel_size[1]], axis=-1)
    return panel.origin + along @ np.stack([panel.fast_axis, panel.slow_axis])


def misfits(experiments, spots, kind):
    """Largest difference of an index from the indexed hkl, for each spot."""
    by_number = {int(n): (e, i) for e in experiments for i, n in enumerate(e.image_numbers)}
    worst = []
    for number, (experiment, image) in by_number.items():
        mine = spots[(spots["kind"] == kind) & (spots["image"] == number)]
        p = positions(experiment.detector[0], mine["x_obs"], mine["y_obs"])
        indexed = np.stack([mine["h"], mine["k"], mine["l"]], axis=-1)
        if kind == "still":
            found = experiment.hkl_of(p, image)
        else:  # extra: where in its rotation the spot crossed the sphere
            width = np.degrees(experiment.scan.oscillation_width[image])
            found = np.array(
                [
                    experiment.hkl_of(position, image, fraction)
                    for position, fraction in zip(p, mine["extra"] / width, strict=True)
                ]
            )
        worst.append(np.abs(found - indexed).max(axis=1))
    return np.concatenate(worst)


@pytest.mark.parametrize("name", ["snase_stills", "snase_stills_old_scan_layout"])
def test_spots_of_the_stills(name, spots, shared_data):
    experiments = read_experiments(shared_data / "snase" / f"{name}.expt")
    worst = misfits(experiments, spots, "still")
    assert len(worst) == 3561
    assert np.mean(worst < CLOSE) > 0.98
    control = misfits([reversed_axis(e) for e in experiments], spots, "still")
    assert np.mean(control < CLOSE) < 0.35


@pytest.mark.parametrize("name", ["snase_osc", "snase_osc_old_scan_layout"])
def test_spots_of_the_oscillations(name, spots, shared_data):
    experiments = read_experiments(shared_data / "snase" / f"{name}.expt")
    worst = misfits(experiments, spots, "osc")
    assert len(worst) == 1936
    assert np.mean(worst < CLOSE) > 0.98
    control = misfits([reversed_axis(e) for e in experiments], spots, "osc")
    assert np.mean(control < CLOSE) < 0.5


def test_predicted_positions_are_the_survey_s(shared_data):
    # Its prediction of a still spot: the direction of the node, kept at the length of the sphere.
    survey = json.loads((shared_data / "snase" / "geometry.json").read_text())
    experiment = read_experiments(shared_data / "snase" / "snase_stills.expt")[0]
    panel, beam = experiment.detector[0], experiment.beam
    off = []
    for spot in survey["reference_predictions"]:
        image = round(spot["phi_deg"])
        s1 = beam.s0 + experiment.lattice_matrix(image) @ spot["hkl"]
        frame = np.stack([panel.fast_axis, panel.slow_axis, -s1], axis=1)
        x, y, _ = np.linalg.solve(frame, -panel.origin)
        off.append(np.array([x, y]) / panel.pixel_size - spot["predicted_px_still"])
    assert len(off) > 5
    assert_allclose(off, 0.0, atol=0.2)  # px; the spots are up to 0.1° off the sphere


def test_all_four_files_agree(shared_data):
    for kind in ("stills", "osc"):
        new, old = (
            read_experiments(shared_data / "snase" / f"snase_{kind}{layout}.expt")
            for layout in ("", "_old_scan_layout")
        )
        for one, other in zip(new, old, strict=True):
            assert_allclose(one.angles(), other.angles(), atol=1e-12)
            for image in range(one.n_images):
                assert_allclose(one.hkl_matrix(image), other.hkl_matrix(image), rtol=1e-12)
