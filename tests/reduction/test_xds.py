"""Geometry of XDS: files of both layouts, headers, segments, XDS.INP, and what damage says."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation
from tests import xparm_text

from offbragg.errors import FormatError, InputError, MissingFileError, OffbraggError
from offbragg.reduction.experiment import Goniometer, read_experiments
from offbragg.reduction.masks import rectangle_mask
from offbragg.reduction.sensor import sensor_absorption
from offbragg.reduction.untrusted import (
    untrusted_ellipse,
    untrusted_quadrilateral,
    untrusted_rectangle,
)
from offbragg.reduction.xds import read_xds_geometry

# hkl up to 20 from files with 12 decimals; files of XDS have 6, the reader loses nothing.
ATOL_HKL = 1e-8
CORNERS = ((3, 2), (40, 5))  # of the made experiment's panels in an image of 80 × 40 pixels
IMAGE = (80, 40)

BY_HAND = """\
 XPARM.XDS    VERSION Jan 10, 2022  BUILT=20220220
     5       30.0000    0.5000  1.000000  0.000000  0.000000
       0.800000       0.000000       0.000000       1.250000
    16     20.0000     30.0000     40.0000  90.000  90.000  90.000
       0.000000      20.000000       0.000000
       0.000000       0.000000      30.000000
      40.000000       0.000000       0.000000
         1       100        60    0.200000    0.100000
       1.000000       1.000000     150.000000
       1.000000       0.000000       0.000000
       0.000000       1.000000       0.000000
       0.000000       0.000000       1.000000
         1         1       100         1        60
    0.00    0.00    0.00  1.00000  0.00000  0.00000  0.00000  1.00000  0.00000
"""
INPUT = """\
! a comment with NX= 7
NAME_TEMPLATE_OF_DATA_FRAMES= ../images/crystal_1_?????.cbf  CBF
DATA_RANGE= 5 8  SPOT_RANGE=5 6 ! not 9
OVERLOAD= 60000  MINIMUM_VALID_PIXEL_VALUE= -1
SENSOR_THICKNESS= 0.45   SILICON= 2.5
FRACTION_OF_POLARIZATION= 0.98
POLARIZATION_PLANE_NORMAL= 0.0 1.0 0.1
UNTRUSTED_RECTANGLE= 10 13 0 61
FRIEDEL'S_LAW=FALSE
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="XPARM.XDS"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def by_hand(write):
    write(INPUT, "XDS.INP")
    return read_experiments(write(BY_HAND))[0]


def single(experiment):
    """One panel, no mask, and a spindle against x that turns by negative angles."""
    return replace(
        experiment,
        detector=experiment.detector[1:],
        goniometer=replace(experiment.goniometer, rotation_axis=[-0.9, 0.3, -0.2]),
    )


def compare_hkl(found, expected):
    for image in (0, expected.n_images - 1):
        for one, other in zip(found.detector, expected.detector, strict=True):
            hkl = expected.hkl_of(other.pixel_positions(), image, 0.3)
            assert np.ptp(hkl, axis=(0, 1)).min() > 1
            assert_allclose(found.hkl_of(one.pixel_positions(), image, 0.3), hkl, atol=ATOL_HKL)


# --- 1 reference numbers -------------------------------------------------


def test_the_first_pixel_s_centre_is_one(write):
    # ORGX = ORGY = 1: the normal through the crystal meets the centre of pixel (0, 0).
    (panel,) = read_experiments(write(BY_HAND), image_range=(5, 5))[0].detector
    assert_allclose(panel.pixel_positions()[0, 0], [0, 0, 150], atol=1e-12)
    assert_allclose(panel.origin, [-0.1, -0.05, 150])
    assert_allclose(panel.pixel_positions()[4, 3], [0.6, 0.4, 150])
    assert (panel.shape, panel.pixel_size) == ((60, 100), (0.2, 0.1))


