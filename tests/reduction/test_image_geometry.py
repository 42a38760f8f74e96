"""Geometry from headers of SMV and mini-CBF images, sweeps of them, and a crystal added."""

import gzip
import logging
from dataclasses import replace

import fabio
import fabio.cbfimage
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation
from tests import xparm_text

from offbragg.errors import FormatError, InputError, MissingFileError, OffbraggError
from offbragg.reduction.experiment import (
    CrystalModel,
    Goniometer,
    read_crystal,
    read_experiments,
)
from offbragg.reduction.image_geometry import ImageGeometry
from offbragg.reduction.image_reader import read_image_geometry
from offbragg.reduction.sensor import sensor_absorption

ATOL_HKL = 1e-9  # products of rotation matrices, indices up to 20

SMV = {
    "DIM": "2",
    "BYTE_ORDER": "little_endian",
    "TYPE": "unsigned_short",
    "SIZE1": "30",
    "SIZE2": "20",
    "PIXEL_SIZE": "0.1",
    "DISTANCE": "120.5",
    "WAVELENGTH": "1.1",
    "BEAM_CENTER_X": "1.25",
    "BEAM_CENTER_Y": "1.75",
    "OSC_START": "40",
    "OSC_RANGE": "0.5",
    "TIME": "2.0",
    "CCD_IMAGE_SATURATION": "65535",
    "IMAGE_PEDESTAL": "40",
}
MINI = {
    "Detector": "PILATUS 1M, S/N 10-0001",
    "Pixel_size": "172e-6 m x 172e-6 m",
    "Silicon": "sensor, thickness 0.000320 m",
    "Exposure_time": "0.0970000 s",
    "Count_cutoff": "1048500 counts",
    "Wavelength": "0.9763 A",
    "Detector_distance": "0.2000 m",
    "Beam_xy": "(11.50, 8.25) pixels",
    "Start_angle": "90.0000 deg.",
    "Angle_increment": "0.1000 deg.",
    "Polarization": "0.990",
}


def write_smv(path, **changes):
    header = {**SMV, **{key: str(value) for key, value in changes.items()}}
    text = "".join(f"{key}={value};\n" for key, value in header.items() if value != "None")
    text = ("{\nHEADER_BYTES= 1024;\n" + text + "}\n").ljust(1024)
    pixels = np.arange(600, dtype="<u2").tobytes()
    path.write_bytes(text.encode() + pixels)
    return path


def write_mini(path, **changes):
    header = {**MINI, **{key: str(value) for key, value in changes.items()}}
    lines = [f"# {key} {value}" for key, value in header.items() if value != "None"]
    image = fabio.cbfimage.CbfImage(data=np.arange(600, dtype=np.int32).reshape(20, 30))
    image.header["_array_data.header_convention"] = '"PILATUS_1.2"'
    image.header["_array_data.header_contents"] = "\r\n".join(lines)
    image.write(str(path))
    return path


def beam_pixel(found):
    """Where the beam meets the panel [pixels]."""
    panel = found.detector[0]
    frame = np.stack([panel.fast_axis, panel.slow_axis, -found.beam.direction], axis=1)
    x, y, _ = np.linalg.solve(frame, -panel.origin)
    return x / panel.pixel_size[0], y / panel.pixel_size[1]


# --- 1 reference numbers -------------------------------------------------


