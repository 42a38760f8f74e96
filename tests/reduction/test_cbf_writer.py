"""Mini-CBF images of `expose`: counts of NXmx, geometry by the header, what it cannot tell."""

import base64
import hashlib
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime

import fabio
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from offbragg.crystal.grid import HklGrid
from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.cbf_writer import create_mini_cbf, header_lines
from offbragg.reduction.experiment import (
    Beam,
    CrystalModel,
    Experiment,
    Goniometer,
    Panel,
    Scan,
    read_experiments,
)
from offbragg.reduction.expose import ExposeOptions, expose
from offbragg.reduction.image_reader import read_image_geometry
from offbragg.reduction.images import open_images
from offbragg.reduction.sensor import sensor_absorption, sensor_material

ATOL_HKL = 1e-8  # a header has ten digits and more
CELL = (8.0, 9.0, 10.5, 85.0, 97.0, 103.0)
WAVELENGTH = 0.9763


def make_experiment(n_images=4, turn=None, **others):
    """One panel across the beam, in a laboratory frame that is turned at will."""
    turn = Rotation.identity() if turn is None else turn
    panel = Panel(
        name="",
        origin=turn.apply([-10.3, 8.2, -41.7]),
        fast_axis=turn.apply([1.0, 0.0, 0.0]),
        slow_axis=turn.apply([0.0, -1.0, 0.0]),
        pixel_size=(1.3, 1.1),
        image_size=(17, 13),
        thickness=0.45,
        mu=sensor_absorption("Si", WAVELENGTH),
        parallax=True,
    )
    width = np.radians(0.7)
    parts = {
        "beam": Beam(WAVELENGTH, turn.apply([0, 0, -1.0]), turn.apply([0, 1.0, 0]), 0.93),
        "detector": (panel,),
        "goniometer": Goniometer(turn.apply([1.0, 0, 0]), np.eye(3), np.eye(3)),
        "scan": Scan(
            (11, 10 + n_images), 0.4 + width * np.arange(n_images), np.full(n_images, width),
            np.full(n_images, 0.25),
        ),
        "crystal": CrystalModel(np.diag([0.12, 0.11, 0.1]) + 0.01, None, "P 1"),
    }  # fmt: skip
    return Experiment(**{**parts, **others})


def uniform():
    grid = HklGrid.from_resolution(make_experiment().crystal.cell, 0.8)
    return DiffuseMap(grid, np.full(grid.shape, 3.0))


def run(folder, experiment, image_format="cbf", **options):
    chosen = ExposeOptions(**{"photons": 300.0, "format": image_format, **options})
    return expose(uniform(), experiment, folder, chosen, np.random.default_rng(5))


def read_images(result):
    (experiment,) = read_experiments(result.experiments)
    with open_images(experiment) as source:
        return np.array([source.read(index)[0] for index in range(source.n_images)])


# --- 2 independent oracle ------------------------------------------------


def test_counts_are_those_of_nxmx(tmp_path):
    experiment = make_experiment()
    cbf = run(tmp_path / "cbf", experiment)
    counts = read_images(cbf)
    assert counts.max() > 127  # one byte does not hold every step
    assert_array_equal(counts, read_images(run(tmp_path / "nxmx", experiment, "nxmx")))
    assert [path.name for path in cbf.images] == ["exposed_#####.cbf"]
    third = tmp_path / "cbf" / "exposed_00003.cbf"
    assert_array_equal(fabio.open(str(third)).data, counts[2])
    head, _, rest = third.read_bytes().partition(b"\x0c\x1a\x04\xd5")
    size, digest = re.search(rb"X-Binary-Size: (\d+)\r.*Content-MD5: (\S+)\r", head, re.S).groups()
    assert base64.b64decode(digest) == hashlib.md5(rest[: int(size)]).digest()


def test_large_steps_come_back(tmp_path):
    image = np.array([[0, 2**31 - 1], [-2, 40000], [127, -128]], dtype=np.int64)
    panel = replace(make_experiment().detector[0], image_size=(2, 3))
    experiment = make_experiment(1, detector=(panel,))
    with create_mini_cbf(tmp_path / "x_###.cbf", experiment) as images:
        images[0] = image
    assert [path.name for path in tmp_path.iterdir()] == ["x_011.cbf"]
    assert_array_equal(fabio.open(str(tmp_path / "x_011.cbf")).data, image)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("frame", [[0.0, 0.0, 0.0], [0.3, -1.2, 2.0]])
