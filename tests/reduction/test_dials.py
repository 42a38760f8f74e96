"""Reading DIALS experiment lists: layouts of the scan, goniometers, hierarchies, damaged files."""

import copy
import json
import logging

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.errors import FormatError, MissingFileError, OffbraggError
from offbragg.reduction.experiment import read_experiments

ATOL = 1e-12  # the same numbers by another way


def read(content, write_expt, **arguments):
    return read_experiments(write_expt(content), **arguments)[0]


def old_layout(content, start, width):
    scan = content["scan"][0]
    del scan["properties"]
    scan["oscillation"] = [start, width]
    scan["exposure_time"] = [0.1]
    return content


# --- 1 reference numbers -------------------------------------------------


def test_what_the_file_says_is_there(experiment, tmp_path):
    assert experiment.beam.wavelength == 1.37
    to_source = np.array([0.02, -0.01, 1.0])
    assert_allclose(experiment.beam.direction, -to_source / np.linalg.norm(to_source))
    assert_allclose(experiment.beam.s0, experiment.beam.direction / 1.37)
    panel = experiment.detector[0]
    assert panel.shape == (20, 30)
    assert panel.pixel_size == (0.5, 0.4)
    assert panel.mask == ((0, 0, 2, 3),)
    assert (panel.mu, panel.thickness, panel.parallax) == (2.1, 0.32, False)
    assert panel.trusted_range == (0.0, 60000.0)
    assert experiment.identifier == "made"
    assert experiment.crystal.space_group == "P 1"
    assert experiment.template == str(tmp_path / "images" / "made_####.cbf")


# --- 2 independent oracle ------------------------------------------------


def test_both_layouts_of_the_scan_are_the_same(expt_content, write_expt):
    new = read(expt_content, write_expt)
    old = read(old_layout(copy.deepcopy(expt_content), 5.0, 0.5), write_expt)
    assert_allclose(old.angles(), new.angles(), atol=ATOL)
    for image in range(6):
        assert_allclose(old.hkl_matrix(image), new.hkl_matrix(image), rtol=ATOL)
    assert_allclose(old.scan.exposure_times, new.scan.exposure_times)


def test_one_image_has_its_width_from_the_table_or_is_still(expt_content, write_expt):
    scan = expt_content["scan"][0]
    scan["image_range"] = [7, 7]
    scan["properties"] = {"oscillation": [40.0], "oscillation_width": [2.0]}
    assert_allclose(np.degrees(read(expt_content, write_expt).angles()), [[40.0, 42.0]])
    del scan["properties"]["oscillation_width"]
    assert_allclose(np.degrees(read(expt_content, write_expt).angles()), [[40.0, 40.0]])
    read(old_layout(expt_content, 40.0, 2.0), write_expt)
    assert_allclose(np.degrees(read(expt_content, write_expt).angles()), [[40.0, 42.0]])


def test_uneven_and_backward_scans(expt_content, write_expt):
    table = expt_content["scan"][0]["properties"]
    table["oscillation"] = [5.0, 4.5, 4.0, 3.0, 2.0, 1.0]
    angles = np.degrees(read(expt_content, write_expt).angles())
    assert_allclose(angles[:, 1], [4.5, 4.0, 3.0, 2.0, 1.0, 0.0])


def test_an_axis_among_several_is_fixed_axis_and_setting(expt_content, write_expt):
    plain = expt_content["goniometer"][0]
    axis = plain["rotation_axis"]
    expt_content["goniometer"][0] = {
        "axes": [[0, 0, 1], [0, 1, 0], axis, [1, 0, 0]],
        "angles": [30.0, -20.0, 99.0, 50.0],
        "names": ["phi", "chi", "omega", "base"],
        "scan_axis": 2,
    }
    several = read(expt_content, write_expt)
    c, s = np.cos(np.radians([30.0, -20.0, 50.0])), np.sin(np.radians([30.0, -20.0, 50.0]))
    about_z = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    about_y = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    about_x = np.array([[1, 0, 0], [0, c[2], -s[2]], [0, s[2], c[2]]])
    plain["fixed_rotation"] = (about_y @ about_z).ravel().tolist()
    plain["setting_rotation"] = about_x.ravel().tolist()
    expt_content["goniometer"][0] = plain
    single = read(expt_content, write_expt)
    assert_allclose(several.hkl_matrix(3), single.hkl_matrix(3), rtol=1e-10)