def test_numbers_of_a_file_by_hand(by_hand):
    assert_allclose(by_hand.beam.s0, [0, 0, 1.25])
    assert_allclose(np.degrees(by_hand.angles())[[0, 3]], [[30, 30.5], [31.5, 32]])
    assert by_hand.image_numbers.tolist() == [5, 6, 7, 8]
    assert by_hand.crystal.space_group == "P 2 2 2"
    assert_allclose(by_hand.crystal.cell, [20, 30, 40, 90, 90, 90])
    # a along y: a* is y/20. At 90° about x it would have come to z.
    assert_allclose(by_hand.crystal.a_matrix[:, 0], [0, 1 / 20, 0], atol=1e-15)
    assert_allclose(by_hand.goniometer.rotation_axis, [1, 0, 0])
    turn = by_hand.lattice_matrix(0, 0.0)[:, 0]
    assert_allclose(turn, [0, np.cos(np.pi / 6) / 20, np.sin(np.pi / 6) / 20])


def test_what_the_input_file_adds(by_hand, tmp_path):
    (panel,) = by_hand.detector
    assert panel.trusted_range == (-1, 60000)
    assert (panel.thickness, panel.mu, panel.parallax) == (0.45, 2.5, True)
    assert panel.mask == ((10, 0, 12, 60),)  # pixels 11 and 12 of those counted from 1
    assert by_hand.beam.polarization_fraction == 0.98
    assert_allclose(by_hand.beam.polarization_normal, np.array([0, 1, 0.1]) / np.sqrt(1.01))
    template = tmp_path.resolve() / "../images/crystal_1_#####.cbf"
    assert by_hand.template == str(template)


def test_areas_of_a_pilatus():
    # Modules of 487 × 195, gaps of 7 and 17 pixels: the areas of XDS's own input for it.
    assert untrusted_rectangle(487, 495, 0, 2528) == (487, 0, 494, 2527)
    assert untrusted_rectangle(0, 2464, 195, 213) == (0, 195, 2463, 212)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("run_??????.h5", "run_master.h5"),
        ("x/run_master.h5", "x/run_master.h5"),
        ("run_1_????.img.gz SMV", "run_1_####.img.gz"),
        ("/data/a=1/run_???.cbf", "/data/a=1/run_###.cbf"),
    ],
)
def test_names_of_images(given, expected, write, tmp_path):
    write(f"NAME_TEMPLATE_OF_DATA_FRAMES={given}\nDATA_RANGE=1 3", "XDS.INP")
    template = read_experiments(write(BY_HAND))[0].template
    assert template == str(tmp_path.resolve() / expected)


def test_silicon_is_found_from_the_wavelength(write):
    write("DATA_RANGE= 1 2\nSENSOR_THICKNESS=0.32\nSILICON=-1", "XDS.INP")
    (panel,) = read_experiments(write(BY_HAND))[0].detector
    assert panel.mu == sensor_absorption("Si", 0.8)
    # NIST (Hubbell & Seltzer 1995), total without coherent scattering: 33.89 cm²/g at 10 keV,
    # 2 % of it Compton scattering.
    at_10_kev = sensor_absorption("Si", 12.39842 / 10)
    assert_allclose(at_10_kev, 33.2 * 2.33 / 10, rtol=0.03)


# --- 2 independent oracle ------------------------------------------------


def test_hkl_of_two_tilted_panels_as_segments(experiment, write):
    axes = Rotation.from_euler("xyz", [8, -5, 3], degrees=True).as_matrix()
    f = xparm_text.fields(experiment, (axes, (31.2, -4.7), -22.5), CORNERS, IMAGE)
    found = read_experiments(write(xparm_text.new_layout(f)), image_range=(11, 16))[0]
    compare_hkl(found, experiment)
    assert [panel.raw_image_offset for panel in found.detector] == list(CORNERS)
    header = write(xparm_text.integrate_header(f), "INTEGRATE.HKL")
    found = read_experiments(header, image_range=(11, 16))[0]
    compare_hkl(found, experiment)
    assert found.template.endswith("img_####.cbf")


