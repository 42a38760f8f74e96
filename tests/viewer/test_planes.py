"""Planes through maps: values are those of the nearest voxels, mates those of equivalents."""

import re
from concurrent.futures import ThreadPoolExecutor

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.viewer.conftest import TRICLINIC, made_map

from offbragg import DiffuseMap, HklGrid, compute_delta_pdf, merge, write_map
from offbragg.errors import FormatError, InputError
from offbragg.maps.shells import anisotropic_part
from offbragg.viewer.chunks import ArrayVoxels
from offbragg.viewer.planes import (
    Plane,
    axis_plane,
    cartesian_volume,
    general_plane,
    mates,
    sample,
)
from offbragg.viewer.viewed import ViewedMap, open_map, view_delta_pdf

# Sections are float32, shells are summed in another order.
RTOL, ATOL = 1e-6, 1e-4


def viewed_of(diffuse_map):
    """A map as the viewer sees it, from memory."""
    grid = diffuse_map.grid
    return ViewedMap(
        name="m", space="reciprocal", axes=("h", "k", "l"),
        first=np.array([grid.h[0], grid.k[0], grid.l[0]]), step=1 / np.array(grid.sampling),
        vectors=grid.cell.frac_matrix, arrays={"intensity": ArrayVoxels(diffuse_map.intensity)},
        cell=grid.cell, space_group=diffuse_map.space_group,
        group=diffuse_map.laue_group or diffuse_map.space_group, d_min=grid.d_min,
    )  # fmt: skip


@pytest.fixture(scope="module")
def from_file(maps):
    path, one = next(iter(maps.items()))
    with ThreadPoolExecutor(2) as pool:
        yield open_map(path, "first", pool), one


def test_what_a_file_says_is_what_is_seen(from_file):
    viewed, one = from_file
    assert viewed.shape == one.grid.shape
    assert set(viewed.arrays) == {"intensity", "sigma", "count"}
    assert (viewed.group, viewed.space_group, viewed.d_min) == ("-1", "P 1", one.grid.d_min)
    np.testing.assert_allclose(viewed.cell, TRICLINIC)


@pytest.mark.parametrize(("normal", "level"), [(0, 1.0), (1, -2.0), (2, 0.5), (2, 0.6)])
def test_sections_along_the_axes(from_file, normal, level):
    viewed, one = from_file
    plane = axis_plane(viewed, normal, level)
    axis = (one.grid.h, one.grid.k, one.grid.l)[normal]
    index = int(np.argmin(np.abs(axis - level)))
    for array in ("intensity", "sigma", "count"):
        expected = np.take(getattr(one, array), index, normal)
        np.testing.assert_array_equal(sample(viewed, plane, array), expected)
    expected = np.take(anisotropic_part(one.intensity, one.grid.inv_d()), index, normal)
    found = sample(viewed, plane, "anisotropic")
    np.testing.assert_allclose(found, expected, RTOL, ATOL)
    np.testing.assert_allclose(plane.points()[..., normal], axis[index])


@given(st.tuples(*[st.tuples(*[st.integers(-3, 3)] * 3)] * 3))
@settings(max_examples=25, deadline=None)
def test_any_plane_has_the_values_of_the_nearest_voxels(vectors):
    one = made_map(sampling=(1, 1, 1), d_min=4.0)
    viewed = viewed_of(one)
    through, along, towards = vectors
    if np.linalg.norm(np.cross(along, towards)) == 0:
        with pytest.raises(InputError, match="plane: directions must not be"):
            general_plane(viewed, through, along, towards)
        return
    plane = general_plane(viewed, through, along, towards)
    values = sample(viewed, plane, "intensity")
    points = plane.points()
    cell = gemmi.UnitCell(*TRICLINIC)
    # The plane passes through its point, and its edges are at right angles.
    normal = np.cross(plane.u @ viewed.vectors, plane.v @ viewed.vectors)
    offset = (np.array(through) - plane.origin) @ viewed.vectors
    assert abs(offset @ normal) < 1e-9
    assert abs((plane.u @ viewed.vectors) @ (plane.v @ viewed.vectors)) < 1e-12
    for i, j in np.random.default_rng(0).integers(0, plane.shape[0], (20, 2)):
        node = np.rint(points[i, j]).astype(int)
        place = node - one.grid.first_index
        if np.any(place < 0) or np.any(place >= one.grid.shape):
            assert np.isnan(values[i, j])
            continue
        np.testing.assert_equal(values[i, j], one.intensity[tuple(place)])
        np.testing.assert_allclose(
            np.linalg.norm(node @ viewed.vectors) ** 2,
            cell.calculate_1_d2(node.tolist()),
            atol=1e-12,
        )


