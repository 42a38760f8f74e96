"""Sections: true shape, what is plotted, contrast, nodes, rings."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import LogNorm, SymLogNorm
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import reciprocal_vectors
from tests.plotting.made_maps import TRICLINIC, drawn, made_map

from offbragg import DiffuseMap, HklGrid, InputError
from offbragg.maps.shells import anisotropic_part
from offbragg.plotting import SectionOptions, draw_sections
from offbragg.plotting.contrast import colour_scale

PLANES = {"hk": (0, 1, 2), "hl": (0, 2, 1), "kl": (1, 2, 0)}


def panels_of(figure):
    return [ax for ax in figure.axes if ax.get_xlabel().startswith("1/d")]


def middles(mesh):
    """Where the voxels of a mesh are, x and y (n_up, n_across)."""
    corners = mesh.get_coordinates()  # half a step outside
    return ((corners[:-1, :-1] + corners[1:, 1:]) / 2).transpose(2, 0, 1)


def values_of(mesh):
    return np.ma.filled(np.ma.masked_array(mesh.get_array()), np.nan)


def bars_of(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


# --- 1 reference numbers -------------------------------------------------


def test_a_right_angled_section_by_hand():
    # a = 10, b = 20 Å: h = 1 is at x = 0.1 Å⁻¹, k = 1 at y = 0.05 Å⁻¹.
    grid = HklGrid((10.0, 20.0, 30.0, 90, 90, 90), [0, 1, 2], [0, 1], [0])
    values = np.arange(6.0).reshape(3, 2, 1)
    figure = draw_sections({"m": DiffuseMap(grid, values)}, SectionOptions(anisotropic=False))
    (panel,) = panels_of(figure)
    assert_allclose(values_of(panel.collections[0]).reshape(2, 3), values[:, :, 0].T)
    assert_allclose(middles(panel.collections[0])[:, 1, 2], [0.2, 0.05])
    assert panel.get_title() == "m, l = 0"
    assert panel.get_xlabel() == "1/d along a* (Å⁻¹)"
    assert panel.get_ylabel() == "1/d along b* (Å⁻¹)"
    (bar,) = bars_of(figure)
    assert bar.get_xlabel() == "intensity (arbitrary units)"


def test_nodes_and_rings_by_hand():
    # C centred, a = 10, b = 20 Å, l = 1 of c = 30 Å: nodes with h + k even alone.
    grid = HklGrid((10.0, 20.0, 30.0, 90, 90, 90), [-1, 0, 1], [-1, 0, 1], [0, 1])
    observed = DiffuseMap(grid, np.ones(grid.shape), "C 2 2 2")
    options = SectionOptions(level=1, nodes=True, rings=(12.0, 40.0), anisotropic=False)
    (panel,) = panels_of(drawn(draw_sections({"m": observed}, options)))
    (nodes,) = [x for x in panel.lines if x.get_gid() == "nodes"]
    expected = [(-0.1, -0.05), (-0.1, 0.05), (0, 0), (0.1, -0.05), (0.1, 0.05)]
    assert_allclose(sorted(map(tuple, nodes.get_xydata())), expected, atol=1e-12)
    # The ring of 40 Å does not reach the plane l = 1, which begins at 30 Å.
    (ring,) = panel.patches
    assert ring.radius == pytest.approx(np.sqrt(1 / 12**2 - 1 / 30**2))
    assert [x.get_text() for x in panel.texts] == ["12 Å"]


def test_between_whole_indices_there_are_no_nodes():
    options = SectionOptions(level=0.5, nodes=True)
    (panel,) = panels_of(draw_sections({"m": made_map(sampling=(1, 1, 2))}, options))
    assert panel.get_title() == "m, l = 0.5"
    assert len(panel.lines[0].get_xdata()) == 0


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("plane", PLANES)
def test_voxels_of_a_triclinic_plane_are_as_far_apart_as_in_space(plane):
    diffuse_map = made_map()
    (panel,) = panels_of(draw_sections({"m": diffuse_map}, SectionOptions(plane)))
    x, y = middles(panel.collections[0])
    stars = reciprocal_vectors(TRICLINIC)[list(PLANES[plane][:2])]
    grid = diffuse_map.grid
    across, up = ((grid.h, grid.k, grid.l)[n] for n in PLANES[plane][:2])
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
    assert panel.get_ylabel().startswith("1/d towards ")


@pytest.mark.parametrize("plane", PLANES)
def test_a_ring_passes_through_the_points_of_its_resolution(plane):
    # In a triclinic cell the circle of a plane beside the origin is not about (0, 0).
    diffuse_map = made_map(sampling=(4, 4, 4))
    (panel,) = panels_of(
        draw_sections({"m": diffuse_map}, SectionOptions(plane, level=2, rings=(3.0,)))
    )
    (ring,) = panel.patches
    index = [np.argmin(np.abs(a - 2)) for a in (diffuse_map.grid.h, diffuse_map.grid.k,
                                                diffuse_map.grid.l)][PLANES[plane][2]]  # fmt: skip
    inv_d = np.take(diffuse_map.grid.inv_d(), index, axis=PLANES[plane][2]).T
    x, y = middles(panel.collections[0])
    inside = np.hypot(x - ring.center[0], y - ring.center[1]) < ring.radius
    assert_array_equal(inside, inv_d < 1 / 3)


@pytest.mark.parametrize("plane", PLANES)
def test_a_section_shows_the_nearest_plane_without_its_isotropic_part(plane):
    diffuse_map = made_map(sampling=(2, 3, 1))
    grid, axis = diffuse_map.grid, PLANES[plane][2]
    (panel,) = panels_of(draw_sections({"m": diffuse_map}, SectionOptions(plane, 1.1)))
    values = (grid.h, grid.k, grid.l)[axis]
    index = min(range(len(values)), key=lambda i: abs(values[i] - 1.1))
    expected = np.take(anisotropic_part(diffuse_map.intensity, grid.inv_d()), index, axis=axis).T
    assert_allclose(values_of(panel.collections[0]).reshape(expected.shape), expected)
    assert panel.get_title() == f"m, {'hkl'[axis]} = {values[index]:g}"


def test_nodes_of_a_triclinic_plane_are_at_their_voxels():
    diffuse_map = made_map()
    (panel,) = panels_of(draw_sections({"m": diffuse_map}, SectionOptions(nodes=True)))
    mesh, (nodes,) = panel.collections[0], panel.lines
    measured = np.isfinite(values_of(mesh)).reshape(middles(mesh)[0].shape)
    expected = middles(mesh)[:, measured].T
    assert_allclose(np.sort(nodes.get_xydata(), axis=0), np.sort(expected, axis=0), atol=1e-12)


# --- 3 exact limits ------------------------------------------------------


def test_an_isotropic_map_is_blank():
    diffuse_map = made_map()
    inv_d = diffuse_map.grid.inv_d()
    flat = replace(diffuse_map, intensity=np.floor(inv_d / 0.01 + 1e-9))
    (panel,) = panels_of(drawn(draw_sections({"m": flat})))
    assert not np.any(panel.collections[0].get_array())


def test_colours_diverge_about_zero():
    (panel,) = panels_of(draw_sections({"m": made_map()}))
    norm = panel.collections[0].norm
    assert norm(0.0) == 0.5
    assert norm.vmin == -norm.vmax


def test_ends_of_the_colours():
    values = np.append(np.arange(101.0), np.nan)
    ends = [
        (scale.vmin, scale.vmax)
        for scale in (
            colour_scale(values, "linear", diverging=False),
            colour_scale(values, "percentile", diverging=False, clip=10),
            colour_scale(-values, "percentile", diverging=True, clip=10),
            colour_scale(values, "log", diverging=False, limits=(1, 50)),
        )
    ]
    assert_allclose(ends, [(0, 100), (5, 95), (-90, 90), (1, 50)])


def test_logarithms_keep_what_is_not_above_zero_apart_from_what_is_missing():
    scale = colour_scale(np.array([-1.0, 1.0, 100.0]), "log", diverging=False, clip=0)
    assert isinstance(scale, LogNorm)
    assert_allclose(scale(np.array([-1.0, 0.0, 10.0])), [0, 0, 0.5])
    both = colour_scale(np.array([-100.0, 1.0]), "log", diverging=True)
    assert isinstance(both, SymLogNorm)
    assert both(0.0) == 0.5


def test_one_contrast_for_all_or_each_its_own():
    weak, strong = made_map(seed=1), made_map(seed=2)
    strong = replace(strong, intensity=5 * strong.intensity)
    maps = {"weak": weak, "strong": strong}
    own = drawn(draw_sections(maps))
    assert len(bars_of(own)) == 2
    first, second = (x.collections[0].norm.vmax for x in panels_of(own))
    assert second > 3 * first
    shared = drawn(draw_sections(maps, SectionOptions(shared=True)))
    (bar,) = bars_of(shared)
    first, second = (x.collections[0].norm for x in panels_of(shared))
    assert first is second
    assert bar.get_xlabel() == "anisotropic intensity (arbitrary units)"


# --- 4 invariances -------------------------------------------------------


def test_several_maps_stand_side_by_side():
    one, other = made_map(seed=1), made_map((20.0, 21.0, 9.0, 90, 100, 90), seed=2, d_min=3.0)
    figure = drawn(draw_sections({"one": one, "other": other}, SectionOptions("hl"), unit="e²"))
    assert [ax.get_title() for ax in panels_of(figure)] == ["one, k = 0", "other, k = 0"]
    assert [ax.get_xlabel() for ax in bars_of(figure)] == ["anisotropic intensity (e²)"] * 2


@pytest.mark.parametrize(("width", "columns"), [(3.5, 1), (7.0, 3), (None, 3)])
def test_as_many_stand_in_a_row_as_can_be_read(width, columns):
    figure = drawn(draw_sections({str(n): made_map(seed=n) for n in range(4)}, width=width))
    lefts = {round(ax.get_position().x0, 3) for ax in panels_of(figure)}
    assert len(lefts) == columns
    assert figure.get_figwidth() == pytest.approx(width or 13.2)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plane": "kh"}, "plane must be one of hk hl kl, got 'kh'"),
        ({"contrast": "x"}, "contrast must be one of percentile linear log, got 'x'"),
        ({"clip": 100}, "clip must be 0 to 100 %, got 100"),
        ({"limits": (2, 1)}, "limits must be two numbers that rise, got"),
        ({"rings": (-1.0,)}, "rings must be at d > 0 Å, got -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SectionOptions(**options)


def test_no_map_is_refused():
    with pytest.raises(InputError, match="expected at least one map, got none"):
        draw_sections({})