def test_groups_within_groups_are_turned_twice(expt_content, write_expt):
    # The same panels, flat: their laboratory vectors are those that the groups make of them.
    inner = expt_content["detector"][0]["hierarchy"]["children"][0]
    outer = {"origin": [1.0, 2.0, 3.0], "fast_axis": [0, 1, 0], "slow_axis": [-1, 0, 0]}
    expt_content["detector"][0]["hierarchy"]["children"] = [{**outer, "children": [inner]}]
    grouped = read(expt_content, write_expt)

    def turned(v, frame):
        f, s = np.array(frame["fast_axis"]), np.array(frame["slow_axis"])
        return v[0] * f + v[1] * s + v[2] * np.cross(f, s)

    for panel, entry in zip(grouped.detector, expt_content["detector"][0]["panels"], strict=True):
        for name in ("fast_axis", "slow_axis"):
            expected = turned(turned(entry[name], inner), outer)
            assert_allclose(getattr(panel, name), expected, atol=ATOL)
        origin = turned(turned(entry["origin"], inner) + np.array(inner["origin"]), outer)
        assert_allclose(panel.origin, origin + np.array(outer["origin"]), atol=ATOL)


def test_scan_points_are_read(expt_content, write_expt):
    rows = np.array([expt_content["crystal"][0][f"real_space_{x}"] for x in "abc"])
    points = [np.linalg.inv(rows * (1 + 0.001 * i)).ravel().tolist() for i in range(7)]
    expt_content["crystal"][0]["A_at_scan_points"] = points
    experiment = read(expt_content, write_expt)
    assert_allclose(experiment.crystal.scan_points[6], np.linalg.inv(rows * 1.006), rtol=1e-12)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [(" P 4w", "P 41"), ("P 2ac 2ab", "P 21 21 21"), ("C 1 2 1", "C 1 2 1"), ("P3221", "P 32 2 1")],
)
def test_space_groups_by_either_symbol(symbol, expected, expt_content, write_expt):
    expt_content["crystal"][0]["space_group_hall_symbol"] = symbol
    assert read(expt_content, write_expt).crystal.space_group == expected


# --- 3 exact limits ------------------------------------------------------


def test_a_still_without_scan_and_goniometer(expt_content, write_expt):
    entry = expt_content["experiment"][0]
    del entry["scan"], entry["goniometer"]
    expt_content["imageset"][0] = {
        "__id__": "ImageSet",
        "images": ["a/shots.h5"],
        "single_file_indices": [17],
    }
    experiment = read(expt_content, write_expt)
    assert experiment.n_images == 1
    assert_array_equal(experiment.angles(), [[0.0, 0.0]])
    assert experiment.file_indices == (17,)
    assert experiment.template.endswith("a/shots.h5")
    assert_allclose(experiment.lattice_matrix(0), experiment.crystal.a_matrix)


def test_places_in_a_file_that_other_scans_share_are_by_number(expt_content, write_expt):
    expt_content["imageset"][0]["single_file_indices"] = list(range(100))
    assert read(expt_content, write_expt).file_indices is None
    expt_content["imageset"][0]["single_file_indices"] = list(range(20, 26))
    assert read(expt_content, write_expt).file_indices == (20, 21, 22, 23, 24, 25)


def test_an_unset_trusted_range_is_no_limit(expt_content, write_expt):
    expt_content["detector"][0]["panels"][0]["trusted_range"] = [0.0, 0.0]
    assert read(expt_content, write_expt).detector[0].trusted_range == (-np.inf, np.inf)


def test_the_strategy_says_whether_parallax_counts(expt_content, write_expt):
    panel = expt_content["detector"][0]["panels"][0]
    panel["px_mm_strategy"] = {"type": "ParallaxCorrectedPxMmStrategy"}
    first, second = read(expt_content, write_expt).detector
    assert (first.parallax, second.parallax) == (True, False)


# --- 4 invariances -------------------------------------------------------


def test_experiments_that_share_a_model_share_the_object(expt_content, write_expt):
    other = {**expt_content["experiment"][0], "identifier": "again"}
    expt_content["experiment"].append(other)
    one, two = read_experiments(write_expt(expt_content))
    assert one.detector is two.detector
    assert one.beam is two.beam
    assert (one.identifier, two.identifier) == ("made", "again")