@pytest.mark.parametrize("space_group", ["P 41", "P 21 21 21", "P 31 2 1"])
def test_mates_of_a_merged_map_are_equal_point_by_point(space_group):
    cell = (20, 20, 26, 90, 90, 120) if "31" in space_group else (20, 20, 26, 90, 90, 90)
    grid = HklGrid.from_resolution(cell, 4.0, 2)
    values = np.random.default_rng(0).normal(10, 1, grid.shape)
    values[~grid.within()] = np.nan
    merged = merge([DiffuseMap(grid, values, space_group)]).map
    viewed = viewed_of(merged)
    plane = axis_plane(viewed, 2, 1.5)
    found = mates(viewed, plane)
    assert found[0] is plane
    expected = {"P 41": 8, "P 21 21 21": 8, "P 31 2 1": 12}[space_group]
    assert len(found) == expected
    first = sample(viewed, plane, "intensity")
    for mate in found[1:]:
        np.testing.assert_allclose(sample(viewed, mate, "intensity"), first, RTOL)


@pytest.mark.parametrize("space_group", ["P 41", "P 31 2 1"])
def test_mates_of_a_delta_pdf_are_equal_point_by_point(space_group):
    """Coordinates turn otherwise than indices where axes are not at right angles."""
    cell = (20, 20, 26, 90, 90, 120) if "31" in space_group else (20, 20, 26, 90, 90, 90)
    grid = HklGrid.from_resolution(cell, 4.0, 2)
    values = np.random.default_rng(0).normal(10, 1, grid.shape)
    values[~grid.within()] = np.nan
    pdf = compute_delta_pdf(merge([DiffuseMap(grid, values, space_group)]).map)
    viewed = view_delta_pdf(pdf, "pdf", space_group)
    plane = axis_plane(viewed, 2, 3 * float(pdf.z[1] - pdf.z[0]))
    first = sample(viewed, plane, "intensity")
    found = mates(viewed, plane)
    assert len(found) == {"P 41": 4, "P 31 2 1": 6}[space_group]
    for mate in found[1:]:
        points = (mate.points() - plane.points()) @ viewed.vectors
        assert np.linalg.norm(points, axis=-1).max() > 1  # Å: another plane, or turned
        values = sample(viewed, mate, "intensity")
        both = np.isfinite(values)
        assert both.sum() > 0.4 * both.size
        np.testing.assert_allclose(values[both], first[both], rtol=1e-4, atol=1e-6 * first.max())


@pytest.mark.parametrize("far", [50.0, 1e9])
def test_a_plane_that_passes_the_map_by_has_no_values(from_file, far):
    plane = Plane([0, 0, far], [1, 0, 0], [0, 1, 0], (4, 3))
    assert np.isnan(sample(from_file[0], plane, "anisotropic")).all()


