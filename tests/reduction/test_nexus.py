"""Geometry of NXmx and Eiger master files: our own, chains of another kind, plain numbers."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from offbragg.errors import FormatError, InputError, MissingFileError, OffbraggError
from offbragg.made_crystal import make_experiment
from offbragg.reduction.experiment import Experiment, Goniometer
from offbragg.reduction.image_reader import read_image_geometry
from offbragg.reduction.images import open_images
from offbragg.reduction.nxmx import create_nxmx
from offbragg.reduction.sensor import sensor_absorption

ATOL_HKL = 1e-8  # products of a few rotation matrices, indices up to 20
ATOL = 1e-9  # mm
CELL = (20.0, 30.0, 40.0, 90.0, 100.0, 90.0)


@pytest.fixture
def experiment():
    made = make_experiment(CELL, n_images=4, n_pixels=32)
    goniometer = Goniometer(
        [1.0, 0.1, 0.2],
        Rotation.from_rotvec([0.2, 0.3, -0.1]).as_matrix(),
        Rotation.from_rotvec([0.1, -0.4, 0.3]).as_matrix(),
    )
    return Experiment(made.beam, made.detector, goniometer, made.scan, made.crystal)


@pytest.fixture
def own(tmp_path, experiment):
    path = tmp_path / "own.h5"
    with create_nxmx(path, experiment, np.uint16) as dataset:
        dataset[:] = np.arange(4 * 2 * 32 * 16, dtype=np.uint16).reshape(4, 2, 32, 16)
    return path


def axis(group, name, value, kind, vector, depends_on, units, **attributes):
    group[name] = value
    group[name].attrs.update(
        transformation_type=kind, vector=vector, depends_on=depends_on, units=units, **attributes
    )


@pytest.fixture
def beamline(tmp_path):
    """A file as beamlines write them: an arm, offsets, metres, relative paths, three axes."""
    path = tmp_path / "line_master.h5"
    with h5py.File(tmp_path / "line_data_000001.h5", "w") as data:
        data["data"] = np.arange(5 * 12, dtype=np.uint32).reshape(5, 3, 4)
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry["data/data_000001"] = h5py.ExternalLink("line_data_000001.h5", "data")
        entry["instrument/beam/incident_wavelength"] = 0.0976
        entry["instrument/beam/incident_wavelength"].attrs["units"] = "nm"
        detector = entry.create_group("instrument/detector")
        detector["sensor_thickness"] = 0.00045
        detector["sensor_thickness"].attrs["units"] = b"m"
        detector["sensor_material"] = b"Si"
        detector["saturation_value"] = 12345
        detector["count_time"] = 0.01
        moves = detector.create_group("transformations")
        arm = {"offset": [1.0, 2.0, 3.0], "offset_units": "mm"}
        axis(moves, "two_theta", [20.0], "rotation", [-1.0, 0, 0], ".", "deg", **arm)
        axis(moves, "det_z", 0.15, "translation", [0, 0, 2.0], "two_theta", "m")
        module = detector.create_group("module")
        module["data_origin"], module["data_size"] = [0, 0], [3, 4]
        to_z = "/entry/instrument/detector/transformations/det_z"
        axis(module, "module_offset", 5.0, "translation", [1, 0, 0], to_z, "mm")
        side = {"offset": [0.25, 0, 0], "offset_units": "mm"}
        axis(
            module,
            "fast_pixel_direction",
            7.5e-5,
            "translation",
            [-1, 0, 0],
            "module_offset",
            "m",
            **side,
        )
        axis(module, "slow_pixel_direction", 50, "translation", [0, -1, 0], "module_offset", "um")
        sample = entry.create_group("sample/transformations")
        axis(sample, "omega", np.arange(5) * 0.2, "rotation", [-1, 0, 0], ".", "deg")
        sample["omega_end"] = np.arange(1, 6) * 0.2
        sample["omega_end"].attrs["units"] = "deg"
        axis(sample, "kappa", [30.0] * 5, "rotation", [-0.6, -0.8, 0], "omega", "degrees")
        axis(sample, "phi", 0.5, "rotation", [-1, 0, 0], "kappa", "rad")
        axis(sample, "sam_x", 1.0, "translation", [1, 0, 0], "phi", "mm")
        entry["sample/depends_on"] = b"/entry/sample/transformations/sam_x"
    return path


@pytest.fixture
def old_eiger(tmp_path):
    """A master file of a detector by itself, without chains."""
    path = tmp_path / "old_master.h5"
    with h5py.File(tmp_path / "old_data_000001.h5", "w") as data:
        data["data"] = np.zeros((3, 8, 6), dtype=np.uint16)
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("old_data_000001.h5", "data")
        file["entry/instrument/beam/incident_wavelength"] = 1.0
        detector = file.create_group("entry/instrument/detector")
        for name, value, units in (
            ("beam_center_x", 2.5, "pixel"),
            ("beam_center_y", 4.0, "pixel"),
            ("x_pixel_size", 7.5e-5, "m"),
            ("y_pixel_size", 7.5e-5, "m"),
            ("detector_distance", 0.2, "m"),
        ):
            detector[name] = value
            detector[name].attrs["units"] = units
        detector["detectorSpecific/x_pixels_in_detector"] = 6
        detector["detectorSpecific/y_pixels_in_detector"] = 8
        detector["detectorSpecific/countrate_correction_count_cutoff"] = 9999
        file["entry/sample/goniometer/omega"] = [10.0, 10.5, 11.0]
        file["entry/sample/goniometer/omega_range_average"] = 0.5
    return path


# --- 1 reference numbers -------------------------------------------------


def test_numbers_of_a_plain_master_file(old_eiger, caplog):
    found = read_image_geometry(old_eiger)
    assert "it has no polarisation" in caplog.text
    (panel,) = found.detector
    assert (panel.shape, panel.trusted_range) == ((8, 6), (0, 9999))
    # The beam, along z, meets the corner before pixel (2.5, 4); fast runs against x, y is up.
    assert_allclose(panel.origin, [2.5 * 0.075, 4 * 0.075, 200])
    assert_allclose(panel.pixel_positions()[0, 0], [2 * 0.075, 3.5 * 0.075, 200])
    assert_allclose(np.degrees(found.scan.oscillation_start), [10, 10.5, 11])
    assert_allclose(np.degrees(found.scan.oscillation_width), 0.5)
    assert_allclose(found.goniometer.rotation_axis, [-1, 0, 0])


def test_units_and_numbers_of_a_beamline_s_file(beamline):
    found = read_image_geometry(beamline)
    (panel,) = found.detector
    assert_allclose(found.beam.wavelength, 0.976)
    assert_allclose(panel.pixel_size, (0.075, 0.05))
    assert_allclose((panel.thickness, panel.mu), (0.45, sensor_absorption("Si", 0.976)))
    assert (panel.parallax, panel.trusted_range) == (True, (0, 12345))
    assert found.scan.exposure_times.tolist() == [0.01] * 5
    assert_allclose(np.degrees(found.scan.oscillation_start), np.arange(5) * 0.2, atol=ATOL)
    assert_allclose(np.degrees(found.scan.oscillation_width), 0.2)


# --- 2 independent oracle ------------------------------------------------


def test_pixels_are_carried_by_the_chain(beamline):
    panel = read_image_geometry(beamline).detector[0]
    arm = Rotation.from_rotvec([-np.radians(20), 0, 0])
    expected = arm.apply([5.25, 0, 150]) - [-1, -2, -3]
    assert_allclose(panel.origin, expected, atol=ATOL)
    assert_allclose(panel.fast_axis, [-1, 0, 0], atol=ATOL)
    assert_allclose(panel.slow_axis, arm.apply([0, -1, 0]), atol=ATOL)


def test_three_axes_of_a_goniometer(beamline):
    found = read_image_geometry(beamline)
    goniometer, start = found.goniometer, found.scan.oscillation_start
    expected = (
        Rotation.from_rotvec([-start[3], 0, 0])
        * Rotation.from_rotvec(np.radians(30) * np.array([-0.6, -0.8, 0]))
        * Rotation.from_rotvec([-0.5, 0, 0])
    ).as_matrix()
    turn = Rotation.from_rotvec(start[3] * goniometer.rotation_axis).as_matrix()
    made = goniometer.setting_rotation @ turn @ goniometer.fixed_rotation
    assert_allclose(made, expected, atol=ATOL)


def test_our_own_files_come_back(own, experiment):
    found = read_image_geometry(own)
    assert_allclose(found.scan.oscillation_start, experiment.scan.oscillation_start, atol=ATOL)
    assert_allclose(found.scan.oscillation_width, experiment.scan.oscillation_width, atol=ATOL)
    fraction = experiment.beam.polarization_fraction
    assert_allclose(found.beam.polarization_fraction, fraction)
    again = found.with_crystal(experiment)
    for image in (0, 3):
        for one, other in zip(again.detector, experiment.detector, strict=True):
            assert (one.shape, one.pixel_size) == (other.shape, other.pixel_size)
            # A header names the sensor, and rays are taken to go into it; μ is that of tables.
            assert one.parallax
            assert one.mu == pytest.approx(other.mu, rel=0.1)
            as_read = replace(other, parallax=True, mu=one.mu)
            expected = experiment.hkl_of(as_read.pixel_positions(), image)
            assert_allclose(again.hkl_of(one.pixel_positions(), image), expected, atol=ATOL_HKL)


# --- 3 exact limits ------------------------------------------------------


def test_part_of_a_sweep(own, experiment):
    found = read_image_geometry(own, image_range=(2, 3)).with_crystal(experiment)
    assert found.image_numbers.tolist() == [2, 3]
    assert_allclose(found.angles(), experiment.angles()[1:3], atol=ATOL)
    with open_images(found) as images:
        assert images.read(0)[0][0, 0] == 2 * 32 * 16


def test_an_axis_that_stands_has_as_many_images_as_there_are(old_eiger):
    with h5py.File(old_eiger, "a") as file:
        del file["entry/sample"]
    found = read_image_geometry(old_eiger)
    assert found.scan.n_images == 3
    assert not found.scan.oscillation_start.any()
    assert not found.scan.oscillation_width.any()


def test_modules_of_one_image_have_their_places(beamline):
    with h5py.File(beamline, "a") as file:
        detector = file["entry/instrument/detector"]
        detector.copy("module", "module_2")
        detector["module_2/data_origin"][...] = [10, 20]
        detector.move("module", "module_10")
        for name in ("fast_pixel_direction", "slow_pixel_direction"):
            path = "/entry/instrument/detector/module_10/module_offset"
            detector[f"module_10/{name}"].attrs["depends_on"] = path
    second, first = read_image_geometry(beamline).detector
    assert (second.name, second.raw_image_offset) == ("module_2", (20, 10))
    assert (first.name, first.raw_image_offset) == ("module_10", (0, 0))


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("instrument/beam", "incident_wavelength: expected a number, found none"),
        ("instrument/detector", "/entry/instrument/detector: expected an NXdetector, found none"),
        ("instrument/detector/module/data_size", "data_size: expected two or three whole numbers"),
        (
            "instrument/detector/module/slow_pixel_direction",
            "slow_pixel_direction: expected an ax",
        ),
        (
            "instrument/detector/transformations/det_z",
            "depends_on .*det_z: expected an axis, fo",
        ),
        ("instrument/detector/module", "beam_center_x: expected a number, as there is no module"),
        ("sample/transformations/kappa", "depends_on .*kappa: expected an axis, found none"),
    ],
)
def test_a_file_that_lacks_something(place, message, beamline):
    with h5py.File(beamline, "a") as file:
        del file[f"entry/{place}"]
    with pytest.raises(FormatError, match=message) as caught:
        read_image_geometry(beamline)
    assert "line_master.h5" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "name", "value", "message"),
    [
        (
            "sample/transformations/phi",
            "units",
            "furlong",
            "units: expected a unit of angle, as",
        ),
        ("sample/transformations/phi", "vector", [0, 0, 0], "vector: expected a direction"),
        ("sample/transformations/phi", "vector", [1, 0], "vector: expected three numbers"),
        (
            "sample/transformations/omega",
            "depends_on",
            "phi",
            "expected a chain that ends, found",
        ),
        ("sample/transformations/phi", "transformation_type", "spin", "rotation or translation"),
    ],
)
def test_an_axis_that_is_damaged(place, name, value, message, beamline):
    with h5py.File(beamline, "a") as file:
        file[f"entry/{place}"].attrs[name] = value
    with pytest.raises(FormatError, match=message):
        read_image_geometry(beamline)


def test_other_files(tmp_path, beamline, own, old_eiger):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w"):
        pass
    with pytest.raises(FormatError, match=r"other\.h5: /entry: expected an NXentry, found none"):
        read_image_geometry(path)
    path.write_bytes(beamline.read_bytes()[:2000])
    with pytest.raises(FormatError, match=r"other\.h5: expected HDF5"):
        read_image_geometry(path)
    with pytest.raises(InputError, match="image_range must be within 1 to 4, got"):
        read_image_geometry(own, image_range=(0, 4))
    with h5py.File(beamline, "a") as file:
        file["entry/sample/transformations/kappa"][...] = np.arange(5) * 3.0
    with pytest.raises(FormatError, match="sample: expected one axis that turns"):
        read_image_geometry(beamline)
    with h5py.File(old_eiger, "a") as file:
        del file["entry/sample"]
    (tmp_path / "old_data_000001.h5").unlink()
    with pytest.raises(MissingFileError, match=r"old_data_000001\.h5: no such file, named by"):
        read_image_geometry(old_eiger)


def test_no_item_lost_gives_another_kind_of_error(beamline, tmp_path):
    names = []
    with h5py.File(beamline) as file:
        file.visit(names.append)
    path = tmp_path / "damaged.h5"
    refused = 0
    for name in names:
        for value in (None, "text", [[1.0, np.nan], [3.0, 1e300]]):
            path.write_bytes(beamline.read_bytes())
            with h5py.File(path, "a") as file:
                attributes = dict(file[name].attrs)
                del file[name]
                if value is not None:
                    file[name] = value
                    file[name].attrs.update(attributes)
            try:
                read_image_geometry(path)
            except OffbraggError as error:
                refused += "\n" not in str(error)
    assert refused > 50
