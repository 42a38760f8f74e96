"""Geometry files that XDS wrote, and that of a real crystal in its format."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from tests import xparm_text

from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.xds import read_xds_geometry

pytestmark = pytest.mark.real

HKL = 1e-6  # in files with twelve decimals
# Predictions by a header whose geometry is that of the last block of images that was refined.
PIXELS, DEGREES = 4.0, 0.3


@pytest.mark.parametrize("layout", ["new_layout", "old_layout", "integrate_header"])
@pytest.mark.parametrize("name", ["snase_stills", "snase_osc"])
def test_a_crystal_from_dials_comes_back(name, layout, shared_data, tmp_path):
    for number, expected in enumerate(read_experiments(shared_data / "snase" / f"{name}.expt")):
        path = tmp_path / f"{number}.XDS"
        path.write_text(getattr(xparm_text, layout)(xparm_text.fields(expected)))
        (found,) = read_experiments(path, image_range=expected.scan.image_range)
        assert found.crystal.space_group == "P 41"
        for image in {0, expected.n_images - 1}:
            hkl = [
                e.hkl_of(e.detector[0].pixel_positions()[::50, ::50], image)
                for e in (found, expected)
            ]
            assert np.abs(hkl[1]).max() > 15
            assert_allclose(*hkl, atol=HKL)


def test_files_of_both_layouts(shared_data):
    (new,) = read_experiments(shared_data / "xds" / "XPARM.XDS", image_range=(1, 20))
    assert_allclose(new.crystal.cell, [48.4173, 48.4173, 63.7110, 90, 90, 90], atol=2e-4)
    assert new.crystal.space_group == "P 41"
    panel = new.detector[0]
    assert_allclose(panel.origin, [-1265.5 * 0.172, -1243.5 * 0.172, 300], atol=1e-9)
    assert panel.shape == (2527, 2463)
    assert_allclose(np.degrees(new.angles())[-1], [204.9, 205.0])
    (old,) = read_experiments(shared_data / "xds" / "example-xparm.xds", image_range=(23001, 23002))
    assert_allclose(old.crystal.cell, [10.8879, 30.9613, 20.7824, 90, 98.278, 90], atol=2e-3)
    assert old.crystal.space_group == "P 1 2 1"
    assert_allclose(old.beam.s0[2], 1.451585, atol=1e-5)  # the file's vector is of length 1/λ
    assert_allclose(old.detector[0].normal @ old.detector[0].origin, -59.516972)
    assert_allclose(np.degrees(old.angles())[0], [-60, -59])


def test_the_file_s_axes_span_its_cell(shared_data):
    for name in ("XPARM.XDS", "example-xparm.xds", "INTEGRATE-tiny.HKL"):
        geometry = read_xds_geometry(shared_data / "xds" / name)
        beam = geometry.beam_direction
        across = np.cross(geometry.x_axis, geometry.y_axis)
        # The detector faces the beam, and the axis of rotation is across it.
        assert geometry.distance * (across @ beam) > 0
        assert abs(geometry.rotation_axis @ beam) < 0.01 * np.linalg.norm(beam)


def test_reflections_of_a_file_are_where_its_header_predicts(shared_data):
    path = shared_data / "xds" / "INTEGRATE-tiny.HKL"
    (experiment,) = read_experiments(path, image_range=(1, 130))
    assert experiment.template.endswith("uni6-15-run1_00###.cbf")
    rows = np.genfromtxt(path, comments="!")
    panel, beam, axis = (
        experiment.detector[0],
        experiment.beam,
        experiment.goniometer,
    )
    off = []
    for row in rows:
        image, fraction = int(row[7]), row[7] % 1

        def excess(more, row=row, image=image, fraction=fraction):
            matrix = experiment.lattice_matrix(image, fraction + more)
            return np.linalg.norm(matrix @ row[:3] + beam.s0) - 1 / beam.wavelength

        turn = brentq(excess, -2, 2)  # images of 1°
        s1 = experiment.lattice_matrix(image, fraction + turn) @ row[:3] + beam.s0
        frame = np.stack([panel.fast_axis, panel.slow_axis, -s1], axis=1)
        x, y, _ = np.linalg.solve(frame, -panel.origin)
        off.append([x / 0.172 - row[5], y / 0.172 - row[6], turn])
    assert len(off) == 129
    assert axis.rotation_axis[0] < -0.99
    off = np.abs(off)
    assert np.all(off[:, :2].mean(axis=0) < PIXELS)
    assert off[:, 2].max() < DEGREES