def test_axes_that_are_not_centred_and_of_one_voxel():
    grid = HklGrid(TRICLINIC, np.arange(5, 11), np.arange(-3, 9) / 3, [3])
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    one = DiffuseMap(grid, values)
    viewed = viewed_of(one)
    plane = axis_plane(viewed, 2, 3.0)
    np.testing.assert_allclose(plane.points(), grid.hkl()[:, :, 0], atol=1e-12)
    np.testing.assert_array_equal(sample(viewed, plane, "intensity"), one.intensity[:, :, 0])
    part = anisotropic_part(one.intensity, grid.inv_d())
    for normal in (0, 1):
        plane = axis_plane(viewed, normal, viewed.first[normal] + 2 * viewed.step[normal])
        np.testing.assert_allclose(
            sample(viewed, plane, "anisotropic"), np.take(part, 2, normal), RTOL, ATOL
        )


def test_the_volume_has_the_means_of_the_voxels_in_its_cells():
    one = made_map(sampling=(1, 1, 1), d_min=4.0)
    values, reach = cartesian_volume(viewed_of(one), "intensity", 7)
    assert reach == pytest.approx(1 / 4.0)
    points = one.grid.hkl() @ one.grid.cell.frac_matrix
    for place in [(3, 3, 3), (1, 3, 4), (5, 2, 2)]:
        low = reach * (2 * np.array(place) / 7 - 1)
        there = np.all((points >= low) & (points < low + 2 * reach / 7), axis=-1)
        np.testing.assert_allclose(values[place], np.nanmean(one.intensity[there]), RTOL)
    part, _ = cartesian_volume(viewed_of(one), "anisotropic", 7)
    residual = anisotropic_part(one.intensity, one.grid.inv_d())
    there = np.all(np.abs(points) < reach / 7, axis=-1)
    np.testing.assert_allclose(part[3, 3, 3], np.nanmean(residual[there]), RTOL, ATOL)


def test_a_delta_pdf_is_seen_in_angstrom():
    pdf = compute_delta_pdf(made_map(sampling=(1, 1, 1), d_min=4.0))
    viewed = view_delta_pdf(pdf, "pdf", "P 1")
    plane = axis_plane(viewed, 1, 0.0)
    middle = int(np.argmin(np.abs(pdf.y)))
    np.testing.assert_allclose(sample(viewed, plane, "intensity"), pdf.values[:, middle], RTOL)
    np.testing.assert_allclose(
        viewed.inv_d(plane.points()),
        np.linalg.norm(pdf.separations()[:, middle], axis=-1),
        atol=1e-9,
    )


def test_shells_are_those_of_the_whole_map(from_file):
    viewed, one = from_file
    table = viewed.isotropic()
    inside = np.isfinite(one.intensity)
    shell = np.floor(one.grid.inv_d() / 0.01 + 1e-9).astype(int)
    used = one.intensity[inside & (shell == 20)].astype(float)
    assert table.n[20] == len(used)
    assert table.mean[20] == pytest.approx(used.mean())
    assert table.variation[20] == pytest.approx(used.std(), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda v: axis_plane(v, 0, 99.0), "h must be -8 to 8, got 99"),
        (lambda v: sample(v, axis_plane(v, 0, 0.0), "x"), "first: array must be one of intensity"),
        (lambda v: Plane([0, 0], [1, 0, 0], [0, 1, 0], (2, 2)), "plane: origin must be three"),
        (lambda v: Plane([0, 0, 0], [1, 0, 0], [0, 1, 0], (0, 9999)), "edges must be 1 to 2048"),
        (lambda v: cartesian_volume(v, "intensity", 1), "edge must be 2 to 128, got 1"),
        (lambda v: cartesian_volume(v, "x", 9), "first: array must be one of intensity"),
    ],
)
def test_what_cannot_be_shown_is_said(from_file, make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make(from_file[0])


def test_a_damaged_map_is_refused_as_it_is_elsewhere(tmp_path):
    path = tmp_path / "m.h5"
    write_map(path, made_map(sampling=(1, 1, 1), d_min=6.0))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FormatError, match=r"damaged|another kind"), ThreadPoolExecutor(1) as pool:
        open_map(path, "m", pool)