def test_numbers_of_an_smv_header(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = read_image_geometry(write_smv(tmp_path / "a.img"))
    assert "fast 17.50 (BEAM_CENTER_Y), slow 12.50 (BEAM_CENTER_X)" in caplog.text
    assert "no polarisation" in caplog.text
    (panel,) = found.detector
    assert_allclose(beam_pixel(found), (17.5, 12.5))
    assert_allclose(panel.origin, [-1.75, 1.25, -120.5])
    assert (panel.shape, panel.pixel_size) == ((20, 30), (0.1, 0.1))
    assert (panel.trusted_range, panel.pedestal) == ((1, 65534), 40)
    assert found.beam.wavelength == 1.1
    assert_allclose(np.degrees(found.scan.oscillation_start), [40])
    assert_allclose(np.degrees(found.scan.oscillation_width), [0.5])
    assert found.scan.exposure_times.tolist() == [2.0]
    assert_allclose(found.goniometer.rotation_axis, [1, 0, 0])


def test_numbers_of_a_mini_cbf_header(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = read_image_geometry(write_mini(tmp_path / "a.cbf"))
    assert caplog.text == ""
    (panel,) = found.detector
    assert_allclose(beam_pixel(found), (11.5, 8.25))
    assert_allclose(panel.origin[2], -200)
    assert (panel.shape, panel.trusted_range) == ((20, 30), (0, 1048500))
    assert_allclose((panel.thickness, panel.mu), (0.32, sensor_absorption("Si", 0.9763)))
    assert panel.parallax
    assert found.beam.polarization_fraction == 0.99
    assert_allclose(np.degrees(found.scan.oscillation_start), [90])


def test_a_mini_cbf_that_says_less(tmp_path, caplog):
    changes = {"Silicon": None, "Polarization": None, "Count_cutoff": None, "Exposure_time": None}
    with caplog.at_level(logging.WARNING):
        found = read_image_geometry(write_mini(tmp_path / "a.cbf", **changes))
    assert "it has no polarisation, a fraction of 0.999 is taken" in caplog.text
    assert (found.detector[0].mu, found.detector[0].parallax) == (0, False)
    assert found.scan.exposure_times is None


# --- 2 independent oracle ------------------------------------------------


def test_a_crystal_keeps_its_hkl_in_another_frame(experiment):
    # The same experiment, all of it turned, with the goniometer told in another way.
    turn = Rotation.from_rotvec([0.7, -1.9, 0.4]).as_matrix()
    setting = experiment.goniometer.setting_rotation
    fixed = Rotation.from_rotvec([1.0, 0.2, -0.3]).as_matrix()
    own = Goniometer(turn @ setting @ experiment.goniometer.rotation_axis, fixed, np.eye(3))
    images = ImageGeometry(
        beam=replace(experiment.beam, direction=turn @ experiment.beam.direction),
        detector=tuple(
            replace(
                panel,
                origin=turn @ panel.origin,
                fast_axis=turn @ panel.fast_axis,
                slow_axis=turn @ panel.slow_axis,
            )
            for panel in experiment.detector
        ),
        goniometer=own,
        scan=experiment.scan,
    )
    found = images.with_crystal(experiment)
    for image in (0, 5):
        for one, other in zip(found.detector, experiment.detector, strict=True):
            expected = experiment.hkl_of(other.pixel_positions(), image)
            assert_allclose(found.hkl_of(one.pixel_positions(), image), expected, atol=ATOL_HKL)


def test_what_varies_along_the_scan_is_turned_too(experiment):
    points = experiment.crystal.a_matrix * (1 + 1e-3 * np.arange(7)[:, None, None])
    varying = replace(experiment, crystal=replace(experiment.crystal, scan_points=points))
    images = ImageGeometry(
        experiment.beam, experiment.detector, experiment.goniometer, experiment.scan
    )
    found = images.with_crystal(varying)
    assert_allclose(found.hkl_matrix(4, 0.2), varying.hkl_matrix(4, 0.2), atol=1e-9)
    shorter = replace(images, scan=replace_scan(experiment.scan, 3))
    assert shorter.with_crystal(varying).crystal.scan_points is None


def replace_scan(scan, n_images):
    part = slice(0, n_images)
    return replace(
        scan,
        image_range=(1, n_images),
        oscillation_start=scan.oscillation_start[part],
        oscillation_width=scan.oscillation_width[part],
        exposure_times=None,
    )


def test_images_with_the_crystal_of_xds(experiment, tmp_path):
    # XDS's frame: beam along z, rotation axis along −x, in a file without image numbers.
    images = read_image_geometry(write_smv(tmp_path / "a.img"))
    matrix = np.diag([1.0, -1.0, -1.0])  # from XDS's frame to that of the image
    a_matrix = experiment.crystal.a_matrix
    given = replace(
        experiment,
        beam=replace(experiment.beam, direction=[0, 0, 1]),
        goniometer=Goniometer([1, 0, 0], np.eye(3), np.eye(3)),
        detector=experiment.detector[:1],
        crystal=CrystalModel(matrix @ a_matrix),
    )
    path = tmp_path / "XPARM.XDS"
    path.write_text(xparm_text.new_layout(xparm_text.fields(given)))
    found = images.with_crystal(read_crystal(path))
    assert_allclose(found.crystal.a_matrix, a_matrix, atol=1e-10)
    assert found.source == str(path)
    plain = images.with_crystal(CrystalModel(a_matrix))
    assert_allclose(plain.crystal.a_matrix, a_matrix)


# --- 3 exact limits ------------------------------------------------------


def test_a_sweep_by_its_first_and_last_header(tmp_path):
    for number in range(3, 8):
        write_mini(tmp_path / f"s_{number:04d}.cbf", Start_angle=10 + 0.1 * (number - 3))
    found = read_image_geometry(tmp_path / "s_####.cbf")
    assert found.scan.image_range == (3, 7)
    assert_allclose(np.degrees(found.scan.oscillation_start), 10 + 0.1 * np.arange(5))
    assert_allclose(found.scan.exposure_times, 0.097)
    assert found.template == str((tmp_path / "s_####.cbf").resolve())
    part = read_image_geometry(tmp_path / "s_####.cbf", image_range=(4, 5))
    assert_allclose(np.degrees(part.scan.oscillation_start), [10.1, 10.2])


def test_uneven_angles_are_read_one_by_one(tmp_path, caplog):
    for number, angle in enumerate((0, 10, 11, 50), start=1):
        write_smv(tmp_path / f"s_{number}.img", OSC_START=angle, OSC_RANGE=0, TIME=number)
    with caplog.at_level(logging.WARNING):
        found = read_image_geometry(tmp_path / "s_#.img")
    assert len(caplog.records) == 2  # said once, not for each image
    assert_allclose(np.degrees(found.scan.oscillation_start), [0, 10, 11, 50])
    assert not found.scan.oscillation_width.any()
    assert found.scan.exposure_times.tolist() == [1, 2, 3, 4]


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("write", [write_smv, write_mini])
def test_packed_images_say_the_same(write, tmp_path, capsys):
    plain = write(tmp_path / ("a.img" if write is write_smv else "a.cbf"))
    packed = plain.with_name(plain.name + ".gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = read_image_geometry(plain), read_image_geometry(packed)
    assert_allclose(one.detector[0].origin, other.detector[0].origin)
    assert one.detector[0].image_size == other.detector[0].image_size
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("write", [write_smv, write_mini])
def test_beam_centre_and_axis_may_be_given(write, tmp_path):
    path = write(tmp_path / "a.img", BEAM_CENTER_X=None, Beam_xy=None)
    found = read_image_geometry(path, beam_centre=(3.5, 4.5), rotation_axis=(0, -2, 0))
    assert_allclose(beam_pixel(found), (3.5, 4.5))
    assert_allclose(found.goniometer.rotation_axis, [0, -1, 0])


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DISTANCE": None}, "DISTANCE: expected a number, found none"),
        ({"WAVELENGTH": "long"}, "WAVELENGTH: expected a number, found 'long'"),
        ({"WAVELENGTH": "0"}, "wavelength must be > 0 Å, got 0.0"),
        ({"BEAM_CENTER_Y": None}, "BEAM_CENTER_Y: expected a number, found none"),
        ({"PIXEL_SIZE": "0"}, "PIXEL_SIZE: expected > 0 mm, found 0.0"),
        ({"TWOTHETA": "20"}, "TWOTHETA: expected 0, as the header does not tell its axis"),
    ],
)
def test_an_smv_header_that_lacks_something(changes, message, tmp_path):
    path = write_smv(tmp_path / "a.img", **changes)
    with pytest.raises(FormatError, match=message) as caught:
        read_image_geometry(path)
    assert "a.img" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Wavelength": None}, "Wavelength: expected a number, found none"),
        ({"Beam_xy": "unknown"}, "Beam_xy: expected two numbers, found none"),
        ({"Pixel_size": None}, "Pixel_size: expected two numbers, found none"),
        ({"Detector_distance": "far"}, "Detector_distance: expected a number, found 'far'"),
        ({"Detector_2theta": "20.0 deg."}, "Detector_2theta: expected 0"),
        ({"Pixel_size": "0 m x 0 m"}, "pixel_size must be > 0 mm"),
    ],
)
def test_a_mini_cbf_header_that_lacks_something(changes, message, tmp_path):
    path = write_mini(tmp_path / "a.cbf", **changes)
    with pytest.raises(FormatError, match=message) as caught:
        read_image_geometry(path)
    assert "a.cbf" in str(caught.value)


