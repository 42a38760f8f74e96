"""Commands on geometry from elsewhere: XDS, and headers of images with a crystal."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tests import xparm_text

from offbragg import MapOptions, compute_map, read_experiments, read_map, write_map

# The same pixels by geometry that went through files: a pixel at the border between two voxels
# may change sides.
CHANGED = 1e-3
# Neither file holds the sensor as the experiment list does.
CORRECTIONS = ("solid-angle", "polarization")
SETTINGS = ("--d-min", 3, "--sampling", 2, 2, 2, "--corrections", *CORRECTIONS)


@pytest.fixture(scope="module")
def by_list(work, tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "expt.h5"
    options = MapOptions(d_min=3.0, sampling=(2, 2, 2), corrections=CORRECTIONS)
    write_map(path, compute_map(read_experiments(work / "images/exposed.expt"), options))
    return read_map(path)


def same(found, expected):
    assert np.mean(found.count != expected.count) < CHANGED
    both = (found.count == expected.count) & (found.count > 0)
    assert_allclose(found.intensity[both], expected.intensity[both], rtol=1e-4)


# --- 2 independent oracle ------------------------------------------------


def test_a_map_by_the_geometry_of_xds(work, call, by_list, tmp_path):
    (experiment,) = read_experiments(work / "images/exposed.expt")
    height, width = experiment.detector[0].shape
    n_panels = len(experiment.detector)
    corners = [(width * index, 0) for index in range(n_panels)]
    f = xparm_text.fields(experiment, None, corners, (width * n_panels, height))
    (tmp_path / "XPARM.XDS").write_text(xparm_text.new_layout(f))
    first, last = experiment.scan.image_range
    normal = " ".join(str(x) for x in experiment.beam.polarization_normal)
    low, high = experiment.detector[0].trusted_range
    (tmp_path / "XDS.INP").write_text(
        f"NAME_TEMPLATE_OF_DATA_FRAMES= {work / 'images/exposed.h5'}\n"
        f"DATA_RANGE= {first} {last}\nOVERLOAD= {high} MINIMUM_VALID_PIXEL_VALUE= {low}\n"
        f"FRACTION_OF_POLARIZATION= {experiment.beam.polarization_fraction}\n"
        f"POLARIZATION_PLANE_NORMAL= {normal}\n"
    )
    path = tmp_path / "x.h5"
    made = call("map", tmp_path / "XPARM.XDS", "-o", path, *SETTINGS)
    assert (made.code, made.err) == (0, "")
    same(read_map(path), by_list)
    (told,) = call("info", tmp_path / "XPARM.XDS", "--json").json["result"]["experiments"]
    assert (told["n_images"], told["n_panels"]) == (experiment.n_images, n_panels)


def test_a_map_by_headers_and_a_crystal(work, call, by_list, tmp_path):
    path = tmp_path / "x.h5"
    crystal = work / "images/exposed.expt"
    made = call("map", work / "images/exposed.h5", "--crystal", crystal, "-o", path, *SETTINGS)
    assert (made.code, made.err) == (0, "")
    same(read_map(path), by_list)


def test_info_of_an_image(work, call):
    (experiment,) = read_experiments(work / "images/exposed.expt")
    told = call("info", work / "images/exposed.h5", "--json").json["result"]
    assert told["n_images"] == experiment.n_images
    assert told["n_panels"] == len(experiment.detector)
    assert_allclose(told["wavelength"], experiment.beam.wavelength)
    panel = experiment.detector[0]
    assert_allclose(told["distance"], abs(panel.origin @ panel.normal), atol=1e-5)
    assert_array_equal(told["image_size"], panel.image_size)
    assert "beam centre" in call("info", work / "images/exposed.h5").out


# --- 5 bad input ---------------------------------------------------------


def test_what_is_missing_is_said(refused, call, work, tmp_path):
    (experiment,) = read_experiments(work / "images/exposed.expt")
    single = replace(experiment, detector=experiment.detector[:1])
    (tmp_path / "XPARM.XDS").write_text(xparm_text.new_layout(xparm_text.fields(single)))
    out = ("-o", tmp_path / "x.h5", "--d-min", 3)
    image, crystal = work / "images/exposed.h5", work / "images/exposed.expt"
    assert "--crystal" in refused("map", *out, code=1)
    assert "map --crystal" in refused("map", image, *out, code=1)
    both = ("--crystal", crystal, "--images", image)
    assert "--images is for" in refused("map", image, *both, *out, code=1)
    assert "s.pdb" in refused("map", image, "--crystal", work / "s.pdb", *out, code=1)
    refused("map", tmp_path / "XPARM.XDS", *out, code=1)
    told = call("info", tmp_path / "XPARM.XDS")
    assert told.code == 0
    assert "DATA_RANGE= first last" in " ".join(told.err.split())
    assert "no such images" in refused("info", tmp_path / "a_###.cbf", code=1)
