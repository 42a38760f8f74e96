"""Geometry of an experiment: pixels to hkl, scan and goniometer, what varies along the scan."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from offbragg.errors import InputError
from offbragg.reduction.experiment import (
    Beam,
    CrystalModel,
    Experiment,
    Goniometer,
    Panel,
    Scan,
    read_experiments,
)
from offbragg.reduction.geometry import cell_from_matrix, rotation_matrix

ATOL_HKL = 1e-9  # float64 rounding, indices up to 50, well-conditioned cells


def cubic_experiment():
    """A cubic crystal of 10 Å at rest, 1 Å along +z, a panel across the beam 100 mm away."""
    panel = Panel("p", [-5, -5, 100], [1, 0, 0], [0, 1, 0], (1.0, 1.0), (10, 10))
    return Experiment(
        beam=Beam(1.0, [0, 0, 1], [0, 1, 0]),
        detector=(panel,),
        goniometer=Goniometer([1, 0, 0], np.eye(3), np.eye(3)),
        scan=Scan((1, 1), [0.0], [0.0]),
        crystal=CrystalModel(np.eye(3) / 10),
    )


# --- 1 reference numbers -------------------------------------------------


def test_sixty_degrees_by_hand():
    # 2θ = 60°, λ = 1 Å: s₁ − s₀ = (sin 60°, 0, cos 60° − 1); a* = 0.1 Å⁻¹.
    direction = [np.sin(np.pi / 3), 0.0, np.cos(np.pi / 3)]
    hkl = cubic_experiment().hkl_of(7 * np.array(direction), 0)
    assert_allclose(hkl, [8.660254037844387, 0.0, -5.0], atol=1e-12)


def test_pixels_are_where_the_panel_says():
    panel = Panel("p", [1, 2, 3], [0, 1, 0], [0, 0, 1], (0.5, 0.25), (4, 3))
    positions = panel.pixel_positions()
    assert positions.shape == (3, 4, 3)
    assert_allclose(positions[2, 1], [1, 2 + 1.5 * 0.5, 3 + 2.5 * 0.25])
    assert_allclose(panel.pixel_positions(0, 0)[0, 0], [1, 2, 3])
    assert_allclose(panel.pixel_positions(rows=slice(1, 3)), positions[1:3])
    assert_allclose(panel.normal, [1, 0, 0])


# --- 2 independent oracle ------------------------------------------------


def hkl_by_scipy(experiment, content, position, angle_deg):
    """Straight from the file's numbers, with scipy's rotations and a solved linear system."""
    beam, goniometer = content["beam"][0], content["goniometer"][0]
    to_source = np.array(beam["direction"]) / np.linalg.norm(beam["direction"])
    s0 = -to_source / beam["wavelength"]
    s1 = position / np.linalg.norm(position) / beam["wavelength"]
    axis = np.array(goniometer["rotation_axis"]) / np.linalg.norm(goniometer["rotation_axis"])
    turn = Rotation.from_rotvec(np.radians(angle_deg) * axis)
    fixed = Rotation.from_matrix(np.reshape(goniometer["fixed_rotation"], (3, 3)))
    setting = Rotation.from_matrix(np.reshape(goniometer["setting_rotation"], (3, 3)))
    at_datum = (setting * turn * fixed).inv().apply(s1 - s0)
    crystal = content["crystal"][0]
    rows = np.array([crystal[f"real_space_{x}"] for x in "abc"])
    return rows @ at_datum  # h = a · s


@pytest.mark.parametrize(("image", "fraction"), [(0, 0.5), (3, 0.0), (5, 1.0), (2, 0.3)])
def test_hkl_agree_with_scipy(experiment, expt_content, image, fraction):
    positions = experiment.detector[1].pixel_positions()[::7, ::11].reshape(-1, 3)
    angle = 5.0 + 0.5 * (image + fraction)
    expected = [hkl_by_scipy(experiment, expt_content, p, angle) for p in positions]
    assert np.ptp(expected, axis=0).min() > 1  # the test covers a volume
    assert_allclose(experiment.hkl_of(positions, image, fraction), expected, atol=ATOL_HKL)


def test_hkl_matrix_is_the_contract(experiment):
    position = experiment.detector[0].pixel_positions()[4, 5]
    s1 = position / np.linalg.norm(position) / experiment.beam.wavelength
    expected = experiment.hkl_matrix(2, 0.7) @ (s1 - experiment.beam.s0)
    assert_allclose(experiment.hkl_of(position, 2, 0.7), expected, atol=ATOL_HKL)


def test_a_group_of_panels_is_composed_by_hand(experiment, expt_content):
    group = expt_content["detector"][0]["hierarchy"]["children"][0]
    fast, slow = np.array(group["fast_axis"]), np.array(group["slow_axis"])
    panel = expt_content["detector"][0]["panels"][1]
    x, y = panel["origin"][:2]
    normal = np.cross(fast, slow)
    origin = np.array(group["origin"]) + x * fast + y * slow + panel["origin"][2] * normal
    f = panel["fast_axis"]
    assert_allclose(experiment.detector[1].origin, origin, atol=1e-12)
    assert_allclose(
        experiment.detector[1].fast_axis, f[0] * fast + f[1] * slow + f[2] * normal, atol=1e-12
    )


def test_several_axes_are_an_explicit_product():
    axes = [[1.0, 0, 0], [0.6, 0.8, 0], [0, 0.2, 1.0], [1, 0, 0.1]]
    angles = np.radians([12.0, -35.0, 70.0, 20.0])
    goniometer = Goniometer.from_axes(axes, angles, 2)
    turns = [
        Rotation.from_rotvec(angle * np.array(axis) / np.linalg.norm(axis))
        for axis, angle in zip(axes, angles, strict=True)
    ]
    assert_allclose(goniometer.fixed_rotation, (turns[1] * turns[0]).as_matrix(), atol=1e-12)
    assert_allclose(goniometer.setting_rotation, turns[3].as_matrix(), atol=1e-12)
    assert_allclose(goniometer.rotation_axis, np.array(axes[2]) / np.sqrt(1.04), atol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(axis=st.tuples(*[st.floats(-1, 1)] * 3), angle=st.floats(-7, 7))
def test_rotation_matrix_agrees_with_scipy(axis, angle):
    if np.linalg.norm(axis) < 1e-3:
        return
    unit = np.array(axis) / np.linalg.norm(axis)
    expected = Rotation.from_rotvec(angle * unit).as_matrix()
    assert_allclose(rotation_matrix(axis, angle), expected, atol=1e-12)


def test_parallax_puts_the_absorption_under_the_recorded_pixel(experiment):
    # The ray through the corrected point, gone on by the mean length, is over the pixel.
    panel = replace(experiment.detector[1], parallax=True)
    surface, plain = panel.pixel_positions(), experiment.detector[1].pixel_positions()
    rays = surface / np.linalg.norm(surface, axis=-1, keepdims=True)
    cosine = np.abs(rays @ panel.normal)
    x = np.linspace(0, 1, 20001)  # Σ x μ exp(−μx) over the sensor, by the midpoint rule
    x = 0.5 * (x[1:] + x[:-1])
    path = panel.thickness / cosine[::9, ::9]
    length = (
        np.mean(x * path[..., None] * panel.mu * np.exp(-panel.mu * x * path[..., None]), axis=-1)
        * path
    )
    reached = surface[::9, ::9] + rays[::9, ::9] * length[..., None]
    across = reached - plain[::9, ::9]
    across -= (across @ panel.normal)[..., None] * panel.normal
    shift = np.linalg.norm(surface - plain, axis=-1)
    assert shift.max() > 0.02  # mm: it is not nothing
    # dxtbx takes the ray at the uncorrected point: an error of second order.
    assert np.linalg.norm(across, axis=-1).max() < 0.03 * shift.max()


# --- 3 exact limits ------------------------------------------------------


def test_the_straight_beam_is_the_origin(experiment):
    for image in range(experiment.n_images):
        hkl = experiment.hkl_of(30 * experiment.beam.direction, image)
        assert_allclose(hkl, 0.0, atol=ATOL_HKL)


def test_angles_of_images_and_stills(experiment):
    angles = np.degrees(experiment.angles())
    assert_allclose(angles[0], [5.0, 5.5])
    assert_allclose(angles[-1], [7.5, 8.0])
    assert_allclose(np.degrees(experiment.angles(stills=True))[0], [5.25, 5.25])
    assert experiment.image_numbers.tolist() == [11, 12, 13, 14, 15, 16]


def test_cell_of_a_triclinic_crystal(experiment):
    a, b, c = np.array([[21.0, 0.0, 0.0], [-3.0, 27.0, 0.0], [4.0, -5.0, 33.0]])
    lengths = [np.linalg.norm(v) for v in (a, b, c)]
    alpha = np.degrees(np.arccos(b @ c / lengths[1] / lengths[2]))
    gamma = np.degrees(np.arccos(a @ b / lengths[0] / lengths[1]))
    cell = experiment.crystal.cell
    assert_allclose(cell[:3], lengths, rtol=1e-12)
    assert_allclose([cell.alpha, cell.gamma], [alpha, gamma], rtol=1e-12)


def test_what_varies_along_the_scan_is_linear_between_image_boundaries(experiment):
    rng = np.random.default_rng(5)
    points = experiment.crystal.a_matrix * (1 + 1e-3 * rng.normal(size=(7, 3, 3)))
    varying = replace(experiment, crystal=replace(experiment.crystal, scan_points=points))
    constant = replace(
        experiment, crystal=CrystalModel(0.75 * points[2] + 0.25 * points[3], None, "P 1")
    )
    assert_allclose(varying.hkl_matrix(2, 0.25), constant.hkl_matrix(2, 0.25), rtol=1e-12)
    assert_allclose(
        varying.lattice_matrix(5, 1.0),
        replace(experiment, crystal=CrystalModel(points[6])).lattice_matrix(5, 1.0),
        rtol=1e-12,
    )


def test_a_beam_and_a_setting_that_move(experiment):
    s0 = np.tile(experiment.beam.s0, (7, 1)) + np.linspace(0, 1e-3, 7)[:, None] * [1, 2, 0]
    setting = np.tile(experiment.goniometer.setting_rotation, (7, 1, 1))
    setting[4] = rotation_matrix([0, 0, 1], 0.01) @ setting[4]
    moving = replace(
        experiment,
        beam=replace(experiment.beam, s0_points=s0),
        goniometer=replace(experiment.goniometer, setting_points=setting),
    )
    p = experiment.detector[0].pixel_positions()[3, 3]
    s1 = p / np.linalg.norm(p) * np.linalg.norm(s0[4])
    angle = np.radians(5.0 + 0.5 * 4)
    lattice = (
        setting[4]
        @ rotation_matrix(experiment.goniometer.rotation_axis, angle)
        @ experiment.goniometer.fixed_rotation
        @ experiment.crystal.a_matrix
    )
    expected = np.linalg.solve(lattice, s1 - s0[4])
    assert_allclose(moving.hkl_of(p, 4, 0.0), expected, atol=ATOL_HKL)
    assert_allclose(moving.hkl_of(p, 3, 1.0), expected, atol=ATOL_HKL)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(angles=st.tuples(*[st.floats(-180, 180)] * 3))
def test_turning_the_laboratory_changes_nothing(angles):
    here = cubic_experiment()
    scan = Scan((1, 3), [0.1, 0.2, 0.3], [0.1, 0.1, 0.1])
    crystal = CrystalModel(np.linalg.inv([[21.0, 0, 0], [-3, 27, 0], [4, -5, 33]]))
    here = replace(here, scan=scan, crystal=crystal)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    panel = here.detector[0]
    there = replace(
        here,
        beam=Beam(1.0, turn @ here.beam.direction, turn @ here.beam.polarization_normal),
        goniometer=Goniometer(turn @ [1, 0, 0], np.eye(3), np.eye(3)),
        crystal=CrystalModel(turn @ crystal.a_matrix),
        detector=(
            replace(
                panel,
                origin=turn @ panel.origin,
                fast_axis=turn @ panel.fast_axis,
                slow_axis=turn @ panel.slow_axis,
            ),
        ),
    )
    hkl = [e.hkl_of(e.detector[0].pixel_positions(), 1) for e in (here, there)]
    assert_allclose(hkl[1], hkl[0], atol=ATOL_HKL)


def test_images_elsewhere(experiment, tmp_path):
    by_template = experiment.with_images(tmp_path / "x_##.cbf")
    assert by_template.template == str(tmp_path.resolve() / "x_##.cbf")
    by_folder = experiment.with_images(tmp_path)
    assert by_folder.template == str(tmp_path.resolve() / "made_####.cbf")
    assert experiment.template == str(tmp_path.resolve() / "images" / "made_####.cbf")


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Beam(0.0, [0, 0, 1], [0, 1, 0]), "wavelength must be > 0 Å, got 0.0"),
        (lambda: Beam(1.0, [0, 0, 0], [0, 1, 0]), "direction must not be zero"),
        (lambda: Beam(1.0, [0, 0], [0, 1, 0]), r"direction must have shape \(3,\), got \(2,\)"),
        (lambda: Beam(1.0, [0, 0, 1], [0, 1, 0], 1.2), "polarization_fraction must be 0 to 1"),
        (
            lambda: Goniometer([1, 0, 0], 2 * np.eye(3), np.eye(3)),
            "fixed_rotation must be a rotation matrix",
        ),
        (lambda: Goniometer.from_axes([[1, 0, 0]], [0.0], 1), "scan_axis must be 0 to 0, got 1"),
        (lambda: Scan((3, 2), [], []), "image_range must be first <= last"),
        (
            lambda: Scan((1, 2), [0.0], [0.0, 0.0]),
            r"oscillation_start must have shape \(2,\), got \(1,\)",
        ),
        (lambda: CrystalModel(np.ones((3, 3))), "a_matrix must span a volume"),
        (lambda: CrystalModel(np.eye(3) / 10, None, "Q 1"), "space group must be"),
        (lambda: cell_from_matrix(np.full((3, 3), np.nan)), "a_matrix must be finite"),
        (
            lambda: Panel("p", [0, 0, 1], [1, 0, 0], [1, 1, 0], (1, 1), (1, 1)),
            "must be at right angles",
        ),
        (
            lambda: Panel("p", [0, 0, 1], [1, 0, 0], [0, 1, 0], (1, np.nan), (1, 1)),
            "pixel_size must be > 0 mm",
        ),
        (
            lambda: Panel("p", [0, 0, 1], [1, 0, 0], [0, 1, 0], (1, 1), (0, 1)),
            "image_size must be >= 1",
        ),
        (
            lambda: Panel("p", [0, 0, 1], [1, 0, 0], [0, 1, 0], (1, 1), (1, 1), (0, np.nan)),
            "trusted_range must be two numbers",
        ),
        (lambda: replace(cubic_experiment(), detector=()), "at least one panel, got none"),
        (lambda: cubic_experiment().hkl_matrix(1), "image_index must be 0 to 0, got 1"),
        (
            lambda: replace(cubic_experiment(), file_indices=(1, 2)),
            "file_indices must be one an image, 1, got 2",
        ),
        (
            lambda: replace(
                cubic_experiment(),
                crystal=CrystalModel(np.eye(3) / 10, np.tile(np.eye(3) / 10, (4, 1, 1))),
            ),
            "scan points of the crystal must be one more than the 1 images, got 4",
        ),
    ],
)
def test_a_wrong_value_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_reading_twice_gives_the_same(expt_content, write_expt):
    path = write_expt(expt_content)
    first, second = read_experiments(path)[0], read_experiments(path)[0]
    assert_allclose(first.hkl_matrix(3), second.hkl_matrix(3), rtol=0)
