"""The picture of a mask: what is drawn where, and what cannot be drawn."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import InputError
from offbragg.plotting import draw_mask


def pictures(figure):
    """All pictures of the first panel, as their arrays."""
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


# --- 1 reference numbers -------------------------------------------------


def test_few_pixels_are_marks_at_their_centres():
    hot = np.zeros((20, 30), bool)
    hot[4, 7] = hot[19, 0] = True
    (line,) = draw_mask({"hot": [hot]}).axes[0].lines
    assert_array_equal(line.get_xydata(), [[7.5, 4.5], [0.5, 19.5]])


def test_the_legend_counts():
    half = np.zeros((20, 30), bool)
    half[:10] = True
    figure = draw_mask({"shapes": [half, half], "dead": [~half, half & False]}, title="m")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "shapes: 600 pixels (50 %)", "dead: 300 pixels (25 %)",
    ]  # fmt: skip
    assert figure.axes[0].get_title() == "m"


# --- 2 independent oracle ------------------------------------------------


def test_areas_are_coloured_where_the_mask_is():
    rows, columns = np.indices((100, 80))
    disc = np.hypot(rows - 40, columns - 50) < 30
    (picture,) = pictures(draw_mask({"shapes": [disc]}))
    assert_array_equal(picture[..., 3] > 0, disc)
    assert_allclose(picture[disc][0], to_rgba("C0", 0.7))


def test_a_large_mask_loses_no_pixel():
    mask = np.zeros((3001, 2502), bool)
    mask[::5, ::7] = True
    (picture,) = pictures(draw_mask({"file": [mask]}))
    assert picture.shape[:2] == (1501, 1251)
    painted = np.repeat(np.repeat(picture[..., 3] > 0, 2, axis=0), 2, axis=1)[:3001, :2502]
    assert not np.any(mask & ~painted)


# --- 3 exact limits ------------------------------------------------------


def test_an_empty_mask_draws_nothing():
    ax = draw_mask({"hot": [np.zeros((5, 6), bool)]}).axes[0]
    assert not ax.images
    assert not ax.lines


# --- 4 invariances -------------------------------------------------------


def test_a_figure_can_be_drawn_and_changes_nothing():
    mask = np.random.default_rng(0).random((2, 60, 70)) < 0.5
    image = np.random.default_rng(1).poisson(4.0, (2, 60, 70))
    before = mask.copy(), image.copy()
    figure = draw_mask({"file": mask, "hot": mask & False}, image)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert len(figure.axes) == 2
    assert_array_equal(mask, before[0])
    assert_array_equal(image, before[1])


# --- 5 errors ------------------------------------------------------------


def test_what_cannot_be_drawn():
    mask = np.zeros((5, 6), bool)
    with pytest.raises(InputError, match="reasons must be at least one, got none"):
        draw_mask({})
    with pytest.raises(InputError, match=r"hot must have shapes \[\(5, 6\)\], got \[\(4, 6\)\]"):
        draw_mask({"file": [mask], "hot": [mask[1:]]})
    with pytest.raises(InputError, match=r"image must have shapes \[\(5, 6\)\], got \[\(3, 6\)\]"):
        draw_mask({"file": [mask]}, [np.ones((3, 6))])
