"""Full imgCIF headers: chains of axes, centres of pixels, several axes of a goniometer."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from offbragg.errors import FormatError, InputError, OffbraggError
from offbragg.reduction.image_reader import read_image_geometry

ATOL = 1e-9  # mm and rotation matrices

HEADER = """\
###CBF: VERSION 1.5

data_made

loop_
_diffrn_radiation.diffrn_id
_diffrn_radiation.polarizn_source_ratio
_diffrn_radiation.polarizn_source_norm
MADE 0.8 0.0

_diffrn_radiation_wavelength.id  W1
_diffrn_radiation_wavelength.wavelength  1.25

loop_
_diffrn_scan_axis.scan_id
_diffrn_scan_axis.axis_id
_diffrn_scan_axis.angle_start
_diffrn_scan_axis.angle_range
_diffrn_scan_axis.angle_increment
_diffrn_scan_axis.displacement_start
SCAN1 OMEGA 30.0 5.0 0.5 0.0
SCAN1 KAPPA 40.0 0.0 0.0 0.0
SCAN1 PHI -70.0 0.0 0.0 0.0
SCAN1 TWOTHETA 15.0 0.0 0.0 0.0
SCAN1 DISTANCE 0.0 0.0 0.0 150.0

loop_
_diffrn_scan_frame_axis.frame_id
_diffrn_scan_frame_axis.axis_id
_diffrn_scan_frame_axis.angle
_diffrn_scan_frame_axis.displacement
FRAME1 OMEGA 31.5 0.0

loop_
_diffrn_scan_frame.frame_id
_diffrn_scan_frame.integration_time
FRAME1 0.25

loop_
_axis.id
_axis.type
_axis.equipment
_axis.depends_on
_axis.vector[1] _axis.vector[2] _axis.vector[3]
_axis.offset[1] _axis.offset[2] _axis.offset[3]
OMEGA    rotation    goniometer . 1 0 0 . . .
KAPPA    rotation    goniometer OMEGA 0.64 0.77 0 . . .
PHI      rotation    goniometer KAPPA 1 0 0 . . .
SOURCE   general     source     . 0 0.02 1 . . .
TWOTHETA rotation    detector   . 0 1 0 . . .
DISTANCE translation detector   TWOTHETA 0 0 -1 0 0 0
SLOW     translation detector   DISTANCE 0 -1 0 -3.0 2.0 0.5
FAST     translation detector   SLOW 1 0 0 0 0 0

loop_
_array_structure_list.array_id
_array_structure_list.index
_array_structure_list.dimension
_array_structure_list.precedence
_array_structure_list.direction
_array_structure_list.axis_set_id
IMAGE 1 30 1 increasing FAST
IMAGE 2 20 2 increasing SLOW

loop_
_array_structure_list_axis.axis_set_id
_array_structure_list_axis.axis_id
_array_structure_list_axis.displacement
_array_structure_list_axis.displacement_increment
FAST FAST 0.1 0.2
SLOW SLOW 0.0 0.1

loop_
_array_intensities.array_id
_array_intensities.gain
_array_intensities.overload
IMAGE 1.5 65000