@pytest.mark.parametrize("layout", ["new_layout", "old_layout", "integrate_header"])
def test_hkl_of_one_tilted_panel(layout, experiment, write):
    expected = single(experiment)
    text = getattr(xparm_text, layout)(xparm_text.fields(expected))
    (found,) = read_experiments(write(text), image_range=(11, 16))
    compare_hkl(found, expected)
    assert_allclose(found.angles(), expected.angles(), atol=1e-9)


def test_positions_by_the_formula_for_segments(experiment, write):
    # x (from 1) of a segment to the laboratory, as the description of XDS has it.
    axes = Rotation.from_euler("xyz", [8, -5, 3], degrees=True).as_matrix()
    f = xparm_text.fields(experiment, (axes, (31.2, -4.7), -22.5), CORNERS, IMAGE)
    geometry = read_xds_geometry(write(xparm_text.new_layout(f)))
    (found,) = read_experiments(geometry.path, image_range=(1, 1))
    segment = geometry.segments[1]
    x, y = 50.0, 9.0
    eds = np.stack([segment.x_axis, segment.y_axis, np.cross(segment.x_axis, segment.y_axis)], 1)
    qx, qy = geometry.pixel_size
    local = eds @ [qx * (x - segment.origin[0]), qy * (y - segment.origin[1]), segment.distance]
    orgx, orgy = geometry.origin
    position = axes @ (local - [qx * orgx, qy * orgy, -geometry.distance])
    i, j = int(x) - 1 - CORNERS[1][0], int(y) - 1 - CORNERS[1][1]
    assert_allclose(found.detector[1].pixel_positions()[j, i], position, atol=1e-9)


def test_areas_row_by_row_against_every_pixel():
    x, y = np.meshgrid(np.arange(1, 31), np.arange(1, 26))
    box = (4.0, 23.0, -3.0, 18.5)
    ellipse = ((x - 13.5) / 9.5) ** 2 + ((y - 7.75) / 10.75) ** 2 < 1
    corners = np.array([(5, 3), (22.3, 1.2), (27.7, 21.4), (2.1, 17.6)])
    sides = np.roll(corners, -1, axis=0) - corners
    turns = [
        dx * (y - cy) - dy * (x - cx) for (cx, cy), (dx, dy) in zip(corners, sides, strict=True)
    ]
    quadrilateral = np.all(np.array(turns) > 0, axis=0)
    for rows, expected in (
        (untrusted_ellipse(*box, 25), ellipse),
        (untrusted_quadrilateral(tuple(corners.ravel()), 25), quadrilateral),
    ):
        excluded = np.zeros((25, 30), dtype=bool)
        for x0, y0, x1, y1 in rows:
            excluded[max(y0, 0) : y1, max(x0, 0) : x1] = True
        assert 100 < expected.sum() < 500
        np.testing.assert_array_equal(excluded, expected)


# --- 3 exact limits ------------------------------------------------------


def test_without_an_input_file_little_is_known(write, caplog):
    with caplog.at_level(logging.WARNING):
        (found,) = read_experiments(write(BY_HAND), image_range=(5, 6))
    assert "taken as unpolarised; FRACTION_OF_POLARIZATION in XDS.INP" in caplog.text
    assert found.beam.polarization_fraction == 0.5
    assert found.detector[0].trusted_range == (0, np.inf)
    assert (found.detector[0].mu, found.detector[0].parallax) == (0, False)
    assert found.template == ""


def test_one_segment_that_is_a_part_of_the_image(write):
    write("DATA_RANGE= 1 1\nFRACTION_OF_POLARIZATION=0.9", "XDS.INP")
    text = BY_HAND.replace("1         1       100         1        60", "1 11 100 1 50")
    (panel,) = read_experiments(write(text))[0].detector
    assert panel.shape == (60, 100)
    excluded = rectangle_mask(panel)
    assert not excluded[:50, 10:].any()
    assert excluded[50:].all()
    assert excluded[:, :10].all()


