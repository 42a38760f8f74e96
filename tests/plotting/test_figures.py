"""Figures: what is plotted, units on the axes, and no global state of pyplot."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from tests.plotting.made_maps import TRICLINIC, drawn, made_map

from offbragg import DiffuseMap, HklGrid, InputError, RankedModel, Uncorrelated, compare
from offbragg.disorder.residues import ResidueCorrelations
from offbragg.maps.node_halos import node_halos
from offbragg.maps.shells import anisotropic_part
from offbragg.maps.statistics import statistics
from offbragg.plotting import (
    SectionOptions,
    comparison_columns,
    draw_agreement,
    draw_correlation,
    draw_distance_correlations,
    draw_halos,
    draw_image,
    draw_model,
    draw_profiles,
    draw_ranking,
    draw_residue_correlations,
    draw_sections,
    draw_self_agreement,
)

# --- 2 independent oracle ------------------------------------------------


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


def test_profiles_show_sigma_as_a_band_and_the_variation():
    diffuse_map = made_map()
    sigma = np.random.default_rng(3).uniform(0.5, 2, diffuse_map.grid.shape)
    whole = replace(diffuse_map, sigma=sigma)
    ax = drawn(draw_profiles({"m": whole, "n": diffuse_map}, variation=True)).axes[0]
    labels = [x.get_text() for x in ax.get_legend().get_texts()]
    assert labels == ["m (band: ± σ of a voxel)", "m, anisotropic part (rms)", "n",
                      "n, anisotropic part (rms)"]  # fmt: skip
    assert ax.get_ylabel() == "mean intensity (arbitrary units)"
    assert ax.get_xlabel() == "resolution d (Å), equal steps of 1/d"
    (band,) = ax.collections
    measured = whole.measured
    shell = np.floor(whole.grid.inv_d()[measured] / 0.01 + 1e-9).astype(int)
    own = shell == shell.max()
    mean = whole.intensity[measured][own].mean()
    rms = np.sqrt(np.mean(sigma[measured][own] ** 2))
    corners = band.get_paths()[-1].vertices
    last = corners[np.isclose(corners[:, 0], corners[:, 0].max())]
    assert_allclose([last[:, 1].min(), last[:, 1].max()], [mean - rms, mean + rms])
    part = anisotropic_part(whole.intensity, whole.grid.inv_d())[measured][own]
    assert ax.lines[1].get_ydata()[-1] == pytest.approx(np.sqrt(np.mean(part**2)))


def test_cc_half_stands_with_its_error_beside_the_cc_between_maps():
    rng = np.random.default_rng(0)
    one = made_map()
    halves = {f"half_{n}": one.intensity + rng.normal(0, 1, one.grid.shape) for n in (1, 2)}
    one = replace(one, **halves)
    table = statistics(one, 4)["shells"]
    other = made_map(seed=5)
    between = comparison_columns(
        compare(one, other, anisotropic=False, n_shells=4), compare(one, other, n_shells=4)
    )
    figure = drawn(draw_self_agreement({"one": table}, between={"both": between}))
    ax = figure.axes[0]
    shown = {x.get_label(): x for x in ax.containers}
    assert set(shown) == {"CC½, one, anisotropic", "CC½, one, whole"}
    line, _, (bars,) = shown["CC½, one, whole"]
    assert_allclose(line.get_ydata(), table["cc_half"])
    lengths = [np.ptp(x[:, 1]) / 2 for x in bars.get_segments()]
    assert_allclose(lengths, table["cc_half_error"])
    lines = {x.get_label(): x for x in ax.lines}
    assert_allclose(lines["CC, both, anisotropic"].get_ydata(), between["cc_anisotropic"])
    assert ax.get_ylabel() == "correlation"


def test_a_model_stands_beside_its_map_with_the_difference():
    observed, sigma = made_map(sampling=(2, 2, 2)), 0.5
    noise = np.random.default_rng(9).normal(0, sigma, observed.grid.shape)
    model = replace(observed, intensity=(observed.intensity + noise) / 3)
    model.intensity[4, 4] = np.nan
    figure = drawn(draw_model(observed, model, n_shells=5))
    sections = [ax for ax in figure.axes if ax.get_xlabel().startswith("1/d")]
    assert [ax.get_title() for ax in sections] == [
        "map, l = 0", "model, l = 0", "difference, l = 0"
    ]  # fmt: skip
    first, second, difference = (ax.collections[0].get_array() for ax in sections)
    both = np.isfinite(observed.intensity) & np.isfinite(model.intensity)
    table = compare(observed, model, n_shells=5)
    inv_d = observed.grid.inv_d()
    parts = [
        factor * anisotropic_part(x.intensity, inv_d, both)[:, :, len(observed.grid.l) // 2].T
        for x, factor in ((observed, 1), (model, table.scale))
    ]
    assert_allclose(np.ma.filled(first, np.nan), parts[0])
    assert_allclose(np.ma.filled(second, np.nan), parts[1])
    assert_allclose(np.ma.filled(difference, np.nan), parts[0] - parts[1])
    norms = [ax.collections[0].norm for ax in sections]
    assert norms[0] is norms[1] is norms[2]
    cc, r = [ax for ax in figure.axes if ax.get_xlabel().startswith("resolution")]
    assert_allclose(cc.lines[0].get_ydata(), [row.cc for row in table.shells])
    assert_allclose(r.lines[0].get_ydata(), [row.r for row in table.shells])


def test_halos_are_drawn_as_they_are():
    halos = node_halos(made_map(sampling=(3, 3, 3)), n_shells=2)
    ax = drawn(draw_halos({"m": halos}, "e²")).axes[0]
    for container, halo in zip(ax.containers, halos, strict=True):
        assert_allclose(container[0].get_xdata(), halo.distance)
        assert_allclose(container[0].get_ydata(), halo.mean)
    assert ax.get_ylabel() == "mean intensity (e²)"
    assert ax.get_xlabel().endswith("(Å⁻¹)")
    with pytest.raises(InputError, match="expected at least one halo, got none"):
        draw_halos({"m": ()})


def test_correlations_by_distance_are_those_of_the_table():
    table = {"r_min": [0, 2, 4], "r_max": [2, 4, 6], "correlation": [0.9, 0.5, None],
             "correlation_std": [0.1, 0.2, None]}  # fmt: skip
    ax = drawn(draw_distance_correlations({"m": table})).axes[0]
    assert_allclose(ax.lines[0].get_xydata(), [[1, 0.9], [3, 0.5], [5, np.nan]])
    assert ax.get_xlabel() == "distance of the atoms (Å)"


def test_chains_are_told_apart_in_residue_correlations():
    labels = ("A GLY 3", "A ALA 4", "B GLY 3")
    covariance = np.array([[4.0, 1.0, -1.0], [1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])
    found = ResidueCorrelations(labels, np.array([3, 4, 3]), np.array(["A", "A", "B"]), covariance)
    ax = drawn(draw_residue_correlations(found)).axes[0]
    assert_allclose(ax.images[0].get_array()[0], [1.0, 0.5, -0.5])
    assert ax.images[0].get_clim() == (-1, 1)
    assert [x.get_text() for x in ax.get_xticklabels()] == ["A 3", "A 4", "B 3"]
    assert ax.lines[0].get_ydata()[0] == 1.5


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


@pytest.mark.parametrize("anisotropic", [True, False])
def test_maps_without_values_or_with_one_voxel_can_be_drawn(anisotropic):
    empty = replace(made_map(), intensity=np.full(made_map().grid.shape, np.nan))
    grid = HklGrid(TRICLINIC, [1.0], [2.0], [3.0])
    single = DiffuseMap(grid, np.array([[[4.0]]]))
    line = DiffuseMap(HklGrid(TRICLINIC, [0, 1, 2], [0], [0]), np.ones((3, 1, 1)))
    for diffuse_map in (empty, single, line):
        options = SectionOptions(anisotropic=anisotropic, nodes=True, rings=(3.0,))
        drawn(draw_sections({"m": diffuse_map}, options))
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
