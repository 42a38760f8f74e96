"""Figures of a reduction: what is plotted is what the tables hold."""

import io

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import InputError
from offbragg.plotting.reduction_figures import draw_scaling, draw_statistics


@pytest.fixture
def shells():
    return {
        "d_max": [10.0, 4.0], "d_min": [4.0, 2.0], "completeness": [1.0, 0.8],
        "multiplicity": [4.0, 2.0], "cc_half_anisotropic": [0.9, None], "r_meas": [0.1, 0.2],
        "mean_i_over_sigma": [9.0, 3.0],
    }  # fmt: skip


def drawn(figure):
    """The figure, after a renderer has gone through it: warnings are errors."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def test_columns_are_drawn_against_the_middles_of_shells(shells):
    figure = drawn(draw_statistics(shells))
    how_much, agreement, disagreement, signal = figure.axes[:4]
    (line,) = agreement.lines
    assert_allclose(line.get_xdata(), [(0.1 + 0.25) / 2, (0.25 + 0.5) / 2])
    assert_allclose(line.get_ydata(), [0.9, np.nan])
    for ax, name in ((disagreement, "r_meas"), (signal, "mean_i_over_sigma")):
        assert_allclose(ax.lines[0].get_ydata(), shells[name])
    assert_allclose(how_much.lines[0].get_ydata(), shells["completeness"])
    (multiplicity,) = figure.axes[4].lines
    assert_allclose(multiplicity.get_ydata(), shells["multiplicity"])


def test_curves_have_a_panel_each_correction_and_axis():
    line = {"at": [0.0, 10.0], "mean": [1.0, 1.2], "low": [0.9, 1.1], "high": [1.1, 1.3]}
    curves = [
        {"name": "scale", "kind": "all", "sweep": 0, "by": "angle", **line},
        {"name": "scale", "kind": "all", "sweep": 1, "by": "angle", **line},
        {"name": "offset", "kind": "offset", "sweep": 0, "by": "inv_d", **line},
        {"name": "detector", "kind": "all", "sweep": 0, "by": "direction", "x": [-0.1, 0.1],
         "y": [0.0, 0.1, 0.2], "mean": [[1.0, None, 1.1], [0.9, 1.0, 1.0]]},
    ]  # fmt: skip
    figure = drawn(draw_scaling(curves))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["scale (beam and crystal)", "offset / mean intensity", "detector"]
    scale, offset, detector = figure.axes[:3]
    first, _, neutral = scale.lines
    assert_allclose(first.get_ydata(), line["mean"])
    assert [text.get_text() for text in scale.get_legend().get_texts()] == ["sweep 1", "sweep 2"]
    assert_allclose(neutral.get_ydata(), 1.0)
    assert_allclose(offset.lines[-1].get_ydata(), 0.0)
    picture = detector.collections[0].get_array()
    assert picture.mask.sum() == 1
    assert picture.compressed().sum() == pytest.approx(5.0)


def test_a_flat_curve_does_not_look_steep():
    line = {"at": [0.0, 9.0], "mean": [1.0, 1.001], "low": [1.0, 1.0], "high": [1.0, 1.001]}
    figure = draw_scaling([{"name": "scale", "kind": "all", "sweep": 0, "by": "angle", **line}])
    low, high = figure.axes[0].get_ylim()
    assert (low, high) == (pytest.approx(0.95), pytest.approx(1.05))


def test_no_curve_is_refused():
    with pytest.raises(InputError, match="expected at least one curve, got none"):
        draw_scaling([])