def test_excluded_areas_are_cut_at_the_segments(experiment, write):
    f = xparm_text.fields(experiment, None, CORNERS, IMAGE)
    write("UNTRUSTED_RECTANGLE= 30 45 0 41\nFRACTION_OF_POLARIZATION=0.9", "XDS.INP")
    path = write(xparm_text.new_layout(f))
    first, second = read_experiments(path, image_range=(1, 1))[0].detector
    assert first.mask == ((27, 0, 30, 20),)  # 30 … 43 of the image, from 0; it ends at 33
    assert second.mask == ((0, 0, 4, 20),)


def test_an_unknown_group_is_p1(write):
    text = BY_HAND.replace("    16     20", "     0     20")
    assert read_experiments(write(text), image_range=(1, 1))[0].crystal.space_group == "P 1"


def test_the_header_of_corrected_data_has_its_images(experiment, write):
    text = xparm_text.integrate_header(xparm_text.fields(single(experiment)))
    text = text.replace("!OUTPUT_FILE=INTEGRATE.HKL", "!FORMAT=XDS_ASCII    MERGE=FALSE")
    text = text.replace("!NX=", "!DATA_RANGE=      12      14\n!NX=")
    (found,) = read_experiments(write(text, "XDS_ASCII.HKL"))
    assert found.image_numbers.tolist() == [12, 13, 14]
    assert_allclose(found.angles(), single(experiment).angles()[1:4], atol=1e-9)


# --- 4 invariances -------------------------------------------------------


def test_any_laboratory_frame_gives_the_same_hkl(experiment, write):
    turn = Rotation.from_rotvec([1.0, -2.0, 0.5]).as_matrix()
    beam, goniometer = experiment.beam, experiment.goniometer
    turned = replace(
        experiment,
        beam=replace(beam, direction=turn @ beam.direction),
        goniometer=Goniometer(
            goniometer.rotation_axis,
            goniometer.fixed_rotation,
            turn @ goniometer.setting_rotation,
        ),
        detector=tuple(
            replace(
                panel,
                origin=turn @ panel.origin,
                fast_axis=turn @ panel.fast_axis,
                slow_axis=turn @ panel.slow_axis,
            )
            for panel in experiment.detector
        ),
    )
    f = xparm_text.fields(turned, None, CORNERS, IMAGE)
    (found,) = read_experiments(write(xparm_text.new_layout(f)), image_range=(11, 16))
    compare_hkl(found, experiment)


def test_images_given_are_used_instead(write, tmp_path):
    write(INPUT, "XDS.INP")
    (found,) = read_experiments(write(BY_HAND), tmp_path)
    assert found.template == str(tmp_path.resolve() / "crystal_1_#####.cbf")


def test_a_range_given_comes_before_that_of_the_file(write):
    write(INPUT, "XDS.INP")
    other = write("DATA_RANGE= 7 9\nFRACTION_OF_POLARIZATION=0.9", "OTHER.INP")
    path = write(BY_HAND)
    assert read_experiments(path, image_range=(6, 6))[0].image_numbers.tolist() == [6]
    assert read_experiments(path, xds_input=other)[0].image_numbers.tolist() == [7, 8, 9]


def test_what_is_not_used_is_said(write, caplog):
    write("DATA_RANGE=1 2\nX-GEO_CORR= x.cbf\nEXCLUDE_DATA_RANGE= 2 2\nOFFSET=0", "XDS.INP")
    with caplog.at_level(logging.WARNING):
        read_experiments(write(BY_HAND))
    assert "X-GEO_CORR is not used: its map of pixel shifts" in caplog.text
    assert "EXCLUDE_DATA_RANGE is not used" in caplog.text
    assert "OFFSET" not in caplog.text


# --- 5 errors ------------------------------------------------------------


