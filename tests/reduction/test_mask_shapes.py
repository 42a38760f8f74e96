"""Drawn masks: rectangles, circles, polygons, rings of resolution, and their files."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from numpy.testing import assert_array_equal

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.reduction.mask_shapes import (
    MaskShape,
    parse_ring,
    read_mask_shapes,
    ring_mask,
    shape_mask,
    shapes_masks,
)

SHAPE = (20, 30)  # slow, fast

SHAPES = (
    MaskShape("rectangle", (1.0, 2.0, 4.0, 7.0)),
    MaskShape("circle", (10.0, 8.0, 2.5), 1),
    MaskShape("polygon", (0.0, 0.0, 9.0, 1.0, 3.0, 8.0), "p1"),
)


# --- 1 reference numbers -------------------------------------------------


def test_a_rectangle_is_as_in_experiment_files():
    # x0 <= i < x1, as `Panel.mask` has it.
    found = shape_mask(SHAPES[0], SHAPE)
    expected = np.zeros(SHAPE, bool)
    expected[2:7, 1:4] = True
    assert_array_equal(found, expected)


def test_a_circle_around_a_corner_by_hand():
    # Centres at ½: four within 0.8 of (5, 5), twelve within 1.6.
    for radius, n in [(0.7, 0), (0.8, 4), (1.6, 12)]:
        assert shape_mask(MaskShape("circle", (5, 5, radius)), SHAPE).sum() == n


def test_a_square_with_a_hole():
    # One outline that goes round twice, once inside the other: the inner square is out again.
    outline = (2, 2, 12, 2, 12, 12, 2, 12, 2, 2, 5, 5, 9, 5, 9, 9, 5, 9, 5, 5)
    assert shape_mask(MaskShape("polygon", outline), SHAPE).sum() == 100 - 16


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    corners=st.lists(
        st.tuples(st.floats(-5, 35), st.floats(-5, 25)), min_size=3, max_size=3, unique=True
    )
)
def test_triangles_agree_with_matplotlib(corners):
    rows, columns = np.indices(SHAPE) + 0.5
    points = np.stack([columns.ravel(), rows.ravel()], axis=1)
    expected = Outline([*corners, corners[0]], closed=True).contains_points(points).reshape(SHAPE)
    found = shape_mask(MaskShape("polygon", tuple(np.ravel(corners))), SHAPE)
    differs = points[(found != expected).ravel()]
    # Both are right for a centre on a side.
    for x, y in differs:
        sides = zip(corners, [*corners[1:], corners[0]], strict=True)
        gaps = [
            abs((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]))
            / max(np.hypot(b[0] - a[0], b[1] - a[1]), 1e-12)
            for a, b in sides
        ]
        assert min(gaps) < 1e-6


def test_many_corners_make_a_circle():
    angle = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    outline = np.stack([14.3 + 7.1 * np.cos(angle), 9.2 + 7.1 * np.sin(angle)], axis=1)
    polygon = shape_mask(MaskShape("polygon", tuple(outline.ravel())), SHAPE)
    assert_array_equal(polygon, shape_mask(MaskShape("circle", (14.3, 9.2, 7.1)), SHAPE))


def test_rings_are_bragg_angles(experiment):
    # λ = 2 d sin θ, 2θ the angle between the ray and the beam.
    for panel in experiment.detector:
        rays = panel.pixel_positions()
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        theta = np.arccos(rays @ experiment.beam.direction) / 2
        d = experiment.beam.wavelength / (2 * np.sin(theta))
        found = ring_mask(panel, experiment.beam, [(3.6, 3.3), (2.9, 2.8)])
        assert_array_equal(found, ((d > 3.3) & (d < 3.6)) | ((d > 2.8) & (d < 2.9)))
        assert 0 < found.sum() < 400


# --- 3 exact limits ------------------------------------------------------


def test_beyond_the_panel_there_is_nothing():
    assert not shape_mask(MaskShape("rectangle", (30, 0, 99, 20)), SHAPE).any()
    assert shape_mask(MaskShape("rectangle", (-5, -5, 99, 99)), SHAPE).all()
    assert not shape_mask(MaskShape("circle", (-9, -9, 3)), SHAPE).any()
    assert not shape_mask(MaskShape("polygon", (3, 3, 9, 3, 15, 3)), SHAPE).any()  # no area


def test_shapes_go_to_their_panels(experiment):
    first, second = shapes_masks(SHAPES, experiment.detector)
    assert_array_equal(first, shape_mask(SHAPES[0], SHAPE))
    assert_array_equal(second, shape_mask(SHAPES[1], SHAPE) | shape_mask(SHAPES[2], SHAPE))
    assert not any(mask.any() for mask in shapes_masks((), experiment.detector))


# --- 4 invariances -------------------------------------------------------


def test_the_order_of_corners_does_not_matter():
    corners = np.array([[2.2, 1.1], [25.0, 4.7], [20.1, 18.8], [6.6, 12.0]])
    one = shape_mask(MaskShape("polygon", tuple(corners.ravel())), SHAPE)
    for other in (corners[::-1], np.roll(corners, 1, axis=0)):
        assert_array_equal(shape_mask(MaskShape("polygon", tuple(other.ravel())), SHAPE), one)


def test_json_and_text_say_the_same(tmp_path):
    listed = [{"kind": s.kind, "panel": s.panel, "numbers": list(s.numbers)} for s in SHAPES]
    (tmp_path / "s.json").write_text(json.dumps(listed))
    lines = [f"{s.kind} {s.panel} {', '.join(map(str, s.numbers))}  # why" for s in SHAPES]
    (tmp_path / "s.txt").write_text("# shapes\n\n" + "\n".join(lines) + "\n")
    assert read_mask_shapes(tmp_path / "s.json") == SHAPES
    assert read_mask_shapes(tmp_path / "s.txt") == SHAPES
    corners = [{"kind": "polygon", "numbers": [[0, 0], [9, 1], [3, 8]]}]
    (tmp_path / "p.json").write_text(json.dumps(corners))
    assert read_mask_shapes(tmp_path / "p.json")[0].numbers == SHAPES[2].numbers


@pytest.mark.parametrize("text", ["3.93-3.87", "3.87-3.93", " 3.93 - 3.87 ", "3.93:3.87"])
def test_a_ring_in_any_order(text):
    assert parse_ring(text) == (3.93, 3.87)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"kind": "circle"}]', "shape 0: expected an object with kind and numbers, found"),
        ('[{"kind": "star", "numbers": [1]}]', "shape 0: kind must be one of rectangle, circle"),
        ('[{"kind": "circle", "numbers": [1, 2]}]', "circle must have fast slow radius, got"),
        ('[{"kind": "circle", "numbers": [1, 2, -1]}]', "must have a radius >= 0 pixels, got -1"),
        ('[{"kind": "circle", "numbers": [1, 2, NaN]}]', "circle must have fast slow radius, got"),
        ('[{"kind": "polygon", "numbers": [1, 2, 3, 4, 5]}]', "polygon must have fast slow of"),
        ('[{"kind": "circle", "numbers": "abc"}]', "shape 0: expected numbers, found 'abc'"),
        ('[{"kind": "circle", "numbers": [1, 2, 3], "r": 1}]', "expected kind, panel and numbers"),
        ('[{"kind": "circle", "numbers": [1, 2, 3], "panel": 1.5}]', "panel's number or name"),
        ("[1, 2", "expected JSON"),
        ("[]", "expected shapes, found none"),
        ("", "expected shapes, found none"),
        ("circle\n", "line 1: expected kind, panel, numbers, found circle"),
        ("# a\ncircle 0 1 2 x\n", "line 2: expected numbers"),
        ("ring 0 1 2 3\n", "line 1: kind must be one of"),
    ],
)
def test_a_wrong_file_is_named(text, message, tmp_path):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(FormatError, match=rf"s\.json: .*{message}"):
        read_mask_shapes(tmp_path / "s.json")


def test_what_is_not_there(tmp_path, experiment):
    with pytest.raises(MissingFileError, match=r"none\.json: no such file"):
        read_mask_shapes(tmp_path / "none.json")
    (tmp_path / "s.json").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(FormatError, match="expected shapes in JSON or text, found neither"):
        read_mask_shapes(tmp_path / "s.json")
    for panel in (2, -1, "p7"):
        with pytest.raises(InputError, match=r"panel of a circle must be 0 to 1, or a name such"):
            shapes_masks([MaskShape("circle", (1, 1, 1), panel)], experiment.detector)


@pytest.mark.parametrize("text", ["3.9", "3.9-3.9", "a-b", "0-3", "1.2.3-4", "-3.9-3.8", "nan-1"])
def test_a_ring_that_is_none(text):
    with pytest.raises(InputError, match="mask_rings must be ranges of d in Å such as"):
        parse_ring(text)
