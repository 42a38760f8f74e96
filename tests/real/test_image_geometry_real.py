"""Geometry in the headers of real images, against what was refined and known of them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from offbragg.reduction.experiment import read_crystal
from offbragg.reduction.image_reader import read_image_geometry

pytestmark = pytest.mark.real

# The header's detector is not tilted, the refined one is by 2.8°: near the beam both agree.
NEAR_MM, CLOSE = 10.0, 0.2
BEAM_PIXELS = 1.0  # of the refined beam centre


def indexed(experiment, spots):
    """Which part of the spots near the beam has the indices that refined geometry gave them."""
    panel, close, count = experiment.detector[0], 0, 0
    for image in range(experiment.n_images):
        near = np.hypot(spots["x_obs"] - 533, spots["y_obs"] - 500) * 0.08 < NEAR_MM
        mine = spots[near & (spots["kind"] == "still") & (spots["image"] == image + 1)]
        along = np.stack([mine["x_obs"], mine["y_obs"]], axis=-1) * 0.08
        position = panel.origin + along @ np.stack([panel.fast_axis, panel.slow_axis])
        hkl = np.stack([mine["h"], mine["k"], mine["l"]], axis=-1)
        off = np.abs(experiment.hkl_of(position, image) - hkl).max(axis=1)
        close, count = close + np.sum(off < CLOSE), count + len(mine)
    return close / count


def test_spots_by_the_headers_of_stills(shared_data):
    folder = shared_data / "snase"
    images = read_image_geometry(folder / "raw" / "snc_newhead_#####.img")
    assert images.scan.image_range == (1, 10)
    assert_allclose(np.degrees(images.scan.oscillation_start), np.arange(10), atol=1e-9)
    crystal = read_crystal(folder / "snase_stills.expt")
    refined = (532.610, 500.533)  # beam centre, fast and slow [pixels]
    centre = images.detector[0].origin[:2] / [-0.08, 0.08]
    assert np.abs(centre - refined).max() < BEAM_PIXELS
    path = folder / "snase_spots.csv"
    spots = np.genfromtxt(path, delimiter=",", names=True, skip_header=1, dtype=None, encoding=None)
    assert indexed(images.with_crystal(crystal), spots) > 0.8
    # The other reading of BEAM_CENTER, and the axis the other way round.
    folder_images = folder / "raw" / "snc_newhead_#####.img"
    swapped = read_image_geometry(folder_images, beam_centre=tuple(centre[::-1]))
    assert indexed(swapped.with_crystal(crystal), spots) < 0.1
    axis = replace(images.goniometer, rotation_axis=[-1, 0, 0])
    plain = crystal.crystal
    assert indexed(replace(images, goniometer=axis).with_crystal(plain), spots) < 0.4


def test_the_axes_of_a_full_header(shared_data):
    found = read_image_geometry(shared_data / "xds" / "omega_scan.cbf")
    (panel,) = found.detector
    assert (panel.shape, panel.pixel_size) == ((619, 487), (0.172, 0.172))
    assert_allclose(abs(panel.origin @ panel.normal), 105.0)
    # On an arm at 20° about x. The file's offset is that of the first pixel's centre.
    back = Rotation.from_euler("x", -20, degrees=True)
    assert_allclose(back.apply(panel.origin), [-41.80 - 0.086, -56.07 - 0.086, -105], atol=1e-9)
    assert_allclose(back.apply(panel.fast_axis), [0, 1, 0], atol=1e-12)
    assert_allclose(back.apply(panel.slow_axis), [1, 0, 0], atol=1e-12)
    assert_allclose(np.degrees(found.scan.oscillation_start), [-10])
    assert_allclose(np.degrees(found.scan.oscillation_width), [-0.5])
    assert found.beam.wavelength == 0.68937
    assert_allclose(found.beam.direction, [0, 0, -1])
    assert_allclose(found.beam.polarization_fraction, 0.9)
    kappa = Rotation.from_rotvec(np.radians(30) * np.array([0.642787609687, -0.766044443119, 0]))
    expected = kappa * Rotation.from_euler("x", 20, degrees=True)
    assert_allclose(found.goniometer.fixed_rotation, expected.as_matrix(), atol=1e-9)
    assert (panel.trusted_range[1], panel.thickness) == (1541621, 0.32)