def test_no_image_numbers_say_what_to_give(write):
    expected = (
        r"image numbers: expected DATA_RANGE= first last in an XDS\.INP beside it, or image_r"
    )
    with pytest.raises(FormatError, match=expected):
        read_experiments(write(BY_HAND))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.800000  ", "x ", r"line 3, wavelength, incident beam: expected 4 numbers, found 'x"),
        ("0.800000  ", "-0.8 ", "wavelength must be > 0 Å, got -0.8"),
        ("    16     20", "   999     20", "space group number must be 1 to 230, got 999"),
        ("      40.000000       0.000000 ", "  0 20 ", "unit cell axes must span a volume"),
        ("       100        60", "   100.5   60", "NX: expected a whole number, found 100.5"),
        ("0.000000       0.000000       1.000000\n    ", "0 0 -1\n", "axes: expected the third"),
        ("         1         1       100         1", "1 0 100 1", "must lie within the 100 × 60"),
        ("         1       100 ", "   2  100 ", "line 15, segment 2: number, X1, X2"),
        ("         1       100 ", "   0  100 ", "number of segments: expected 1 or more, found 0"),
        ("    5       30.0000", "   5 nan", "first image.* must be finite numbers"),
        ("0.200000    0.100000", "0 0.1", "pixel_size must be > 0 mm"),
    ],
)
def test_a_damaged_file_is_explained(old, new, message, write):
    assert old in BY_HAND
    with pytest.raises(FormatError, match=message) as caught:
        read_experiments(write(BY_HAND.replace(old, new, 1)), image_range=(5, 6))
    assert "XPARM.XDS" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DATA_RANGE= 8 5", "DATA_RANGE: expected first <= last, found 8 5"),
        ("DATA_RANGE= 8", "DATA_RANGE: expected 2 numbers, found '8'"),
        ("OVERLOAD= many", "OVERLOAD: expected a number, found 'many'"),
        ("UNTRUSTED_RECTANGLE= 1 2 3", "UNTRUSTED_RECTANGLE: expected 4 numbers, found '1 2 3'"),
        ("UNTRUSTED_ELLIPSE= 1 2 3 nan", "UNTRUSTED_ELLIPSE: expected 4 numbers"),
    ],
)
def test_a_damaged_input_file_is_explained(text, message, write):
    write(text, "XDS.INP")
    with pytest.raises(FormatError, match=message) as caught:
        read_experiments(write(BY_HAND))
    assert "XDS.INP" in str(caught.value)


def test_a_header_that_lacks_something(experiment, write):
    text = xparm_text.integrate_header(xparm_text.fields(experiment, None, CORNERS, IMAGE))
    for name in ("ROTATION_AXIS", "UNIT_CELL_B-AXIS", "DETECTOR_DISTANCE", "QX"):
        path = write(text.replace(f"{name}=", "OTHER="), "INTEGRATE.HKL")
        with pytest.raises(FormatError, match=rf"INTEGRATE\.HKL: {name}: expected .* found none"):
            read_experiments(path, image_range=(1, 2))
    path = write(text.replace("SEGMENT_ORGX=", "OTHER="), "INTEGRATE.HKL")
    with pytest.raises(FormatError, match="SEGMENT: expected origin, distance and axes of 2"):
        read_experiments(path, image_range=(1, 2))


def test_files_and_arguments_that_do_not_fit(experiment, expt_content, write_expt, write, tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.XDS: no such file"):
        read_experiments(tmp_path / "none.XDS")
    with pytest.raises(MissingFileError, match=r"other\.INP: no such file"):
        read_experiments(write(BY_HAND), xds_input=tmp_path / "other.INP")
    with pytest.raises(InputError, match="image_range and xds_input are for files of XDS"):
        read_experiments(write_expt(expt_content), image_range=(1, 2))
    with pytest.raises(FormatError, match=r"expected XPARM\.XDS or the header of INTEGRATE\.HKL"):
        read_xds_geometry(write("something else"))


def test_no_word_lost_gives_another_kind_of_error(write):
    words = BY_HAND.split(" ")
    refused = 0
    for place, word in enumerate(words):
        if not word.strip():
            continue
        for junk in ("", "x", "-1", "1e300"):
            text = " ".join([*words[:place], junk, *words[place + 1 :]])
            try:
                read_experiments(write(text), image_range=(5, 6))
            except OffbraggError as error:
                refused += "\n" not in str(error)
    assert refused > 100