def test_headers_tell_the_geometry_of_the_experiment(tmp_path, frame, caplog):
    experiment = make_experiment(turn=Rotation.from_rotvec(frame))
    result = run(tmp_path, experiment)
    (written,) = read_experiments(result.experiments)
    assert not caplog.records
    header = read_image_geometry(result.images[0])
    assert header.beam.polarization_fraction == pytest.approx(0.93)
    assert header.scan.image_range == written.scan.image_range == (1, 4)
    assert_allclose(header.scan.exposure_times, 0.25)
    assert header.detector[0].trusted_range[1] == written.detector[0].trusted_range[1]
    assert_allclose(header.detector[0].mu, written.detector[0].mu)
    back = header.with_crystal(written)
    for index in (0, 3):
        assert_allclose(
            back.hkl_of(back.detector[0].pixel_positions(), index),
            experiment.hkl_of(experiment.detector[0].pixel_positions(), index),
            atol=ATOL_HKL,
        )


def test_times_go_on_from_image_to_image():
    lines = header_lines(make_experiment(), 3, datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert "# 2020-01-02T03:04:05.750" in lines
    assert "# Silicon sensor, thickness 0.00045 m" in lines


def test_a_tilt_is_said_and_an_unknown_sensor_left_out(tmp_path, caplog):
    tilt = Rotation.from_rotvec([0.0, np.radians(0.3), 0.0])
    panel = make_experiment().detector[0]
    tilted = replace(
        panel, fast_axis=tilt.apply(panel.fast_axis), mu=0.0, thickness=0.3, parallax=False
    )
    with caplog.at_level(logging.WARNING):
        result = run(tmp_path, make_experiment(detector=(tilted,)))
    (record,) = caplog.records
    assert "panel from the plane across the beam 0.30°" in record.getMessage()
    assert read_image_geometry(result.images[0]).detector[0].thickness == 0


def test_overwriting_leaves_no_images_of_a_longer_run(tmp_path):
    run(tmp_path, make_experiment(4))
    with pytest.raises(InputError, match=r"exposed.expt: exists; choose another folder"):
        run(tmp_path, make_experiment(2))
    run(tmp_path, make_experiment(2), overwrite=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["exposed.expt", "exposed_00001.cbf", "exposed_00002.cbf"]


@pytest.mark.parametrize("material", ["Si", "CdTe", "GaAs"])
def test_materials_are_told_by_what_they_absorb(material):
    for wavelength in (0.4, 0.9763, 1.6):
        assert sensor_material(0.95 * sensor_absorption(material, wavelength), wavelength) == (
            material
        )
    assert sensor_material(1e-4, 1.0) is None


# --- 5 errors ------------------------------------------------------------


def test_what_a_header_cannot_tell_is_refused(tmp_path):
    experiment = make_experiment()
    (panel,) = experiment.detector
    mirrored = replace(panel, slow_axis=-panel.slow_axis)
    upright = Goniometer(np.array([0.0, 1.0, 0.0]), np.eye(3), np.eye(3))
    cases = [
        ({"detector": (panel, panel)}, {}, r"must be nxmx for several panels, got cbf for 2"),
        ({"detector": (mirrored,)}, {}, r"plane across the beam 180.00°"),
        ({"goniometer": upright}, {}, r"rotation axis from the fast axis 90.00°"),
        ({}, {"noise": False}, r"format must be nxmx without noise"),
        ({}, {"photons": 3e9}, r"photons must give counts below 2\^31"),
    ]  # fmt: skip
    for parts, options, message in cases:
        with pytest.raises(InputError, match=message):
            run(tmp_path / "out", make_experiment(**parts), **options)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"format must be one of nxmx, cbf, got 'smv'"):
        ExposeOptions(1.0, format="smv")


def test_a_failed_block_leaves_nothing(tmp_path):
    def fail():
        with create_mini_cbf(tmp_path / "x_##.cbf", make_experiment()) as images:
            images[0] = np.zeros((13, 17), dtype=np.uint16)
            raise InputError("stopped")

    with pytest.raises(InputError, match="stopped"):
        fail()
    assert list(tmp_path.iterdir()) == []