def test_images_that_are_not_there(tmp_path):
    with pytest.raises(MissingFileError, match=r"a\.img: no such file"):
        read_image_geometry(tmp_path / "a.img")
    with pytest.raises(MissingFileError, match=r"a_##\.img: no such images"):
        read_image_geometry(tmp_path / "a_##.img")
    for number in (1, 4, 5):
        write_smv(tmp_path / f"a_{number:02d}.img")
    with pytest.raises(MissingFileError, match=r"a_02\.img: no such image \(and 1 more images\)"):
        read_image_geometry(tmp_path / "a_##.img")
    with pytest.raises(InputError, match="image_range must be first <= last"):
        read_image_geometry(tmp_path / "a_##.img", image_range=(5, 4))


def test_files_that_are_no_images(tmp_path):
    path = tmp_path / "a.img"
    for content in (b"", b"text", b"{}", b"\x1f\x8b"):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="expected an SMV, CBF or NXmx image"):
            read_image_geometry(path)
    packed = tmp_path / "a.img.gz"
    packed.write_bytes(b"not packed")
    with pytest.raises(FormatError, match="cannot be read"):
        read_image_geometry(packed)


@pytest.mark.parametrize("write", [write_smv, write_mini])
def test_a_cut_file_gives_no_other_kind_of_error(write, tmp_path):
    whole = write(tmp_path / "whole").read_bytes()
    path = tmp_path / "cut.img"
    refusals = []
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        try:
            read_image_geometry(path)
        except OffbraggError as error:
            refusals.append(str(error))
    assert len(refusals) > 4
    assert not [text for text in refusals if "\n" in text]


def test_an_image_is_no_experiment(tmp_path):
    path = write_smv(tmp_path / "a.img")
    with pytest.raises(FormatError, match=r"a\.img: expected a DIALS \.expt file or geometry of X"):
        read_experiments(path)


def test_an_axis_that_stands_otherwise(experiment):
    images = ImageGeometry(
        experiment.beam, experiment.detector, experiment.goniometer, experiment.scan
    )
    tilted = replace(experiment, goniometer=Goniometer([0.9, 0, 0.3], np.eye(3), np.eye(3)))
    with pytest.raises(InputError, match="crystal must have the rotation axis of the images"):
        images.with_crystal(tilted)
    along = replace(
        experiment,
        goniometer=Goniometer(experiment.beam.direction, np.eye(3), np.eye(3)),
    )
    with pytest.raises(InputError, match="must not lie along the beam"):
        images.with_crystal(along)


def test_one_crystal_is_wanted(expt_content, write_expt):
    expt_content["experiment"].append(dict(expt_content["experiment"][0]))
    with pytest.raises(FormatError, match="expected one crystal, found 2"):
        read_crystal(write_expt(expt_content))
