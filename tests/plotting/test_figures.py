"""Figures: true shape of sections, what is plotted, and no global state of pyplot."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import reciprocal_vectors

from offbragg import DiffuseMap, HklGrid, InputError, RankedModel, Uncorrelated, compare
from offbragg.maps.shells import anisotropic_part
from offbragg.plotting import (
    draw_agreement,
    draw_correlation,
    draw_image,
    draw_profiles,
    draw_ranking,
    draw_sections,
)

TRICLINIC = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)


def made_map(cell=TRICLINIC, seed=0, sampling=(1, 1, 1), d_min=2.5):
    grid = HklGrid.from_resolution(cell, d_min, sampling)
    values = np.random.default_rng(seed).normal(10, 2, grid.shape)
    return DiffuseMap(grid, np.where(grid.within(), values, np.nan))


def mesh_of(figure, panel=0):
    """The coloured mesh of a section."""
    panels = [ax for ax in figure.axes if ax.get_xlabel().startswith("along")]
    return panels[panel], panels[panel].collections[0]


def drawn(figure):
    """The figure, after a renderer has gone through it: warnings are errors."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


# --- 1 reference numbers -------------------------------------------------


def test_a_right_angled_section_by_hand():
    # a = 10, b = 20 Å: h = 1 is at x = 0.1 Å⁻¹, k = 1 at y = 0.05 Å⁻¹.
    grid = HklGrid((10.0, 20.0, 30.0, 90, 90, 90), [0, 1, 2], [0, 1], [0])
    values = np.arange(6.0).reshape(3, 2, 1)
    figure = draw_sections({"m": DiffuseMap(grid, values)}, anisotropic=False)
    _, mesh = mesh_of(figure)
    assert_allclose(mesh.get_array().reshape(2, 3), values[:, :, 0].T)
    corners = mesh.get_coordinates()  # (n_up + 1, n_across + 1, 2), half a step outside
    middle = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    assert_allclose(middle[1, 2], [0.2, 0.05])


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(("normal", "axes"), [("l", (0, 1)), ("k", (0, 2)), ("h", (1, 2))])
def test_voxels_of_a_triclinic_plane_are_as_far_apart_as_in_space(normal, axes):
    diffuse_map = made_map()
    figure = draw_sections({"m": diffuse_map}, normal)
    panel, mesh = mesh_of(figure)
    corners = mesh.get_coordinates()
    x, y = ((corners[:-1, :-1] + corners[1:, 1:]) / 2).transpose(2, 0, 1)
    stars = reciprocal_vectors(TRICLINIC)[list(axes)]
    grid = diffuse_map.grid
    across, up = ((grid.h, grid.k, grid.l)[n] for n in axes)
    vectors = across[None, :, None] * stars[0] + up[:, None, None] * stars[1]
    flat = np.stack([x, y], axis=-1).reshape(-1, 2)
    space = vectors.reshape(-1, 3)
    found = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    expected = np.linalg.norm(space[:, None] - space[None], axis=-1)
    assert_allclose(found, expected, atol=1e-12)
    # The first axis lies along x, the second points up; drawn in true proportion.
    middle = len(up) // 2
    assert_allclose(y[middle], 0.0, atol=1e-12)
    assert np.all(np.diff(x[middle]) > 0)
    assert np.all(np.diff(y[:, 0]) > 0)
    assert panel.get_aspect() == 1.0


@pytest.mark.parametrize("normal", ["h", "k", "l"])
def test_a_section_shows_the_nearest_plane_without_its_isotropic_part(normal):
    diffuse_map = made_map(sampling=(2, 3, 1))
    grid = diffuse_map.grid
    axis = "hkl".index(normal)
    figure = draw_sections({"m": diffuse_map}, normal, 1.1)
    panel, mesh = mesh_of(figure)
    values = (grid.h, grid.k, grid.l)[axis]
    index = min(range(len(values)), key=lambda i: abs(values[i] - 1.1))
    expected = np.take(anisotropic_part(diffuse_map.intensity, grid.inv_d()), index, axis=axis).T
    found = np.ma.masked_array(mesh.get_array()).reshape(expected.shape)
    assert_array_equal(found.mask, np.isnan(expected))
    assert_allclose(found.compressed(), expected[np.isfinite(expected)])
    assert f"{normal} = {values[index]:g}" in panel.get_xlabel()


def test_profiles_are_shell_means():
    diffuse_map = made_map()
    (line,) = draw_profiles({"m": diffuse_map}).axes[0].lines
    inv_d = diffuse_map.grid.inv_d()[diffuse_map.measured]
    values = diffuse_map.intensity[diffuse_map.measured]
    shell = np.floor(inv_d / 0.01 + 1e-9).astype(int)
    found = np.transpose(line.get_data())
    for number, (x, y) in enumerate(found):
        own = shell == number
        assert (x, y) == pytest.approx(
            (inv_d[own].mean(), values[own].mean()) if own.any() else (np.nan, np.nan), nan_ok=True
        )
    assert len(found) == shell.max() + 1


def test_correlations_are_those_of_the_table():
    table = compare(made_map(seed=0), made_map(seed=1), n_shells=6)
    axes = draw_correlation({"two": table}).axes[0]
    (line,) = axes.lines
    assert_allclose(line.get_ydata(), [row.cc for row in table.shells])
    expected = [(1 / row.d_max + 1 / row.d_min) / 2 for row in table.shells]
    assert_allclose(line.get_xdata(), expected)
    assert axes.get_legend().get_texts()[0].get_text() == "two"
    # Resolution stands below an axis of 1/d.
    for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        assert float(label.get_text()) == pytest.approx(1 / tick, rel=0.06)