loop_
_array_data.array_id
_array_data.binary_id
_array_data.data
IMAGE 1
;
--CIF-BINARY-FORMAT-SECTION--
Content-Type: application/octet-stream
"""
BINARY = b"\x0c\x1a\x04\xd5;\n;loop_ \xff\x00 data_x\n\n--CIF-BINARY-FORMAT-SECTION----\n;\n"


@pytest.fixture
def write(tmp_path):
    def write(text=HEADER, name="a.cbf"):
        path = tmp_path / name
        path.write_bytes(text.encode() + BINARY)
        return path

    return write


# --- 1 reference numbers -------------------------------------------------


def test_numbers_of_a_header(write):
    found = read_image_geometry(write())
    (panel,) = found.detector
    assert (panel.shape, panel.pixel_size) == ((20, 30), (0.2, 0.1))
    assert (panel.gain, panel.trusted_range) == (1.5, (0, 65000))
    assert found.beam.wavelength == 1.25
    assert_allclose(found.beam.direction, -np.array([0, 0.02, 1]) / np.sqrt(1.0004))
    # (I_in plane − I_normal)/(sum) = 0.8
    assert_allclose(found.beam.polarization_fraction, 0.9)
    assert_allclose(np.degrees(found.scan.oscillation_start), [31.5])  # the frame's, not the scan's
    assert_allclose(np.degrees(found.scan.oscillation_width), [0.5])
    assert found.scan.exposure_times.tolist() == [0.25]


# --- 2 independent oracle ------------------------------------------------


def test_pixels_are_carried_by_the_chain(write):
    # By hand: the first pixel's centre is 0.1 along FAST from SLOW's place, 150 back, swung.
    panel = read_image_geometry(write()).detector[0]
    swing = Rotation.from_euler("y", 15, degrees=True)
    for i, j in ((0, 0), (29, 0), (7, 13)):
        local = np.array([-3.0 + 0.1 + 0.2 * i, 2.0 - 0.1 * j, 0.5 - 150])
        assert_allclose(panel.pixel_positions()[j, i], swing.apply(local), atol=ATOL)


@pytest.mark.parametrize("scanned", ["OMEGA", "PHI", "KAPPA"])
def test_an_axis_among_three_turns(scanned, write):
    text = HEADER.replace("OMEGA 30.0 5.0 0.5", "OMEGA 30.0 0.0 0.0")
    text = re.sub(rf"(SCAN1 {scanned} [-.\d]+) 0.0 0.0", r"\1 -3.0 -0.5", text)
    found = read_image_geometry(write(text))
    goniometer, start = found.goniometer, found.scan.oscillation_start[0]
    assert_allclose(np.degrees(found.scan.oscillation_width), [-0.5])
    more = 0.3
    angles = {"OMEGA": np.radians(31.5), "KAPPA": np.radians(40), "PHI": np.radians(-70)}
    angles[scanned] += more
    kappa = np.array([0.64, 0.77, 0]) / np.hypot(0.64, 0.77)
    expected = (
        Rotation.from_rotvec([angles["OMEGA"], 0, 0])
        * Rotation.from_rotvec(angles["KAPPA"] * kappa)
        * Rotation.from_rotvec([angles["PHI"], 0, 0])
    ).as_matrix()
    turn = Rotation.from_rotvec((start + more) * goniometer.rotation_axis).as_matrix()
    made = goniometer.setting_rotation @ turn @ goniometer.fixed_rotation
    assert_allclose(made, expected, atol=ATOL)


# --- 3 exact limits ------------------------------------------------------


def test_the_fast_axis_may_carry_the_slow_one(write):
    # Turned about: the same places in space, whichever of the two is listed as on the other.
    text = HEADER.replace(
        "SLOW     translation detector   DISTANCE", "SLOW translation detector FAST"
    )
    text = text.replace("0 -1 0 -3.0 2.0 0.5", "0 -1 0 0 0 0")
    text = text.replace("detector   SLOW 1 0 0 0 0 0", "detector DISTANCE 1 0 0 -3.0 2.0 0.5")
    one, other = (read_image_geometry(write(t)).detector[0] for t in (HEADER, text))
    assert_allclose(one.pixel_positions(), other.pixel_positions(), atol=ATOL)


def test_a_still_and_an_axis_that_counts_down(write):
    still = read_image_geometry(write(HEADER.replace("30.0 5.0 0.5", "30.0 0.0 0.0")))
    assert not still.scan.oscillation_width.any()
    assert_allclose(np.degrees(still.scan.oscillation_start), [31.5])
    text = HEADER.replace("FAST FAST 0.1 0.2", "FAST FAST 5.9 -0.2")
    panel = read_image_geometry(write(text)).detector[0]
    plain = read_image_geometry(write()).detector[0]
    assert_allclose(panel.fast_axis, -plain.fast_axis)
    assert_allclose(panel.pixel_positions(), plain.pixel_positions()[:, ::-1], atol=ATOL)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "wavelength  1.25",
            "wavelength  ?",
            "_diffrn_radiation_wavelength.wavelength: expected a",
        ),
        ("_diffrn_radiation_wavelength.", "_other.", "_diffrn_radiation_wavelength: expected a va"),
        (
            "detector   TWOTHETA 0",
            "detector   NOWHERE 0",
            "depends_on: expected the name of an axi",
        ),
        ("detector   . 0 1", "detector   FAST 0 1", "expected a chain that ends, found a circle"),
        ("rotation    goniometer", "rotation  detector", "equipment: expected an axis of the gon"),
        (
            "goniometer OMEGA 0.64",
            "goniometer . 0.64",
            "expected one axis that carries the crystal",
        ),
        ("KAPPA 40.0 0.0 0.0", "KAPPA 40.0 1.0 0.1", "angle_increment: expected one axis that"),
        ("20 2 increasing", "20 2 decreasing", "direction: expected increasing, found decreasing"),
        ("IMAGE 2 20 2", "IMAGE 2 20 3", r"precedence: expected 1 and 2, found \['1', '3'\]"),
        ("FAST FAST 0.1 0.2", "FAST FAST 0.1 0.0", "expected the size of a pixel, found 0"),
        ("FAST FAST 0.1 0.2", "FAST FAST 0.1 wide", "displacement_increment: expected a number, f"),
        ("MADE 0.8", "MADE 1.8", "polarizn_source_ratio: expected −1 to 1, found 1.8"),
        ("detector   SLOW 1", "detector   DISTANCE 1", "to carry the other, found neither"),
        ("detector   SLOW 1 0 0", "detector   SLOW 0 1 0", "must be at right angles"),
        ("data_made", "made", r"a\.cbf: expected imgCIF"),
        ("IMAGE 1.5", "IMAGE -1.5", "gain must be > 0"),
    ],
)
def test_a_damaged_header_is_explained(old, new, message, write):
    assert old in HEADER
    with pytest.raises(FormatError, match=message) as caught:
        read_image_geometry(write(HEADER.replace(old, new)))
    assert "a.cbf" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_word_changed_gives_another_kind_of_error(write):
    words = re.split(r"(\s+)", HEADER)
    refusals = []
    for place in range(0, len(words), 4):  # every other word; blanks are between
        for junk in ("", "x", "1e300"):
            try:
                read_image_geometry(write("".join([*words[:place], junk, *words[place + 1 :]])))
            except OffbraggError as error:
                refusals.append(str(error))
    assert len(refusals) > 50
    assert not [text for text in refusals if "\n" in text]


def test_what_a_full_header_says_is_not_overridden(write):
    with pytest.raises(InputError, match="beam_centre and rotation_axis are for SMV and mini-CBF"):
        read_image_geometry(write(), beam_centre=(1, 2))
