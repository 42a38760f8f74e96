"""create_nxmx: what a NeXus reader finds, by following the file's own links and axes only."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from offbragg.errors import InputError
from offbragg.made_crystal import make_experiment
from offbragg.reduction.experiment import Experiment, Goniometer, Scan
from offbragg.reduction.nxmx import create_nxmx, image_shape

ATOL_FRAME = 1e-12  # products of a few rotation matrices
CELL = (20.0, 30.0, 40.0, 90.0, 100.0, 90.0)


@pytest.fixture
def experiment():
    made = make_experiment(CELL, n_images=4, n_pixels=32)
    goniometer = Goniometer(
        np.array([1.0, 0.1, 0.2]),
        Rotation.from_rotvec([0.2, 0.3, -0.1]).as_matrix(),
        Rotation.from_rotvec([0.1, -0.4, 0.3]).as_matrix(),
    )
    return Experiment(made.beam, made.detector, goniometer, made.scan, made.crystal)


@pytest.fixture
def written(tmp_path, experiment):
    images = np.arange(4 * 2 * 32 * 16, dtype=np.uint16).reshape(4, 2, 32, 16)
    with create_nxmx(tmp_path / "x.h5", experiment, np.uint16, {"program": "test"}) as dataset:
        dataset[:] = images
    with h5py.File(tmp_path / "x.h5") as file:
        yield file, images


def rotation_along(file, path, frame):
    """Follow ``depends_on`` from an axis to the laboratory, as NeXus defines the chain."""
    total = np.eye(3)
    while path != ".":
        axis = file[path]
        assert axis.attrs["transformation_type"] == "rotation"
        angle = axis[()] if axis.shape == () else axis[frame]
        turn = Rotation.from_rotvec(np.radians(angle) * axis.attrs["vector"]).as_matrix()
        total, path = turn @ total, axis.attrs["depends_on"]
    return total


# --- 2 independent oracle ------------------------------------------------


def test_default_attributes_lead_to_the_images(written):
    file, images = written
    entry = file[file.attrs["default"]]
    assert entry["definition"].asstr()[()] == "NXmx"
    data = entry[entry.attrs["default"]]
    assert_array_equal(data[data.attrs["signal"]], images)
    assert_array_equal(entry["instrument/detector/data"], images)
    wavelength = entry["instrument/beam/incident_wavelength"]
    assert (wavelength[()], wavelength.attrs["units"]) == (0.9763, "angstrom")
    classes = [item.attrs["NX_class"] for item in (entry, data, entry["sample"])]
    assert classes == ["NXentry", "NXdata", "NXsample"]


def test_pixels_and_rotation_stand_to_the_beam_as_in_the_experiment(written, experiment):
    # In the file the beam runs along z. Whatever does not depend on the choice of frame must
    # agree: products of pixel positions, beam and rotated crystal vectors.
    file, _ = written
    detector = file["entry/instrument/detector"]
    points, before = [], []
    for index, panel in enumerate(experiment.detector):
        module = detector[f"module_{index}"]
        assert module["data_origin"][()].tolist() == [index, 0, 0]
        assert module["data_size"][()].tolist() == [1, 32, 16]
        steps = {}
        for name in ("fast_pixel_direction", "slow_pixel_direction"):
            axis = module[name]
            offset = file[axis.attrs["depends_on"]]
            assert offset.attrs["depends_on"] == "."
            steps[name] = axis[()] * axis.attrs["vector"]
        origin = offset[()] * offset.attrs["vector"]
        fast, slow = steps["fast_pixel_direction"], steps["slow_pixel_direction"]
        points += [origin + 3.5 * fast + 20.5 * slow, origin + 15.5 * fast + 0.5 * slow]
        before += [panel.pixel_positions()[20, 3], panel.pixel_positions()[0, 15]]
    hkl = np.array([1.0, -2.0, 3.0])
    path = file["entry/sample/depends_on"].asstr()[()]
    at_datum = experiment.crystal.a_matrix @ hkl
    frames = [[0.0, 0.0, 1.0], *points]
    lab = [experiment.beam.direction, *before]
    # The frame that turns one set of vectors into the other is found here, by least squares.
    frame, rssd = Rotation.align_vectors(np.array(frames), np.array(lab))
    assert rssd < 1e-5  # align_vectors takes the root of a difference of squares
    for image in range(4):
        turned = rotation_along(file, path, image) @ frame.apply(at_datum)
        expected = frame.apply(experiment.lattice_matrix(image, 0.0) @ hkl)
        assert_allclose(turned, expected, rtol=0, atol=ATOL_FRAME)
    normal = frame.apply(experiment.beam.polarization_normal)
    assert_allclose(normal[0], 0.0, atol=ATOL_FRAME)
    assert normal[1] > 0.9


# --- 3 exact limits ------------------------------------------------------


def test_one_panel_has_images_of_two_axes(tmp_path, experiment):
    single = Experiment(
        experiment.beam,
        experiment.detector[:1],
        make_experiment(CELL).goniometer,
        experiment.scan,
        experiment.crystal,
    )
    assert image_shape(single) == (32, 16)
    with create_nxmx(tmp_path / "x.h5", single, np.float32) as dataset:
        assert dataset.shape == (4, 32, 16)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["entry/sample/depends_on"].asstr()[()].endswith("/omega")
        assert_allclose(file["entry/sample/transformations/omega"], [0, 1, 2, 3], atol=1e-12)
        assert_allclose(file["entry/sample/transformations/omega_end"], [1, 2, 3, 4], atol=1e-12)
        assert file["entry/instrument/detector/module_0/data_size"][()].tolist() == [32, 16]


def test_what_the_standard_asks_of_a_detector_is_there(written, tmp_path, experiment):
    # NXmx: sensor_material and sensor_thickness are required, frame_time is one number.
    detector = written[0]["entry/instrument/detector"]
    assert detector["sensor_material"].asstr()[()] == "Si"
    assert_allclose(detector["sensor_thickness"], 0.45)
    assert detector["frame_time"][()] == 1.0
    unknown = tuple(replace(panel, mu=0.0) for panel in experiment.detector)
    times = Scan(
        (1, 4), experiment.scan.oscillation_start, experiment.scan.oscillation_width, [1, 2, 1, 2]
    )
    other = replace(experiment, detector=unknown, scan=times)
    with create_nxmx(tmp_path / "y.h5", other, np.uint16):
        pass
    with h5py.File(tmp_path / "y.h5") as file:
        detector = file["entry/instrument/detector"]
        assert detector["sensor_thickness"][()] == 0
        assert "frame_time" not in detector
        assert detector["count_time"][()].tolist() == [1, 2, 1, 2]


# --- 5 errors ------------------------------------------------------------


def test_a_failed_block_leaves_no_file(tmp_path, experiment):
    def fail():
        with create_nxmx(tmp_path / "x.h5", experiment, np.uint16):
            assert [path.name for path in tmp_path.iterdir()] == [".x.h5.part"]
            raise InputError("stopped")

    with pytest.raises(InputError, match="stopped"):
        fail()
    assert list(tmp_path.iterdir()) == []