def test_agreement_is_that_of_the_tables():
    table = {
        "d_max": [10.0, 4.0], "d_min": [4.0, 2.0], "cc": [0.9, 0.8], "r": [0.2, 0.3],
        "cc_anisotropic": [0.7, None], "r_anisotropic": [0.5, 0.6],
    }  # fmt: skip
    figure = drawn(draw_agreement({"working": table, "held-out": {**table, "cc": [0.6, 0.4]}}))
    cc, r = figure.axes
    assert [ax.get_ylabel() for ax in (cc, r)] == ["CC", "R"]
    assert [x.get_text() for x in cc.get_legend().get_texts()] == [
        "working, anisotropic", "working, whole", "held-out, anisotropic", "held-out, whole",
    ]  # fmt: skip
    assert_allclose(cc.lines[0].get_ydata(), [0.7, np.nan])
    assert_allclose(cc.lines[3].get_ydata(), [0.6, 0.4])
    assert_allclose(r.lines[1].get_ydata(), [0.2, 0.3])
    assert_allclose(r.lines[1].get_xdata(), [0.175, 0.375])


@pytest.mark.parametrize("floor", [None, 0.1])
def test_bars_of_a_ranking_are_its_correlations(floor):
    names, figures = ["a", "b"], [0.7, 0.4]
    models = [
        RankedModel(
            name=name, model=Uncorrelated(), n_numbers=0, cc=cc, cc_error=0.05, cc_working=cc + 0.1,
            cc_by_fold=np.array([cc]), cc_without=np.array([cc]),
            behind=0.7 - cc, behind_error=0.0, reference="a", gain=cc - 0.7, gain_error=0.0,
            cc_null=floor, converged=True,
        )
        for name, cc in zip(names, figures, strict=True)
    ]  # fmt: skip
    ax = drawn(draw_ranking(models)).axes[0]
    widths = [bar.get_width() for bar in ax.patches]
    assert_allclose(widths, figures if floor is None else [*figures, floor, floor])
    assert [x.get_text() for x in ax.get_yticklabels()] == names
    # The first is on top.
    assert ax.yaxis_inverted()
    labels = {x.get_text() for x in ax.get_legend().get_texts()}
    assert labels == {"held out", "fitted"} | (set() if floor is None else {"null: wrong indexing"})


# --- 3 exact limits ------------------------------------------------------


def test_an_isotropic_map_is_blank():
    diffuse_map = made_map()
    inv_d = diffuse_map.grid.inv_d()
    flat = replace(diffuse_map, intensity=np.floor(inv_d / 0.01 + 1e-9))
    _, mesh = mesh_of(drawn(draw_sections({"m": flat})))
    assert not np.any(mesh.get_array())


def test_colours_diverge_about_zero():
    _, mesh = mesh_of(draw_sections({"m": made_map()}))
    assert isinstance(mesh.norm, TwoSlopeNorm)
    assert mesh.norm.vcenter == 0
    assert mesh.norm.vmin == -mesh.norm.vmax


@pytest.mark.parametrize("anisotropic", [True, False])
def test_maps_without_values_or_with_one_voxel_can_be_drawn(anisotropic):
    empty = replace(made_map(), intensity=np.full(made_map().grid.shape, np.nan))
    grid = HklGrid(TRICLINIC, [1.0], [2.0], [3.0])
    single = DiffuseMap(grid, np.array([[[4.0]]]))
    line = DiffuseMap(HklGrid(TRICLINIC, [0, 1, 2], [0], [0]), np.ones((3, 1, 1)))
    for diffuse_map in (empty, single, line):
        drawn(draw_sections({"m": diffuse_map}, anisotropic=anisotropic))
        drawn(draw_profiles({"m": diffuse_map}))


def test_an_image_without_counts_can_be_drawn():
    figure = drawn(draw_image(np.zeros((20, 30)), "dark"))
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_panels_are_drawn_one_above_the_other():
    panels = [np.full((10, 20), 3), np.full((10, 20), 9)]
    figure = drawn(draw_image(panels, "both"))
    assert len(figure.axes) == 2
    assert figure.axes[0].get_title() == "both"
    for ax, panel in zip(figure.axes, panels, strict=True):
        assert_array_equal(ax.images[0].get_array(), panel)
        assert ax.images[0].get_clim() == (0, 9)


# --- 4 invariances -------------------------------------------------------


def test_figures_belong_to_the_caller():
    diffuse_map = made_map()
    figures = [
        draw_sections({"a": diffuse_map, "b": diffuse_map}),
        draw_profiles({"a": diffuse_map}),
        draw_correlation({"a": compare(diffuse_map, diffuse_map)}),
        draw_image(np.ones((4, 4)), "x"),
    ]
    for figure in figures:
        assert isinstance(figure, Figure)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_maps_are_not_changed():
    diffuse_map = made_map()
    before = diffuse_map.intensity.copy()
    drawn(draw_sections({"m": diffuse_map}))
    drawn(draw_profiles({"m": diffuse_map}))
    assert_array_equal(diffuse_map.intensity, before)


def test_several_maps_stand_side_by_side():
    one, other = made_map(seed=1), made_map((20.0, 21.0, 9.0, 90, 100, 90), seed=2, d_min=3.0)
    figure = drawn(draw_sections({"one": one, "other": other}, "k", unit="e²"))
    titles = [ax.get_title() for ax in figure.axes if ax.get_xlabel().startswith("along h*")]
    assert titles == ["one", "other"]
    assert [ax.get_ylabel() for ax in figure.axes].count("e²") == 2


# --- 5 errors ------------------------------------------------------------


def test_another_normal_is_refused():
    with pytest.raises(InputError, match="normal must be h, k or l, got 'x'"):
        draw_sections({"m": made_map()}, "x")


def test_no_map_is_refused():
    with pytest.raises(InputError, match="expected at least one map, got none"):
        draw_sections({})