def test_maps_of_dials_that_are_not_used_are_said(expt_content, write_expt, caplog):
    expt_content["imageset"][0]["mask"] = "pixels.mask"
    with caplog.at_level(logging.WARNING):
        read(expt_content, write_expt)
    assert "mask file is a DIALS pickle and not used" in caplog.text


# --- 5 errors ------------------------------------------------------------


def _remove(content, kind, key):
    del content[kind][0][key]


def _set(content, kind, key, value):
    content[kind][0][key] = value


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.update(__id__="DataBlock"), "__id__: expected 'ExperimentList', found 'Dat"),
        (lambda c: c.update(experiment=[]), "experiment: expected a list of experiments"),
        (lambda c: _set(c, "experiment", "beam", 3), "beam: expected an index below 1.*found 3"),
        (lambda c: _remove(c, "experiment", "beam"), "beam: expected a beam model, found none"),
        (lambda c: _remove(c, "experiment", "crystal"), "index the images first"),
        (lambda c: _remove(c, "beam", "wavelength"), "beam: expected a value for 'wavelength'"),
        (lambda c: _set(c, "beam", "wavelength", -1), "wavelength must be > 0 Å, got -1"),
        (lambda c: _set(c, "beam", "__id__", "polychromatic"), "__id__ must be 'monochromatic'"),
        (lambda c: _remove(c, "experiment", "goniometer"), "goniometer: expected one, as the scan"),
        (lambda c: _remove(c, "crystal", "real_space_b"), "expected a value for 'real_space_b'"),
        (
            lambda c: _set(c, "crystal", "real_space_b", c["crystal"][0]["real_space_a"]),
            "real_space_a, _b, _c must span a volume",
        ),
        (
            lambda c: _remove(c, "crystal", "space_group_hall_symbol"),
            "expected a value for 'space_group_hall_symbol'",
        ),
        (
            lambda c: _set(c, "crystal", "space_group_hall_symbol", "nonsense"),
            "space group must be.*'nonsense'",
        ),
        (
            lambda c: _set(c, "crystal", "A_at_scan_points", [[0.1, 0, 0, 0, 0.1, 0, 0, 0, 0.1]]),
            "scan points of the crystal must be one more than the 6 images, got 1",
        ),
        (lambda c: _set(c, "scan", "image_range", [4, 1]), "image_range must be first <= last"),
        (lambda c: _set(c, "scan", "image_range", [1, 9]), "one value for each of the 9 images"),
        (
            lambda c: c["detector"][0]["hierarchy"]["children"][0]["children"].pop(),
            "hierarchy must name every panel, panel 1",
        ),
        (
            lambda c: c["detector"][0]["panels"][0].pop("pixel_size"),
            "expected a value for 'pixel_size'",
        ),
    ],
)
def test_a_damaged_file_is_explained(damage, message, expt_content, write_expt):
    damage(expt_content)
    with pytest.raises(FormatError, match=message) as caught:
        read(expt_content, write_expt)
    assert "made.expt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_experiment_lists(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.expt: no such file"):
        read_experiments(tmp_path / "none.expt")
    for text in ("not json", '{"__id__": ', "[1, 2]", "\x00\x01"):
        path = tmp_path / "bad.expt"
        path.write_text(text)
        with pytest.raises(FormatError, match=r"bad\.expt"):
            read_experiments(path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(FormatError, match=r"bad\.expt"):
        read_experiments(path)


def _places(node, path=()):
    """All places in nested JSON, as tuples of keys."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def test_no_damage_gives_another_kind_of_error(expt_content, write_expt):
    # Every value in turn replaced by what it should not be: it is read, or refused in one line.
    junk = (None, "x", [], {}, -1, 1e300, float("nan"))
    refusals = []
    for place in list(_places(expt_content)):
        for value in junk:
            content = copy.deepcopy(expt_content)
            node = content
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = value
            try:
                read_experiments(write_expt(content))
            except OffbraggError as error:
                refusals.append(str(error))
    assert len(refusals) > 500
    assert not [text for text in refusals if "\n" in text]


def test_json_written_by_others_is_read_whatever_its_spacing(expt_content, tmp_path):
    path = tmp_path / "spaced.expt"
    path.write_text(json.dumps(expt_content, indent=4))
    assert read_experiments(path)[0].n_images == 6
