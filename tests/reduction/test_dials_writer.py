"""write_experiments: the layout of the file, and the way back through the reader."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from offbragg.errors import InputError
from offbragg.reduction.dials_writer import write_experiments
from offbragg.reduction.experiment import (
    Beam,
    CrystalModel,
    Experiment,
    Goniometer,
    Panel,
    Scan,
    read_experiments,
)

RTOL_ROUNDING = 1e-13  # degrees ↔ radians, and a matrix inverted twice


def turn(*vector):
    return Rotation.from_rotvec(vector).as_matrix()


@pytest.fixture
def experiment():
    """Nothing in it is a default: tilted panels, parallax, points along the scan, uneven steps."""
    n_images = 3
    a_matrix = turn(0.2, -0.9, 0.4) @ np.diag([1 / 30.0, 1 / 40.0, 1 / 50.0])
    panels = tuple(
        Panel(
            name=f"p{index}",
            origin=np.array([-50.0 + 60.0 * index, 40.0, -120.0]),
            fast_axis=turn(0.05 * index, 0.1, 0.0)[:, 0],
            slow_axis=-turn(0.05 * index, 0.1, 0.0)[:, 1],
            pixel_size=(0.1, 0.12),
            image_size=(400, 300),
            trusted_range=(-1.0, 5000.0 + index),
            thickness=0.32,
            mu=3.7,
            gain=1.5,
            pedestal=10.0,
            mask=((0, 0, 3, 4), (10, 10, 20, 30)),
            parallax=index == 1,
            raw_image_offset=(0, 300 * index),
        )
        for index in range(2)
    )
    return Experiment(
        beam=Beam(
            0.9763,
            np.array([0.01, 0.02, -1.0]),
            np.array([0.1, 1.0, 0.0]),
            0.87,
            s0_points=np.array([[0.01, 0.02 + 0.001 * i, -1.02] for i in range(n_images + 1)]),
        ),
        detector=panels,
        goniometer=Goniometer(
            np.array([0.9, 0.1, -0.2]),
            turn(0.1, 0.2, 0.3),
            turn(-0.3, 0.1, 0.0),
            setting_points=np.array([turn(-0.3, 0.1, 0.01 * i) for i in range(n_images + 1)]),
        ),
        scan=Scan(
            (7, 9),
            np.radians([10.0, 10.5, 11.25]),
            np.radians([0.5, 0.75, 0.5]),
            np.array([0.1, 0.2, 0.1]),
        ),
        crystal=CrystalModel(
            a_matrix,
            np.array([turn(0, 0, 0.002 * i) @ a_matrix for i in range(n_images + 1)]),
            "P 21 21 21",
        ),
        template="images/lyso_####.cbf",
        identifier="abc",
    )


# --- 1 reference numbers -------------------------------------------------


def test_the_file_has_the_fields_and_frames_of_dials(tmp_path, experiment):
    # Names, units and the sign of the beam as in shared files written by DIALS (see its docs).
    write_experiments(tmp_path / "x.expt", experiment)
    content = json.loads((tmp_path / "x.expt").read_text())
    assert content["__id__"] == "ExperimentList"
    assert content["experiment"][0]["identifier"] == "abc"
    assert content["beam"][0]["direction"] == (-experiment.beam.direction).tolist()
    assert content["beam"][0]["wavelength"] == 0.9763
    scan = content["scan"][0]
    assert scan["image_range"] == [7, 9]
    assert_allclose(scan["properties"]["oscillation"], [10.0, 10.5, 11.25], rtol=RTOL_ROUNDING)
    assert_allclose(scan["properties"]["oscillation_width"], [0.5, 0.75, 0.5], rtol=RTOL_ROUNDING)
    crystal = content["crystal"][0]
    assert crystal["space_group_hall_symbol"] == " P 2ac 2ab"
    edges = [np.linalg.norm(crystal[f"real_space_{axis}"]) for axis in "abc"]
    assert_allclose(edges, [30.0, 40.0, 50.0], rtol=RTOL_ROUNDING)
    assert np.shape(crystal["A_at_scan_points"]) == (4, 9)
    assert content["imageset"][0]["__id__"] == "ImageSequence"
    assert content["imageset"][0]["template"] == "images/lyso_####.cbf"
    assert [len(content["detector"][0]["panels"])] == [2]


# --- 4 invariances -------------------------------------------------------


def test_everything_comes_back(tmp_path, experiment):
    write_experiments(tmp_path / "x.expt", experiment)
    (back,) = read_experiments(tmp_path / "x.expt")
    for part, names in {
        "beam": "wavelength direction polarization_normal polarization_fraction s0_points",
        "goniometer": "rotation_axis fixed_rotation setting_rotation setting_points",
        "scan": "image_range oscillation_start oscillation_width exposure_times",
        "crystal": "a_matrix scan_points",
    }.items():
        for name in names.split():
            found, before = (getattr(getattr(one, part), name) for one in (back, experiment))
            assert_allclose(found, before, rtol=RTOL_ROUNDING, atol=1e-16, err_msg=name)
    assert back.crystal.space_group == "P 21 21 21"
    assert back.template == str(tmp_path.resolve() / "images/lyso_####.cbf")
    for panel, before in zip(back.detector, experiment.detector, strict=True):
        for name in vars(before):
            found, wanted = getattr(panel, name), getattr(before, name)
            if isinstance(wanted, np.ndarray):
                assert_allclose(found, wanted, rtol=RTOL_ROUNDING, atol=1e-15)
            else:
                assert found == wanted, name


def test_files_and_indices_come_back(tmp_path, experiment):
    listed = replace(
        experiment,
        template=str(tmp_path / "a.cbf"),
        image_files=tuple(str(tmp_path / f"{name}.cbf") for name in "abc"),
    )
    write_experiments(tmp_path / "x.expt", listed)
    (back,) = read_experiments(tmp_path / "x.expt")
    assert back.image_files == tuple(str(tmp_path.resolve() / f"{name}.cbf") for name in "abc")
    stack = replace(experiment, template="all.h5", file_indices=(4, 5, 6))
    write_experiments(tmp_path / "x.expt", stack)
    assert read_experiments(tmp_path / "x.expt")[0].file_indices == (4, 5, 6)


def test_unknown_limits_of_a_panel_stay_unknown(tmp_path, experiment):
    ranges = ((-np.inf, np.inf), (0.0, np.inf))
    panels = [
        replace(panel, trusted_range=limits)
        for panel, limits in zip(experiment.detector, ranges, strict=True)
    ]
    write_experiments(tmp_path / "x.expt", replace(experiment, detector=tuple(panels)))
    first, second = read_experiments(tmp_path / "x.expt")[0].detector
    assert first.trusted_range == (-np.inf, np.inf)
    assert second.trusted_range[0] == 0.0
    assert second.trusted_range[1] >= 1e30


def test_even_steps_have_the_layout_of_every_version(tmp_path, experiment):
    # As shared files of DIALS 3.12 have it, which that version needs and newer ones read too.
    angles = np.radians([10.0, 10.5, 11.0]), np.full(3, np.radians(0.5))
    even = replace(experiment, scan=Scan((7, 9), *angles, np.array([0.1, 0.2, 0.1])))
    write_experiments(tmp_path / "x.expt", even)
    (scan,) = json.loads((tmp_path / "x.expt").read_text())["scan"]
    assert sorted(scan) == [
        "batch_offset", "epochs", "exposure_time", "image_range", "oscillation",
        "valid_image_ranges",
    ]  # fmt: skip
    assert_allclose(scan["oscillation"], [10.0, 0.5], rtol=RTOL_ROUNDING)
    assert_allclose(scan["epochs"], [0.0, 0.1, 0.3])
    (back,) = read_experiments(tmp_path / "x.expt")
    assert_allclose(back.scan.oscillation_start, angles[0], rtol=RTOL_ROUNDING)
    assert_allclose(back.scan.oscillation_width, angles[1], rtol=RTOL_ROUNDING)
    assert_allclose(back.scan.exposure_times, [0.1, 0.2, 0.1])
    write_experiments(tmp_path / "y.expt", replace(even, scan=Scan((7, 9), *angles)))
    assert read_experiments(tmp_path / "y.expt")[0].scan.exposure_times is None


def test_equal_models_are_written_once(tmp_path, experiment):
    other = replace(experiment, template="b_####.cbf", scan=replace(experiment.scan))
    write_experiments(tmp_path / "x.expt", [experiment, other])
    content = json.loads((tmp_path / "x.expt").read_text())
    counts = {kind: len(content[kind]) for kind in ("beam", "detector", "scan", "imageset")}
    assert counts == {"beam": 1, "detector": 1, "scan": 1, "imageset": 2}
    assert [one.template.rsplit("/", 1)[1] for one in read_experiments(tmp_path / "x.expt")] == [
        "lyso_####.cbf",
        "b_####.cbf",
    ]


def test_a_folder_with_images_may_be_moved(tmp_path, experiment):
    here = tmp_path / "here"
    here.mkdir()
    inside = replace(experiment, template=str(here / "x_####.cbf"))
    write_experiments(here / "x.expt", inside)
    shutil.move(here, tmp_path / "there")
    (back,) = read_experiments(tmp_path / "there" / "x.expt")
    assert back.template == str((tmp_path / "there").resolve() / "x_####.cbf")
    outside = replace(experiment, template="/far/away/x_####.cbf")
    write_experiments(tmp_path / "x.expt", outside)
    assert read_experiments(tmp_path / "x.expt")[0].template == "/far/away/x_####.cbf"


# --- 5 errors ------------------------------------------------------------


def test_no_experiment_is_refused(tmp_path):
    with pytest.raises(InputError, match="experiments must hold at least one, got none"):
        write_experiments(tmp_path / "x.expt", [])
    assert list(tmp_path.iterdir()) == []
